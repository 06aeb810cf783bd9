"""Rows of tables in single precision, and in double where that would round large integers."""

import numpy as np

from mmtool.common.errors import DataError
from mmtool.tokenizers.table_rows import SINGLE_PRECISION_INTEGERS

Row = tuple[np.ndarray, tuple[str, ...]]  # (F,) float32 (see below) with NaN for missing values, and the features (a `Header`)


def in_single_precision(values: np.ndarray, features: tuple[str, ...], where: str) -> Row:
    """A row (F,) float64 in single precision; in double where it holds a value beyond 2^24 that would be rounded, for tokenizers to see by
    how much. Raises DataError for a value that single precision does not reach."""
    with np.errstate(over="ignore"):
        row = values.astype(np.float32)
    if np.isinf(row).any():
        name = features[int(np.isinf(row).argmax())]
        raise DataError(f"the value of column {name!r} is infinite in single precision.", where=where, fix="Scale it, or leave it empty.")
    rounded = (row != values) & (np.abs(values) > SINGLE_PRECISION_INTEGERS)
    return values if rounded.any() else row, features
