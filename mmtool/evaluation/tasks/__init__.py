"""What `evaluate` can measure. `TASKS` is the table of all tasks; a new one is one file, which holds its `TASK`, and one line here.

A task is a generator of rows and a part of the report that is made from rows alone, so that rows of many seeds, averaged, make the same
report. Its file is imported when it is first used.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmtool.common.errors import UsageError
from mmtool.common.log import log

if TYPE_CHECKING:
    from mmtool.evaluation.study import Row, Study

ALL, USUAL, CONFIDENCE = "all", "impute", "confidence"
TASKS = {
    "impute": "imputation",
    "retrieval": "retrieval",
    "probe": "probe",
    "robustness": "robustness",
    CONFIDENCE: "confidence",
    "donors": "donors",
    "ood": "ood",
    "reconstruct": "reconstruction",
    "predict": "prediction",
}
OF_RUNS = {  # what a task may need of at least one of the runs
    "head": "a finetuned run (see `mmtool finetune`)",
    "masks": "a run that predicts masked tokens (masked or m3ae)",
}
NEEDS = OF_RUNS | {"ood_samples": "a label with classes, or other shards (--ood)"}


@dataclass(frozen=True)
class Task:
    """What a task measures.

    measure: rows of every run. section: writes its figures into a folder and gives its Markdown paragraphs.
    needs: nothing, a `label`, `classes` (a label that is no number to regress on), or something of `NEEDS`.
    upper_bounds: of the metrics `accuracy`, `c_index` and `c_index_stratified` those whose value on real data the report states.
    write_samples: writes samples to look at and listen to into the folder of a report, before `section` is called.
    """

    measure: Callable[["Study"], Iterator["Row"]]
    section: Callable[[Path, Sequence["Row"], Mapping[str, Any]], list[str]]
    needs: str | None = None
    upper_bounds: tuple[str, ...] = ()
    write_samples: Callable[[Path, "Study"], None] | None = None


def open_task(name: str) -> Task:
    """The task of this name in the table."""
    task: Task = import_module(f"{__name__}.{TASKS[name]}").TASK
    return task


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
    for name in TASKS:
        if name not in tasks and ALL not in tasks:
            continue
        needs = open_task(name).needs
        lacking = _lacking(needs, label, number, offers)
        if lacking and name in tasks:
            raise UsageError(f"the task {name} needs {lacking}.", where="--task", fix="Choose one with --label, or another task.")
        if lacking and needs not in OF_RUNS:
            log(f"the task {name} is left out: it needs {lacking}.")
        if not lacking:
            chosen.append(name)
    return chosen


def _lacking(need: str | None, label: str | None, number: bool, offers: Collection[str]) -> str | None:
    """What is needed and not there, in words."""
    if need in NEEDS:
        return None if need in offers else NEEDS[need]
    return "a label with classes" if (need and not label) or (need == "classes" and number) else None
