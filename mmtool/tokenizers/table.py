"""Table rows <-> codes: each feature has its own quantile bins or categories, and a code for a missing value.

A bin decodes to the mean of the training values in it, the value with the least squared error; a category to itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from mmtool.tokenizers.base import Bins, Positions, check_settings
from mmtool.tokenizers.code_values import CodeValues, OneHot
from mmtool.tokenizers.column_types import NUMBER, Types
from mmtool.tokenizers.scalings import Scaling
from mmtool.tokenizers.table_rows import (
    MAX_ROUNDING,
    SELECTION_SETTINGS,
    TableRows,
    centre_and_scale,
    choose_columns,
    extent_of,
    fit_quality,
    quantiles,
    scaling_in,
    types_in,
)

MANY_FEATURES = 2000  # as bins: the cost of attention grows with the square of the tokens


@dataclass
class TableTokenizer(TableRows):
    """Rows (F,) float32, NaN where a value is missing <-> (F,) codes: 0..n_bins-1 are bins, n_bins is missing, then categories follow.

    edges (F, n_bins - 1): a value belongs to the bin of the first edge that is not below it; +inf where a feature has fewer bins.
    centres (F, n_bins): what a bin decodes to, on the scale of `scaling`; bins that a feature does not use repeat its last one. Features
    of categories have none.
    """

    scheme: ClassVar[str] = "bins"
    SETTINGS: ClassVar[dict[str, Any]] = {"n_bins": Bins, **SELECTION_SETTINGS}
    features: tuple[str, ...]
    dropped: tuple[str, ...]
    edges: np.ndarray
    centres: np.ndarray
    types: Types = field(default_factory=dict)
    scaling: Scaling = field(default_factory=Scaling)
    extent: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.vocabulary_size = self.n_bins + 1 + int(self.one_hot.counts.max(initial=0))
        self.ordered_codes = self.n_bins
        self.shape: tuple[int, ...] | None = (len(self.features),)
        self.positions: Positions = "set"
        self.report: dict[str, Any] = {}
        self.hints: list[str] = []

    @property
    def advice(self) -> str | None:
        """What to do where rows are too long to train on, or seem to be on another scale."""
        hints, count = list(self.hints), len(self.features)
        if count > MANY_FEATURES:
            fix = "--scheme codec --set components=64 makes 64 of them, --set max_features=500 keeps 500."
            hints.append(f"{count:,} features are {count:,} tokens of each sample, too many to train on within reason: {fix}")
        return " ".join(hints) or None

    @property
    def n_bins(self) -> int:
        return int(self.centres.shape[1])

    @classmethod
    def fit(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any], seed: int) -> "TableTokenizer":
        """Learn bins from training rows.

        Settings: `features` (names of the columns of `values`, required), `types` (of those that are no numbers, by name), `n_bins`
        (default 32), `scale` of numbers (`linear`, the default, `log1p` or `rank`), `min_present` (leave out features with a smaller share
        of values, default 0), `max_features` (keep only those that vary most on the scale, and categories; default all). Nothing is
        random; `seed` is there because every tokenizer has one. Raises UsageError for settings that make no sense.
        """
        check_settings(settings, cls.SETTINGS, "table")
        chosen = choose_columns(values, settings)
        n_bins = int(settings.get("n_bins", 32))
        one_hot = OneHot([chosen.types.get(name, NUMBER) for name in chosen.features])
        amounts = np.where(one_hot.categorical, np.nan, chosen.scaled)
        edges, centres = quantile_edges(amounts, n_bins), np.zeros((len(chosen.features), n_bins), np.float32)
        tokenizer = cls(chosen.features, chosen.dropped, edges, centres, chosen.types, chosen.scaling, extent_of(chosen.rows))
        codes = tokenizer._bin(chosen.scaled)
        tokenizer.centres = bin_means(amounts, codes, n_bins)
        tokenizer._check_encodable(chosen.exact)
        tokenizer.report, tokenizer.hints = tokenizer._measure(chosen.rows, codes), chosen.hints
        return tokenizer

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Rows in the order of `features` -> (F,) codes each. Raises DataError for a category that there is not."""
        return list(self._bin(self.scaled(self._stacked(values)))) if len(values) else []

    def decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes -> rows (F,) float32, NaN where missing, and where a code does not exist."""
        indices = np.arange(len(self.features))
        return list(self.unscaled(np.stack([self._values[indices, np.asarray(row, np.int64)] for row in tokens]))) if len(tokens) else []

    @cached_property
    def _values(self) -> np.ndarray:
        """(F, vocabulary_size) float32: the value of each code on the scale, NaN for missing and for what does not exist."""
        values = np.full((len(self.features), self.vocabulary_size), np.nan, np.float32)
        values[:, : self.n_bins] = self.centres
        indices = np.arange(self.vocabulary_size - self.n_bins - 1)
        values[:, self.n_bins + 1 :] = np.where(indices < self.one_hot.counts[:, None], indices, np.nan)
        return values

    def code_values(self) -> CodeValues:
        """What each code stands for at each index: the value of a bin; for each category whether it is the one."""
        if not self.one_hot.categorical.any():
            return CodeValues.of_indices(self._values, centre_and_scale(self.centres.T)[1])
        indices, categorical = self.one_hot.indices, self.one_hot.categorical[self.one_hot.indices]
        ranks = np.arange(len(indices)) - np.searchsorted(indices, indices)
        values = self._values[indices]
        values = np.where(categorical[:, None] & ~np.isnan(values), values == ranks[:, None], values).astype(np.float32)
        units = np.where(categorical, 1.0, centre_and_scale(self.centres.T)[1][indices])
        exist = ~np.isnan(self._values)
        exist[:, self.n_bins] = True
        return CodeValues(values, indices, units, exist)

    def from_code_values(self, values: np.ndarray) -> np.ndarray:
        """(N, W) means of code values -> (N, F) rows: values of the features, and the most probable categories."""
        return self.unscaled(self.one_hot.decode(values).astype(np.float32))

    def residual(self) -> np.ndarray:
        """(F,) standard deviation of what the codes do not hold: bins lose next to nothing."""
        return np.zeros(len(self.features), np.float32)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        extent = {} if self.extent is None else {"extent": self.extent}
        return {"edges": self.edges, "centres": self.centres, **self.scaling.tensors(), **extent}, self._columns()

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> "TableTokenizer":
        names, extent = (tuple(settings["features"]), tuple(settings["dropped"])), tensors.get("extent")
        return cls(*names, tensors["edges"], tensors["centres"], types_in(settings), scaling_in(tensors, settings), extent)

    def _tolerance(self) -> np.ndarray:
        """Ten times what fitting takes, for bins deviate less than the values in them."""
        return 10 * MAX_ROUNDING * self.unscaled(self.centres.T).std(0, dtype=np.float64)

    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        return self.unscaled(self.centres.min(1)[None])[0], self.unscaled(self.centres.max(1)[None])[0]

    def _bin(self, rows: np.ndarray) -> np.ndarray:
        """(N, F) values on the scale -> (N, F) codes."""
        codes = np.full(rows.shape, self.n_bins, np.uint16)
        for feature, edges in enumerate(self.edges):
            column = rows[:, feature]
            present = ~np.isnan(column)
            within = column + self.n_bins + 1 if self.one_hot.categorical[feature] else np.searchsorted(edges, column, side="left")
            codes[present, feature] = within[present]
        return codes

    def _measure(self, rows: np.ndarray, codes: np.ndarray) -> dict[str, Any]:
        """How well bins stand for values, and how many of them are used."""
        amounts = ~self.one_hot.categorical
        used = float((1 + np.isfinite(self.edges[amounts]).sum(1)).mean()) if amounts.any() else 0.0
        usage = {"bins_used": round(used, 3), "codebook_usage": round(used / self.n_bins, 5)}
        return {**fit_quality(rows, np.stack(self.decode(list(codes))), amounts), **usage, **self._num_categories()}


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
