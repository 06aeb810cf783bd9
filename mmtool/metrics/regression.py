"""How close imputed tables come to the true ones: R2 and Spearman's correlation, each the mean over features.

A resample of the samples is the same samples with other weights: what is sorted is sorted once, and a resample costs sums.
"""

from collections.abc import Callable

import numpy as np

from mmtool.metrics.intervals import Estimate, bootstrap

Statistic = Callable[[np.ndarray], float]  # of the rows of a resample


def compare_tables(true: np.ndarray, imputed: np.ndarray, seed: int) -> dict[str, Estimate]:
    """(N, F) true values (NaN where missing: left out) and imputed ones -> {"r2", "spearman"}; {} where no feature varies.

    An imputed NaN stands for the mean of what was imputed for that feature.
    """
    imputed = _without_nan(imputed)
    r2, spearman = (bootstrap(statistic(true, imputed), len(true), seed) for statistic in (r2_of, spearman_of))
    return {"r2": r2, "spearman": spearman} if r2.defined else {}


def r2_of(true: np.ndarray, imputed: np.ndarray) -> Statistic:
    """Of rows: the mean over features of 1 - squared error / squared distance from their mean."""
    known = ~np.isnan(true)
    values = np.where(known, true - _column_mean(true), 0)  # from the mean of all, so that the sums stay small
    squares, errors = values**2, np.where(known, true - imputed, 0) ** 2

    def r2(rows: np.ndarray) -> float:
        weight = np.bincount(rows, minlength=len(true)).astype(float)
        spread = weight @ squares - (weight @ values) ** 2 / np.maximum(weight @ known, 1)
        varying = spread > 1e-12 * np.maximum(weight @ squares, 1e-300)
        return float(np.mean(1 - (weight @ errors)[varying] / spread[varying])) if varying.any() else float("nan")

    return r2


def spearman_of(true: np.ndarray, imputed: np.ndarray) -> Statistic:
    """Of rows: the mean over features of the correlation of ranks; a feature imputed as a constant counts as uncorrelated."""
    known = np.ascontiguousarray(~np.isnan(true).T)
    ranks_of, imputed_ranks_of = _ranks_of(true.T, known), _ranks_of(imputed.T, known)

    def spearman(rows: np.ndarray) -> float:
        weight = np.bincount(rows, minlength=len(true)) * known.astype(float)
        ranks, imputed_ranks = _centred(ranks_of(weight), weight), _centred(imputed_ranks_of(weight), weight)
        true_spread, imputed_spread = (weight * ranks**2).sum(1), (weight * imputed_ranks**2).sum(1)
        spread, varying = np.sqrt(true_spread * imputed_spread), true_spread > 0
        correlation = (weight * ranks * imputed_ranks).sum(1) / np.where(spread > 0, spread, np.inf)
        return float(np.mean(correlation[varying])) if varying.any() else float("nan")

    return spearman


def _ranks_of(values: np.ndarray, known: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """(F, N) values, of which some are known -> weights (F, N), 0 where unknown, to the mean ranks of equal values."""
    values = np.where(known, values, np.inf)
    order = np.argsort(values, axis=1, kind="stable")
    ordered, number = np.take_along_axis(values, order, 1), np.arange(values.shape[1])
    begins = np.concatenate((np.ones((len(values), 1), bool), ordered[:, 1:] != ordered[:, :-1]), 1)
    ends = np.concatenate((begins[:, 1:], np.ones((len(values), 1), bool)), 1)
    first = np.maximum.accumulate(np.where(begins, number, 0), 1)
    last = np.minimum.accumulate(np.where(ends, number, len(number))[:, ::-1], 1)[:, ::-1]
    place = np.argsort(order, axis=1)
    before, upto = (np.take_along_axis(ends_of_ties, place, 1) for ends_of_ties in (first, last + 1))

    def ranks(weight: np.ndarray) -> np.ndarray:
        sums = np.zeros((len(values), len(number) + 1))
        np.cumsum(np.take_along_axis(weight, order, 1), axis=1, out=sums[:, 1:])
        return (np.take_along_axis(sums, before, 1) + np.take_along_axis(sums, upto, 1) + 1) / 2

    return ranks


def _centred(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(F, N) values less the weighted mean of their row."""
    return values - ((weight * values).sum(1) / np.maximum(weight.sum(1), 1))[:, None]


def _without_nan(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), _column_mean(values), values)


def _column_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the values present in each column, 0 where there is none."""
    return np.nansum(values, axis=0) / np.maximum((~np.isnan(values)).sum(0), 1)
