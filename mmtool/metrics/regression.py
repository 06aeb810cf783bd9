"""How close imputed tables come to the true ones: R2 and Spearman's correlation, each the mean over features.

A resample of the samples is the same samples with other weights: what is sorted is sorted once, and a resample costs sums.
"""

from collections.abc import Callable

import numpy as np

from mmtool.metrics.intervals import Estimate, bootstrap_counts

CELLS_AT_ONCE = 1 << 15  # numbers held for the resamples that are taken together: what a core's cache holds
Statistic = Callable[[np.ndarray], np.ndarray]  # (R, N) how often each sample occurs in each resample -> (R,) values


def compare_tables(true: np.ndarray, imputed: np.ndarray, seed: int) -> dict[str, Estimate]:
    """(N, F) true values (NaN where missing: left out) and imputed ones -> {"r2", "spearman"}; {} where no feature varies.

    An imputed NaN stands for the mean of what was imputed for that feature.
    """
    imputed = _without_nan(imputed)
    together = max(1, CELLS_AT_ONCE // max(1, true.size))
    r2, spearman = (bootstrap_counts(statistic(true, imputed), len(true), seed, together) for statistic in (r2_of, spearman_of))
    return {"r2": r2, "spearman": spearman} if r2.defined else {}


def r2_of(true: np.ndarray, imputed: np.ndarray) -> Statistic:
    """Of resamples: the mean over features of 1 - squared error / squared distance from their mean."""
    known = ~np.isnan(true)
    values = np.where(known, true - _column_mean(true), 0)  # from the mean of all, so that the sums stay small
    squares, errors = values**2, np.where(known, true - imputed, 0) ** 2

    def r2(counts: np.ndarray) -> np.ndarray:
        total = counts @ squares
        spread = total - (counts @ values) ** 2 / np.maximum(counts @ known, 1)
        varying = spread > 1e-12 * np.maximum(total, 1e-300)
        return _mean_where(varying, 1 - (counts @ errors) / np.where(varying, spread, 1))

    return r2


def spearman_of(true: np.ndarray, imputed: np.ndarray) -> Statistic:
    """Of resamples: the mean over features of the correlation of ranks; a feature imputed as a constant counts as uncorrelated."""
    known = np.ascontiguousarray(~np.isnan(true).T)
    true_ranks, imputed_ranks = _ranks_of(true.T, known), _ranks_of(imputed.T, known)

    def spearman(counts: np.ndarray) -> np.ndarray:
        weight = counts[:, None] * known.astype(float)
        of_true, of_imputed = _centred(true_ranks(weight), weight), _centred(imputed_ranks(weight), weight)
        true_spread, imputed_spread = (weight * of_true**2).sum(-1), (weight * of_imputed**2).sum(-1)
        spread = np.sqrt(true_spread * imputed_spread)
        correlation = (weight * of_true * of_imputed).sum(-1) / np.where(spread > 0, spread, np.inf)
        return _mean_where(true_spread > 0, correlation)

    return spearman


def _mean_where(counted: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(R,) means of (R, F) values over the features that count, NaN where none does."""
    number = counted.sum(-1)
    return np.where(number > 0, np.where(counted, values, 0).sum(-1) / np.maximum(number, 1), np.nan)


def _ranks_of(values: np.ndarray, known: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """(F, N) values, of which some are known -> weights (R, F, N), 0 where unknown, to the mean ranks of equal values."""
    values = np.where(known, values, np.inf)
    order = np.argsort(values, axis=1, kind="stable")
    ordered, number = np.take_along_axis(values, order, 1), np.arange(values.shape[1])
    begins = np.concatenate((np.ones((len(values), 1), bool), ordered[:, 1:] != ordered[:, :-1]), 1)
    ends = np.concatenate((begins[:, 1:], np.ones((len(values), 1), bool)), 1)
    first = np.maximum.accumulate(np.where(begins, number, 0), 1)
    last = np.minimum.accumulate(np.where(ends, number, len(number))[:, ::-1], 1)[:, ::-1]
    position = np.argsort(order, axis=1)
    before, upto = (np.take_along_axis(index, position, 1)[None] for index in (first, last + 1))

    def ranks(weight: np.ndarray) -> np.ndarray:
        sums = np.zeros((*weight.shape[:2], len(number) + 1))
        np.cumsum(np.take_along_axis(weight, order[None], 2), axis=2, out=sums[..., 1:])
        return (np.take_along_axis(sums, before, 2) + np.take_along_axis(sums, upto, 2) + 1) / 2

    return ranks


def _centred(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(R, F, N) values less the weighted mean of their row."""
    return values - ((weight * values).sum(-1) / np.maximum(weight.sum(-1), 1))[..., None]


def _without_nan(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), _column_mean(values), values)


def _column_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the values present in each column, 0 where there is none."""
    return np.nansum(values, axis=0) / np.maximum((~np.isnan(values)).sum(0), 1)
