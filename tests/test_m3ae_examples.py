"""What the M3AE examples add to the command line: sentences under the keys of their images, and honest differences."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from mmtool.preprocessing.sources import SourceOptions, read_items

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path += [str(EXAMPLES), str(EXAMPLES / "m3ae_mnist")]

import looks  # noqa: E402
import m3ae_summary  # noqa: E402
import sentences  # noqa: E402


def test_every_image_has_a_sentence_that_names_its_digit(tmp_path: Path) -> None:
    digits = np.random.default_rng(0).integers(0, 10, 50).astype(np.uint8)
    images, labels = tmp_path / "train-images-idx3-ubyte.gz", tmp_path / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(b"\0\0\x08\x01" + (50).to_bytes(4, "big") + digits.tobytes()))
    images.write_bytes(gzip.compress(b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (50, 4, 4)) + bytes(50 * 16)))
    sentences.main(labels, tmp_path / "sentences.tsv")
    texts = {item.key: item.value for item in read_items("text", [tmp_path / "sentences.tsv"], SourceOptions(text_column="text"))}
    pictures = {item.key: item.labels["label"] for item in read_items("image", [images], SourceOptions())}
    assert texts.keys() == pictures.keys()
    assert all(sentences.DIGITS["english"][int(pictures[key])] in text for key, text in texts.items())


def bar(thickness: int, lean: float, top: int = 4) -> np.ndarray:
    """A picture of a bar of 20 pixels' height whose top is so many pixels further to the right than its foot."""
    picture = np.zeros((28, 28), np.float32)
    for row in range(top, top + 20):
        start = 14 - thickness // 2 + round(lean * (top + 10 - row) / 20)
        picture[row, start : start + thickness] = 1
    return picture


def test_looks_are_measured_from_pixels() -> None:
    thick, thin, right, left, high = (bar(6, 0), bar(2, 0), bar(2, 10), bar(2, -10), bar(2, 0, top=1))
    measured = looks.measure(np.stack((thick, thin, right, left, high)))
    assert measured["stroke"][0] > 2 * measured["stroke"][1]
    assert measured["lean"][2] > 0.3 and measured["lean"][3] < -0.3 and abs(measured["lean"][:2]).max() < 0.01
    assert measured["width"].tolist() == [6, 2, 11, 11, 2]
    assert measured["height"].tolist() == [0, 0, 0, 0, 3]


def test_looks_say_nothing_of_the_digit_but_what_pixels_show(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    pictures = np.stack([bar(int(random.integers(1, 8)), random.uniform(-8, 8), int(random.integers(0, 8))) for _ in range(30)])
    images = tmp_path / "train-images-idx3-ubyte.gz"
    images.write_bytes(
        gzip.compress(b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (30, 28, 28)) + (255 * pictures).astype(np.uint8).tobytes())
    )
    texts = []
    for digit in (1, 7):
        labels = tmp_path / f"{digit}.gz"
        labels.write_bytes(gzip.compress(b"\0\0\x08\x01" + (30).to_bytes(4, "big") + bytes([digit] * 30)))
        looks.main(images, labels, tmp_path / "looks.tsv")
        items = list(read_items("text", [tmp_path / "looks.tsv"], SourceOptions(text_column="text", label_columns=("digit",))))
        assert {str(item.labels["digit"]) for item in items} == {str(digit)}
        texts.append({item.key: item.value for item in items})
    assert texts[0] == texts[1] and len(set(texts[0].values())) > 10
    assert texts[0].keys() == {item.key for item in read_items("image", [images], SourceOptions())}


def test_differences_are_paired_by_seed() -> None:
    def row(run, seed, value):
        where = {"run": run, "seed": seed, "given": ["image"], "target": "group", "metric": "probe accuracy"}
        return {**where, "value": value, "comparison": "ratios"}

    results = [row("a", 0, 0.5), row("a", 1, 0.7), row("a", 2, 0.9), row("b", 0, 0.4), row("b", 1, 0.6), row("b", 2, 0.8), row("b", 3, 0.1)]
    (found,) = m3ae_summary.differences(results, "ratios", "a", "b")
    assert found["value"] == pytest.approx(0.1) and found["low"] == pytest.approx(0.1) and found["n"] == 3
    assert m3ae_summary.interval([0.2])["low"] is None
