"""Calibration: do the intervals of imputed values hold the true values as often as their level, how wide are they, and how near to the
truth is the distribution as a whole? And is what was said to be right with a probability right as often as that?

Widths and CRPS are in standard deviations of the true values of their column, so that columns of other units may be averaged; columns
that do not vary are left out.
"""

from collections.abc import Callable, Sequence

import numpy as np

from mmtool.metrics.intervals import Estimate, bootstrap

LEVELS = (0.5, 0.8, 0.95)
BINS = 10  # of probabilities, equally wide


def interval_shares(levels: Sequence[float] = LEVELS) -> list[float]:
    """The quantiles between which central intervals of these levels lie: low and high of the first, then of the next."""
    return [share for level in levels for share in ((1 - level) / 2, (1 + level) / 2)]


def coverage(true: np.ndarray, bounds: np.ndarray, seed: int, levels: Sequence[float] = LEVELS) -> dict[str, Estimate]:
    """{"coverage_50": share of true values inside their 50 % interval, ...}, with intervals by bootstrap over samples.

    true (N, F), NaN where missing: left out. bounds (2 x levels, N, F): quantiles in the order of `interval_shares`.
    A calibrated imputation covers as much as the level says; more is underconfident, less overconfident.
    """
    known = ~np.isnan(true)
    counts = known.sum(1)
    if not counts.any():
        return {}
    estimates = {}
    for level, low, high in zip(levels, bounds[0::2], bounds[1::2], strict=True):
        inside = (known & (true >= low) & (true <= high)).sum(1)
        estimates[f"coverage_{round(100 * level)}"] = bootstrap(_mean_of(inside, counts), len(true), seed)
    return estimates


def widths(true: np.ndarray, bounds: np.ndarray, seed: int, levels: Sequence[float] = LEVELS) -> dict[str, Estimate]:
    """{"width_50": mean width of 50 % intervals, ...} where there are true values; arguments as of `coverage`. Of two runs that cover as
    much the one with narrower intervals knows more."""
    pairs = zip(levels, bounds[0::2], bounds[1::2], strict=True)
    means = {f"width_{round(100 * level)}": _mean_in_deviations(true, high - low, seed) for level, low, high in pairs}
    return {name: mean for name, mean in means.items() if mean is not None}


def mean_crps(true: np.ndarray, scores: np.ndarray, seed: int) -> dict[str, Estimate]:
    """{"crps": mean of (N, F) scores}, where there are true values (N, F)."""
    mean = _mean_in_deviations(true, scores, seed)
    return {} if mean is None else {"crps": mean}


def crps(true: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(n, F) continuous ranked probability score of distributions given by draws (n, D, F), NaN where missing, against true values (n, F);
    0 is best, and of a single value it is the absolute error.

    Mean distance of the draws from the truth less half their mean distance from each other (Gneiting and Raftery 2007, Journal of the
    American Statistical Association 102, eq. 21), which is the score of the draws as they are: few of them score worse than many would.
    """
    scores = np.full(true.shape, np.nan)
    for place, (truth, draws) in enumerate(zip(true, values, strict=True)):
        errors = np.sort(draws.astype(np.float64) - truth, axis=0)  # NaN last; a common shift changes no distance
        known = (~np.isnan(errors)).sum(0)
        weights = 2 * np.arange(1, len(errors) + 1)[:, None] - known - 1
        apart = np.nansum(weights * errors, axis=0) / np.maximum(known, 1) ** 2
        scores[place] = np.where(known > 0, np.nansum(np.abs(errors), axis=0) / np.maximum(known, 1) - apart, np.nan)
    return scores


def expected_calibration_error(probability: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Mean gap between probability and accuracy over bins of equal width, weighted by what lies in them (Guo et al. 2017, arXiv
    1706.04599). probability (n,) in [0, 1]; right (n,), 1 where what it was said of is right, else 0."""
    place = bin_of(probability, bins)
    gaps = np.bincount(place, right - probability, bins)
    return float(np.abs(gaps).sum() / len(probability))


def brier_score(probability: np.ndarray, right: np.ndarray) -> float:
    """Mean squared distance of probabilities from 1 where right and 0 where wrong; arguments as of `expected_calibration_error`. 0 is
    best, and the accuracy a, said of everything, gives a (1 - a)."""
    return float(np.square(probability - right).mean())


def bin_of(probability: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The number of the bin, of equal width, that each probability lies in; 1 lies in the last one."""
    return np.minimum((np.asarray(probability) * bins).astype(np.int64), bins - 1)


def _mean_in_deviations(true: np.ndarray, values: np.ndarray, seed: int) -> Estimate | None:
    """Mean of (N, F) values, of those that belong to a known true value and are known, in standard deviations of their column."""
    known = ~np.isnan(true)
    counts = np.maximum(known.sum(0), 1)
    mean = np.where(known, true, 0).sum(0, dtype=np.float64) / counts
    deviation = np.sqrt(np.square(np.where(known, true - mean, 0)).sum(0) / counts)
    varying = np.fmax.reduce(true, 0) > np.fmin.reduce(true, 0)
    counted = known & varying & ~np.isnan(values)
    if not counted.any():
        return None
    in_units = np.where(counted, values / np.where(varying, deviation, 1), 0)
    return bootstrap(_mean_of(in_units.sum(1), counted.sum(1)), len(true), seed)


def _mean_of(sums: np.ndarray, counts: np.ndarray) -> Callable[[np.ndarray], float]:
    """The mean over values of which each sample has some: their sum (N,) and their number (N,)."""
    return lambda rows: float(sums[rows].sum() / max(1, counts[rows].sum()))
