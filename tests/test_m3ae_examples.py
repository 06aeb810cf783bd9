"""What the M3AE examples add to the command line: sentences under the keys of their images, and honest differences."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest

from mmtool.preprocessing.sources import SourceOptions, read_items

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path += [str(EXAMPLES), str(EXAMPLES / "m3ae_mnist")]

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


def test_differences_are_paired_by_seed() -> None:
    def row(run, seed, value):
        where = {"run": run, "seed": seed, "given": ["image"], "target": "group", "metric": "probe accuracy"}
        return {**where, "value": value, "comparison": "ratios"}

    results = [row("a", 0, 0.5), row("a", 1, 0.7), row("a", 2, 0.9), row("b", 0, 0.4), row("b", 1, 0.6), row("b", 2, 0.8), row("b", 3, 0.1)]
    (found,) = m3ae_summary.differences(results, "ratios", "a", "b")
    assert found["value"] == pytest.approx(0.1) and found["low"] == pytest.approx(0.1) and found["n"] == 3
    assert m3ae_summary.interval([0.2])["low"] is None
