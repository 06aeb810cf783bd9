"""The report directory: JSON for programs, Markdown and a page for readers, figures, a contact sheet, recordings and texts.

report.json          {"format", "meta", "rows", "files"}
report.md            tables: directions as rows, methods as columns, task by task
report.html          the same in one file with figures and samples, to be opened in a browser (see page/)
accuracy.png ...     figures, also as SVG
contact_sheet.png    given, real and imputed side by side
audio/DIRECTION/     given, real and imputed sounds of the contact sheet
texts.tsv            its texts
samples.json         the samples that came out worst and best (see figures/ranked_samples.py)
calibration.safetensors  corrections of bounds, probabilities of being right (see imputation/calibration.py)
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtool.common.storage import write_bytes
from mmtool.evaluation.figures.markdown import by_direction
from mmtool.evaluation.figures.samples import CONTACT_SHEET, PLAYERS
from mmtool.evaluation.page.page import write_page
from mmtool.evaluation.reference.cox import C_INDEX, STRATIFIED, alone
from mmtool.evaluation.report_file import write_report_file
from mmtool.evaluation.study import Row
from mmtool.evaluation.tasks import open_task
from mmtool.imputation.chain import NUM_LINKS, chained


def write_report(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any], **more: Sequence[Row]) -> None:
    """report.json, the pages and the figures, from rows alone; samples that are there already are shown. more: what else
    report.json holds; `differences` of the last run from the others (see `paired_differences`) and the `gap_closed` to the oracle are
    shown as well."""
    parts, shown = _introduction(meta), seen_by_all(rows)
    for task in meta["tasks"]:
        parts += open_task(task).section(folder, shown, meta)
    parts += _gap_closed(more.get("gap_closed", ()), meta)
    parts += _differences(seen_by_all(more.get("differences", ())), meta)
    if (folder / CONTACT_SHEET).exists():
        folders = " and ".join(f"`{player}/`" for player in PLAYERS)
        parts += ["## Contact sheet", f"![given, real and imputed]({CONTACT_SHEET})"]
        parts += [f"Texts are in `texts.tsv`, recordings in {folders}, where there are any."]
    write_document(folder, rows, meta, parts, **more)


def write_document(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any], parts: Sequence[str], **more: Sequence[Row]) -> None:
    """report.json of rows, and report.md and report.html of paragraphs: the same files for every report. more: what else report.json
    holds."""
    write_bytes(folder / "report.md", ("\n\n".join(parts) + "\n").encode())
    write_page(folder, rows, meta, parts)
    write_report_file(folder, {"meta": dict(meta), "rows": list(rows), **more})


def seen_by_all(rows: Sequence[Row]) -> list[Row]:
    """The rows with a direction as seen where all runs saw it: what some never saw together is one line of a table, not two."""
    unseen = {(tuple(row["given"]), row["target"]) for row in rows if not row["seen"]}
    return [{**row, "seen": (tuple(row["given"]), row["target"]) not in unseen} for row in rows]


def _gap_closed(rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """How much of the way from the baseline to the oracle each run goes; nothing where there is no oracle."""
    if not rows:
        return []
    oracle = meta["oracle"]
    name, baseline = oracle["name"], oracle["baseline"]
    how = f"*{name}*: {baseline}, trained where these modalities do occur together ({oracle['data']})."
    what = f"A column holds (method - {baseline}) / ({name} - {baseline}), in directions in which {name} is clearly ahead."
    parts = ["## Share of the gap closed", f"{how} {what}"]
    for metric in dict.fromkeys(row["metric"] for row in rows):
        parts += [f"{heading(metric)}:", by_direction(metric, rows, meta)]
    return parts


def _differences(rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """A table for each metric; nothing where there are no rows."""
    if not rows:
        return []
    oracle = meta.get("oracle", {}).get("name")
    name = [run["name"] for run in meta["runs"] if run["name"] != oracle][-1]
    how = f"A column holds the value of {name} minus that of its method, of perplexities their ratio, averaged over runs of the same seed."
    parts = [f"## {name} against the others", how]
    for metric in dict.fromkeys(row["metric"] for row in rows):
        parts += [f"{heading(metric)}:", by_direction(metric, rows, meta)]
    return parts


def heading(metric: str) -> str:
    """`category_accuracy, difference` as people write it."""
    words = metric.replace("_", " ").replace("r2", "R²")
    return words[0].upper() + words[1:]


def _introduction(meta: Mapping[str, Any]) -> list[str]:
    """What was compared, on what, and how to read the tables."""
    runs = ", ".join(f"{run['name']} ({_seeds(run)})" for run in meta["runs"])
    which = ", which hold every modality" if meta["config"].get("complete") else ""
    parts = [
        "# Imputation of missing modalities",
        f"Runs: {runs}. {meta['samples']['test']} held-out samples{which}; "
        f"reference classifiers and baselines learn from {meta['samples']['train']} training samples. "
        "Directions in **bold** are between modalities that never co-occurred in training. "
        f"Brackets hold 95 % intervals{meta.get('intervals', '')}, n is the number of samples.",
    ]
    chain = meta["config"]["impute"]["chain"]
    if chain:
        parts.append(
            f"*{chained(chain[0])}*: imputed along the shortest path of modalities that co-occurred, "
            "the link drawn first and the target from it alone, in directions that need a link. The perplexity of a chain is a Monte Carlo "
            f"estimate from {NUM_LINKS} draws of the link for each sample."
        )
    for judged, tables in meta.get("told_outright", {}).items():
        where = f"`{judged}` is a column of {' and '.join(tables)}"
        parts.append(f"**{where}**: directions that are given it know the answer, and say nothing of what modalities tell of each other.")
    return [*parts, *_upper_bounds(meta), *_raw_tables(meta)]


def _upper_bounds(meta: Mapping[str, Any]) -> list[str]:
    """What reference classifiers and Cox models achieve on real data."""
    parts, accuracy, strata = [], meta["upper_bounds"]["accuracy"], meta["config"].get("strata")
    if accuracy:
        upper_bounds = ", ".join(f"{name} {bound['value']:.1%} (n {bound['n']})" for name, bound in accuracy.items())
        parts.append(
            f"Reference classifiers predict {len(meta['classes'])} classes of `{meta['label']}` (chance {1 / len(meta['classes']):.0%}). "
            f"Their accuracy on real held-out data, the upper bound: {upper_bounds}."
        )
    for metric, where in ((C_INDEX, ""), (STRATIFIED, f" within classes of `{strata}`")):
        bounds = meta["upper_bounds"].get(metric)
        if bounds:
            upper_bounds = ", ".join(f"{name} {bound['value']:.3f} (n {bound['n']})" for name, bound in bounds.items())
            what = f"Concordance of survival{where} with the risk of real held-out data"
            parts.append(f"{what}, the upper bound (chance 0.5): {upper_bounds}.")
    if alone(strata) in meta["baselines"]:
        parts.append(f"*{alone(strata)}*: the risk of each class of `{strata}`, whatever else is known of a sample.")
    return parts


def _raw_tables(meta: Mapping[str, Any]) -> list[str]:
    """What imputed tables are compared with, where raw ones were given."""
    if not meta["raw_tables"]:
        return []
    return [
        f"Imputed values of {', '.join(meta['raw_tables'])} are compared with the raw tables, not with what their tokenizers keep of them; "
        "values beyond the 0.1 % and 99.9 % quantiles of the training samples count as these."
    ]


def _seeds(run: Mapping[str, Any]) -> str:
    """`seed 0`, or `seeds 0, 1, 2` of a run that stands for several."""
    seeds = run.get("seeds", [run.get("seed")])
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
