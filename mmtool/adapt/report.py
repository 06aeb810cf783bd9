"""The report on adapters: JSON for programs, a table per kind of holes, curves over the share of samples that have holes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtool.adapt.config import ALONE, RECIPES
from mmtool.common.storage import write_bytes, write_json
from mmtool.evaluation.figures.curves import Line, draw_curves
from mmtool.evaluation.figures.markdown import direction_of, table
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
    holes = meta["trained_with"]
    lost = " or ".join(holes["missing"]) or "any modality"
    about = [f"- **{run['name']}**: {RECIPES[run['method']].about}" for run in meta["runs"] if run["method"] in RECIPES]
    return [
        f"# {meta['label']} from whatever is present",
        f"{' + '.join(meta['modalities'])} tell `{meta['label']}` ({meta['kind']}). In training {holes['eta']:.0%} of the samples lost "
        f"{lost} ({holes['lose']} of {len(meta['modalities'])}). {meta['samples']['test']} held-out samples lose the same at every share "
        f"below. Brackets hold 95 % intervals{meta.get('intervals', '')}.",
        "\n".join(about),
    ]


def _curves(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """One panel and one table per kind of holes."""
    own = [row for row in rows if "at" in row]
    metrics = list(dict.fromkeys(row["metric"] for row in own))
    if not own:
        return []
    names = [run["name"] for run in meta["runs"]]
    panels = []
    for metric in metrics:
        lines = {name: Line.of([row for row in own if row["metric"] == metric and row["run"] == name]) for name in names}
        panels.append((metric.partition(", ")[2], {name: line for name, line in lines.items() if line.x}))
    y_label = metrics[0].partition(", ")[0]
    title = f"{y_label} of {meta['label']} while modalities go missing"
    alone = [name for name in names if name.startswith(ALONE)]
    aside = alone if len(alone) < len(names) else ()
    draw_curves(folder / "curves", title, panels, colours(meta), "share of samples with holes", y_label, percent_x=True, aside=aside)
    parts = ["## Robustness", "![curves](curves.png)"]
    for metric in reversed(metrics):
        found = [row for row in own if row["metric"] == metric]
        parts += [f"### {metric}", table(found, "share with holes", lambda row: f"{row['at']:.0%}", lambda row: row["run"], names)]
    return parts


def _retrieval(rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    own = [row for row in rows if "recall@" in row["metric"] or "median rank" in row["metric"]]
    if not own:
        return []
    names = [run["name"] for run in meta["runs"]]
    parts = ["## Retrieval", "Predicted embeddings ask for the real ones; *class*: any candidate of the same class counts."]
    for metric in dict.fromkeys(row["metric"] for row in own):
        found = [row for row in own if row["metric"] == metric]
        parts += [f"**{metric}**", table(found, "direction", direction_of, lambda row: row["run"], names)]
    return parts
