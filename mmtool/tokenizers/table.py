"""Table rows <-> bins: each feature has its own quantile bins, and a bin of its own for a missing value.

A bin decodes to the mean of the training values in it, the value with the least squared error.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmtool.errors import DataError, UsageError
from mmtool.storage import write_bytes
from mmtool.tokenizers.base import Kind, Positions, check_settings

SETTINGS = {"features": list | tuple, "n_bins": int, "min_present": float | int, "max_features": int | None}
KEY_COLUMN = "key"


@dataclass
class TableTokenizer:
    """Rows (F,) float32, NaN where a value is missing <-> (F,) codes: 0..n_bins-1 are bins, n_bins is missing.

    features: names, in the order of the codes; dropped: columns of the training table that are left out on purpose.
    edges (F, n_bins - 1): a value belongs to the bin of the first edge that is not below it; +inf where a feature has fewer bins.
    centres (F, n_bins): what a bin decodes to; bins that a feature does not use repeat its last one.
    """

    kind: ClassVar[Kind] = "table"
    scheme: ClassVar[str] = "bins"
    features: tuple[str, ...]
    dropped: tuple[str, ...]
    edges: np.ndarray
    centres: np.ndarray

    def __post_init__(self) -> None:
        self.vocabulary_size = self.n_bins + 1
        self.shape: tuple[int, ...] | None = (len(self.features),)
        self.positions: Positions = "set"
        self.report: dict[str, Any] = {}

    @property
    def n_bins(self) -> int:
        return int(self.centres.shape[1])

    @classmethod
    def fit(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any], seed: int) -> "TableTokenizer":
        """Learn bins from training rows.

        Settings: `features` (names of the columns of `values`, required), `n_bins` (default 32), `min_present` (leave out features
        with a smaller share of values, default 0), `max_features` (keep only those that vary most; default all). Nothing is random;
        `seed` is there because every tokenizer has one. Raises UsageError for settings that make no sense.
        """
        check_settings(settings, SETTINGS, "table")
        names, n_bins = list(settings["features"]), int(settings.get("n_bins", 32))
        if not 2 <= n_bins < 1 << 16:
            raise UsageError(f"n_bins is {n_bins}.", where="table", fix="Use a number from 2 to 65535; 16 to 64 are usual.")
        rows = np.stack([np.asarray(value, np.float32) for value in values])
        kept = _select(rows, float(settings.get("min_present", 0.0)), settings.get("max_features"))
        edges = quantile_edges(rows[:, kept], n_bins)
        features = tuple(names[i] for i in kept)
        tokenizer = cls(features, tuple(sorted(set(names) - set(features))), edges, np.zeros((len(kept), n_bins), np.float32))
        codes = tokenizer._bin(rows[:, kept])
        tokenizer.centres = bin_means(rows[:, kept], codes, n_bins)
        tokenizer.report = tokenizer._measure(rows[:, kept], codes)
        return tokenizer

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Rows in the order of `features` -> (F,) codes each."""
        return list(self._bin(np.stack([self._checked(value) for value in values]))) if len(values) else []

    def decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes -> rows (F,) float32, NaN where missing."""
        lookup = np.concatenate([self.centres, np.full((len(self.features), 1), np.nan, np.float32)], axis=1)
        return [lookup[np.arange(len(self.features)), np.asarray(row, np.int64)] for row in tokens]

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

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {"edges": self.edges, "centres": self.centres}, {"features": list(self.features), "dropped": list(self.dropped)}

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> "TableTokenizer":
        return cls(tuple(settings["features"]), tuple(settings["dropped"]), tensors["edges"], tensors["centres"])

    def _bin(self, rows: np.ndarray) -> np.ndarray:
        """(N, F) values -> (N, F) codes."""
        codes = np.full(rows.shape, self.n_bins, np.uint16)
        for feature, edges in enumerate(self.edges):
            column = rows[:, feature]
            codes[:, feature] = np.where(np.isnan(column), self.n_bins, np.searchsorted(edges, column, side="left"))
        return codes

    def _checked(self, value: np.ndarray) -> np.ndarray:
        row = np.asarray(value, np.float32)
        if row.shape != (len(self.features),):
            raise DataError(f"a row has shape {row.shape}, the tokenizer {len(self.features)} features.", fix="Use `align` first.")
        return row

    def _measure(self, rows: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
        """How well bins stand for values (R2 per feature over its present values), and how many of them are used."""
        present = ~np.isnan(rows)
        error = np.where(present, rows - np.stack(self.decode(list(codes))), 0).astype(np.float64)
        spread = np.where(present, rows - _column_means(rows), 0).astype(np.float64)
        total = (spread**2).sum(0)
        varying = total > 0
        r2 = 1 - (error**2).sum(0)[varying] / total[varying]
        used = 1 + np.isfinite(self.edges).sum(1)
        return {
            "samples": len(rows),
            "features": len(self.features),
            "reconstruction_r2": round(float(r2.mean()), 5) if varying.any() else None,
            "reconstruction_r2_worst": round(float(r2.min()), 5) if varying.any() else None,
            "constant_features": int((~varying).sum()),
            "missing_share": round(float(1 - present.mean()), 5),
            "bins_used": round(float(used.mean()), 3),
            "codebook_usage": round(float(used.mean()) / self.n_bins, 5),
        }


def _select(rows: np.ndarray, min_present: float, max_features: int | None) -> np.ndarray:
    """Columns to keep, ascending: those present often enough, and of these the most variable."""
    kept = np.flatnonzero((~np.isnan(rows)).mean(0) >= min_present)
    if max_features is not None and len(kept) > max_features:
        order = np.argsort(-_spread(rows[:, kept]), kind="stable")
        kept = np.sort(kept[order[: max(int(max_features), 0)]])
    if not len(kept):
        raise UsageError("no feature is left.", where="table", fix="Lower min_present or raise max_features.")
    return kept


def _spread(rows: np.ndarray) -> np.ndarray:
    """Standard deviation per column of values clipped to their 1 % and 99 % quantiles, so that one outlier does not decide."""
    low, high = _quantiles(rows, np.array([0.01, 0.99]))
    clipped = np.clip(rows, low, high)
    present = ~np.isnan(rows)
    squares = np.where(present, clipped - _column_means(clipped), 0) ** 2
    return squares.sum(0) / np.maximum(present.sum(0), 1)


def _column_means(rows: np.ndarray) -> np.ndarray:
    """Mean of the present values of each column, 0 where there is none."""
    present = ~np.isnan(rows)
    return np.where(present, rows, 0).sum(0, dtype=np.float64) / np.maximum(present.sum(0), 1)


def _quantiles(rows: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(len(shares), F) values of each column (NaN where it has none) that a `share` of its present values does not exceed."""
    ordered = np.sort(rows, axis=0)  # NaN goes last
    counts = (~np.isnan(rows)).sum(0)
    places = np.clip(np.ceil(shares[:, None] * counts).astype(np.int64) - 1, 0, len(rows) - 1)
    return np.take_along_axis(ordered, places, axis=0)


def quantile_edges(rows: np.ndarray, n_bins: int) -> np.ndarray:
    """(F, n_bins - 1) ascending upper edges, ties merged, filled up with +inf.

    Edges are values that occur, and belong to the bin below: so a value that fills several quantiles (zero counts) has a bin of its own.
    """
    quantiles = _quantiles(rows, np.arange(1, n_bins + 1) / n_bins).T
    edges = np.full((rows.shape[1], n_bins - 1), np.inf, np.float32)
    for feature, column in enumerate(quantiles):
        distinct = np.unique(column[np.isfinite(column)])[:-1]  # nothing lies above the maximum
        edges[feature, : len(distinct)] = distinct
    return edges


def bin_means(rows: np.ndarray, codes: np.ndarray, n_bins: int) -> np.ndarray:
    """(F, n_bins) mean of the training values in each bin; NaN in features that have no value at all."""
    centres = np.full((rows.shape[1], n_bins), np.nan, np.float32)
    for feature in range(rows.shape[1]):
        present = codes[:, feature] < n_bins
        counts = np.bincount(codes[present, feature], minlength=n_bins)
        sums = np.bincount(codes[present, feature], weights=rows[present, feature], minlength=n_bins)
        used = np.flatnonzero(counts)
        if len(used):
            means = sums[used] / counts[used]
            centres[feature] = means[np.minimum(np.arange(n_bins), len(used) - 1)]
    return centres


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
