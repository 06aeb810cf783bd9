"""The report on adapters: an introduction, curves over the missing rate with a table for each missing modality, and retrieval."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtool.adaptation.config import ALONE, RECIPES
from mmtool.evaluation.figures.curves import Line, draw_curves
from mmtool.evaluation.figures.markdown import direction_of, table
from mmtool.evaluation.figures.plots import colours
from mmtool.evaluation.report import write_document
from mmtool.evaluation.study import Row


def write_report(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any], **more: Sequence[Row]) -> None:
    """report.json, report.md and curves.png, from rows alone. more: what else report.json holds."""
    write_document(folder, rows, meta, [*_introduction(meta), *_curves(folder, rows, meta), *_retrieval(rows, meta)], **more)


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
    metrics, names = list(dict.fromkeys(row["metric"] for row in points)), [run["name"] for run in meta["runs"]]
    if not points:
        return []
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
        parts += [f"**{metric}**", table(of_metric, "direction", direction_of, lambda row: row["run"], names)]
    return parts
