"""How close imputed tables come to the true ones: R2 and Spearman's correlation, each the mean over features."""

import numpy as np
from scipy.stats import rankdata

from mmtool.evaluation.intervals import Estimate, bootstrap


def compare_tables(true: np.ndarray, imputed: np.ndarray, seed: int) -> dict[str, Estimate]:
    """(N, F) true values (NaN where missing: left out) and imputed ones -> {"r2", "spearman"}; {} where no feature varies.

    An imputed NaN stands for the mean of what was imputed for that feature.
    """
    imputed = _without_nan(imputed)
    if not np.isfinite(_r2(true, imputed)):
        return {}
    return {
        "r2": bootstrap(lambda rows: _r2(true[rows], imputed[rows]), len(true), seed),
        "spearman": bootstrap(lambda rows: _spearman(true[rows], imputed[rows]), len(true), seed),
    }


def _r2(true: np.ndarray, imputed: np.ndarray) -> float:
    residual = np.nansum((true - imputed) ** 2, axis=0)
    spread = np.nansum((true - _column_mean(true)) ** 2, axis=0)
    varying = spread > 0
    return float(np.mean(1 - residual[varying] / spread[varying])) if varying.any() else float("nan")


def _spearman(true: np.ndarray, imputed: np.ndarray) -> float:
    """A feature imputed as a constant counts as uncorrelated."""
    ranks, guessed = _ranks(true, true), _ranks(imputed, true)
    ranks, guessed = ranks - _column_mean(ranks), guessed - _column_mean(guessed)
    spread = np.sqrt(np.nansum(ranks**2, axis=0) * np.nansum(guessed**2, axis=0))
    varying = np.nansum(ranks**2, axis=0) > 0
    correlation = np.nansum(ranks * guessed, axis=0) / np.where(spread > 0, spread, np.inf)
    return float(np.mean(correlation[varying])) if varying.any() else float("nan")


def _ranks(values: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Ranks per column among the rows where the true value is known, NaN elsewhere (an infinity ranks behind all that count)."""
    missing = np.isnan(true)
    ranks = rankdata(np.where(missing, np.inf, values), axis=0)
    ranks[missing] = np.nan
    return ranks


def _without_nan(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), _column_mean(values), values)


def _column_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the values present in each column, 0 where there is none."""
    return np.nansum(values, axis=0) / np.maximum((~np.isnan(values)).sum(0), 1)
