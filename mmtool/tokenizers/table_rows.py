"""What all table tokenizers share: named features, matching of columns, rows as CSV, and statistics of columns with missing values."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np

from mmtool.common.bounds import Bounds
from mmtool.common.errors import DataError, UsageError
from mmtool.common.storage import write_bytes
from mmtool.tokenizers.base import Number, Positions
from mmtool.tokenizers.code_values import OneHot
from mmtool.tokenizers.column_types import NUMBER, Types, from_json
from mmtool.tokenizers.scalings import SCALINGS, Scaling, in_columns, look_like_counts, scaled, scaling_named

KEY_COLUMN = "key"
SINGLE_PRECISION_INTEGERS = 1 << 24  # float32 holds all integers up to it
MAX_REACH = 1.0  # of its range, from the middle of it, that a value of a new row may lie away
LEAST_DEVIATION = 1e-12  # of a column's mean, by which equal numbers differ from theirs
COUNTS_ADVICE = (
    "the numbers look like counts, the largest of which weigh more than all others; --scale log1p takes their logarithms, --scale rank "
    "their ranks, and --scale linear leaves them as they are."
)
COLUMNS_AT_ONCE = 256  # of large tables
MAX_ROUNDING = 0.001  # of the standard deviation of a column
ROUNDING_FIX = "Subtract an offset from the column, declare it with --key-column or --label, or leave it out."
SELECTION_SETTINGS = {  # of `choose_columns`
    "features": list | tuple,
    "types": dict,
    "scale": str,
    "min_present": Annotated[Number, Bounds(0, 1)],
    "max_features": Annotated[int | None, Bounds(1)],
}


class TableRows:
    """Rows (F,) float32 of named features, NaN where a value is missing.

    features: names, in the order of the values; dropped: columns of the training table that are left out on purpose. types: of the
    columns that are no numbers, by name. scaling: of the columns that are. fills_missing: whether rows decode without missing values, for
    no code stands for one. extent: (2, F), the lowest and the highest value of each feature that was fitted to, NaN where there was none;
    None in tokenizers of earlier versions.
    """

    kind: ClassVar[str] = "table"
    fills_missing: ClassVar[bool] = False
    positions: Positions = "set"
    features: tuple[str, ...]
    dropped: tuple[str, ...]
    types: Types
    scaling: Scaling
    extent: np.ndarray | None

    @cached_property
    def _numbers(self) -> np.ndarray:
        """The places of the features that are numbers."""
        return np.flatnonzero([name not in self.types for name in self.features])

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        """(N, F) rows -> the same with numbers on the tokenizer's scale. Raises DataError for one that has no place there."""
        return scaled(self.scaling, rows, self._numbers, self.features)

    def unscaled(self, rows: np.ndarray) -> np.ndarray:
        """The inverse of `scaled`."""
        return in_columns(self.scaling.invert, rows, self._numbers)

    @cached_property
    def one_hot(self) -> OneHot:
        """Rows as numbers that have means, and back."""
        return OneHot([self.types.get(name, NUMBER) for name in self.features])

    def align(self, header: Sequence[str], where: object = None) -> np.ndarray:
        """Where each feature stands in `header`: `row[tokenizer.align(header)]` is what `encode` takes.

        Raises DataError where a feature is missing from the header, or a column is neither a feature nor left out in fitting.
        """
        index = {name: i for i, name in enumerate(header)}
        missing = [name for name in self.features if name not in index]
        unknown = sorted(set(header) - set(self.features) - set(self.dropped))
        if missing or unknown:
            what = [f"{label} {_some(names)}" for label, names in (("it lacks", missing), ("it has the unknown", unknown)) if names]
            apart = "name labels with --label, and what is to be left out with --column-type NAME=skip"
            fix = f"Use a table with the columns the tokenizer was fitted on ({apart}), or fit a new one."
            raise DataError(f"the columns differ from those of the tokenizer: {'; '.join(what)}.", where=where, fix=fix)
        return np.array([index[name] for name in self.features], np.int64)

    def write(self, value: np.ndarray, stem: Path) -> Path:
        """Write one row as `stem`.csv with a header; its key is the last part of `stem`."""
        return self.write_rows([stem.name], [value], stem.with_name(stem.name + ".csv"))

    def write_rows(self, keys: Sequence[str], values: Sequence[np.ndarray], path: Path) -> Path:
        """Write many rows as one CSV: the key first, then every feature; an empty cell is a missing value."""
        columns = [self.types.get(name, NUMBER) for name in self.features]
        rows = (np.asarray(row, np.float32) for row in values)
        cells = [["" if np.isnan(value) else column.write(value) for column, value in zip(columns, row, strict=True)] for row in rows]
        return _write_csv([KEY_COLUMN, *self.features], keys, cells, path)

    def write_probabilities(self, keys: Sequence[str], means: np.ndarray, path: Path) -> Path:
        """Write how probable each category is by (N, W) means of code values: a column `FEATURE=CATEGORY` for each."""
        features = np.flatnonzero(self.one_hot.categorical).tolist()
        names = [f"{self.features[i]}={name}" for i in features for name in self.types[self.features[i]].categories]
        shares = np.hstack([self.one_hot.probabilities(means, i) for i in features])
        cells = [["" if np.isnan(share) else f"{share:.4g}" for share in row] for row in shares]
        return _write_csv([KEY_COLUMN, *names], keys, cells, path)

    def _columns(self) -> dict[str, Any]:
        """Names, types and scale for `state`; where all are numbers as they are, nothing is said of it, as before there was more."""
        types = {"types": {name: column.to_json() for name, column in sorted(self.types.items())}} if self.types else {}
        scaling = {"scale": self.scaling.name} if self.scaling.name != Scaling.name else {}
        return {"features": list(self.features), "dropped": list(self.dropped), **types, **scaling}

    def _num_categories(self) -> dict[str, int]:
        """For a report: how many features hold categories, if any."""
        count = int(self.one_hot.categorical.sum())
        return {"categorical_features": count} if count else {}

    def _tolerance(self) -> np.ndarray:
        """(F,) by how much single precision may round a value, NaN where it does not matter, as to logarithms."""
        raise AssertionError("every tokenizer of tables has its own")

    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest value (F,) of each feature that codes can represent."""
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
        for feature in np.flatnonzero(self.one_hot.categorical & ~np.isnan(row)).tolist():
            if row[feature] not in range(self.one_hot.counts[feature]):
                what = f"the column {self.features[feature]!r} has no category number {row[feature]:g}."
                raise DataError(what, fix=f"There are {self.one_hot.counts[feature]}, counted from 0.")
        if np.asarray(value).dtype == np.float64 and (np.abs(value) > SINGLE_PRECISION_INTEGERS).any():
            error = np.where(np.abs(value) > SINGLE_PRECISION_INTEGERS, np.abs(value - row), 0)
            coarse = np.flatnonzero(error > self._tolerance())
            if len(coarse):
                name, number = self.features[coarse[0]], value[coarse[0]]
                what = f"the column {name!r} holds {number:.17g}, which single precision rounds by {error[coarse[0]]:g}."
                raise DataError(what, fix=ROUNDING_FIX)
        return row


@dataclass(frozen=True)
class ChosenColumns:
    """What a tokenizer is fitted to: rows (N, F) float32 of the features that are kept, `scaled` as well, and `exact` where they are in
    double precision for a reason. dropped: the other columns; types: of all that are no numbers; hints: what to say of the numbers."""

    features: tuple[str, ...]
    dropped: tuple[str, ...]
    types: Types
    scaling: Scaling
    rows: np.ndarray
    scaled: np.ndarray
    exact: np.ndarray
    hints: list[str]


def choose_columns(values: Sequence[np.ndarray], settings: Mapping[str, Any]) -> ChosenColumns:
    """By the settings `features`, `types`, `scale`, `min_present` and `max_features`. Raises UsageError for a scale that there is not, and
    where no column is left, DataError for values that single precision rounds too much or that have no place on the scale."""
    names, types = list(settings["features"]), dict(settings.get("types", {}))
    exact = stack(values)
    rows = exact.astype(np.float32, copy=False)
    categorical = np.array([name in types and bool(types[name].categories) for name in names])
    numbers = np.flatnonzero([name not in types for name in names])
    scaling = scaling_named(settings.get("scale", Scaling.name)).fit(rows[:, numbers])
    on_scale = scaled(scaling, rows, numbers, names)
    kept = select(on_scale, float(settings.get("min_present", 0.0)), settings.get("max_features"), categorical)
    features = tuple(names[i] for i in kept)
    check_rounding(_columns_of(exact, kept), features)
    counts = "scale" not in settings and look_like_counts(_columns_of(rows, np.intersect1d(numbers, kept)))
    return ChosenColumns(
        features=features,
        dropped=tuple(sorted(set(names) - set(features))),
        types=types,
        scaling=scaling.of_columns(np.flatnonzero(np.isin(numbers, kept))),
        rows=_columns_of(rows, kept),
        scaled=_columns_of(on_scale, kept),
        exact=_columns_of(exact, kept),
        hints=[COUNTS_ADVICE] if counts else [],
    )


def _columns_of(rows: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The columns at these places, which ascend; not copied where these are all."""
    return rows if len(indices) == rows.shape[1] else rows[:, indices]


def types_in(settings: Mapping[str, Any]) -> Types:
    """The types that `TableRows._columns` wrote."""
    return {name: from_json(record) for name, record in settings.get("types", {}).items()}


def scaling_in(tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Scaling:
    """The scaling that `TableRows._columns` and `Scaling.tensors` wrote."""
    return SCALINGS[settings.get("scale", Scaling.name)].from_tensors(tensors)


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


def select(rows: np.ndarray, min_present: float, max_features: int | None, categorical: np.ndarray | None = None) -> np.ndarray:
    """Columns to keep, ascending: those present often enough, and of these the most variable. categorical: (F,) whether a column
    holds categories, which have no variance and come first."""
    kept = np.flatnonzero((~np.isnan(rows)).mean(0) >= min_present)
    if max_features is not None and len(kept) > max_features:
        variances = spread(rows[:, kept])
        order = np.argsort(-(variances if categorical is None else np.where(categorical[kept], np.inf, variances)), kind="stable")
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
    indices = np.clip(np.ceil(shares[:, None] * counts).astype(np.int64) - 1, 0, len(rows) - 1)
    return np.take_along_axis(ordered, indices, axis=0)


def fit_quality(rows: np.ndarray, decoded: np.ndarray, amounts: np.ndarray | None = None) -> dict[str, float | int | None]:
    """How well `decoded` stands for `rows`, both (N, F): R2 per feature over its present values, its mean, its median and
    its worst. amounts: (F,) whether a feature is a quantity; others have no R2."""
    blocks = np.array_split(np.arange(rows.shape[1]), -(-rows.shape[1] // COLUMNS_AT_ONCE))  # in double precision a table is twice as large
    lost, total = (np.concatenate(sums) for sums in zip(*(_squares(rows[:, block], decoded[:, block]) for block in blocks), strict=True))
    measured = np.ones(rows.shape[1], bool) if amounts is None else amounts
    varying = (total > 0) & measured
    r2 = 1 - lost[varying] / total[varying]
    return {
        "samples": len(rows),
        "features": rows.shape[1],
        "reconstruction_r2": round(float(r2.mean()), 5) if varying.any() else None,
        "reconstruction_r2_median": round(float(np.median(r2)), 5) if varying.any() else None,
        "reconstruction_r2_worst": round(float(r2.min()), 5) if varying.any() else None,
        "constant_features": int((measured & ~varying).sum()),
        "missing_share": round(float(np.isnan(rows).mean()), 5),
    }


def _squares(rows: np.ndarray, decoded: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over present values (F,): of the squared error of what is decoded, and of the squared deviation from the mean."""
    present = ~np.isnan(rows)
    error = np.where(present, rows - decoded, 0).astype(np.float64)
    deviation = np.where(present, rows - column_means(rows), 0).astype(np.float64)
    return (error**2).sum(0), (deviation**2).sum(0)


def _write_csv(header: Sequence[str], keys: Sequence[str], cells: Sequence[Sequence[str]], path: Path) -> Path:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([key, *row] for key, row in zip(keys, cells, strict=True))
    write_bytes(path, text.getvalue().encode())
    return path


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
