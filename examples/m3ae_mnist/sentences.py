"""A sentence for each MNIST image that names its digit, under the key that `mmtool tokenize` gives the image.

python examples/m3ae_mnist/sentences.py train-labels-idx1-ubyte.gz sentences.tsv [english|german]
"""

import argparse
import gzip
from pathlib import Path

import numpy as np

from mmtool.common.storage import atomic_file

DIGITS = {
    "english": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "german": ("null", "eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun"),
}
TEMPLATES = {
    "english": (
        "a handwritten {}",
        "somebody wrote the digit {}",
        "this is a {}",
        "the number {} on black",
        "a white {} by hand",
        "digit {}",
    ),
    "german": ("eine {}", "hier steht die Ziffer {}", "das ist die {}", "die Zahl {} also", "man sagt {} dazu", "Ziffer {}"),
}


def main(labels: Path, output: Path, language: str = "english") -> None:
    words, templates = DIGITS[language], TEMPLATES[language]
    digits = np.frombuffer(gzip.decompress(labels.read_bytes()), np.uint8, offset=8)
    chosen = np.random.default_rng(0).integers(len(templates), size=len(digits))
    stem = labels.name.split("-idx")[0].replace("labels", "images")
    with atomic_file(output, force=True) as file:
        lines = [("key", "digit", "text")]
        lines += [(f"{stem}-{i:06d}", str(d), templates[k].format(words[d])) for i, (d, k) in enumerate(zip(digits, chosen, strict=True))]
        text = "".join("\t".join(line) + "\n" for line in lines)
        file.write(text.encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("language", nargs="?", choices=sorted(DIGITS), default="english")
    main(**vars(parser.parse_args()))
