"""The task `predict`: labels of held-out samples by the heads of finetuned runs, from every subset of their modalities.

Beside the metrics of `training/target.py` stands the most frequent class of the training samples. Of a sample the head
sees the modalities of the subset alone; subsets that its training never showed included.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.common.log import log, track
from mmtool.common.storage import write_bytes
from mmtool.data.sample import Sample
from mmtool.evaluation.figures.markdown import by_direction, subset_of
from mmtool.evaluation.figures.plots import draw_bars
from mmtool.evaluation.study import Row, Study, make_row
from mmtool.evaluation.tasks import Task
from mmtool.evaluation.tasks.probe import MAJORITY, most_frequent, subsets
from mmtool.imputation.imputer import Imputer
from mmtool.metrics.intervals import share
from mmtool.training.target import PREDICTION_ACCURACY, PREDICTION_MACRO_F1, PREDICTION_R2

TITLES = {
    PREDICTION_ACCURACY: "accuracy of predicted classes",
    PREDICTION_MACRO_F1: "macro F1 of predicted classes",
    PREDICTION_R2: "R² of predicted numbers",
}


def measure(study: Study) -> Iterator[Row]:
    """Rows with given=subset and target=label, of every run with a head and of always predicting the most frequent class."""
    done: set[tuple[str, tuple[str, ...]]] = set()
    todo = [(name, imputer, given) for name, imputer in study.imputers.items() for given in _subsets(imputer)]
    for name, imputer, given in track(todo, "predicting"):
        assert imputer.target is not None
        label, seen = imputer.target.label, imputer.graph.seen_together(given)
        samples = _labelled(study.reference.test.samples, label, given)
        if not samples:
            continue
        for metric, estimate in imputer.target.measure(imputer.predict(samples, given), samples, study.config.seed).items():
            yield make_row(name, imputer, given, label, seen, metric, estimate)
        known = [str(sample.labels[label]) for sample in _labelled(study.reference.train.samples, label, ())]
        if not imputer.target.is_number and (label, given) not in done and known:
            done.add((label, given))
            right = np.array([str(sample.labels[label]) for sample in samples]) == most_frequent(np.array(known))
            yield make_row(MAJORITY, None, given, label, seen, PREDICTION_ACCURACY, share(right))


def _subsets(imputer: Imputer) -> list[tuple[str, ...]]:
    if imputer.target is None:
        log(f"the run {imputer.run.path} has no head: it predicts nothing (see `mmtool finetune`).")
        return []
    return subsets(imputer.target.have)


def _labelled(samples: Sequence[Sample], label: str, given: Sequence[str]) -> list[Sample]:
    return [sample for sample in samples if sample.labels.get(label) is not None and set(given) <= set(sample.tokens)]


def section(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """The part of the report: a figure and a table of every metric."""
    parts = []
    for metric, title in TITLES.items():
        of_metric = [row for row in rows if row["metric"] == metric]
        if of_metric:
            stem = metric.replace(" ", "_")
            draw_bars(folder / stem, title, of_metric, {**meta, "baselines": [MAJORITY]})
            parts += [f"### {title[0].upper()}{title[1:]}", f"![{title}]({stem}.png)"]
            parts.append(by_direction(metric, of_metric, meta, "from", subset_of))
    lead = "Predictions of the heads of finetuned runs; subsets in **bold** never occurred together in pretraining."
    return ["## Predictions", lead, *parts] if parts else []


def write_predictions(folder: Path, study: Study) -> None:
    """`predictions.csv` (of several runs `predictions-1.csv` ... in their order) of every held-out sample that holds something to predict
    from: see `Target.csv`."""
    heads = [(imputer, imputer.target) for imputer in study.imputers.values() if imputer.target is not None]
    for place, (imputer, target) in enumerate(heads, 1):
        samples = [sample for sample in study.reference.test.samples if set(target.have) & set(sample.tokens)]
        if samples:
            stem = "predictions" if len(heads) == 1 else f"predictions-{place}"
            write_bytes(folder / f"{stem}.csv", target.csv(samples, imputer.predict(samples)))


TASK = Task(measure, section, needs="head", write_samples=write_predictions)
