"""Calibration: do the intervals of imputed values hold the true values as often as their level?"""

from collections.abc import Callable, Sequence

import numpy as np

from mmtool.metrics.intervals import Estimate, bootstrap

LEVELS = (0.5, 0.8, 0.95)


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
        estimates[f"coverage_{round(100 * level)}"] = bootstrap(_share_of(inside, counts), len(true), seed)
    return estimates


def _share_of(inside: np.ndarray, counts: np.ndarray) -> Callable[[np.ndarray], float]:
    return lambda rows: float(inside[rows].sum() / max(1, counts[rows].sum()))
