"""Hot-deck imputation: of many training samples, donors, a run chooses the one whose data most probably is the missing data.

What a run generates need not be typical of a modality, and of a table it is an expected value; a donor is always real.
With the same prior for all donors, the most probable one has the most mutual information with what is given (`Imputer.match`), so
every method with a likelihood can choose, and of tables every run that learned their expected values; a contrastive run else chooses by the
similarity of features. All runs choose among the same donors.
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
from mmtool.evaluation.outcomes import NEAREST, Trial
from mmtool.evaluation.study import Row, Study
from mmtool.evaluation.tasks import Task
from mmtool.imputation.imputer import Imputer

PREFIX = "donor "
TITLES = {
    "accuracy": "class accuracy of the chosen donors",
    "r2": "R² of the values of the chosen donors, mean over features",
    "spearman": "Spearman correlation of the values of the chosen donors",
    "category_accuracy": "accuracy of the categories of the chosen donors",
    "c_index": "concordance of survival with the risk of the chosen donors",
    "c_index_stratified": "the same within strata: samples of different ones are not compared",
}
MAX_PASSES = 1_000_000  # documents that a run may read for one direction


def measure(study: Study) -> Iterator[Row]:
    """The metrics of `impute` with `donor ` before them, of every run that can choose and of the nearest neighbour."""
    reference = study.reference
    neighbours = NearestNeighbour(reference.train, reference.test, reference.embeddings, reference.graph)
    trials = [Trial(reference, direction, study.config) for direction in directions(study.names, reference.graph)]
    for trial in track([trial for trial in trials if len(trial.indices)], "choosing donors"):
        pool = _pool(study, trial.direction.target)
        if len(pool) < 2:
            continue
        for name, imputer in study.imputers.items():
            chosen = _chosen(study, name, imputer, trial, pool)
            if chosen is not None:
                yield from _prefixed(trial.of_training_samples(name, chosen, imputer).rows())
        nearest = neighbours(trial.direction, trial.indices)
        if nearest is not None:
            yield from _prefixed(trial.of_training_samples(NEAREST, nearest).rows())


def _pool(study: Study, target: str) -> np.ndarray:
    """At most `donors.max_donors` random training samples that hold the target."""
    rows = study.reference.train.having(target)
    return np.sort(np.random.default_rng(study.config.seed).permutation(rows)[: study.config.donors.max_donors])


def _chosen(study: Study, name: str, imputer: Imputer, trial: Trial, pool: np.ndarray) -> np.ndarray | None:
    """Of the pool, the most probable donor of each sample (N,); None where the run cannot choose, or would take forever."""
    given, target = trial.direction.given, trial.direction.target
    if not imputer.graph.path(given, target) or not imputer.can_match(given, target):
        return None
    queries = study.samples("test", trial.indices), given, target, [sample.tokens[target] for sample in study.samples("train", pool)]
    passes = imputer.match_passes(*queries)
    if passes > MAX_PASSES:
        log(f"{name} chooses no donors for {trial.direction} ({passes:,} passes); --max-donors or --limit makes it fewer.")
        return None
    return pool[imputer.match(*queries, study.reference.train.samples).argmax(1)]


def _prefixed(rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        yield {**row, "metric": PREFIX + row["metric"]}


def section(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """The part of the report: a figure and a table of every metric."""
    measured = {row["metric"] for row in rows}
    metrics = [name for name in TITLES if PREFIX + name in measured]
    if not metrics:
        return []
    parts = [
        "## Donors",
        f"What is missing is imputed by real data: that of the most probable of {meta['config']['donors']['max_donors']} training samples "
        f"at most. The {NEAREST} may take any training sample.",
    ]
    for name in metrics:
        title = TITLES[name]
        draw_bars(folder / f"donor-{name}", title, [row for row in rows if row["metric"] == PREFIX + name], meta)
        parts += [f"### {title[0].upper()}{title[1:]}", by_direction(PREFIX + name, rows, meta), f"![{title}](donor-{name}.png)"]
    return parts


TASK = Task(measure, section, upper_bounds=("accuracy", "c_index", "c_index_stratified"))
