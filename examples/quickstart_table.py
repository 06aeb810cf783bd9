"""Print the main table of a report: class accuracy and perplexity of every direction from one modality to another.

python examples/quickstart_table.py REPORT/report.json
"""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

METRICS = {"accuracy": "{:.1%}", "perplexity": "{:.3g}"}


def main() -> None:
    report = json.loads(Path(sys.argv[1]).read_text())
    console = Console(stderr=True)
    for metric, form in METRICS.items():
        console.print(table(report["rows"], metric, form))
    console.print(f"[bold]*[/bold] never seen together in training. {report['meta']['samples']['test']} held-out samples.")
    console.print(f"Intervals, plots, pictures and sounds: {Path(sys.argv[1]).parent}")


def table(rows: list[dict[str, Any]], metric: str, form: str) -> Table:
    """Directions from one modality as lines, those never seen together first; methods as columns."""
    chosen = [row for row in rows if row["metric"] == metric and len(row["given"]) == 1]
    methods = list(dict.fromkeys(row["run"] for row in chosen))
    made = Table("direction", *methods, title=f"{metric} (%)" if "%" in form else metric, title_justify="left")
    cells = {(row["seen"], row["given"][0], row["target"], row["run"]): row["value"] for row in chosen}
    for seen, given, target in sorted({key[:3] for key in cells}):
        values = [cells.get((seen, given, target, method)) for method in methods]
        made.add_row(f"{given} → {target}{'' if seen else ' *'}", *("" if value is None else form.format(value) for value in values))
    return made


if __name__ == "__main__":
    main()
