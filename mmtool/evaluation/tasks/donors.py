"""Is the real data right that a run would fill a hole with? Of many training samples, donors, it chooses the most probable one.

What a run generates is its own idea of a modality, and of a table an expected value, which is nobody's; a donor is always typical.
With the same prior for all donors, the most probable one has the most mutual information with what is given (`Imputer.match`), so
every method with a likelihood can choose, and of tables every run that learned their expected values; a contrastive run else chooses by the
likeness of features. All runs choose among the same donors.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.common.log import log, track
from mmtool.evaluation.baselines.nearest import NearestNeighbour
from mmtool.evaluation.directions import directions
from mmtool.evaluation.figures.markdown import by_direction
from mmtool.evaluation.figures.plots import draw_bars
from mmtool.evaluation.outcomes import NEAREST, Task
from mmtool.evaluation.study import Row, Study
from mmtool.impute.imputer import Imputer

PREFIX = "donor "
TITLES = {
    "accuracy": "class accuracy of the chosen donors",
    "r2": "R² of the values of the chosen donors, mean over features",
    "spearman": "Spearman correlation of the values of the chosen donors",
    "c_index": "concordance of survival with the risk of the chosen donors",
}
MAX_PASSES = 1_000_000  # documents that a run may read for one direction


def measure(study: Study) -> Iterator[Row]:
    """The metrics of `impute` with `donor ` before them, of every run that can choose and of the nearest neighbour."""
    reference = study.reference
    neighbours = NearestNeighbour(reference.train, reference.test, reference.embeddings, reference.graph)
    tasks = [Task(reference, direction, study.settings) for direction in directions(study.names)]
    for task in track([task for task in tasks if len(task.indices)], "choosing donors"):
        pool = _pool(study, task.direction.target)
        if len(pool) < 2:
            continue
        for name, imputer in study.imputers.items():
            chosen = _chosen(study, name, imputer, task, pool)
            if chosen is not None:
                yield from _prefixed(task.real(name, chosen, imputer).rows())
        nearest = neighbours(task.direction, task.indices)
        if nearest is not None:
            yield from _prefixed(task.real(NEAREST, nearest).rows())


def _pool(study: Study, target: str) -> np.ndarray:
    """At most `settings.donors` random training samples that hold the target."""
    rows = study.reference.train.having(target)
    return np.sort(np.random.default_rng(study.settings.seed).permutation(rows)[: study.settings.donors])


def _chosen(study: Study, name: str, imputer: Imputer, task: Task, pool: np.ndarray) -> np.ndarray | None:
    """Of the pool, the most probable donor of each sample (N,); None where the run cannot choose, or would take forever."""
    given, target = task.direction.given, task.direction.target
    if not imputer.graph.path(given, target) or not imputer.can_match(given, target):
        return None
    asked = study.samples("test", task.indices), given, target, [sample.tokens[target] for sample in study.samples("train", pool)]
    passes = imputer.match_passes(*asked)
    if passes > MAX_PASSES:
        log(f"{name} chooses no donors for {task.direction} ({passes:,} passes); --max-donors or --limit makes it fewer.")
        return None
    return pool[imputer.match(*asked, study.reference.train.samples).argmax(1)]


def _prefixed(rows: Iterator[Row]) -> Iterator[Row]:
    for each in rows:
        yield {**each, "metric": PREFIX + each["metric"]}


def section(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """The part of the report: a figure and a table of every metric."""
    found = {each["metric"] for each in rows}
    metrics = [name for name in TITLES if PREFIX + name in found]
    if not metrics:
        return []
    parts = [
        "## Donors",
        f"Every hole is filled with real data: that of the most probable of {meta['settings']['donors']} training samples at most. The "
        f"{NEAREST} may take any training sample.",
    ]
    for name in metrics:
        own, title = [each for each in rows if each["metric"] == PREFIX + name], TITLES[name]
        draw_bars(folder / f"donor-{name}", title, own, meta)
        parts += [f"### {title[0].upper()}{title[1:]}", by_direction(PREFIX + name, rows, meta), f"![{title}](donor-{name}.png)"]
    return parts
