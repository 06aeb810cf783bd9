"""The report on adapters: JSON for programs, curves over the missing rate, a table for each modality that is missing."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtool.adapt.config import ALONE, RECIPES
from mmtool.common.storage import write_bytes, write_json
from mmtool.evaluation.figures.curves import Line, draw_curves
from mmtool.evaluation.figures.markdown import direction, table
from mmtool.evaluation.figures.plots import colours
from mmtool.evaluation.report import FORMAT

Row = Mapping[str, Any]


def write_report(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any], results: Sequence[Row] | None = None) -> None:
    """report.json, report.md and curves.png; results: rows of every seed, where `rows` are their means."""
    record = {"format": FORMAT, "meta": dict(meta), "rows": list(rows)}
    write_json(folder / "report.json", record if results is None else {**record, "results": list(results)})
    parts = [*_introduction(meta), *_curves(folder, rows, meta), *_retrieval(rows, meta)]
    write_bytes(folder / "report.md", ("\n\n".join(parts) + "\n").encode())


def _introduction(meta: Mapping[str, Any]) -> list[str]:
    protocol = meta["trained_with"]
    removed = " or ".join(protocol["missing"]) or "any modality"
    about = [f"- **{run['name']}**: {RECIPES[run['method']].about}" for run in meta["runs"] if run["method"] in RECIPES]
    return [
        f"# {meta['label']} from whatever is present",
        f"`{meta['label']}` ({meta['kind']}) is predicted from {' + '.join(meta['modalities'])}. In training "
        f"{protocol['missing_rate']:.0%} of the samples lost {removed} ({protocol['num_missing']} of {len(meta['modalities'])}). "
        f"{meta['samples']['test']} held-out samples lose the same at every missing rate below. "
        f"Brackets hold 95 % intervals{meta.get('intervals', '')}.",
        "\n".join(about),
    ]


def _curves(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """One panel and one table for each modality that is missing."""
    points = [row for row in rows if "at" in row]
    metrics = list(dict.fromkeys(row["metric"] for row in points))
    if not points:
        return []
    names = [run["name"] for run in meta["runs"]]
    panels = []
    for metric in metrics:
        lines = {name: Line.of([row for row in points if row["metric"] == metric and row["run"] == name]) for name in names}
        panels.append((metric.partition(", ")[2], {name: line for name, line in lines.items() if line.x}))
    y_label = metrics[0].partition(", ")[0]
    title = f"{y_label} of {meta['label']} while modalities go missing"
    alone = [name for name in names if name.startswith(ALONE)]
    aside = alone if len(alone) < len(names) else ()
    draw_curves(folder / "curves", title, panels, colours(meta), "missing rate", y_label, percent_x=True, aside=aside)
    parts = ["## Robustness", "![curves](curves.png)"]
    for metric in reversed(metrics):
        of_metric = [row for row in points if row["metric"] == metric]
        parts += [f"### {metric}", table(of_metric, "missing rate", lambda row: f"{row['at']:.0%}", lambda row: row["run"], names)]
    return parts


def _retrieval(rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    ranked = [row for row in rows if "recall@" in row["metric"] or "median rank" in row["metric"]]
    if not ranked:
        return []
    names = [run["name"] for run in meta["runs"]]
    parts = ["## Retrieval", "Queries are predicted embeddings, candidates real ones; *class*: any candidate of the same class is a hit."]
    for metric in dict.fromkeys(row["metric"] for row in ranked):
        of_metric = [row for row in ranked if row["metric"] == metric]
        parts += [f"**{metric}**", table(of_metric, "direction", direction, lambda row: row["run"], names)]
    return parts
