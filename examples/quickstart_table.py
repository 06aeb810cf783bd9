"""Print the main table of a report: class accuracy and perplexity of every direction from one modality to another.

python examples/quickstart_table.py REPORT
"""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table

METRICS = {"accuracy": "{:.1%}", "perplexity": "{:.3g}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", type=Path, help="the directory that `mmtool evaluate` wrote")
    folder = parser.parse_args().report
    report = json.loads((folder / "report.json").read_text())
    console = Console(stderr=True)
    for metric, form in METRICS.items():
        console.print(table(report, metric, form))
    console.print(f"* never seen together in training. {report['meta']['samples']['test']} held-out samples.")
    console.print(f"Intervals, plots, pictures and sounds: {folder}/report.html", soft_wrap=True)
    print(json.dumps({"results": report["rows"], "samples": report["meta"]["samples"]["test"], "report": str(folder)}))


def table(report: dict[str, Any], metric: str, form: str) -> Table:
    """Directions from one modality as lines, those never seen together first; runs, their chains and the nearest neighbour as columns."""
    chosen = [row for row in report["rows"] if row["metric"] == metric and len(row["given"]) == 1]
    runs = [name for run in report["meta"]["runs"] for name in (run["name"], f"{run['name']}, chained")]
    methods = [name for name in (*runs, "nearest neighbour") if any(row["run"] == name for row in chosen)]
    filled = Table(Column("direction", no_wrap=True), *methods, title=metric, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    cells = {(row["seen"], row["given"][0], row["target"], row["run"]): row["value"] for row in chosen}
    for seen, given, target in sorted({key[:3] for key in cells}):
        values = [cells.get((seen, given, target, method)) for method in methods]
        filled.add_row(f"{given} → {target}{'' if seen else ' *'}", *("" if value is None else form.format(value) for value in values))
    return filled


if __name__ == "__main__":
    main()
