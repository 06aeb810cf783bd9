"""The report's figures: one point per method and direction, what was never seen together above what was."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from mmtool.common.storage import write_bytes
from mmtool.evaluation.figures.markdown import run_names
from mmtool.imputation.chain import chained
from mmtool.metrics.units import is_share

RUN_COLOURS = (
    "#2563eb", "#d97706", "#059669", "#9333ea", "#db2777", "#0891b2", "#65a30d", "#7c2d12", "#4f46e5", "#be123c", "#0d9488", "#334155",
)  # fmt: skip
LEGEND_CHARACTERS, MAX_LEGEND_COLUMNS, LEGEND_MARK = 12, 7, 6  # that fit in an inch of it; columns; characters that a mark takes
BASELINE_COLOURS = ("#cbd5e1", "#64748b", "#e7e5e4", "#a8a29e", "#78716c", "#44403c", "#1c1917")
WIDTH = 9  # of the figures, in inches
INK, FAINT, BAND, CHANCE = "#0f172a", "#e2e8f0", "#f4f6fa", "#dc2626"
HALO = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
TITLES = {
    "accuracy": "class accuracy of imputed data, by a reference classifier trained on real data",
    "perplexity": "perplexity of the true target (lower is better)",
    "r2": "R² of imputed values, mean over features",
    "spearman": "Spearman correlation of imputed values, mean over features",
    "category_accuracy": "accuracy of imputed categories, mean over columns",
    "c_index": "concordance of survival with the risk of imputed data, by a Cox model fitted on real data",
    "c_index_stratified": "the same within strata: samples of different ones are not compared",
    "crps": "CRPS of imputed values, in standard deviations of their column (lower is better)",
    "coverage_50": "share of true values inside their 50 % interval",
    "coverage_80": "share of true values inside their 80 % interval",
    "coverage_95": "share of true values inside their 95 % interval",
}
PANELS = ((False, "never seen together in training"), (True, "seen together in training"))


def draw_plots(folder: Path, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> list[str]:
    """Write METRIC.png and METRIC.svg for every metric in the rows; give the metrics."""
    drawn = [metric for metric in TITLES if any(row["metric"] == metric for row in rows)]
    for metric in drawn:
        draw_bars(folder / metric, TITLES[metric], [row for row in rows if row["metric"] == metric], meta)
    return drawn


def colours(meta: Mapping[str, Any]) -> dict[str, str]:
    """The same colour for the same method in every figure, paler for its chain."""
    runs = {run["name"]: RUN_COLOURS[index % len(RUN_COLOURS)] for index, run in enumerate(meta["runs"])}
    chains = {chained(name): paler(colour) for name, colour in runs.items()}
    runs = {name: (runs | chains)[name] for name in run_names(meta)}
    return runs | {name: BASELINE_COLOURS[index % len(BASELINE_COLOURS)] for index, name in enumerate(meta["baselines"])}


def paler(colour: str) -> str:
    """Halfway to white: for a second thing of the same method."""
    red, green, blue = to_rgb(colour)
    return to_hex(((1 + red) / 2, (1 + green) / 2, (1 + blue) / 2))


def legend_columns(names: Sequence[str], inches: float) -> int:
    """As many as fit into the width, evenly filled."""
    room = int(inches * LEGEND_CHARACTERS) // (max(map(len, names)) + LEGEND_MARK)
    lines = ceil(len(names) / max(1, min(MAX_LEGEND_COLUMNS, room)))
    return ceil(len(names) / lines)


def draw_bars(
    stem: Path, title: str, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any], palette: Mapping[str, str] | None = None
) -> None:
    """Write STEM.png and STEM.svg of rows of one metric: directions from top to bottom, runs and baselines of `meta` side by side.

    palette: name -> colour of runs in their order, where these are not the ones of `meta`.
    """
    metric = rows[0]["metric"]
    palette = {name: colour for name, colour in (palette or colours(meta)).items() if any(row["run"] == name for row in rows)}
    panels = [(heading, part) for seen, heading in PANELS if (part := [row for row in rows if row["seen"] is seen])]
    sizes = [len({_direction(row) for row in part}) for _, part in panels]
    inches = sum(sizes) * (0.25 + 0.19 * len(palette)) + 0.55 * len(panels) + 1.3
    figure = Figure(figsize=(WIDTH, inches), layout="constrained")
    axes = figure.subplots(len(panels), 1, height_ratios=sizes, sharex=True, squeeze=False)
    for axis, (heading, part) in zip(axes[:, 0], panels, strict=True):
        _panel(axis, metric, part, palette, meta)
        axis.set_title(heading, loc="left", fontsize=11, fontweight="bold", color=INK)
    _scale(axes[-1, 0], metric)
    figure.suptitle(title[0].upper() + title[1:], fontsize=13, fontweight="bold", color=INK)
    handles = {text: handle for axis in axes[:, 0] for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)}
    order = sorted(handles, key=[*palette, *handles].index)
    columns = legend_columns(order, WIDTH)
    figure.legend([handles[name] for name in order], order, loc="outside lower center", ncols=columns, frameon=False, fontsize=9.5)
    save(figure, stem)


def _panel(axis: Axes, metric: str, rows: Sequence[Mapping[str, Any]], palette: Mapping[str, str], meta: Mapping[str, Any]) -> None:
    """Directions from top to bottom, methods beside each other in each."""
    names = list(dict.fromkeys(_direction(row) for row in rows))
    height = 0.8 / len(palette)
    for index, (method, colour) in enumerate(palette.items()):
        of_method = [row for row in rows if row["run"] == method]
        if of_method:
            at = [names.index(_direction(row)) + (index - (len(palette) - 1) / 2) * height for row in of_method]
            _marks(axis, metric, of_method, at, height, colour, method)
    if metric == "accuracy":
        _references(axis, rows, names, meta)
    axis.set_yticks(range(len(names)), names, fontsize=10.5)
    axis.set_ylim(len(names) - 0.45, -0.55)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.grid(axis="x", color=FAINT)
    axis.set_axisbelow(True)
    for index in range(0, len(names), 2):
        axis.axhspan(index - 0.5, index + 0.5, color=BAND, zorder=0)


def _marks(axis: Axes, metric: str, rows: Sequence[Mapping[str, Any]], at: list[float], height: float, colour: str, method: str) -> None:
    """Bars from zero with their intervals; points on the logarithmic axis, which has no zero."""
    values = [row["value"] for row in rows]
    errors = [[row["value"] - row["low"] for row in rows], [row["high"] - row["value"] for row in rows]]
    if metric == "perplexity":
        axis.errorbar(values, at, xerr=errors, fmt="o", markersize=7, color=colour, elinewidth=1.6, label=method)
        labels = [f"{value:.3g}" for value in values]
    else:
        axis.barh(at, values, height * 0.9, color=colour, label=method)
        axis.errorbar(values, at, xerr=errors, fmt="none", ecolor=INK, elinewidth=1, capsize=2)
        labels = [f"{value:.0%}" if is_share(metric) else f"{value:.2f}" for value in values]
    for row, y, text in zip(rows, at, labels, strict=True):
        axis.annotate(text, (row["high"], y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8.5, color=INK, bbox=HALO)


def _references(axis: Axes, rows: Sequence[Mapping[str, Any]], names: Sequence[str], meta: Mapping[str, Any]) -> None:
    """Chance as a line through all; the reference classifier's accuracy on real data as a mark over each direction."""
    axis.axvline(1 / max(1, len(meta["classes"])), color=CHANCE, linestyle="--", linewidth=1.3, label="chance")
    of_target = meta["upper_bounds"]["accuracy"]
    upper_bounds = {_direction(row): of_target[row["target"]]["value"] for row in rows if row["target"] in of_target}
    indices = [names.index(name) for name in upper_bounds]
    if indices:
        low, high = [index - 0.42 for index in indices], [index + 0.42 for index in indices]
        axis.vlines(list(upper_bounds.values()), low, high, color=INK, linewidth=2, linestyle=":", label="upper bound (real data)")


def _scale(axis: Axes, metric: str) -> None:
    if is_share(metric):
        axis.set_xlim(0, 1.08)
        axis.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1])
        axis.xaxis.set_major_formatter(PercentFormatter(1))
    if metric == "perplexity":
        axis.set_xscale("log")
        axis.margins(x=0.12)
        low, high = axis.get_xlim()
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.xaxis.set_minor_formatter(NullFormatter())


def _direction(row: Mapping[str, Any]) -> str:
    return f"{' + '.join(row['given'])} → {row['target']}"


def save(figure: Figure, stem: Path) -> None:
    """Write STEM.png and STEM.svg; the same figure gives the same bytes."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once for both files
    for suffix, options in (("png", {"dpi": 144}), ("svg", {"metadata": {"Date": None}})):
        file = BytesIO()
        with rc_context({"svg.hashsalt": "mmtool"}):
            figure.savefig(file, format=suffix, **options)
        write_bytes(stem.with_suffix(f".{suffix}"), file.getvalue())
