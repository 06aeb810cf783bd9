"""`mmtool evaluate`: how good imputed modalities are."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmtool.cli.adapt import EncoderSources
from mmtool.cli.config_options import with_config_options
from mmtool.cli.evaluation_options import (
    OF_RUNS,
    Raw,
    Reconstructions,
    refuse_options_of_other_tasks,
    with_reconstructions,
)
from mmtool.cli.options import (
    OF_RAW_TABLES,
    Force,
    Json,
    OutputDirectory,
    Quiet,
    examples,
    finish,
    on_machine,
    quieted,
    raw_tables,
    refuse_unused,
    spare_inputs,
)
from mmtool.common.arguments import assignments
from mmtool.common.machine import Machine
from mmtool.evaluation.config import EvaluationConfig

EXAMPLES = examples(
    "mmtool evaluate run/ shards/ -o report/",
    "mmtool evaluate run-loretta/ run-cm3/ shards/validation --label digit --json -o report/",
    "mmtool evaluate run/ shards/ --raw rppa=rppa.csv.gz --label cancer --survival time_days,event --draws 32 -o report/",
    "mmtool evaluate run-loretta/ run-commutative/ shards/ --chain commutative -o report/",
    "mmtool evaluate run/ shards/ --task retrieval,probe -o report/",
    "mmtool evaluate run/ shards/ --task ood --ood digit=7,9 -o report/",
    "mmtool evaluate run/ shards/ --task probe --reconstructions -o report/",
    "mmtool evaluate finetuned/ shards/ -o report/",
)
MissingRates = Annotated[
    list[float] | None,
    typer.Option(
        "--missing-rate",
        "--eta",
        metavar="X",
        min=0,
        max=1,
        help="Of adapters: shares of samples that lose modalities. Repeatable.",
        show_default="0 to 1",
    ),
]


@with_config_options
def evaluate(
    context: typer.Context,
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="What pretrain or finetune wrote; several are compared.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Held-out samples: shards/test, or the shards directory.")],
    output: OutputDirectory,
    *,
    evaluation: EvaluationConfig,
    reconstructions: Reconstructions = False,
    train: Annotated[Path | None, typer.Option(help="Training samples of classifiers and baselines.", show_default="beside DATA")] = None,
    raw: Raw = None,
    reading: Annotated[dict[str, Any], OF_RAW_TABLES],
    encoders: EncoderSources = None,
    missing_rates: MissingRates = None,
    machine: Machine,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure on held-out data how well runs impute every modality.

    Test samples that a run, a tokenizer or the reference classifiers were trained on are refused, however the shards were split.

    For every direction: perplexity, and accuracy of the classes that a classifier trained on real data predicts of imputed data, marked
    seen or never seen in training, beside trivial baselines and the upper bound of real data. The report is a page to
    open (report.html), JSON, Markdown, plots and a contact sheet.

    Imputed tables are means over draws. They are compared with --raw tables, beside practitioners' imputers (ridge, nearest
    neighbours, chained equations); 10 draws or more also give the coverage of their intervals.

    Further tasks: retrieval between modalities, linear and few-shot probes of every subset of modalities, robustness to modalities that go
    missing, confidence (does ranking draws find the right ones, and are they right as often as they agree), donors (imputation by the
    real data that fits best), ood (detection of out-of-distribution samples), reconstruct (masked tokens from visible ones,
    with a sheet of masked, reconstructed and original samples), predict (labels by finetuned runs); or all of them.

    Adapters (`mmtool adapt`) are measured by their label while a growing share of held-out samples loses modalities, and by how well the
    embeddings that they predict retrieve real ones; --encoder says where their encoders lie if they were moved.
    """
    if any((run / "adapter.json").exists() for run in runs):
        refuse_unused(context, "where adapters are evaluated", "--train", "--label", "--survival", *OF_RUNS)
        from mmtool.adaptation.evaluate import evaluate_adapters

        with on_machine(machine), quieted(quiet):
            sources = {name: Path(path) for name, path in assignments(encoders, "--encoder").items()}
            adapted = evaluate_adapters(
                runs, data, output, sources=sources, missing_rates=sorted(missing_rates or ()), limit=evaluation.limit,
                candidates=evaluation.retrieval.candidates, seed=evaluation.seed, force=force,
            )  # fmt: skip
        sentence = f"{adapted.report}: {len(adapted.rows)} results on {adapted.samples:,} held-out samples; open report.html in it"
        return finish({"results": adapted.rows, "samples": adapted.samples, "report": adapted.report}, sentence, as_json, quiet)
    evaluation = with_reconstructions(evaluation, reconstructions)
    refuse_unused(context, "where no adapter is evaluated", "--encoder", "--missing-rate")
    refuse_unused(context, "without --raw", *OF_RAW_TABLES.flags, when=not raw)
    refuse_options_of_other_tasks(context, evaluation)
    spare_inputs(output, force, *runs, data, train, raw=raw)
    from mmtool.evaluation.evaluate import evaluate as measure

    with on_machine(machine), quieted(quiet):
        tables = raw_tables(raw, runs[0], reading)
        done = measure(runs, data, output, evaluation, train=train, raw=tables, force=force)
    sentence = f"{done.report}: {len(done.rows)} results on {done.samples:,} held-out samples; open report.html in it"
    results = {"results": done.rows, "samples": done.samples, "classifiers": done.classifiers, "report": done.report}
    finish(results, sentence, as_json, quiet)
