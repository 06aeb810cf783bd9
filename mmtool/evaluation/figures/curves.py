"""Line plots of a report: one panel per question, one line with its band of uncertainty per method."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from mmtool.evaluation.figures.plots import FAINT, INK, legend_columns, save

COLUMNS = 4
SPARE = "#64748b"


@dataclass(frozen=True)
class Line:
    """Points in order of x with their intervals."""

    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> "Line":
        """The rows of one curve, by their place `at`."""
        ordered = sorted(rows, key=lambda row: row["at"])
        return cls(*([row[name] for row in ordered] for name in ("at", "value", "low", "high")))


def draw_curves(
    stem: Path,
    title: str,
    panels: Sequence[tuple[str, Mapping[str, Line]]],
    palette: Mapping[str, str],
    x_label: str,
    y_label: str,
    *,
    logarithmic: bool = False,
    percent_x: bool = False,
    diagonal: bool = False,
    aside: Collection[str] = (),
) -> None:
    """Write STEM.png and STEM.svg. diagonal: a dashed line where y equals x.

    aside: names of lines that are drawn dashed and may leave their panel; each panel then has its own scale, for the other lines.
    """
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = 3.1 if columns > 1 else 6.5
    inches = max(6.5, width * columns + 0.6)
    figure = Figure(figsize=(inches, (2.6 if rows > 1 else 3.6) * rows + 1.1), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=not aside, squeeze=False)
    handles: dict[str, Any] = {}
    for axis, (name, lines) in zip(axes.flat, panels, strict=False):
        _panel(axis, lines, palette, handles, aside)
        if len(panels) > 1:
            axis.set_title(name, fontsize=10, color=INK)
        if diagonal:
            handles.setdefault("calibrated", axis.plot([0, 1], [0, 1], linestyle="--", linewidth=1, color=SPARE)[0])
    for index, axis in enumerate(axes.flat):
        axis.set_visible(index < len(panels))
        if index + columns >= len(panels):  # nothing below it
            axis.tick_params(labelbottom=True)
            axis.set_xlabel(x_label, fontsize=9.5, color=INK)
        if index % columns == 0:
            axis.set_ylabel(y_label, fontsize=9.5, color=INK)
    _scales(axes[0, 0], panels, logarithmic, percent_x)
    if aside:
        for axis, (_, lines) in zip(axes.flat, panels, strict=False):
            _zoom(axis, [line for name, line in lines.items() if name not in aside] or list(lines.values()))
    figure.suptitle(title[0].upper() + title[1:], fontsize=12, fontweight="bold", color=INK)
    columns = legend_columns(list(handles), inches)
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    save(figure, stem)


def _panel(axis: Axes, lines: Mapping[str, Line], palette: Mapping[str, str], handles: dict[str, Any], aside: Collection[str]) -> None:
    for name, line in lines.items():
        colour, (style, width) = palette.get(name, SPARE), ("--", 1.0) if name in aside else ("-", 1.6)
        drawn = axis.plot(line.x, line.y, style, marker="o", markersize=2.5 * width, linewidth=width, color=colour)[0]
        axis.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
        handles.setdefault(name, drawn)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color=FAINT)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=9)


def _scales(axis: Axes, panels: Sequence[tuple[str, Mapping[str, Line]]], logarithmic: bool, percent_x: bool) -> None:
    """Shared by all panels: shares from 0 to 1, unless a score (an R2) lies below 0."""
    lowest = min((value for _, lines in panels for line in lines.values() for value in line.y), default=0.0)
    axis.set_ylim(min(0.0, 1.1 * lowest), 1.02)
    if lowest >= 0:
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    indices = sorted({x for _, lines in panels for line in lines.values() for x in line.x})
    if logarithmic:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator(indices))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if percent_x:
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _zoom(axis: Axes, lines: Sequence[Line]) -> None:
    lowest, highest = min(min(line.low) for line in lines), max(max(line.high) for line in lines)
    margin = 0.06 * max(highest - lowest, 0.02)
    axis.set_ylim(lowest - margin, highest + margin)
    if lowest >= 0:
        axis.yaxis.set_major_formatter(PercentFormatter(1))
