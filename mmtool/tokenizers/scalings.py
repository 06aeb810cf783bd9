"""Scales on which the numbers of tables are tokenized: as they are, as logarithms, or as ranks; and back."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Self

import numpy as np

from mmtool.common.errors import DataError, UsageError

KNOTS = 257  # quantiles that a scale of ranks is made of
LEAST_COLUMNS, TAIL = 5, 10  # of a table of counts: its columns, and by how many medians its largest values exceed the median


class Scaling:
    """Rows as they are. least: value that has a place on the scale."""

    name: ClassVar[str] = "linear"
    least: ClassVar[float] = -math.inf

    @classmethod
    def fit(cls, rows: np.ndarray) -> Self:
        """The scaling of (N, F) training rows, NaN where a value is missing."""
        return cls()

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        return cls()

    def of_columns(self, indices: np.ndarray) -> Self:
        """The scaling of some of the columns."""
        return self

    def tensors(self) -> dict[str, np.ndarray]:
        """All that `from_tensors` needs."""
        return {}

    def apply(self, rows: np.ndarray) -> np.ndarray:
        """(N, F) rows of values that have a place on this scale -> the same on it."""
        return rows

    def invert(self, rows: np.ndarray) -> np.ndarray:
        """The inverse of `apply`."""
        return rows


class Log1p(Scaling):
    """log(1 + x) of counts and other amounts of 0 or more."""

    name: ClassVar[str] = "log1p"
    least: ClassVar[float] = 0.0

    def apply(self, rows: np.ndarray) -> np.ndarray:
        return np.log1p(rows)

    def invert(self, rows: np.ndarray) -> np.ndarray:
        return np.maximum(np.expm1(rows), 0)


class Rank(Scaling):
    """The share of training values that a value exceeds, equal ones half. knots (257, F): quantiles of the training values."""

    name: ClassVar[str] = "rank"

    def __init__(self, knots: np.ndarray) -> None:
        self.knots = knots
        self._steps = [_steps(column) for column in knots.T]

    @classmethod
    def fit(cls, rows: np.ndarray) -> Self:
        knots = np.zeros((KNOTS, rows.shape[1]), np.float32)
        for feature, column in enumerate(rows.T):
            present = column[~np.isnan(column)]
            if len(present):
                knots[:, feature] = np.quantile(present, np.linspace(0, 1, KNOTS))
        return cls(knots)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        return cls(np.array(tensors["scaling.knots"]))

    def of_columns(self, indices: np.ndarray) -> Self:
        return type(self)(self.knots[:, indices])

    def tensors(self) -> dict[str, np.ndarray]:
        return {"scaling.knots": self.knots}

    def apply(self, rows: np.ndarray) -> np.ndarray:
        columns = [np.interp(column, values, shares) for column, (values, shares) in zip(rows.T, self._steps, strict=True)]
        return np.stack(columns, 1).astype(np.float32)

    def invert(self, rows: np.ndarray) -> np.ndarray:
        columns = [np.interp(column, shares, values) for column, (values, shares) in zip(rows.T, self._steps, strict=True)]
        return np.stack(columns, 1).astype(np.float32)


SCALINGS: dict[str, type[Scaling]] = {cls.name: cls for cls in (Scaling, Log1p, Rank)}


def scaling_named(name: str) -> type[Scaling]:
    """Raises UsageError for a name that there is not."""
    if name not in SCALINGS:
        raise UsageError(f"there is no scale {name!r}.", where="--scale", fix=f"Choose from: {', '.join(SCALINGS)}.")
    return SCALINGS[name]


def in_columns(function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """(N, F) rows with the columns at `indices` as the function of them."""
    if len(indices) == rows.shape[1]:
        return function(rows)
    changed = rows.copy()
    if len(indices):
        changed[:, indices] = function(rows[:, indices])
    return changed


def scaled(scaling: Scaling, rows: np.ndarray, indices: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(N, F) rows with the columns at `indices` on the scale. names (F,): of all. Raises DataError for a value that has no place there."""
    low = indices[(np.fmin.reduce(rows)[indices] < scaling.least)]
    if len(low):
        value = np.nanmin(rows[:, low[0]])
        what = f"the column {names[low[0]]!r} holds {value:g}, and the scale {scaling.name} is for {scaling.least:g} and more."
        raise DataError(what, fix="Correct it, or fit a tokenizer with --scale rank or --scale linear.")
    return in_columns(scaling.apply, rows, indices)


def look_like_counts(rows: np.ndarray) -> bool:
    """Whether (N, F) rows hold whole numbers of 0 and more, a few of them much larger than most."""
    present = rows[~np.isnan(rows)]
    if rows.shape[1] < LEAST_COLUMNS or not len(present) or (present < 0).any() or (present != np.round(present)).any():
        return False
    return bool(np.quantile(present, 0.99) > TAIL * (np.median(present) + 1))


def _steps(knots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct knots, and the mean share of each."""
    values, indices, counts = np.unique(knots, return_inverse=True, return_counts=True)
    return values, np.bincount(indices, np.linspace(0, 1, KNOTS)) / counts
