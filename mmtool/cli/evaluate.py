"""`mmtool evaluate`: how good filled holes are."""

from pathlib import Path
from typing import Annotated

import typer

from mmtool.cli.options import (
    Candidates,
    ContactSamples,
    Force,
    Json,
    Label,
    Limit,
    NumDraws,
    OutputDirectory,
    Quiet,
    Seed,
    Tasks,
    Temperature,
    TopK,
    examples,
    finish,
    hushed,
    names,
)

EXAMPLES = examples(
    "mmtool evaluate run/ shards/ -o report/",
    "mmtool evaluate run-loretta/ run-cm3/ shards/validation --label digit --json -o report/",
    "mmtool evaluate run/ shards/ --task retrieval,probe -o report/",
)


def evaluate(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="What `mmtool pretrain` wrote; several are compared.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Held-out samples: shards/test, or the shards directory.")],
    output: OutputDirectory,
    task: Tasks = None,
    train: Annotated[Path | None, typer.Option(help="The training samples, for judges and baselines.", show_default="beside DATA")] = None,
    label: Label = None,
    limit: Limit = 1000,
    contact_samples: ContactSamples = 10,
    candidates: Candidates = 100,
    samples: NumDraws = 1,
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

    Further tasks: retrieval between modalities, linear and few-shot probes of every subset of modalities, robustness to modalities that
    go missing, confidence (does ranking draws find the right ones, and are they right as often as they agree); or all of them.
    """
    from mmtool.evaluation.evaluate import evaluate as judge

    with hushed(quiet):
        done = judge(
            runs,
            data,
            output,
            tasks=names(task) or ("impute",),
            train=train,
            label=label,
            limit=limit,
            draws=samples,
            temperature=temperature,
            top_k=top_k,
            contact_samples=contact_samples,
            candidates=candidates,
            seed=seed,
            force=force,
        )
    sentence = f"{done.report}: {len(done.rows)} results on {done.samples:,} held-out samples; read report.md in it"
    results = {"results": done.rows, "samples": done.samples, "judges": done.judges, "report": done.report}
    finish(results, sentence, as_json, quiet)
