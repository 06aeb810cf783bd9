"""Estimates with 95 % intervals: Wilson's for shares, the bootstrap over samples for everything else."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Z = 1.959964  # 97.5 % quantile of the normal distribution
RESAMPLES = 1000
RESAMPLED = 200  # resamples of statistics that take longer


@dataclass(frozen=True)
class Estimate:
    """A value, its 95 % interval, and the number of samples behind it; NaN where these are too few or too alike."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def around(cls, value: float, low: float, high: float, n: int) -> "Estimate":
        """An interval that holds its value, whatever rounding and resampling did."""
        return cls(float(value), float(min(value, low)), float(max(value, high)), n)

    @property
    def defined(self) -> bool:
        return bool(np.isfinite(self.value))


def share(correct: np.ndarray, clusters: np.ndarray | None = None) -> Estimate:
    """Mean of (n,) values in [0, 1] with Wilson's interval (several draws of one sample count as one observation, their mean).

    clusters: (n,) numbers; samples of one are not independent of each other. The interval is then that of so many samples as are worth
    these (Korn and Graubard 1998, Survey Methodology 24).
    """
    p, n = float(np.mean(correct)), len(correct)
    worth = n if clusters is None else _effective_size(correct, clusters)
    centre = (p + Z**2 / (2 * worth)) / (1 + Z**2 / worth)
    half = Z * np.sqrt(p * (1 - p) / worth + Z**2 / (4 * worth**2)) / (1 + Z**2 / worth)
    return Estimate.around(p, centre - half, centre + half, n)


def _effective_size(values: np.ndarray, clusters: np.ndarray) -> float:
    """So many independent samples have a mean as uncertain as that of these (n,) values, of which those in one cluster belong together:
    n divided by the design effect, which is the size of the clusters where there is nothing to estimate it from."""
    n, groups = len(values), len(np.unique(clusters))
    deviations = np.asarray(values, float) - np.mean(values)
    alone = float(np.square(deviations).sum())
    if groups == n:
        return n
    if alone == 0 or groups == 1:
        return groups
    together = np.square(np.bincount(np.unique(clusters, return_inverse=True)[1], deviations)).sum() * groups / (groups - 1)
    return n / max(1.0, float(together) / alone)


def perplexity(nll: np.ndarray, num_tokens: np.ndarray, seed: int, clusters: np.ndarray | None = None) -> Estimate:
    """exp(sum of negative log-likelihoods / number of tokens) over samples; nll (n,) in nats, num_tokens (n,). clusters: (n,) numbers, of
    samples that are resampled together."""
    n = len(nll)
    _, members = np.unique(np.arange(n) if clusters is None else clusters, return_inverse=True)
    groups = members.max() + 1
    counts = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)[:, members]
    low, high = np.quantile((counts @ nll) / np.maximum(counts @ num_tokens, 1), (0.025, 0.975))
    return Estimate.around(np.exp(nll.sum() / num_tokens.sum()), np.exp(low), np.exp(high), n)


def bootstrap(statistic: Callable[[np.ndarray], float], n: int, seed: int, resamples: int = RESAMPLED) -> Estimate:
    """`statistic(rows)` on all of n samples, with the spread over resamples. NaN resamples do not count; it is undefined where the
    statistic is NaN of all samples, or of more than half of the resamples."""
    random = np.random.default_rng(seed)
    drawn = np.array([statistic(random.integers(0, n, n)) for _ in range(resamples)])
    return _spread(statistic(np.arange(n)), drawn, n)


def bootstrap_counts(statistic: Callable[[np.ndarray], np.ndarray], n: int, seed: int, together: int = RESAMPLED) -> Estimate:
    """`bootstrap` of a statistic that takes counts (R, n), how often each sample occurs in each of R resamples, and gives (R,) values.
    together: how many resamples it is given at once."""
    random = np.random.default_rng(seed)
    counts = np.stack([np.bincount(random.integers(0, n, n), minlength=n) for _ in range(RESAMPLED)]).astype(float)
    drawn = np.concatenate([statistic(counts[start : start + together]) for start in range(0, RESAMPLED, together)])
    return _spread(float(statistic(np.ones((1, n)))[0]), drawn, n)


def _spread(value: float, drawn: np.ndarray, n: int) -> Estimate:
    """The estimate whose values on resamples are `drawn`."""
    finite = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or 2 * len(finite) < len(drawn):
        return Estimate(math.nan, math.nan, math.nan, n)
    low, high = np.quantile(finite, (0.025, 0.975))
    return Estimate.around(value, low, high, n)


def crossed(values: np.ndarray, seed: int) -> Estimate:
    """Mean of (draws, n) values, resampling both the draws and the samples: the interval holds for new draws on new samples."""
    random = np.random.default_rng(seed)
    draws, n = values.shape
    means = [values[random.integers(0, draws, draws)][:, random.integers(0, n, n)].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate.around(values.mean(), low, high, n)


def r_squared(truth: np.ndarray, predicted: np.ndarray, seed: int) -> Estimate:
    """Share of the variance of (n,) numbers that predictions explain, by the bootstrap."""

    def statistic(rows: np.ndarray) -> float:
        spread = float(np.square(truth[rows] - truth[rows].mean()).sum())
        return 1 - float(np.square(truth[rows] - predicted[rows]).sum()) / spread if spread else float("nan")

    return bootstrap(statistic, len(truth), seed)
