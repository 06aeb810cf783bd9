"""The task `impute`: every direction imputed, as rows and as the first part of the report."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtool.data.graph import CoOccurrence
from mmtool.evaluation.directions import Direction, directions
from mmtool.evaluation.figures import samples
from mmtool.evaluation.figures.curves import Line, draw_curves
from mmtool.evaluation.figures.markdown import by_direction, direction_of, run_names, table
from mmtool.evaluation.figures.plots import PANELS, TITLES, colours, draw_plots
from mmtool.evaluation.figures.ranked_samples import write_ranked_samples
from mmtool.evaluation.study import Row, Study
from mmtool.evaluation.tasks import Task
from mmtool.evaluation.uncertainty import CORRECTED
from mmtool.imputation.calibration import FILE, key_of
from mmtool.metrics.calibration import LEVELS

FEW = 20  # samples
SHOWN = 12  # directions in a sentence


def measure(study: Study) -> Iterator[Row]:
    """One row per method, direction and metric."""
    for outcome in study.outcomes:
        if outcome.correction is not None and outcome.name in study.imputers:
            study.corrections[outcome.name][key_of(outcome.direction.given, outcome.direction.target)] = outcome.correction
        yield from outcome.rows()


def section(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """A figure and a table of every metric of imputed data."""
    parts = []
    for metric in draw_plots(folder, rows, meta):
        parts += [f"## {TITLES[metric][0].upper()}{TITLES[metric][1:]}", by_direction(metric, rows, meta), f"![{metric}]({metric}.png)"]
    return [*parts, *_few(rows), *_without_truth(rows, meta), *_calibration(folder, rows, meta)]


def _few(rows: Sequence[Row]) -> list[str]:
    """Which directions hardly any samples judge; nothing where there are none."""
    counts = dict[str, int]()
    for row in rows:
        if row["metric"] in TITLES:
            name = str(Direction(tuple(row["given"]), row["target"]))
            counts[name] = max(row["n"], counts.get(name, 0))
    few = [f"{name} (n {count})" for name, count in counts.items() if count < FEW]
    return [f"Fewer than {FEW} samples judge {_listed(few)}: differences and standard deviations of so few say little."] if few else []


def _listed(names: Sequence[str]) -> str:
    """The first of them, and how many there are."""
    return ", ".join(names) if len(names) <= SHOWN else f"{', '.join(names[:SHOWN])} ... ({len(names)} in all)"


def _without_truth(rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """Directions that tables lack, or hold by labels alone, as no held-out sample holds their modalities; nothing where there are none."""
    if "presence" not in meta:  # a report of an earlier version
        return []
    held, trained = (CoOccurrence.from_json(meta["presence"][side]) for side in ("test", "train"))
    judged, names = {(*row["given"], row["target"]) for row in rows}, list(meta["tokenizers"])
    lacking = [each for each in directions(names, trained) if not held.seen_together((*each.given, each.target))]
    by_labels, absent = ([str(each) for each in lacking if ((*each.given, each.target) in judged) is known] for known in (True, False))
    parts = []
    if by_labels:
        parts.append(f"By labels alone, as no held-out sample holds both what is given and what is imputed: {_listed(by_labels)}.")
    if absent:
        parts.append(f"Not evaluated, as no held-out sample holds all of these modalities: {_listed(absent)}.")
    return parts


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
    return ["## Calibration of intervals", lead, "![intervals](intervals.png)", *_corrected(rows, meta), *_widths(rows, meta)]


def _corrected(rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """How much corrected intervals hold; nothing where none were."""
    fitted = [row["validation_samples"] for row in rows if row["metric"].endswith(CORRECTED)]
    if not fitted:
        return []
    how = "Intervals corrected by split conformal prediction: each bound of a column is moved by its errors on validation samples"
    many = f"{min(fitted)} to {max(fitted)}" if min(fitted) < max(fitted) else str(fitted[0])
    lead = f"{how} ({many} of a direction; arXiv 1905.03222). `mmtool impute --calibration` moves the bounds that it writes so ({FILE})."
    parts = ["### Corrected intervals", lead]
    for level in LEVELS:
        metric = f"coverage_{round(100 * level)}"
        parts += [f"Share of true values inside their {level:.0%} interval, as drawn and corrected:", _before_and_after(metric, rows, meta)]
    return parts


def _widths(rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """How wide intervals are; nothing in reports of earlier versions."""
    measured = [level for level in LEVELS if any(row["metric"] == f"width_{round(100 * level)}" for row in rows)]
    if not measured:
        return []
    parts = ["### Width of intervals", "Mean over values, in standard deviations of the true values of their column."]
    for level in measured:
        parts += [f"{level:.0%} intervals:", _before_and_after(f"width_{round(100 * level)}", rows, meta)]
    return parts


def _before_and_after(metric: str, rows: Sequence[Row], meta: Mapping[str, Any]) -> str:
    """Directions as rows; as columns every run with its intervals as drawn, and where they were corrected, with these."""
    columns = {metric: "{}", f"{metric}{CORRECTED}": "{}, corrected"}
    chosen = [{**row, "run": columns[row["metric"]].format(row["run"])} for row in rows if row["metric"] in columns]
    order = [title.format(name) for name in run_names(meta) for title in columns.values()]
    return table(chosen, "direction", direction_of, lambda row: row["run"], order)


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


TASK = Task(measure, section, upper_bounds=("accuracy", "c_index", "c_index_stratified"), write_samples=write_samples)
