"""Markdown tables of a report: what was never seen together in bold, methods side by side, every value with its interval."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmtool.impute.chain import chained
from mmtool.metrics.units import is_share


def direction(row: Mapping[str, Any]) -> str:
    """`a + b → c`, in bold where training never saw these together."""
    text = f"{' + '.join(row['given'])} → {row['target']}"
    return text if row["seen"] else f"**{text}**"


def run_names(meta: Mapping[str, Any]) -> list[str]:
    """The runs of a report in their order, each followed by its chain where it was asked link by link."""
    chains = meta.get("settings", {}).get("chain", ())
    return [name for run in meta["runs"] for name in (run["name"], *([chained(run["name"])] if run["name"] in chains else []))]


def by_direction(
    metric: str,
    rows: Sequence[Mapping[str, Any]],
    meta: Mapping[str, Any],
    corner: str = "direction",
    line: Callable[[Mapping[str, Any]], str] = direction,
) -> str:
    """Directions as rows, methods as columns, of one metric."""
    own = [row for row in rows if row["metric"] == metric]
    return table(own, corner, line, lambda row: row["run"], run_names(meta))


def table(
    rows: Sequence[Mapping[str, Any]],
    corner: str,
    line: Callable[[Mapping[str, Any]], str],
    column: Callable[[Mapping[str, Any]], str],
    first: Sequence[str] = (),
) -> str:
    """A table whose lines and columns are named by functions of a row; columns in `first` come first. The last column counts samples."""
    cells = {(line(row), column(row)): row for row in rows}
    columns = sorted(dict.fromkeys(key[1] for key in cells), key=lambda name: list(first).index(name) if name in first else len(first))
    lines = [f"| {corner} | " + " | ".join(columns) + " | n |", "|---|" + "---|" * (len(columns) + 1)]
    for name in dict.fromkeys(key[0] for key in cells):
        own = [cells.get((name, each)) for each in columns]
        counts = "/".join(dict.fromkeys(str(row["n"]) for row in own if row))
        lines.append(f"| {name} | " + " | ".join(cell(row) for row in own) + f" | {counts} |")
    return "\n".join(lines)


def subset(row: Mapping[str, Any]) -> str:
    """`a + b`, in bold where training never saw these together."""
    text = " + ".join(row["given"])
    return text if row["seen"] else f"**{text}**"


def cell(row: Mapping[str, Any] | None) -> str:
    """Value and interval; '-' where there is none."""
    if row is None:
        return "-"
    values = [row[name] for name in ("value", "low", "high")]
    value, low, high = (f"{each:.1%}" if is_share(row["metric"]) else f"{each:.4g}" for each in values)
    return f"{value} [{low}, {high}]"
