"""What the codes of a table stand for, as numbers that have means: values of quantities, and shares of categories.

A category has no mean, but a share has: so a row is spread over W numbers, one for each quantity, and one for each category of a column of
categories (1 for the one that holds, 0 for the others). Means over draws, or under a model's scores, are then shares of the categories.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmtool.tokenizers.column_types import ColumnType


@dataclass(frozen=True)
class CodeValues:
    """values (W, codes) float32: the number that each code stands for, NaN where it stands for none, such as a missing value.
    places (W,): of the token that each number belongs to. units (W,): the size of a difference that matters, by which errors weigh.
    exist (L, codes) bool: which codes there are at each place; None: all."""

    values: np.ndarray
    indices: np.ndarray
    units: np.ndarray
    exist: np.ndarray | None = None

    @classmethod
    def of_indices(cls, values: np.ndarray, units: np.ndarray | None = None) -> "CodeValues":
        """One number for each place; without units all weigh alike."""
        return cls(values, np.arange(len(values)), np.ones(len(values)) if units is None else units)

    def __len__(self) -> int:
        return len(self.values)

    def of(self, codes: np.ndarray) -> np.ndarray:
        """(N, L) codes -> (N, W) numbers."""
        return self.values[np.arange(len(self)), codes.astype(np.int64)[:, self.indices]]

    def by_place(self) -> np.ndarray:
        """(L, K, codes) the numbers of each place, of which K has most; where one has fewer, its first stands for the rest."""
        counts = np.bincount(self.indices)
        first = np.cumsum(counts) - counts
        ranks = np.arange(counts.max())
        return self.values[first[:, None] + np.where(ranks < counts[:, None], ranks, 0)]

    @property
    def ranks(self) -> np.ndarray:
        """(W,) where each number stands among those of its place in `by_place`."""
        return np.arange(len(self)) - np.searchsorted(self.indices, self.indices)


class OneHot:
    """Rows (N, F) <-> (N, W) numbers that have means. places (W,): the feature that each number belongs to. categorical (F,): whether a
    feature is one of categories; counts (F,): how many, 0 for a quantity."""

    def __init__(self, types: Sequence[ColumnType]) -> None:
        self.counts = np.array([len(column.categories) for column in types], np.int64)
        self.categorical = self.counts > 0
        self.indices = np.repeat(np.arange(len(types)), np.maximum(self.counts, 1))
        self._first = np.searchsorted(self.indices, np.arange(len(types)))

    def encode(self, rows: np.ndarray) -> np.ndarray:
        """Rows -> numbers, NaN where a value is missing."""
        if not self.categorical.any():
            return rows
        numbers = rows[:, self.indices]
        of_category = self.categorical[self.indices]
        chosen = numbers == np.arange(len(self.indices)) - self._first[self.indices]
        return np.where(of_category & ~np.isnan(numbers), chosen, numbers).astype(rows.dtype)

    def decode(self, numbers: np.ndarray) -> np.ndarray:
        """Numbers, or means of them -> rows: of categories the most probable one."""
        if not self.categorical.any():
            return numbers
        rows = numbers[:, self._first].copy()
        for feature in np.flatnonzero(self.categorical):
            shares = numbers[:, self.of_feature(int(feature))]
            known = ~np.isnan(shares).any(1)
            rows[known, feature] = shares[known].argmax(1)
        return rows

    def of_feature(self, feature: int) -> slice:
        """Where the numbers of a feature stand."""
        first = int(self._first[feature])
        return slice(first, first + max(1, int(self.counts[feature])))

    def probabilities(self, numbers: np.ndarray, feature: int) -> np.ndarray:
        """(N, C) of the categories of a feature, by means of numbers, which a regression may put outside of 0 and 1."""
        shares = np.clip(numbers[:, self.of_feature(feature)], 0, None)
        return shares / np.maximum(shares.sum(1, keepdims=True), 1e-12)
