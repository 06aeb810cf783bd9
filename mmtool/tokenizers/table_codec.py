"""Wide table rows <-> a few codes: principal components, each quantized to a fixed number of levels.

Hundreds or thousands of correlated features become 16 to 64 tokens, ordered by the variance they explain. Features are clipped
and standardised, components follow from the training rows in closed form (nothing is random, nothing is trained), and each
component has the levels of least squared error for its own distribution (Lloyd 1982, doi 10.1109/TIT.1982.1056489). Rows with missing
values are encoded from the values they have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import NormalDist
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from mmtool.common.bounds import Bounds, Count
from mmtool.common.errors import UsageError
from mmtool.tokenizers.base import Bins, Number, Positions, check_settings
from mmtool.tokenizers.code_values import CodeValues
from mmtool.tokenizers.codec import one_thread
from mmtool.tokenizers.column_types import Types
from mmtool.tokenizers.fsq import code_usage
from mmtool.tokenizers.scalings import Scaling
from mmtool.tokenizers.table_rows import (
    SELECTION_SETTINGS,
    TableRows,
    centre_and_scale,
    choose_columns,
    column_means,
    extent_of,
    fit_quality,
    quantiles,
    scaling_in,
    types_in,
)

HELD_OUT_EVERY = 10  # every tenth row is kept from a first fit, which the report is measured on
IMPUTATIONS = 6  # rounds of imputing missing values by reconstruction (Josse and Husson 2012)
LLOYD_ROUNDS = 30
GUIDED_SHARE = 0.5  # of the components, where there are guides; the rest follow the variance that is left
GUIDED_AMONG = 256  # principal components within which directions that predict a guide are sought
POOR = (
    "Most columns of rows that components were not fitted to are told by these less well than by their mean (median R² {:.2f}): try "
    "`--scale log1p` for counts and abundances, fewer of them (`--set components=N`), or `--scheme bins`."
)
TENSORS = ("centre", "scale", "low", "high", "loadings", "variance", "edges", "centres", "noise")


@dataclass
class TableCodecTokenizer(TableRows):
    """Rows (F,) float32, NaN where a value is missing <-> (K,) codes of K components.

    On the scale of `scaling`: low, high (F,): values outside of them count as these; centre, scale (F,): of standardisation; noise (F,):
    standard deviation of what the codes do not hold. loadings (K, F): orthonormal directions in standardised features, variance (K,): of
    the rows along them. edges (K, n_bins - 1) and centres (K, n_bins): levels of each component, in units of standardised features.
    """

    scheme: ClassVar[str] = "codec"
    SETTINGS: ClassVar[dict[str, Any]] = {
        "components": Count,
        "n_bins": Bins,
        "clip": Annotated[Number, Bounds(0, 0.5, open_high=True)],
        "guides": list,
        **SELECTION_SETTINGS,
    }
    fills_missing: ClassVar[bool] = True
    features: tuple[str, ...]
    dropped: tuple[str, ...]
    centre: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray
    loadings: np.ndarray
    variance: np.ndarray
    edges: np.ndarray
    centres: np.ndarray
    noise: np.ndarray
    types: Types = field(default_factory=dict)
    scaling: Scaling = field(default_factory=Scaling)
    extent: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.vocabulary_size = self.ordered_codes = int(self.centres.shape[1])
        self.shape: tuple[int, ...] | None = (len(self.loadings),)
        self.positions: Positions = "set"
        self.report: dict[str, Any] = {}
        self.hints: list[str] = []

    @property
    def advice(self) -> str | None:
        """What to do where numbers seem to be on another scale, or components do not describe other rows."""
        return " ".join(self.hints) or None

    @classmethod
    def fit(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any], seed: int) -> "TableCodecTokenizer":
        """Learn components and levels from training rows.

        Settings: `features` (names of the columns of `values`, required), `components` (tokens per row, default 32; fewer where the
        rows have fewer dimensions), `n_bins` (levels of each, default 32), `clip` (share of values cut off on either side of a feature,
        default 0.001), `scale`, `min_present` and `max_features` as for bins, `guides` (tables (N, G) of the same rows, NaN where a row
        has none: half of the components are those that predict these best). Nothing is random. The report's R2 is that of
        `judged_samples` rows kept from a fit, on the scale; its `explained_variance` is of the rows fitted to. Raises UsageError for
        settings that make no sense, and for columns of categories.
        """
        check_settings(settings, cls.SETTINGS, "table codec")
        chosen = choose_columns(values, settings)
        _refuse_categories(chosen.types, chosen.features)
        rows, build = chosen.scaled, partial(cls, chosen.features, chosen.dropped, types=chosen.types, scaling=chosen.scaling)
        sizes = int(settings.get("components", 32)), int(settings.get("n_bins", 32)), float(settings.get("clip", 0.001))
        guides = [np.asarray(guide, np.float64) for guide in settings.get("guides", ())]
        held = np.arange(len(rows)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        trial = build(**_learn(rows[~held], *sizes, [guide[~held] for guide in guides])) if held.any() else None
        learned = _learn(rows, *sizes, guides)
        if trial is not None:
            learned["noise"] = trial._noise(rows[held])
        tokenizer = build(**learned, extent=extent_of(chosen.rows))
        tokenizer._check_encodable(chosen.exact)
        tokenizer.report = tokenizer._measure(rows) if trial is None else trial._measure(rows[held])
        judged, r2 = tokenizer.report["samples"], tokenizer.report["reconstruction_r2_median"]
        tokenizer.hints = [*chosen.hints, *([POOR.format(r2)] if r2 is not None and r2 < 0 else [])]
        tokenizer.report |= {"samples": len(rows), "judged_samples": judged, "explained_variance": round(_explained(tokenizer, rows), 5)}
        return tokenizer

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Rows in the order of `features` -> (K,) codes each, whatever values they lack."""
        return self._codes(self.scaled(self._stacked(values))) if len(values) else []

    def decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes -> rows (F,) float32 without missing values."""
        if not len(tokens):
            return []
        codes = np.stack(tokens).astype(np.int64)
        return list(self.from_code_values(np.take_along_axis(self.centres, codes.T, axis=1).T))

    def code_values(self) -> CodeValues:
        """What each code stands for at each place. Decoding is linear in it, so means may be taken here."""
        return CodeValues.of_indices(self.centres)

    def from_code_values(self, values: np.ndarray) -> np.ndarray:
        """(N, K) code values, or means of them -> (N, F) float32 rows."""
        standard = np.einsum("nk,kf->nf", values.astype(np.float64), self.loadings.astype(np.float64))
        return self.unscaled(np.clip(standard * self.scale + self.centre, self.low, self.high).astype(np.float32))

    def residual(self) -> np.ndarray:
        """(F,) standard deviation of what the codes do not hold, on the scale."""
        return self.noise

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        extent = {} if self.extent is None else {"extent": self.extent}
        return {**{name: getattr(self, name) for name in TENSORS}, **self.scaling.tensors(), **extent}, self._columns()

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> "TableCodecTokenizer":
        parts = {name: tensors[name] for name in TENSORS}
        return cls(
            tuple(settings["features"]),
            tuple(settings["dropped"]),
            **parts,
            types=types_in(settings),
            scaling=scaling_in(tensors, settings),
            extent=tensors.get("extent"),
        )

    def _tolerance(self) -> np.ndarray:
        """A whole standard deviation of clipped values: what is larger than they are by so much counts as the largest of them anyway."""
        return self.scale if self.scaling.name == Scaling.name else np.full(len(self.scale), np.nan)

    def _range(self) -> tuple[np.ndarray, np.ndarray]:
        return self.unscaled(self.low[None])[0], self.unscaled(self.high[None])[0]

    def _project(self, rows: np.ndarray) -> np.ndarray:
        """(N, F) rows -> (N, K) components; those of rows with missing values are the most likely ones given the values that are there."""
        standard = (np.clip(rows, self.low, self.high).astype(np.float64) - self.centre) / self.scale
        missing = np.isnan(standard)
        complete = np.where(missing, 0, standard)
        scores = np.einsum("nf,kf->nk", complete, self.loadings.astype(np.float64))  # einsum: a row's sum never depends on its neighbours
        noise = float(np.mean((self.noise / self.scale) ** 2)) + 1e-6
        for row in np.flatnonzero(missing.any(1)):
            seen = self.loadings[:, ~missing[row]].astype(np.float64)
            scores[row] = np.linalg.solve(
                seen @ seen.T + np.diag(noise / np.maximum(self.variance, 1e-6)), seen @ standard[row, ~missing[row]]
            )
        return scores

    def _quantize(self, scores: np.ndarray) -> np.ndarray:
        codes = [np.searchsorted(edges, column, side="left") for edges, column in zip(self.edges, scores.T, strict=True)]
        return np.stack(codes, axis=1).astype(np.uint16)

    def _codes(self, rows: np.ndarray) -> list[np.ndarray]:
        """Of (N, F) rows on the scale."""
        return list(self._quantize(self._project(rows)))

    def _measure(self, rows: np.ndarray) -> dict[str, Any]:
        """How well codes stand for rows on the scale."""
        codes = np.stack(self._codes(rows))
        clipped = np.clip(rows, self.low, self.high)
        return {
            **fit_quality(clipped, self.scaled(np.stack(self.decode(list(codes))))),
            **code_usage(codes.astype(np.int64), self.vocabulary_size),
        }

    def _noise(self, rows: np.ndarray) -> np.ndarray:
        error = np.clip(rows, self.low, self.high) - self.scaled(np.stack(self.decode(self._codes(rows))))
        return np.sqrt(column_means(error.astype(np.float64) ** 2)).astype(np.float32)


def _refuse_categories(types: Types, features: Sequence[str]) -> None:
    """Raise UsageError for columns that have no principal components."""
    names = [name for name in features if name in types and types[name].categories]
    if names:
        what = f"components are of numbers, and {', '.join(map(repr, names[:5]))} {'holds' if len(names) == 1 else 'hold'} categories."
        fix = "Add --scheme bins, or leave them out (--column-type NAME=skip) and tokenize them as a table of their own."
        raise UsageError(what, where="--scheme codec", fix=fix)


@threadpool_limits.wrap(limits=1)
@one_thread()
def _learn(rows: np.ndarray, components: int, n_bins: int, clip: float, guides: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Everything that a codec is made of, from (N, F) training rows."""
    low, high = np.nan_to_num(quantiles(rows, np.array([max(clip, 1e-9), 1 - clip])))
    clipped = np.clip(rows, low, high).astype(np.float64)
    centre, scale = centre_and_scale(clipped)
    standard = (clipped - centre) / scale
    loadings = _components(standard, components, guides)
    missing = np.isnan(standard)
    scores = np.where(missing, _reconstruct(np.where(missing, 0, standard), loadings), standard) @ loadings.T
    levels = [_levels(column, n_bins) for column in scores.T]
    edges, centres = (np.stack(part).astype(np.float32) for part in zip(*levels, strict=True))
    variance = (scores**2).mean(0)
    lost = np.sqrt(np.maximum(1 - variance @ loadings**2, 0)) * scale
    plain = {"centre": centre, "scale": scale, "low": low, "high": high, "loadings": loadings, "variance": variance, "noise": lost}
    return {name: array.astype(np.float32) for name, array in plain.items()} | {"edges": edges, "centres": centres}


def _components(standard: np.ndarray, wanted: int, guides: Sequence[np.ndarray]) -> np.ndarray:
    """(K, F) directions of (N, F) standardised rows: principal ones, or first those that predict the guides. Missing values are imputed by
    what principal components say of them."""
    missing = np.isnan(standard)
    complete = np.where(missing, 0, standard)
    loadings = _principal(complete, wanted)
    for _ in range(IMPUTATIONS if missing.any() else 0):
        complete = np.where(missing, _reconstruct(complete, loadings), complete)
        loadings = _principal(complete, wanted)
    return _guided(complete, guides, len(loadings)) if guides else loadings


def _guided(rows: np.ndarray, guides: Sequence[np.ndarray], wanted: int) -> np.ndarray:
    """(K, F) orthonormal directions: equal shares predict each guide, the others are principal in what these leave.

    Reduced-rank ridge regression (Mukherjee and Zhu 2011, doi 10.1002/sam.10138) on principal components. On TCGA, before quantizing,
    a linear regression on 32 such components of messenger RNA predicts other tables about as well as one on 128 principal ones.
    """
    among = _principal(rows, max(GUIDED_AMONG, wanted))
    scores, per_guide = rows @ among.T, int(GUIDED_SHARE * wanted / len(guides))
    telling = np.hstack([_telling(scores, guide, per_guide) for guide in guides])
    directions = _upright(np.linalg.qr(among.T @ telling)[0])
    left = rows - (rows @ directions.T) @ directions
    return np.vstack([directions, _principal(left, wanted - len(directions))]) if wanted > len(directions) else directions


def _telling(scores: np.ndarray, guide: np.ndarray, count: int) -> np.ndarray:
    """(C, count) directions in (N, C) scores from which a ridge regression predicts a guide, the most predictive one first."""
    known = ~np.isnan(guide).all(1)
    x, y = scores[known] - scores[known].mean(0), np.nan_to_num(guide[known] - column_means(guide[known]))
    weights = np.linalg.solve(x.T @ x + len(x) * np.eye(x.shape[1]), x.T @ y)
    return weights @ np.linalg.svd(x @ weights, full_matrices=False)[2][:count].T


def _reconstruct(complete: np.ndarray, loadings: np.ndarray) -> np.ndarray:
    return (complete @ loadings.T) @ loadings


def _principal(rows: np.ndarray, wanted: int) -> np.ndarray:
    """Leading right singular vectors, the largest variance first; the largest entry of each is positive."""
    count = max(1, min(wanted, *rows.shape))
    tall = rows.shape[0] >= rows.shape[1]
    gram = torch.from_numpy(rows.T @ rows if tall else rows @ rows.T)
    vectors = torch.linalg.eigh(gram)[1].numpy()[:, ::-1][:, :count]
    directions = vectors if tall else rows.T @ vectors
    return _upright(directions / np.maximum(np.linalg.norm(directions, axis=0), 1e-12))


def _upright(directions: np.ndarray) -> np.ndarray:
    """(F, K) columns as (K, F) rows, the largest entry of each positive."""
    signs = np.sign(directions[np.abs(directions).argmax(0), np.arange(directions.shape[1])])
    return np.ascontiguousarray((directions * np.where(signs == 0, 1, signs)).T)


def _levels(values: np.ndarray, n_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """(n_bins - 1 edges, n_bins centres) of least squared error: Lloyd's rounds from the best levels of a normal distribution."""
    wide = NormalDist(0, np.sqrt(3))  # levels lie as dense as the cube root of the density (Panter and Dite 1951)
    shape = np.array([wide.inv_cdf((i + 0.5) / n_bins) for i in range(n_bins)])
    centres = values.mean() + max(float(values.std()), 1e-6) * shape
    ordered = np.sort(values)
    sums = np.concatenate([[0], np.cumsum(ordered)])
    for _ in range(LLOYD_ROUNDS):
        cuts = np.concatenate([[0], np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2, side="right"), [len(ordered)]])
        counts = np.diff(cuts)
        centres = np.where(counts > 0, np.diff(sums[cuts]) / np.maximum(counts, 1), centres)
    return (centres[1:] + centres[:-1]) / 2, centres


def _explained(tokenizer: TableCodecTokenizer, rows: np.ndarray) -> float:
    """Share of the standardised training rows' variance that lies in the components."""
    standard = (np.clip(rows, tokenizer.low, tokenizer.high) - tokenizer.centre) / tokenizer.scale
    complete = np.where(np.isnan(standard), 0, standard).astype(np.float64)
    return float(((complete @ tokenizer.loadings.T.astype(np.float64)) ** 2).sum() / max((complete**2).sum(), 1e-12))
