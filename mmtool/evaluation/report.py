"""The report directory: JSON for programs, Markdown for readers, figures, a contact sheet, recordings and texts.

report.json          {"format", "meta", "rows"}
report.md            tables: directions as rows, methods as columns, task by task
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

from mmtool.common.storage import write_bytes, write_json
from mmtool.evaluation.figures.contact_sheet import Block, Strip, blocks, draw_contact_sheet
from mmtool.evaluation.figures.markdown import by_direction
from mmtool.evaluation.outcomes import Outcome
from mmtool.evaluation.reference.data import Reference
from mmtool.evaluation.tasks import TASKS
from mmtool.impute.chain import NUM_LINKS, chained

FORMAT = "mmtool-report/1"
CONTACT_SHEET, TEXTS, AUDIO = "contact_sheet.png", "texts.tsv", "audio"


def write_report(
    folder: Path, rows: Sequence[dict[str, Any]], meta: Mapping[str, Any], outcomes: Sequence[Outcome], reference: Reference
) -> None:
    """Write everything into `folder`; outcomes: of the task `impute`, of which the contact sheet is made."""
    found = blocks(outcomes, reference)
    if found:
        draw_contact_sheet(folder / CONTACT_SHEET, found, reference)
        _write_audio(folder / AUDIO, found, reference)
        _write_texts(folder / TEXTS, found, reference)
    write_tables(folder, rows, meta)


def write_tables(folder: Path, rows: Sequence[dict[str, Any]], meta: Mapping[str, Any], **more: Sequence[dict[str, Any]]) -> None:
    """report.json, report.md and the figures, from rows alone; a contact sheet that is there already is shown. more: what else
    report.json holds; `differences` of the last run from the others (see `against_others`) are shown as well."""
    parts = _introduction(meta)
    for task in meta["tasks"]:
        parts += TASKS[task].section(folder, rows, meta)
    parts += _differences(more.get("differences", ()), meta)
    if (folder / CONTACT_SHEET).exists():
        parts += ["## Contact sheet", f"![given, real and imputed]({CONTACT_SHEET})"]
        parts += ["Texts are in `texts.tsv`, recordings in `audio/`, where there are any."]
    write_document(folder, rows, meta, parts, **more)


def write_document(
    folder: Path, rows: Sequence[dict[str, Any]], meta: Mapping[str, Any], parts: Sequence[str], **more: Sequence[dict[str, Any]]
) -> None:
    """report.json of rows, and report.md of paragraphs: the same two files for every report. more: what else report.json holds."""
    write_json(folder / "report.json", {"format": FORMAT, "meta": dict(meta), "rows": list(rows), **more})
    write_bytes(folder / "report.md", ("\n\n".join(parts) + "\n").encode())


def _differences(rows: Sequence[dict[str, Any]], meta: Mapping[str, Any]) -> list[str]:
    """A table for each metric; nothing where there are no rows."""
    if not rows:
        return []
    name = meta["runs"][-1]["name"]
    how = f"What a column says is {name} minus that method, of perplexities {name} divided by it, averaged over runs of the same seed."
    parts = [f"## {name} against the others", how]
    for metric in dict.fromkeys(row["metric"] for row in rows):
        parts += [f"{metric[0].upper() + metric[1:]}:", by_direction(metric, rows, meta)]
    return parts


def _introduction(meta: Mapping[str, Any]) -> list[str]:
    """What was compared, on what, and how to read the tables."""
    runs = ", ".join(f"{run['name']} ({_seeds(run)})" for run in meta["runs"])
    parts = [
        "# How well the holes are filled",
        f"Runs: {runs}. {meta['samples']['test']} held-out samples; "
        f"reference classifiers and baselines use {meta['samples']['train']} training samples. "
        "What is in **bold** leads between modalities that never occurred together in training. "
        f"Brackets hold 95 % intervals{meta.get('intervals', '')}, n counts samples.",
    ]
    if meta["settings"]["chain"]:
        parts.append(
            f"*{chained(meta['settings']['chain'][0])}*: asked link by link along the shortest path of modalities that occurred together, "
            "the link drawn first and the target from it alone, in directions that need a link. The perplexity of a chain is a Monte Carlo "
            f"estimate from {NUM_LINKS} draws of the link for each sample."
        )
    if meta["classifiers"]:
        parts.append(_judges(meta))
    return [*parts, *_of_tables(meta)]


def _of_tables(meta: Mapping[str, Any]) -> list[str]:
    """What tables are judged by besides: survival, and the raw values."""
    parts = []
    if meta.get("risks"):
        upper_bounds = ", ".join(f"{name} {risk['value']:.3f} (n {risk['n']})" for name, risk in meta["risks"].items())
        parts.append(f"Concordance of survival with the risk of real held-out data, the upper bound (chance 0.5): {upper_bounds}.")
    if meta.get("truth"):
        parts.append(
            f"Imputed values of {', '.join(meta['truth'])} are compared with the raw tables, not with what their tokenizers hold; "
            "values beyond the 0.1 % and 99.9 % quantiles of the training samples count as these."
        )
    return parts


def _seeds(run: Mapping[str, Any]) -> str:
    """`seed 0`, or `seeds 0, 1, 2` of a run that stands for several."""
    seeds = run.get("seeds", [run.get("seed")])
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _judges(meta: Mapping[str, Any]) -> str:
    upper_bounds = ", ".join(f"{name} {judge['value']:.1%} (n {judge['n']})" for name, judge in meta["classifiers"].items())
    return (
        f"Judges tell {len(meta['classes'])} classes of `{meta['label']}` (chance {1 / len(meta['classes']):.0%}). "
        f"Their accuracy on real held-out data, the upper bound: {upper_bounds}."
    )


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
