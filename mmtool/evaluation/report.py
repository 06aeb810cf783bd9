"""The report directory: JSON for programs, Markdown for readers, figures, a contact sheet, recordings and texts.

report.json          {"format", "meta", "rows"}
report.md            tables: directions as rows, methods as columns
accuracy.png ...     figures, also as SVG
contact_sheet.png    given, real and imputed side by side
audio/DIRECTION/     given, real and imputed sounds of the contact sheet
texts.tsv            its texts
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtool.evaluation.contact_sheet import Block, Strip, blocks, draw_contact_sheet
from mmtool.evaluation.outcomes import Outcome
from mmtool.evaluation.plots import TITLES, draw_plots
from mmtool.evaluation.reference import Reference
from mmtool.storage import write_bytes, write_json

FORMAT = "mmtool-report/1"
CONTACT_SHEET = "contact_sheet.png"


def write_report(
    folder: Path, rows: Sequence[dict[str, Any]], meta: Mapping[str, Any], outcomes: Sequence[Outcome], reference: Reference
) -> None:
    """Write everything into `folder`."""
    write_json(folder / "report.json", {"format": FORMAT, "meta": meta, "rows": rows})
    figures = draw_plots(folder, rows, meta)
    found = blocks(outcomes, reference)
    if found:
        draw_contact_sheet(folder / CONTACT_SHEET, found, reference)
        _write_audio(folder / "audio", found, reference)
        _write_texts(folder / "texts.tsv", found, reference)
    write_bytes(folder / "report.md", markdown(rows, meta, figures, bool(found)).encode())


def markdown(rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any], figures: Sequence[str], contact_sheet: bool) -> str:
    """The report to read."""
    runs = ", ".join(f"{run['name']} (seed {run['seed']})" for run in meta["runs"])
    parts = [
        "# How well the holes are filled",
        f"Runs: {runs}. {meta['samples']['test']} held-out samples; judges and baselines use {meta['samples']['train']} training samples. "
        "Directions in **bold** lead between modalities that never occurred together in training. "
        "Brackets hold 95 % intervals, n counts samples.",
    ]
    if meta["judges"]:
        parts.append(_judges(meta))
    if meta.get("risks"):
        ceilings = ", ".join(f"{name} {risk['value']:.3f} (n {risk['n']})" for name, risk in meta["risks"].items())
        parts.append(f"Concordance of survival with the risk of real held-out data, the ceiling (chance 0.5): {ceilings}.")
    if meta.get("truth"):
        parts.append(f"Imputed values of {', '.join(meta['truth'])} are compared with the raw tables, not with what their tokenizers hold.")
    for metric in figures:
        parts += [f"## {TITLES[metric][0].upper()}{TITLES[metric][1:]}", _table(metric, rows, meta), f"![{metric}]({metric}.png)"]
    if contact_sheet:
        parts += ["## Contact sheet", f"![given, real and imputed]({CONTACT_SHEET})"]
        parts += ["Texts are in `texts.tsv`, recordings in `audio/`, where there are any."]
    return "\n\n".join(parts) + "\n"


def _judges(meta: Mapping[str, Any]) -> str:
    ceilings = ", ".join(f"{name} {judge['value']:.1%} (n {judge['n']})" for name, judge in meta["judges"].items())
    return (
        f"Judges tell {len(meta['classes'])} classes of `{meta['label']}` (chance {1 / len(meta['classes']):.0%}). "
        f"Their accuracy on real held-out data, the ceiling: {ceilings}."
    )


def _table(metric: str, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any]) -> str:
    """Directions as rows, methods as columns."""
    cells = {(tuple(row["given"]), row["target"], row["run"]): row for row in rows if row["metric"] == metric}
    names = [name for name in (*(run["name"] for run in meta["runs"]), *meta["baselines"]) if any(key[2] == name for key in cells)]
    lines = ["| direction | " + " | ".join(names) + " | n |", "|---|" + "---|" * (len(names) + 1)]
    for given, target in dict.fromkeys(key[:2] for key in cells):
        own = [cells.get((given, target, name)) for name in names]
        direction = f"{' + '.join(given)} → {target}"
        if not all(row["seen"] for row in own if row):
            direction = f"**{direction}**"
        counts = "/".join(dict.fromkeys(str(row["n"]) for row in own if row))
        lines.append(f"| {direction} | " + " | ".join(_cell(metric, row) for row in own) + f" | {counts} |")
    return "\n".join(lines)


def _cell(metric: str, row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "-"
    if metric == "accuracy":
        return f"{row['value']:.1%} [{row['low']:.1%}, {row['high']:.1%}]"
    return f"{row['value']:.4g} [{row['low']:.4g}, {row['high']:.4g}]"


def _write_audio(folder: Path, found: Sequence[Block], reference: Reference) -> None:
    """DIRECTION/NN-WHO.wav for the sounds of every block, NN being the column of the sheet."""
    for block in found:
        for strip in _strips_of("audio", block, reference):
            for number, value in enumerate(strip.values):
                if value is not None:
                    stem = folder / block.direction.slug / f"{number:02d}-{_slug(strip.title)}"
                    stem.parent.mkdir(parents=True, exist_ok=True)
                    reference.tokenizers[strip.modality].write(value, stem)


def _write_texts(path: Path, found: Sequence[Block], reference: Reference) -> None:
    """One line per text: direction, sample, its class, who wrote it, the judge's class, the text."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter="\t", lineterminator="\n")
    writer.writerow(("direction", "key", "class", "source", "judged", "text"))
    lines = [
        (block.direction, key, right or "", strip.title, verdict or "", value)
        for block in found
        for strip in _strips_of("text", block, reference)
        for key, right, verdict, value in zip(
            block.keys, block.classes, strip.verdicts or [None] * len(block.keys), strip.values, strict=True
        )
        if value is not None
    ]
    if lines:
        writer.writerows(lines)
        write_bytes(path, file.getvalue().encode("utf-8", "replace"))


def _strips_of(kind: str, block: Block, reference: Reference) -> list[Strip]:
    return [strip for strip in block.strips if reference.tokenizers[strip.modality].kind == kind]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
