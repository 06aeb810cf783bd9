"""Copy pictures that lie in a folder for each class, a share of them into the folder of another class: links that lead astray.

python examples/sweeps/wrong_labels.py raw/digits wrong/ --share 0.2 [--seed 0]
"""

import argparse
import shutil
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a folder of folders")
    parser.add_argument("output", type=Path)
    parser.add_argument("--share", type=float, required=True, help="of the pictures, from 0 to 1")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    classes = sorted(folder.name for folder in arguments.source.iterdir() if folder.is_dir())
    part = arguments.output.with_name(f"{arguments.output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for picture in sorted(arguments.source.glob("*/*")):
        others = [name for name in classes if name != picture.parent.name]
        name = str(random.choice(others)) if random.random() < arguments.share else picture.parent.name
        (part / name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(picture, part / name / picture.name)
    part.rename(arguments.output)


if __name__ == "__main__":
    main()
