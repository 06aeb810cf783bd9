"""Rows of several seeds -> one row each: the mean, with a 95 % interval over seeds by Student's t.

Perplexities are averaged as logarithms (their geometric mean is the perplexity of the mean loss); intervals of shares stay in [0, 1].
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t

from mmtool.evaluation.tables import is_share

SIGNED = ("effective robustness",)  # a difference of shares


def over_seeds(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Average rows that differ in their seed alone; `seeds` says over how many. What has no seed (a baseline), or one, stays as it is."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in results:
        groups[row["run"], tuple(row["given"]), row["target"], row["metric"], row.get("at")].append(row)
    return [_averaged(rows) for rows in groups.values()]


def _averaged(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    seeds = {row["seed"] for row in rows}
    if len(seeds) == 1:
        return {**rows[0], "seeds": 1}
    value, low, high = mean_of_seeds(rows[0]["metric"], [row["value"] for row in rows])
    return {**rows[0], "seed": None, "seeds": len(seeds), "value": value, "low": low, "high": high}


def mean_of_seeds(metric: str, values: Sequence[float]) -> tuple[float, float, float]:
    """(mean, low, high) of at least two values of a metric."""
    if metric.startswith("perplexity"):
        mean, low, high = _student(np.log(values))
        return math.exp(mean), math.exp(low), math.exp(high)
    mean, low, high = _student(np.asarray(values, float))
    if is_share(metric) and metric not in SIGNED:
        low, high = max(0.0, low), min(1.0, high)
    return mean, low, high


def _student(values: np.ndarray) -> tuple[float, float, float]:
    mean = float(values.mean())
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return mean, mean - half, mean + half
