"""What `evaluate` can measure. `TASKS` is the table of all tasks; a new one adds one line.

A task is a generator of rows and a part of the report that is made from rows alone, so that rows of many seeds, averaged, make the same
report.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtool.console import talk
from mmtool.errors import UsageError
from mmtool.evaluation import confidence, filling, probes, retrieval, robustness
from mmtool.evaluation.study import Row, Study

ALL = "all"


@dataclass(frozen=True)
class Task:
    """measure: rows of every run. section: writes its figures into a folder and gives its Markdown paragraphs.
    needs: nothing, a `label`, or `classes` (a label that is no number to regress on)."""

    measure: Callable[[Study], Iterator[Row]]
    section: Callable[[Path, Sequence[Row], Mapping[str, Any]], list[str]]
    needs: str | None = None


TASKS: dict[str, Task] = {
    "impute": Task(filling.measure, filling.section),
    "retrieval": Task(retrieval.measure, retrieval.section),
    "probe": Task(probes.measure, probes.section, needs="label"),
    "robustness": Task(robustness.measure, robustness.section, needs="classes"),
    "confidence": Task(confidence.measure, confidence.section, needs="classes"),
}


def check_tasks(tasks: Sequence[str]) -> None:
    """Raise UsageError for a task that does not exist."""
    for name in tasks:
        if name not in (*TASKS, ALL):
            raise UsageError(f"there is no task {name!r}.", where="--task", fix=f"Tasks: {', '.join((*TASKS, ALL))}.")


def possible_tasks(tasks: Sequence[str], label: str | None, number: bool) -> list[str]:
    """The tasks asked for, in the order of the table; `all` stands for those that the label allows (number: it has no classes).

    Raises UsageError where a task was named for which the data lacks a label.
    """
    chosen = []
    for name, task in TASKS.items():
        if name not in tasks and ALL not in tasks:
            continue
        lacking = (task.needs and not label) or (task.needs == "classes" and number)
        if lacking and name in tasks:
            raise UsageError(
                f"the task {name} needs a label with classes.", where="--task", fix="Choose one with --label, or another task."
            )
        if lacking:
            talk(f"the task {name} is left out: it needs a label with classes.")
        else:
            chosen.append(name)
    return chosen
