"""A sentence for each MNIST image that says how it looks, measured from its pixels, and not which digit it is.

    python examples/m3ae_mnist/looks.py train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz looks.tsv

Four things are measured: how thick the stroke is, how it leans, how wide it is, and how high it stands. Each is said in one of three
words, for the lowest, the middle and the highest third of the images. The column `digit` is there for the probe; no word depends on it.
"""

import argparse
import gzip
from pathlib import Path

import numpy as np

from mmtool.common.storage import atomic_file

INK = 0.5  # from here on a pixel, 0 to 1, belongs to the stroke
WORDS = {
    "stroke": ("a thin stroke", "a stroke of usual thickness", "a thick stroke"),
    "lean": ("leaning to the left", "nearly upright", "leaning to the right"),
    "width": ("narrow", "of usual width", "wide"),
    "height": ("set low", "in the middle", "set high"),
}
TEMPLATES = ("{stroke}, {lean}, {width}, {height}", "{width} and {lean}: {stroke}, {height}", "{height}, {stroke}, {width}, {lean}")


def main(images: Path, labels: Path, output: Path) -> None:
    digits = np.frombuffer(gzip.decompress(labels.read_bytes()), np.uint8, offset=8)
    measured = measure(np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28) / np.float32(255))
    thirds = {name: np.digitize(values, np.quantile(values, (1 / 3, 2 / 3))) for name, values in measured.items()}
    chosen = np.random.default_rng(0).integers(len(TEMPLATES), size=len(digits))
    stem = images.name.split("-idx")[0]
    with atomic_file(output, force=True) as file:
        file.write(b"key\tdigit\ttext\n")
        for i, (digit, template) in enumerate(zip(digits, chosen, strict=True)):
            said = {name: words[thirds[name][i]] for name, words in WORDS.items()}
            file.write(f"{stem}-{i:06d}\t{digit}\t{TEMPLATES[template].format(**said)}\n".encode())


def measure(pixels: np.ndarray) -> dict[str, np.ndarray]:
    """(N, H, W) pixels -> (N,) numbers: mean thickness of the stroke in pixels, slant of the main axis (to the right above 0), width and
    height above the middle of what it covers, in pixels."""
    ink = pixels > INK
    framed = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    beside = (framed[:, 1:-1, :-2], framed[:, 1:-1, 2:], framed[:, :-2, 1:-1], framed[:, 2:, 1:-1])
    edges = sum((ink & ~other).sum((1, 2)) for other in beside)
    down, across = np.mgrid[: pixels.shape[1], : pixels.shape[2]]
    weight = pixels / pixels.sum((1, 2), keepdims=True)
    below = down - (weight * down).sum((1, 2), keepdims=True)
    right_of = across - (weight * across).sum((1, 2), keepdims=True)
    (top, bottom), (left, right) = (_extent(ink.any(axis)) for axis in (2, 1))
    return {
        "stroke": 2 * ink.sum((1, 2)) / np.maximum(edges, 1),
        "lean": -(weight * below * right_of).sum((1, 2)) / (weight * below**2).sum((1, 2)),
        "width": right - left,
        "height": (pixels.shape[1] - top - bottom) / 2,
    }


def _extent(covered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, L) bool -> the first that is covered, and the one behind the last."""
    return covered.argmax(1), covered.shape[1] - covered[:, ::-1].argmax(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("images", "labels", "output"):
        parser.add_argument(name, type=Path)
    main(**vars(parser.parse_args()))
