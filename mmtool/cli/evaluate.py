"""`mmtool evaluate`: how good filled holes are."""

from pathlib import Path
from typing import Annotated

import typer

from mmtool.cli.options import (
    DRAWING,
    Force,
    Json,
    KeyColumn,
    OutputDirectory,
    Quiet,
    Seed,
    Temperature,
    TopK,
    assignments,
    examples,
    finish,
    hushed,
    names,
)
from mmtool.errors import UsageError
from mmtool.preprocessing.entries import SourceOptions

TABLES = "Tables"

EXAMPLES = examples(
    "mmtool evaluate run/ shards/ -o report/",
    "mmtool evaluate run-loretta/ run-cm3/ shards/validation --label digit --json -o report/",
    "mmtool evaluate run/ shards/ --raw rppa=rppa.csv.gz --label cancer --survival time_days,event --samples 32 -o report/",
)


def evaluate(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="What `mmtool pretrain` wrote; several are compared.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Held-out samples: shards/test, or the shards directory.")],
    output: OutputDirectory,
    train: Annotated[Path | None, typer.Option(help="The training samples, for judges and baselines.", show_default="beside DATA")] = None,
    label: Annotated[str | None, typer.Option(help="Label the judges classify by.", show_default="the only one")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Held-out samples used at most.")] = 1000,
    raw: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="The raw table: truth for imputed ones. Repeatable.", rich_help_panel=TABLES),
    ] = None,
    key_column: KeyColumn = None,
    survival: Annotated[
        str | None, typer.Option(metavar="TIME,EVENT", help="Labels of a survival time and its event (0, 1).", rich_help_panel=TABLES)
    ] = None,
    contact_samples: Annotated[int, typer.Option(min=0, help="Samples of each direction to look at and listen to.")] = 10,
    samples: Annotated[int, typer.Option(min=1, help="Draws for each hole.", rich_help_panel=DRAWING)] = 1,
    temperature: Temperature = 1.0,
    top_k: TopK = None,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge on held-out data how well runs fill every hole.

    For every direction: perplexity, and what a classifier trained on real data says of imputed data, marked seen or never seen in
    training, beside trivial baselines and the ceiling of real data. The report is JSON, Markdown, plots and a contact sheet.

    Imputed tables are means over draws. They are compared with --raw tables, beside practitioners' imputers (ridge, nearest
    neighbours, chained equations); 10 draws or more also tell how often their intervals hold the truth.
    """
    outcome = names([survival]) if survival else None
    if outcome and len(outcome) != 2:
        raise UsageError(f"{survival!r} is not TIME,EVENT.", where="--survival", fix="Name two labels, e.g. time_days,event.")
    files = {name: Path(path) for name, path in assignments(raw, "--raw").items()}
    from mmtool.evaluation.evaluate import evaluate as judge
    from mmtool.preprocessing.raw_rows import raw_rows

    with hushed(quiet):
        truth = raw_rows(files, runs[0], SourceOptions(key_column=key_column)) if files else None
        done = judge(
            runs,
            data,
            output,
            train=train,
            label=label,
            limit=limit,
            draws=samples,
            temperature=temperature,
            top_k=top_k,
            contact_samples=contact_samples,
            raw=truth,
            survival=(outcome[0], outcome[1]) if outcome else None,
            seed=seed,
            force=force,
        )
    sentence = f"{done.report}: {len(done.rows)} results on {done.samples:,} held-out samples; read report.md in it"
    results = {"results": done.rows, "samples": done.samples, "judges": done.judges, "report": done.report}
    finish(results, sentence, as_json, quiet)
