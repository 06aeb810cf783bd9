"""Wall time of trainings one after the other on all cores, and side by side on a share of the cores each.

    python examples/benchmarks/side_by_side.py SHARDS [--trainings 2] [--steps 300] [--preset tiny] [--method commutative]

Trainings of five steps go first, uncounted, so that the compiler finds its kernels cached in both.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

from mmtool.training.config import PretrainConfig
from mmtool.training.pretrain import pretrain
from mmtool.training.side_by_side import train_all


def seconds(jobs: int, arguments: argparse.Namespace, folder: Path) -> float:
    config = {"method": arguments.method, "preset": arguments.preset, "steps": arguments.steps, "batch_tokens": arguments.batch_tokens}
    runs = {
        f"seed {seed}": partial(
            pretrain, PretrainConfig(**config, optimizer="muon", seed=seed), arguments.shards, folder / f"{jobs}-{seed}"
        )
        for seed in range(arguments.trainings)
    }
    started = time.perf_counter()
    train_all(runs, jobs)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--trainings", type=int, default=2)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--method", default="commutative")
    parser.add_argument("--batch-tokens", type=int, default=2048)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        warm, ways = argparse.Namespace(**{**vars(arguments), "steps": 5}), (1, arguments.trainings)
        for jobs in ways:
            seconds(jobs, warm, Path(folder) / "warm")
        alone, together = (seconds(jobs, arguments, Path(folder)) for jobs in ways)
    print(f"{arguments.trainings} trainings of {arguments.steps} steps: {alone:.0f} s one after the other, {together:.0f} s side by side")
    print(f"side by side is {alone / together:.2f} times as fast")


if __name__ == "__main__":
    main()
