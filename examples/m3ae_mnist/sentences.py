"""A sentence for each MNIST image that names its digit, under the key that `mmtool tokenize` gives the image.

python examples/m3ae_mnist/sentences.py train-labels-idx1-ubyte.gz sentences.tsv
"""

import gzip
import sys
from pathlib import Path

import numpy as np

from mmtool.storage import atomic_file

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = ("a handwritten {}", "somebody wrote the digit {}", "this is a {}", "the number {} on black", "a white {} by hand", "digit {}")


def main(labels: Path, output: Path) -> None:
    digits = np.frombuffer(gzip.decompress(labels.read_bytes()), np.uint8, offset=8)
    templates = np.random.default_rng(0).integers(len(TEMPLATES), size=len(digits))
    stem = labels.name.split("-idx")[0].replace("labels", "images")
    with atomic_file(output, force=True) as file:
        lines = [("key", "digit", "text")]
        lines += [
            (f"{stem}-{i:06d}", str(d), TEMPLATES[k].format(DIGITS[d])) for i, (d, k) in enumerate(zip(digits, templates, strict=True))
        ]
        text = "".join("\t".join(line) + "\n" for line in lines)
        file.write(text.encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
