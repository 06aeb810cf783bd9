"""Curves and a table of the sweeps: class accuracy on the pair that never occurs together, by what was varied.

python examples/sweeps/plot.py POINTS OUTPUT        (OUTPUT.png and OUTPUT.md are written)
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLUMNS = {"commutative": "tab:gray", "commutative, chained": "tab:blue", "loretta": "tab:orange"}
DIRECTIONS = (("speech", "text"), ("text", "speech"))
SWEEPS = {
    "pairs": "pairs of each kind",
    "unpaired": "share of samples with one modality",
    "noise": "share of wrong links",
    "true": "true pairs of speech and text",
}


class Point(NamedTuple):
    """x: what was varied. rows: of the report."""

    x: float
    rows: list[dict[str, Any]]

    def estimate(self, column: str, direction: tuple[str, str], metric: str) -> tuple[float, float, float] | None:
        """Value and interval."""
        for row in self.rows:
            if (row["run"], tuple(row["given"]), row["target"], row["metric"]) == (column, direction[:1], direction[1], metric):
                return row["value"], row["low"], row["high"]
        return None


def main(points: Path, output: Path) -> None:
    curves = {name: read(points, name) for name in SWEEPS if any(points.glob(f"{name}-*"))}
    figure, axes = plt.subplots(
        len(DIRECTIONS), len(curves), figsize=(4 * len(curves), 7), sharey=True, squeeze=False, layout="constrained"
    )
    for i, direction in enumerate(DIRECTIONS):
        for j, (name, curve) in enumerate(curves.items()):
            draw(axes[i, j], name, curve, direction)
        axes[i, 0].set_ylabel(f"{' → '.join(direction)}\nclass accuracy of one draw")
    axes[0, 0].legend()
    figure.savefig(output.with_suffix(".png"), dpi=110)
    output.with_suffix(".md").write_text("\n".join(table(curves)) + "\n")
    results = [
        {"sweep": name, "x": point.x, "column": column, "given": given, "target": target, "accuracy": accuracy}
        for name, curve in curves.items()
        for point in curve
        for column in COLUMNS
        for given, target in DIRECTIONS
        if (accuracy := point.estimate(column, (given, target), "accuracy"))
    ]
    print(json.dumps({"points": results, "plot": str(output.with_suffix(".png")), "table": str(output.with_suffix(".md"))}))


def read(points: Path, name: str) -> list[Point]:
    """The curve of one sweep, with the point that all sweeps share."""
    curve = []
    for folder in (points / "all", *points.glob(f"{name}-*")):
        report = json.loads((folder / "report.json").read_text())
        held = {frozenset(row["modalities"]): row["samples"] for row in report["meta"]["presence"]["train"]}
        varied = float(folder.name.rpartition("-")[2]) if folder.name != "all" else 0.0
        numbers = {
            "pairs": min(held[frozenset(("image", other))] for other in ("speech", "text")),
            "true": held.get(frozenset(("speech", "text")), 0),
        }
        curve.append(Point(float(numbers.get(name, varied)), report["rows"]))
    return sorted(curve, key=lambda point: point.x)


def draw(axes: Any, name: str, curve: list[Point], direction: tuple[str, str]) -> None:
    for column, colour in COLUMNS.items():
        known = [(point.x, found) for point in curve if (found := point.estimate(column, direction, "accuracy"))]
        x, value = [x for x, _ in known], [found[0] for _, found in known]
        below, above = [found[0] - found[1] for _, found in known], [found[2] - found[0] for _, found in known]
        axes.errorbar(x, value, yerr=[below, above], label=column, color=colour, marker="o", capsize=2)
    if name in ("pairs", "true"):
        axes.set_xscale("log" if name == "pairs" else "symlog", **({} if name == "pairs" else {"linthresh": 30}))
    axes.set_xlabel(SWEEPS[name])
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)


def table(curves: dict[str, list[Point]]) -> list[str]:
    """Lines of Markdown: accuracy in % and perplexity of every point."""
    heads = [f"{' → '.join(direction)}: {column}" for direction in DIRECTIONS for column in COLUMNS]
    lines = [f"| varied | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for name, curve in curves.items():
        for point in curve:
            cells = [cell(point, column, direction) for direction in DIRECTIONS for column in COLUMNS]
            lines.append(f"| {SWEEPS[name]}: {point.x:g} | {' | '.join(cells)} |")
    return lines


def cell(point: Point, column: str, direction: tuple[str, str]) -> str:
    accuracy, perplexity = (point.estimate(column, direction, metric) for metric in ("accuracy", "perplexity"))
    return f"{100 * accuracy[0]:.1f} / {perplexity[0]:.3g}" if accuracy and perplexity else "-"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
