"""Table rows <-> bins: each feature has its own quantile bins, and a bin of its own for a missing value.

A bin decodes to the mean of the training values in it, the value with the least squared error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mmtool.tokenizers.base import Bins, Positions, check_settings
from mmtool.tokenizers.table_rows import (
    MAX_ROUNDING,
    SELECTION_SETTINGS,
    TableRows,
    check_rounding,
    extent_of,
    fit_quality,
    quantiles,
    select,
    stack,
)

MANY_FEATURES = 2000  # as bins: the cost of attention grows with the square of the tokens
SETTINGS = {"features": list | tuple, "n_bins": Bins, **SELECTION_SETTINGS}


@dataclass
class TableTokenizer(TableRows):
    """Rows (F,) float32, NaN where a value is missing <-> (F,) codes: 0..n_bins-1 are bins, n_bins is missing.

    edges (F, n_bins - 1): a value belongs to the bin of the first edge that is not below it; +inf where a feature has fewer bins.
    centres (F, n_bins): what a bin decodes to; bins that a feature does not use repeat its last one.
    """

    scheme: ClassVar[str] = "bins"
    features: tuple[str, ...]
    dropped: tuple[str, ...]
    edges: np.ndarray
    centres: np.ndarray
    extent: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.vocabulary_size = self.n_bins + 1
        self.ordered_codes = self.n_bins
        self.shape: tuple[int, ...] | None = (len(self.features),)
        self.positions: Positions = "set"
        self.report: dict[str, Any] = {}

    @property
    def advice(self) -> str | None:
        """What to do where rows are too long to train on."""
        count = len(self.features)
        if count <= MANY_FEATURES:
            return None
        fix = "--scheme codec --set components=64 makes 64 of them, --set max_features=500 keeps 500."
        return f"{count:,} features are {count:,} tokens of each sample, too many to train on within reason: {fix}"

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
        exact = stack(values)
        rows = exact.astype(np.float32, copy=False)
        kept = select(rows, float(settings.get("min_present", 0.0)), settings.get("max_features"))
        check_rounding(exact[:, kept], [names[i] for i in kept])
        edges = quantile_edges(rows[:, kept], n_bins)
        features = tuple(names[i] for i in kept)
        tokenizer = cls(features, tuple(sorted(set(names) - set(features))), edges, np.zeros((len(kept), n_bins), np.float32))
        codes = tokenizer._bin(rows[:, kept])
        tokenizer.centres = bin_means(rows[:, kept], codes, n_bins)
        tokenizer.extent = extent_of(rows[:, kept])
        tokenizer._check_encodable(exact[:, kept])
        tokenizer.report = tokenizer._measure(rows[:, kept], codes)
        return tokenizer

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Rows in the order of `features` -> (F,) codes each."""
        return list(self._bin(self._stacked(values))) if len(values) else []

    def decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes -> rows (F,) float32, NaN where missing."""
        lookup = self.code_values()
        return [lookup[np.arange(len(self.features)), np.asarray(row, np.int64)] for row in tokens]

    def code_values(self) -> np.ndarray:
        """(F, n_bins + 1) float32: what each code stands for at each place, NaN for missing."""
        return np.concatenate([self.centres, np.full((len(self.features), 1), np.nan, np.float32)], axis=1)

    def from_code_values(self, values: np.ndarray) -> np.ndarray:
        """(N, F) means of code values -> (N, F) rows: they are the features' own."""
        return values.astype(np.float32)

    def residual(self) -> np.ndarray:
        """(F,) standard deviation of what the codes do not hold: bins lose next to nothing."""
        return np.zeros(len(self.features), np.float32)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        extent = {} if self.extent is None else {"extent": self.extent}
        return {"edges": self.edges, "centres": self.centres} | extent, {"features": list(self.features), "dropped": list(self.dropped)}

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> "TableTokenizer":
        return cls(tuple(settings["features"]), tuple(settings["dropped"]), tensors["edges"], tensors["centres"], tensors.get("extent"))

    def _tolerance(self) -> np.ndarray:
        """Ten times what fitting takes, for bins deviate less than the values in them."""
        return 10 * MAX_ROUNDING * self.centres.std(1, dtype=np.float64)

    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        return self.centres.min(1), self.centres.max(1)

    def _bin(self, rows: np.ndarray) -> np.ndarray:
        """(N, F) values -> (N, F) codes."""
        codes = np.full(rows.shape, self.n_bins, np.uint16)
        for feature, edges in enumerate(self.edges):
            column = rows[:, feature]
            codes[:, feature] = np.where(np.isnan(column), self.n_bins, np.searchsorted(edges, column, side="left"))
        return codes

    def _measure(self, rows: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
        """How well bins stand for values, and how many of them are used."""
        used = 1 + np.isfinite(self.edges).sum(1)
        usage = {"bins_used": round(float(used.mean()), 3), "codebook_usage": round(float(used.mean()) / self.n_bins, 5)}
        return {**fit_quality(rows, np.stack(self.decode(list(codes)))), **usage}


def quantile_edges(rows: np.ndarray, n_bins: int) -> np.ndarray:
    """(F, n_bins - 1) ascending upper edges, ties merged, filled up with +inf.

    Edges are values that occur, and belong to the bin below: so a value that fills several quantiles (zero counts) has a bin of its own.
    """
    cuts = quantiles(rows, np.arange(1, n_bins + 1) / n_bins).T
    edges = np.full((rows.shape[1], n_bins - 1), np.inf, np.float32)
    for feature, column in enumerate(cuts):
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
