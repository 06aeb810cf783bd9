"""Zero-shot retrieval between modalities: which of the held-out samples does a value of one modality belong to, given another modality?

For every ordered pair (given, target), seen together in training or not, each held-out sample is a query by its given modality, and the
targets of all of them are ranked: by the cosine of their features (what contrastive methods are trained for), and, where the method has
a likelihood, by the mutual information of given and candidate, that is by Bayes' rule with equal prior for all candidates (ranking by
p(candidate | given) would prefer targets that are likely by themselves). A hit is the sample itself, and, where there is a label, any
candidate of the same class: where samples were aligned by their class alone, the latter is the honest measure.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.common.log import log, track
from mmtool.data.sample import Sample
from mmtool.evaluation.figures.markdown import direction_of, table
from mmtool.evaluation.figures.plots import colours, draw_bars, paler
from mmtool.evaluation.study import Row, Study, make_row
from mmtool.evaluation.tasks import Task
from mmtool.imputation.imputer import Imputer
from mmtool.metrics.intervals import Estimate, bootstrap, share

TOP = (1, 5, 10)
CHANCE = "chance"
LIKELIHOOD = " (likelihood)"
MAX_PASSES = 200_000  # documents that one likelihood ranking may read, two for each pair; one per token by methods that score so


def measure(study: Study) -> Iterator[Row]:
    """recall@1, @5, @10 and median rank of every pair, run and way of ranking, with `class ` before those that count classes."""
    for given, target in track(list(permutations(study.names, 2)), "retrieving"):
        indices = _gallery(study, given, target)
        if len(indices) < 2:
            continue
        samples = study.samples("test", indices)
        hits = {"": np.eye(len(samples), dtype=bool), **_same_class(study, indices)}
        pair, seen = ((given,), target), study.reference.graph.seen_together((given, target))
        for prefix, wanted in hits.items():
            for metric, estimate in by_chance(wanted).items():
                yield make_row(CHANCE, None, *pair, seen, prefix + metric, estimate)
        for name, imputer in study.imputers.items():
            seen = imputer.graph.seen_together((given, target))
            for suffix, scores in _scores(study, name, imputer, samples, given, target):
                for prefix, wanted in hits.items():
                    for metric, estimate in estimates(ranks(scores, wanted), study.config.seed).items():
                        yield make_row(name, imputer, *pair, seen, prefix + metric + suffix, estimate)


def ranks(scores: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """scores, hits: (N queries, N candidates). (N,) rank of the best hit of each query, 1 the first; ties share their mean rank."""
    best = np.where(hits, scores, -np.inf).max(1, keepdims=True)
    return 1 + (scores > best).sum(1) + ((scores == best) & ~hits).sum(1) / 2


def estimates(ranked: np.ndarray, seed: int) -> dict[str, Estimate]:
    """Metrics of (N,) ranks among N candidates."""
    recalls = {f"recall@{k}": share((ranked <= k).astype(float)) for k in TOP if k < len(ranked)}
    return recalls | {"median rank": bootstrap(lambda rows: float(np.median(ranked[rows])), len(ranked), seed)}


def by_chance(hits: np.ndarray) -> dict[str, Estimate]:
    """The same metrics for a random order of candidates: exact expectations, without an interval (recall), and the expected rank."""
    n, counts = len(hits), hits.sum(1)
    recalls = {f"recall@{k}": float(np.mean([1 - comb(n - int(c), k) / comb(n, k) for c in counts])) for k in TOP if k < n}
    values = recalls | {"median rank": float(np.median((n + 1) / (counts + 1)))}
    return {metric: Estimate(value, value, value, n) for metric, value in values.items()}


def section(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """The part of the report: a figure of recall@1, and tables with methods and ways of ranking side by side."""
    of_task = [row for row in rows if "recall@" in row["metric"] or "median rank" in row["metric"]]
    if not of_task:
        return []
    candidates = max(row["n"] for row in of_task)
    parts = [
        "## Retrieval",
        f"Each of {candidates} held-out samples at most is a query by one modality for another one among as many candidates. *Likelihood* "
        "ranks candidates by their mutual information with the given modality, the others by the cosine of features.",
    ]
    for kind, title in (("class ", "a candidate of the same class"), ("", "the very sample")):
        chosen = [_renamed(row) for row in of_task if row["metric"].startswith("class ") == bool(kind)]
        names = [name for run in meta["runs"] for name in (run["name"], run["name"] + LIKELIHOOD)]
        if chosen:
            stem = f"retrieval-{kind.strip() or 'sample'}"
            heads = [row for row in chosen if row["metric"] == f"{kind}recall@1"]
            draw_bars(folder / stem, f"recall@1 of retrieval: the first hit is {title}", heads, meta, _palette(meta))
            parts += [f"### A hit is {title}", f"![{stem}]({stem}.png)"]
        for metric in (f"{kind}recall@1", f"{kind}recall@10", f"{kind}median rank"):
            if any(row["metric"] == metric for row in chosen):
                part = [row for row in chosen if row["metric"] == metric]
                parts.append(table(part, metric, direction_of, lambda row: row["run"], names))
    return parts


def _palette(meta: Mapping[str, Any]) -> dict[str, str]:
    """Both ways of ranking of a run beside each other, the one by likelihood in a paler tone."""
    palette = colours({**meta, "baselines": [CHANCE]})
    return {name + way: paler(colour) if way else colour for name, colour in palette.items() for way in ("", LIKELIHOOD)}


def _renamed(row: Row) -> Row:
    """Rankings by likelihood as separate runs, so that both ways stand side by side."""
    if not row["metric"].endswith(LIKELIHOOD):
        return row
    return {**row, "metric": row["metric"].removesuffix(LIKELIHOOD), "run": row["run"] + LIKELIHOOD}


def _gallery(study: Study, given: str, target: str) -> np.ndarray:
    """At most `retrieval.candidates` random held-out samples that hold both."""
    rows = study.reference.test.having(given, target)
    chosen = np.random.default_rng(study.config.seed).permutation(rows)[: study.config.retrieval.candidates]
    return np.sort(chosen)


def _same_class(study: Study, indices: np.ndarray) -> dict[str, np.ndarray]:
    """{"class ": hits} where samples carry at least two classes; a sample without label hits only itself."""
    classes = [study.reference.class_of(int(i)) or f"\0{i}" for i in indices]
    if not study.reference.label or study.reference.regression or not 1 < len(set(classes)) < len(classes):
        return {}
    labels = np.array(classes, dtype=object)
    return {"class ": labels[:, None] == labels[None]}


def _scores(
    study: Study, name: str, imputer: Imputer, samples: Sequence[Sample], given: str, target: str
) -> Iterator[tuple[str, np.ndarray]]:
    """(suffix of the metric, (N, N) scores of candidates for queries) for each way of ranking the run has."""
    queries, candidates = (_normalised(imputer.features(samples, [modality])) for modality in (given, target))
    yield "", queries @ candidates.T
    if not imputer.has_likelihood or not imputer.can_score(given):
        return
    pairs = samples, [given], target, [sample.tokens[target] for sample in samples]
    passes = imputer.match_passes(*pairs)
    if passes > MAX_PASSES:
        log(f"{name}: {given} from {target} is not ranked by likelihood ({passes:,} passes); --candidates makes it fewer.")
        return
    yield LIKELIHOOD, imputer.match(*pairs, study.reference.train.samples)


def _normalised(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


TASK = Task(measure, section)
