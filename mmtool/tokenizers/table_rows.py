"""What all table tokenizers share: named features, matching of columns, rows as CSV, and statistics of columns with missing values."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np

from mmtool.common.bounds import Bounds
from mmtool.common.errors import DataError, UsageError
from mmtool.common.storage import write_bytes
from mmtool.tokenizers.base import Number, Positions

KEY_COLUMN = "key"
SINGLE_PRECISION_INTEGERS = 1 << 24  # float32 holds all integers up to it
MAX_REACH = 1.0  # of its range, from the middle of it, that a value of a new row may lie away
LEAST_DEVIATION = 1e-12  # of a column's mean, by which equal numbers differ from theirs
MAX_ROUNDING = 0.001  # of the standard deviation of a column
ROUNDING_FIX = "Subtract an offset from the column, declare it with --key-column or --label, or leave it out."
SELECTION_SETTINGS = {"min_present": Annotated[Number, Bounds(0, 1)], "max_features": Annotated[int | None, Bounds(1)]}  # of `select`


class TableRows:
    """Rows (F,) float32 of named features, NaN where a value is missing.

    features: names, in the order of the values; dropped: columns of the training table that are left out on purpose. fills_missing: whether
    rows decode without missing values, for no code stands for one. extent: (2, F), the lowest and the highest value of each feature that
    was fitted to, NaN where there was none; None in tokenizers of earlier versions.
    """

    kind: ClassVar[str] = "table"
    fills_missing: ClassVar[bool] = False
    positions: Positions = "set"
    features: tuple[str, ...]
    dropped: tuple[str, ...]
    extent: np.ndarray | None

    def align(self, header: Sequence[str], where: object = None) -> np.ndarray:
        """Where each feature stands in `header`: `row[tokenizer.align(header)]` is what `encode` takes.

        Raises DataError where a feature is missing from the header, or a column is neither a feature nor left out in fitting.
        """
        place = {name: i for i, name in enumerate(header)}
        missing = [name for name in self.features if name not in place]
        unknown = sorted(set(header) - set(self.features) - set(self.dropped))
        if missing or unknown:
            what = [f"{label} {_some(names)}" for label, names in (("it lacks", missing), ("it has the unknown", unknown)) if names]
            fix = "Use a table with the columns the tokenizer was fitted on (name labels with --label), or fit a new one."
            raise DataError(f"the columns differ from those of the tokenizer: {'; '.join(what)}.", where=where, fix=fix)
        return np.array([place[name] for name in self.features], np.int64)

    def write(self, value: np.ndarray, stem: Path) -> Path:
        """Write one row as `stem`.csv with a header; its key is the last part of `stem`."""
        return self.write_rows([stem.name], [value], stem.with_name(stem.name + ".csv"))

    def write_rows(self, keys: Sequence[str], values: Sequence[np.ndarray], path: Path) -> Path:
        """Write many rows as one CSV: the key first, then every feature; an empty cell is a missing value."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([KEY_COLUMN, *self.features])
        for key, row in zip(keys, values, strict=True):
            writer.writerow([key, *("" if np.isnan(value) else str(value) for value in np.asarray(row, np.float32))])
        write_bytes(path, text.getvalue().encode())
        return path

    def _tolerance(self) -> np.ndarray:
        """(F,) by how much single precision may round a value, NaN where it does not matter."""
        raise AssertionError("every tokenizer of tables has its own")

    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest value (F,) of each feature that codes tell apart."""
        raise AssertionError("every tokenizer of tables has its own")

    def beyond(self, value: np.ndarray) -> dict[str, int]:
        """The features of a row whose value lies far beyond what the tokenizer was fitted to, by more than half of its range: codes
        stand for less. Values that lie less far outside are what new samples have."""
        low, high = self._range() if self.extent is None else self.extent
        middle = (low + high) / 2
        with np.errstate(invalid="ignore"):  # features without any value have no range
            far = np.abs(value - middle) > MAX_REACH * np.maximum(high - low, MAX_ROUNDING * np.abs(middle))
        return {self.features[feature]: 1 for feature in np.flatnonzero(far)}

    def _stacked(self, values: Sequence[np.ndarray]) -> np.ndarray:
        """(N, F) float32. Raises DataError for a row of another length, and for a value that single precision rounds too much."""
        return np.stack([self._checked(value) for value in values])

    def _check_encodable(self, rows: np.ndarray) -> None:
        """Raise DataError in fitting where encoding would: for rows that are in double precision for a reason."""
        if rows.dtype == np.float64:
            self._stacked(list(rows))

    def _checked(self, value: np.ndarray) -> np.ndarray:
        row = np.asarray(value, np.float32)
        if row.shape != (len(self.features),):
            raise DataError(f"a row has shape {row.shape}, the tokenizer {len(self.features)} features.", fix="Use `align` first.")
        if np.asarray(value).dtype == np.float64 and (np.abs(value) > SINGLE_PRECISION_INTEGERS).any():
            error = np.where(np.abs(value) > SINGLE_PRECISION_INTEGERS, np.abs(value - row), 0)
            coarse = np.flatnonzero(error > self._tolerance())
            if len(coarse):
                name, number = self.features[coarse[0]], value[coarse[0]]
                what = f"the column {name!r} holds {number:.17g}, which single precision rounds by {error[coarse[0]]:g}."
                raise DataError(what, fix=ROUNDING_FIX)
        return row


def extent_of(rows: np.ndarray) -> np.ndarray:
    """(2, F): the lowest and the highest value of each column, NaN where it has none."""
    return np.stack([np.fmin.reduce(rows), np.fmax.reduce(rows)]).astype(np.float32)


def stack(values: Sequence[np.ndarray]) -> np.ndarray:
    """(N, F) float32, or float64 where one of the rows is."""
    return np.stack([value if np.asarray(value).dtype == np.float64 else np.asarray(value, np.float32) for value in values])


def check_rounding(rows: np.ndarray, features: Sequence[str]) -> None:
    """Raise DataError where single precision rounds integers of a column by more than a thousandth of its standard deviation."""
    if rows.dtype != np.float64:
        return
    large = np.flatnonzero(np.maximum(np.fmax.reduce(rows), -np.fmin.reduce(rows)) > SINGLE_PRECISION_INTEGERS)
    columns = rows[:, large]
    error = np.nan_to_num(np.abs(columns - columns.astype(np.float32))).max(0, initial=0)
    deviation = np.sqrt(column_means((columns - column_means(columns)) ** 2))
    coarse = np.flatnonzero(error > MAX_ROUNDING * deviation)
    if len(coarse):
        first = coarse[0]
        what = f"single precision rounds integers of the columns {_some([features[large[i]] for i in coarse])} too much"
        raise DataError(f"{what}: by {error[first]:g} where values deviate by {deviation[first]:g}.", where="table", fix=ROUNDING_FIX)


def select(rows: np.ndarray, min_present: float, max_features: int | None) -> np.ndarray:
    """Columns to keep, ascending: those present often enough, and of these the most variable."""
    kept = np.flatnonzero((~np.isnan(rows)).mean(0) >= min_present)
    if max_features is not None and len(kept) > max_features:
        order = np.argsort(-spread(rows[:, kept]), kind="stable")
        kept = np.sort(kept[order[: max(int(max_features), 0)]])
    if not len(kept):
        raise UsageError("no feature is left.", where="table", fix="Lower min_present or raise max_features.")
    return kept


def spread(rows: np.ndarray) -> np.ndarray:
    """Variance per column of values clipped to their 1 % and 99 % quantiles, so that one outlier does not decide."""
    low, high = quantiles(rows, np.array([0.01, 0.99]))
    clipped = np.clip(rows, low, high)
    present = ~np.isnan(rows)
    squares = np.where(present, clipped - column_means(clipped), 0) ** 2
    return squares.sum(0) / np.maximum(present.sum(0), 1)


def column_means(rows: np.ndarray) -> np.ndarray:
    """Mean of the present values of each column, 0 where there is none."""
    present = ~np.isnan(rows)
    return np.where(present, rows, 0).sum(0, dtype=np.float64) / np.maximum(present.sum(0), 1)


def centre_and_scale(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the present values of each column; the latter is 1 where they are all the same, in whatever unit."""
    centre = column_means(rows)
    scale = np.sqrt(column_means((rows - centre) ** 2))
    varies = scale > np.maximum(LEAST_DEVIATION * np.abs(centre), np.finfo(np.float32).tiny)
    return centre, np.where(varies, scale, 1.0)


def quantiles(rows: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(len(shares), F) values of each column (NaN where it has none) that a `share` of its present values does not exceed."""
    ordered = np.sort(rows, axis=0)  # NaN goes last
    counts = (~np.isnan(rows)).sum(0)
    places = np.clip(np.ceil(shares[:, None] * counts).astype(np.int64) - 1, 0, len(rows) - 1)
    return np.take_along_axis(ordered, places, axis=0)


def fit_quality(rows: np.ndarray, decoded: np.ndarray) -> dict[str, float | int | None]:
    """How well `decoded` stands for `rows`, both (N, F): R2 per feature over its present values, its mean and its worst."""
    present = ~np.isnan(rows)
    error = np.where(present, rows - decoded, 0).astype(np.float64)
    deviation = np.where(present, rows - column_means(rows), 0).astype(np.float64)
    total = (deviation**2).sum(0)
    varying = total > 0
    r2 = 1 - (error**2).sum(0)[varying] / total[varying]
    return {
        "samples": len(rows),
        "features": rows.shape[1],
        "reconstruction_r2": round(float(r2.mean()), 5) if varying.any() else None,
        "reconstruction_r2_worst": round(float(r2.min()), 5) if varying.any() else None,
        "constant_features": int((~varying).sum()),
        "missing_share": round(float(1 - present.mean()), 5),
    }


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
