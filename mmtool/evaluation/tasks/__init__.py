"""What `evaluate` can measure. `TASKS` is the table of all tasks; a new one adds one line.

A task is a generator of rows and a part of the report that is made from rows alone, so that rows of many seeds, averaged, make the same
report.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.evaluation.study import Row, Study
from mmtool.evaluation.tasks import confidence, donors, ood, reconstruction, retrieval, robustness
from mmtool.evaluation.tasks import imputation as filling
from mmtool.evaluation.tasks import prediction as predictions
from mmtool.evaluation.tasks import probe as probes

ALL = "all"
OFFERS = {
    "head": "a finetuned run (see `mmtool finetune`)",
    "masks": "a run that tells hidden tokens (masked or m3ae)",
    "ood_samples": "a label with classes, or other shards (--ood)",
}


@dataclass(frozen=True)
class Task:
    """measure: rows of every run. section: writes its figures into a folder and gives its Markdown paragraphs.
    needs: nothing, a `label`, `classes` (a label that is no number to regress on), or something of `OFFERS`."""

    measure: Callable[[Study], Iterator[Row]]
    section: Callable[[Path, Sequence[Row], Mapping[str, Any]], list[str]]
    needs: str | None = None


TASKS: dict[str, Task] = {
    "impute": Task(filling.measure, filling.section),
    "retrieval": Task(retrieval.measure, retrieval.section),
    "probe": Task(probes.measure, probes.section, needs="label"),
    "robustness": Task(robustness.measure, robustness.section, needs="classes"),
    "confidence": Task(confidence.measure, confidence.section, needs="classes"),
    "donors": Task(donors.measure, donors.section),
    "ood": Task(ood.measure, ood.section, needs="ood_samples"),
    "reconstruct": Task(reconstruction.measure, reconstruction.section, needs="masks"),
    "predict": Task(predictions.measure, predictions.section, needs="head"),
}


def check_tasks(tasks: Sequence[str]) -> None:
    """Raise UsageError for a task that does not exist."""
    for name in tasks:
        if name not in (*TASKS, ALL):
            raise UsageError(f"there is no task {name!r}.", where="--task", fix=f"Tasks: {', '.join((*TASKS, ALL))}.")


def possible_tasks(tasks: Sequence[str], label: str | None, number: bool, offers: Collection[str] = ()) -> list[str]:
    """The tasks asked for, in the order of the table; `all` stands for those that the label allows (number: it has no classes) and for
    which the runs offer what is needed.

    Raises UsageError where a task was named for which something lacks.
    """
    chosen = []
    for name, task in TASKS.items():
        if name not in tasks and ALL not in tasks:
            continue
        lacking = _lacking(task.needs, label, number, offers)
        if lacking and name in tasks:
            raise UsageError(f"the task {name} needs {lacking}.", where="--task", fix="Choose one with --label, or another task.")
        if lacking and task.needs not in ("head", "masks"):
            log(f"the task {name} is left out: it needs {lacking}.")
        if not lacking:
            chosen.append(name)
    return chosen


def _lacking(need: str | None, label: str | None, number: bool, offers: Collection[str]) -> str | None:
    """What is needed and not there, in words."""
    if need in OFFERS:
        return None if need in offers else OFFERS[need]
    return "a label with classes" if (need and not label) or (need == "classes" and number) else None
