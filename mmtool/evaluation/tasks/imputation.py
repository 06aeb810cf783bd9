"""The task `impute`: every direction imputed, as rows and as the first part of the report."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtool.evaluation.figures import samples
from mmtool.evaluation.figures.markdown import by_direction
from mmtool.evaluation.figures.plots import TITLES, draw_plots
from mmtool.evaluation.study import Row, Study
from mmtool.evaluation.tasks import Task


def measure(study: Study) -> Iterator[Row]:
    """One row per method, direction and metric."""
    for outcome in study.outcomes:
        yield from outcome.rows()


def section(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """A figure and a table of every metric of imputed data."""
    parts = []
    for metric in draw_plots(folder, rows, meta):
        parts += [f"## {TITLES[metric][0].upper()}{TITLES[metric][1:]}", by_direction(metric, rows, meta), f"![{metric}]({metric}.png)"]
    return parts


def write_samples(folder: Path, study: Study) -> None:
    """The contact sheet, recordings and texts of imputed samples."""
    samples.write_samples(folder, study.outcomes, study.reference)


TASK = Task(measure, section, upper_bounds=("accuracy", "c_index"), write_samples=write_samples)
