"""Features of one name, as gene symbols are in many a matrix: an error, or made one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from mmtool.common.errors import DataError

SHOWN = 3  # names in a message


@dataclass(frozen=True)
class Features:
    """names: each once, in order of their first places. indices: which of them each value of a row belongs to; None where all differ."""

    names: tuple[str, ...]
    indices: np.ndarray | None
    duplicates: Literal["error", "first", "mean"]

    def merged(self, values: np.ndarray) -> np.ndarray:
        """(all features, ...) float64 values -> (len(names), ...): of features of one name the first, or the mean of those present."""
        if self.indices is None:
            return values
        if self.duplicates == "first":
            return values[np.unique(self.indices, return_index=True)[1]]
        sums, counts = (np.zeros((len(self.names), *values.shape[1:])) for _ in range(2))
        present = ~np.isnan(values)
        np.add.at(sums, self.indices, np.where(present, values, 0))
        np.add.at(counts, self.indices, present)
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def features_of(names: Sequence[str], duplicates: Literal["error", "first", "mean"], where: str) -> Features:
    """The features of columns or rows with these names. Raises DataError where some are the same and may not be."""
    counts = Counter(names)
    if len(counts) == len(names):
        return Features(_shared(tuple(names)), None, duplicates)
    if duplicates == "error":
        twice = [name for name, count in counts.items() if count > 1]
        listed = ", ".join(f"{name!r} ({counts[name]} times)" for name in twice[:SHOWN]) + (", ..." if len(twice) > SHOWN else "")
        what = f"{len(twice):,} of {len(counts):,} features have a name that others have as well: {listed}."
        raise DataError(what, where=where, fix="Add --duplicates mean or --duplicates first, or rename them.")
    order = {name: index for index, name in enumerate(counts)}
    return Features(_shared(tuple(counts)), np.array([order[name] for name in names]), duplicates)


@lru_cache(maxsize=4)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """The same tuple for the same names, so that a thousand files do not hold them a thousand times."""
    return names
