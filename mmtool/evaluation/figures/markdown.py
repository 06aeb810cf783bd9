"""Markdown tables of a report: what was never seen together in bold, methods side by side, every value with its interval."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmtool.imputation.chain import chained
from mmtool.metrics.units import is_share


def direction_of(row: Mapping[str, Any]) -> str:
    """`a + b → c`, in bold where training never saw these together."""
    text = f"{' + '.join(row['given'])} → {row['target']}"
    return text if row["seen"] else f"**{text}**"


def run_names(meta: Mapping[str, Any]) -> list[str]:
    """The runs of a report in their order, each followed by its chain where it imputed through links as well."""
    chains = meta.get("config", {}).get("impute", {}).get("chain", ())
    return [name for run in meta["runs"] for name in (run["name"], *([chained(run["name"])] if run["name"] in chains else []))]


def by_direction(
    metric: str,
    rows: Sequence[Mapping[str, Any]],
    meta: Mapping[str, Any],
    corner: str = "direction",
    line: Callable[[Mapping[str, Any]], str] = direction_of,
) -> str:
    """Directions as rows, methods as columns, of one metric."""
    return table([row for row in rows if row["metric"] == metric], corner, line, lambda row: row["run"], run_names(meta))


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
    lines = [f"| {corner} | " + " | ".join(map(_escaped, columns)) + " | n |", "|---|" + "---|" * (len(columns) + 1)]
    for name in dict.fromkeys(key[0] for key in cells):
        of_line = [cells.get((name, title)) for title in columns]
        counts = "/".join(dict.fromkeys(str(row["n"]) for row in of_line if row))
        lines.append(f"| {_escaped(name)} | " + " | ".join(cell(row) for row in of_line) + f" | {counts} |")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """A name as a cell, which a bar would end."""
    return text.replace("|", "\\|")


def subset_of(row: Mapping[str, Any]) -> str:
    """`a + b`, in bold where training never saw these together."""
    text = " + ".join(row["given"])
    return text if row["seen"] else f"**{text}**"


def cell(row: Mapping[str, Any] | None) -> str:
    """Value and interval, the value alone where no interval is known; '-' where there is none."""
    if row is None:
        return "-"
    form = ".1%" if is_share(row["metric"]) else ".4g"
    value, *interval = (format(row[name], form) for name in ("value", "low", "high") if row[name] is not None)
    return f"{value} [{', '.join(interval)}]" if interval else value
