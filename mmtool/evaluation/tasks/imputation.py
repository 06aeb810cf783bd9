"""The task `impute`: every direction imputed, as rows and as the first part of the report."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtool.evaluation.figures import samples
from mmtool.evaluation.figures.curves import Line, draw_curves
from mmtool.evaluation.figures.markdown import by_direction, run_names
from mmtool.evaluation.figures.plots import PANELS, TITLES, colours, draw_plots
from mmtool.evaluation.figures.ranked_samples import write_ranked_samples
from mmtool.evaluation.study import Row, Study
from mmtool.evaluation.tasks import Task
from mmtool.metrics.calibration import LEVELS


def measure(study: Study) -> Iterator[Row]:
    """One row per method, direction and metric."""
    for outcome in study.outcomes:
        yield from outcome.rows()


def section(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """A figure and a table of every metric of imputed data."""
    parts = []
    for metric in draw_plots(folder, rows, meta):
        parts += [f"## {TITLES[metric][0].upper()}{TITLES[metric][1:]}", by_direction(metric, rows, meta), f"![{metric}]({metric}.png)"]
    return [*parts, *_calibration(folder, rows, meta)]


def _calibration(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """A figure of all levels of intervals together; nothing where no draws gave any."""
    levels = {f"coverage_{round(100 * level)}": level for level in LEVELS}
    placed = [{**row, "at": levels[row["metric"]]} for row in rows if row["metric"] in levels]
    panels = [(title, _lines([row for row in placed if row["seen"] is seen], meta)) for seen, title in PANELS]
    shown = [(title, lines) for title, lines in panels if lines]
    if not shown:
        return []
    title = "do intervals of imputed values hold the real ones as often as they should?"
    draw_curves(folder / "intervals", title, shown, colours(meta), "level of the interval", "share held", percent_x=True, diagonal=True)
    lead = "Mean over directions of the shares above. Below the dashed line a run is surer than it should be, above it less sure."
    return ["## Calibration of intervals", lead, "![intervals](intervals.png)"]


def _lines(rows: Sequence[Row], meta: Mapping[str, Any]) -> dict[str, Line]:
    """Means over directions by level, of each run that has any."""
    lines = {}
    for name in run_names(meta):
        values = {at: [row["value"] for row in rows if (row["run"], row["at"]) == (name, at)] for at in LEVELS}
        means = {at: sum(of_level) / len(of_level) for at, of_level in values.items() if of_level}
        if means:
            lines[name] = Line(list(means), *([*means.values()] for _ in range(3)))
    return lines


def write_samples(folder: Path, study: Study) -> None:
    """The contact sheet, recordings and texts of imputed samples, and those that came out worst and best."""
    samples.write_samples(folder, study.outcomes, study.reference)
    write_ranked_samples(folder, study.outcomes, study.reference)


TASK = Task(measure, section, upper_bounds=("accuracy", "c_index"), write_samples=write_samples)
