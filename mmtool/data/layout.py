"""The vocabulary layout: modality -> contiguous id range inside one shared vocabulary.

    0                  padding
    1 .. S             sentinels of masked spans
    then per modality  OPEN | END CODE CODE ...

A target of a modality lives in its range `[END, CODE, ...]` only, so it is stored as a local index: 0 is the end of the
segment, code c is c + 1. The layout is a pure function of the ordered modalities.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mmtool.common.errors import UsageError
from mmtool.data.sample import Modality

PADDING = 0
NUM_SENTINELS = 8
MIN_AXES = 2  # row and column; on a line both are the same place


@dataclass(frozen=True)
class VocabularyLayout:
    """Where every modality lives in the shared vocabulary of `size` ids."""

    modalities: tuple[Modality, ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:  # it is the key of what is cached for every segment of every sample
        return hash(self.modalities)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(modality.name for modality in self.modalities)

    @cached_property
    def _opens(self) -> tuple[int, ...]:
        opens, next_id = [], 1 + NUM_SENTINELS
        for modality in self.modalities:
            opens.append(next_id)
            next_id += 2 + modality.vocabulary_size
        return (*opens, next_id)

    @cached_property
    def axes(self) -> int:
        """Of positions: as many as the grid of the modality with most of them has, and two at least."""
        return max([MIN_AXES, *(len(modality.grid) for modality in self.modalities)])

    @property
    def size(self) -> int:
        return self._opens[-1]

    def sentinel(self, number: int) -> int:
        """Id of the sentinel of masked span `number` (0-based)."""
        return 1 + number

    def index(self, name: str) -> int:
        """Place of a modality in the layout. Raises UsageError for a name it does not hold."""
        try:
            return self.names.index(name)
        except ValueError:
            raise UsageError(f"there is no modality {name!r} here.", fix=f"Choose from: {', '.join(self.names)}.") from None

    def open_id(self, index: int) -> int:
        return self._opens[index]

    def first_code(self, index: int) -> int:
        return self._opens[index] + 2

    def patch_id(self, index: int) -> int:
        """What a patch of a continuous modality is called as an input: it has no codes, and END is never fed."""
        return self._opens[index] + 1

    def target_range(self, index: int) -> tuple[int, int]:
        """[start, stop) of END and the codes of a modality."""
        return self._opens[index] + 1, self._opens[index + 1]

    def to_json(self) -> dict[str, Any]:
        ranges = {name: list(self.target_range(i)) for i, name in enumerate(self.names)}
        return {
            "size": self.size,
            "num_sentinels": NUM_SENTINELS,
            "targets": ranges,
            "open": dict(zip(self.names, self._opens, strict=False)),
        }


def layout_of(modalities: Sequence[Modality]) -> VocabularyLayout:
    """The layout of these modalities, in this order."""
    return VocabularyLayout(tuple(modalities))
