"""Which split a sample belongs to: a pure function of its group's name, the seed and the fractions.

So the split of a sample never changes when others come or go, and is the same in every modality.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Annotated

from mmtool.common.artefact_files import SPLITS
from mmtool.common.errors import UsageError
from mmtool.common.options import Option

SPLITTING = "Train, validation, test"  # panel of the help


def split_of(group: str, fractions: tuple[float, float, float], seed: int) -> str:
    """`train`, `validation` or `test`: where sha256(seed, group), read as a number in [0, 1), falls among the fractions."""
    digest = hashlib.sha256(f"{seed}\0{group}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < fractions[0]:
        return SPLITS[0]
    return SPLITS[1] if place < fractions[0] + fractions[1] else SPLITS[2]


@dataclass(frozen=True)
class Split:
    """How samples are dealt to train, validation and test: their fractions and a seed. Raises UsageError unless they sum to 1."""

    fractions: Annotated[tuple[float, float, float], Option(metavar="TRAIN VALIDATION TEST", panel=SPLITTING)] = (0.8, 0.1, 0.1)
    """Shares of the splits, dealt by the hash of the key."""
    seed: int = 0
    """Of the hash."""

    def __post_init__(self) -> None:
        if len(self.fractions) != 3 or min(self.fractions) < 0 or not math.isclose(sum(self.fractions), 1, abs_tol=1e-6):
            what = f"{self.fractions} are no fractions of a whole."
            raise UsageError(what, where="--fractions", fix="Give three that sum to 1, e.g. 0.8 0.1 0.1.")

    def of(self, group: str) -> str:
        """The split of a group."""
        return split_of(group, self.fractions, self.seed)
