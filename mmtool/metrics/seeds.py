"""Rows of several seeds -> one row each: the mean, with a 95 % interval over seeds by Student's t.

Perplexities are averaged as logarithms (their geometric mean is the perplexity of the mean loss); intervals of shares stay in [0, 1].
Runs of the same seed are also compared with each other, which is more precise than two intervals beside each other.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t

from mmtool.metrics.units import is_share

RATIO, DIFFERENCE, CLOSED = "{}, ratio", "{}, difference", "{}, share of the gap closed"

GAPS = {"accuracy": 1, "perplexity": -1, "r2": 1, "spearman": 1}  # metrics of which a share of a gap is known; -1: lower is better


def over_seeds(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Average rows that differ in their seed alone; `seeds` says over how many. What has no seed (a baseline), or one, stays as it is."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in results:
        groups[row["run"], tuple(row["given"]), row["target"], row["metric"], row.get("at")].append(row)
    return [_averaged(rows) for rows in groups.values()]


def paired_differences(results: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """Run `name` against every other run that was trained with the same seeds: the difference of each metric (of perplexities the ratio)
    averaged over seeds; none where there are fewer than two. `run` is the other one."""
    by_seed: dict[tuple[Any, ...], dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for row in results:
        if row["seed"] is not None and row.get("at") is None:
            by_seed[row["run"], tuple(row["given"]), row["target"], row["metric"]][row["seed"]] = row
    rows = []
    for (run, given, target, metric), theirs in by_seed.items():
        ours = by_seed.get((name, given, target, metric), {})
        seeds = sorted(set(ours) & set(theirs))
        if run == name or len(seeds) < 2:
            continue
        pairs, ratio = [(ours[seed]["value"], theirs[seed]["value"]) for seed in seeds], metric.startswith("perplexity")
        named = (RATIO if ratio else DIFFERENCE).format(metric)
        mean, low, high = mean_of_seeds(named, [value / other if ratio else value - other for value, other in pairs])
        row = {**theirs[seeds[0]], "metric": named, "seed": None, "seeds": len(seeds), "n": min(ours[seeds[0]]["n"], theirs[seeds[0]]["n"])}
        rows.append({**row, "value": mean, "low": low, "high": high})
    return rows


def gap_closed(results: Sequence[Mapping[str, Any]], baseline: str, oracle: str) -> list[dict[str, Any]]:
    """(run - baseline) / (oracle - baseline) of every other run, in directions that the baseline never saw together: of accuracies and R2
    as they are, of perplexities as logarithms. Seeds are averaged first, the interval is the jackknife's over seeds (of one seed None).
    Where the oracle is not clearly better than the baseline (by intervals that do not meet, for each seed) there is no gap to close, and no
    row."""
    values: dict[tuple[Any, ...], dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for row in results:
        if row["seed"] is not None and row.get("at") is None:
            values[row["run"], tuple(row["given"]), row["target"], row["metric"]][row["seed"]] = row
    rows = []
    for (run, *direction, metric), ours in values.items():
        below, above = (values.get((name, *direction, metric), {}) for name in (baseline, oracle))
        seeds = sorted(set(ours) & set(below) & set(above))
        if run in (baseline, oracle) or not seeds or below[seeds[0]]["seen"] or metric not in GAPS:
            continue
        scale = np.log if metric == "perplexity" else np.asarray
        table = np.array([[scale(row[seed]["value"]) for row in (ours, below, above)] for seed in seeds], float)
        if all(_clearly_better(above[seed], below[seed], GAPS[metric]) for seed in seeds):
            share, low, high = _jackknife(table)
            named = {**ours[seeds[0]], "metric": CLOSED.format(metric), "seed": None, "seeds": len(seeds), "seen": False}
            rows.append({**named, "value": share, "low": low, "high": high})
    return rows


def _clearly_better(row: Mapping[str, Any], other: Mapping[str, Any], sign: int) -> bool:
    """Whether the intervals of two rows do not meet, and which lies on the better side."""
    return row["low"] > other["high"] if sign > 0 else row["high"] < other["low"]


def _jackknife(table: np.ndarray) -> tuple[float, float | None, float | None]:
    """Share of the gap closed of (seeds, 3) values of the run, the baseline and the oracle, with its 95 % interval, None of one seed."""

    def closed(rows: np.ndarray) -> float:
        ours, below, above = rows.mean(0).tolist()
        return (ours - below) / (above - below)

    share, count = closed(table), len(table)
    if count == 1:
        return share, None, None
    left_out = np.array([closed(np.delete(table, seed, 0)) for seed in range(count)])
    half = float(t.ppf(0.975, count - 1) * math.sqrt((count - 1) / count * np.square(left_out - left_out.mean()).sum()))
    return share, share - half, share + half


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
    if is_share(metric) and not _is_signed(metric):
        low, high = max(0.0, low), min(1.0, high)
    return mean, low, high


def _is_signed(metric: str) -> bool:
    """Whether a share is a difference of two."""
    return metric == "effective robustness" or metric.endswith(DIFFERENCE.format(""))


def _student(values: np.ndarray) -> tuple[float, float, float]:
    mean = float(values.mean())
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return mean, mean - half, mean + half
