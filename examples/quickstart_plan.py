"""Say what of the quickstart is left to do, and about how long that takes on this machine as it is now.

python examples/quickstart_plan.py --steps 1000       (in the folder of the quickstart)
"""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from mmtool.training.hardware import matmul_limit
from mmtool.training.run import CONFIG, open_run

MEASURED_AT = 89e9  # FLOP/s of fp32 matrix products where the times below were measured: 2 cores of an AMD EPYC (AVX2 alone)
MEASURED_STEPS = 1000


@dataclass(frozen=True)
class Stage:
    """target: the path that is there when the stage is done. seconds: as measured; by_steps: they grow with the number of steps."""

    what: str
    target: str
    seconds: float
    by_steps: bool = False


STAGES = (
    Stage("raw data: 1,797 pictures, 4,800 recordings, 4,000 sentences", "raw", 17),
    Stage("tokens of the pictures", "tokens/image.tar", 19),
    Stage("tokens of the recordings", "tokens/speech.tar", 54),
    Stage("tokens of the sentences", "tokens/text.tar", 3),
    Stage("shards, in which speech and text never occur together", "shards", 5),
    Stage("training of the baseline, which learns from pairs alone", "commutative", 236, by_steps=True),
    Stage("training of LoReTTa", "loretta", 200, by_steps=True),
    Stage("speech for 20 sentences, as sound files", "imputed", 6),
    Stage("evaluation on held-out samples, with a report", "report", 100),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=MEASURED_STEPS, help="of each training")
    steps = parser.parse_args().steps
    rate = matmul_limit(torch.device("cpu"), torch.float32)
    lines = list(left(Path(), steps, MEASURED_AT / rate))
    total = sum(seconds for _, seconds in lines)
    here = f"{torch.get_num_threads()} threads, {rate / 1e9:.0f} GFLOP/s at the moment"
    print(f"On this machine ({here}) what is left takes about {in_minutes(total)}:", file=sys.stderr)
    for what, seconds in lines:
        print(f"  {in_minutes(seconds):>9}  {what}", file=sys.stderr)


def left(folder: Path, steps: int, slower: float) -> Iterator[tuple[str, float]]:
    """(what, seconds) of every stage whose target is not there yet; slower: times as slow as where the stages were measured."""
    for stage in STAGES:
        if not is_done(folder / stage.target):
            yield stage.what, stage.seconds * slower * (steps / MEASURED_STEPS if stage.by_steps else 1)


def is_done(target: Path) -> bool:
    """Whether a stage's result is there, and whole: a run is there from the first step on."""
    return open_run(target).complete if (target / CONFIG).exists() else target.exists()


def in_minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


if __name__ == "__main__":
    main()
