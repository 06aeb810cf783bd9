"""`mmtool evaluate`: how good filled holes are."""

from pathlib import Path
from typing import Annotated

import typer

from mmtool.cli.adapt import EncoderSources
from mmtool.cli.options import (
    OF_RUNS,
    Candidates,
    Chain,
    ContactSamples,
    Force,
    Guidance,
    Json,
    KeyColumn,
    Label,
    Limit,
    MaskRatio,
    MaxDonors,
    NumDraws,
    Ood,
    OutputDirectory,
    Quiet,
    Raw,
    Reconstructions,
    Seed,
    SurvivalLabels,
    Tasks,
    Temperature,
    TopK,
    TrainLimit,
    asked_tasks,
    assignments,
    examples,
    finish,
    names,
    quieted,
    raw_tables,
    refuse_unused,
    sampling_params,
    spare_inputs,
    survival_labels,
)

OPTIONS_OF = {"retrieval": "--candidates", "donors": "--max-donors", "ood": "--ood", "reconstruct": "--mask-ratio"}
EXAMPLES = examples(
    "mmtool evaluate run/ shards/ -o report/",
    "mmtool evaluate run-loretta/ run-cm3/ shards/validation --label digit --json -o report/",
    "mmtool evaluate run/ shards/ --raw rppa=rppa.csv.gz --label cancer --survival time_days,event --samples 32 -o report/",
    "mmtool evaluate run-loretta/ run-commutative/ shards/ --chain commutative -o report/",
    "mmtool evaluate run/ shards/ --task retrieval,probe -o report/",
    "mmtool evaluate run/ shards/ --task ood --ood digit=7,9 -o report/",
    "mmtool evaluate run/ shards/ --task probe --reconstructions -o report/",
    "mmtool evaluate finetuned/ shards/ -o report/",
)


def evaluate(
    context: typer.Context,
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="What pretrain or finetune wrote; several are compared.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Held-out samples: shards/test, or the shards directory.")],
    output: OutputDirectory,
    task: Tasks = None,
    train: Annotated[Path | None, typer.Option(help="Training samples of classifiers and baselines.", show_default="beside DATA")] = None,
    label: Label = None,
    limit: Limit = 1000,
    train_limit: TrainLimit = 2000,
    contact_samples: ContactSamples = 10,
    candidates: Candidates = 100,
    max_donors: MaxDonors = 256,
    chain: Chain = None,
    ood: Ood = None,
    reconstructions: Reconstructions = False,
    mask_ratio: MaskRatio = None,
    raw: Raw = None,
    key_column: KeyColumn = None,
    survival: SurvivalLabels = None,
    samples: NumDraws = 1,
    temperature: Temperature = None,
    top_k: TopK = None,
    guidance: Guidance = None,
    encoders: EncoderSources = None,
    missing_rates: Annotated[
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
    ] = None,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure on held-out data how well runs impute every modality.

    Test samples that a run, a tokenizer or the reference classifiers were trained on are refused, however the shards were split.

    For every direction: perplexity, and what a classifier trained on real data says of imputed data, marked seen or never seen in
    training, beside trivial baselines and the upper bound of real data. The report is JSON, Markdown, plots and a contact sheet.

    Imputed tables are means over draws. They are compared with --raw tables, beside practitioners' imputers (ridge, nearest
    neighbours, chained equations); 10 draws or more also tell how often their intervals hold the truth.

    Further tasks: retrieval between modalities, linear and few-shot probes of every subset of modalities, robustness to modalities that go
    missing, confidence (does ranking draws find the right ones, and are they right as often as they agree), donors (holes filled with the
    real data that fits best), ood (do features set out-of-distribution samples apart), reconstruct (hidden tokens from
    visible ones, with a sheet of masked, reconstructed and original samples), predict (what finetuned runs say); or all of them.

    Adapters (`mmtool adapt`) are measured by their label while a growing share of held-out samples loses modalities, and by how well the
    embeddings that they predict retrieve real ones; --encoder says where their encoders lie if they were moved.
    """
    if any((run / "adapter.json").exists() for run in runs):
        refuse_unused(context, "where adapters are evaluated", "--train", "--label", "--survival", *OF_RUNS)
        from mmtool.adapt.evaluate import evaluate_adapters

        with quieted(quiet):
            sources = {name: Path(path) for name, path in assignments(encoders, "--encoder").items()}
            judged = evaluate_adapters(
                runs, data, output, sources=sources, missing_rates=sorted(missing_rates or ()), limit=limit, candidates=candidates,
                seed=seed, force=force,
            )  # fmt: skip
        sentence = f"{judged.report}: {len(judged.rows)} results on {judged.samples:,} held-out samples; read report.md in it"
        return finish({"results": judged.rows, "samples": judged.samples, "report": judged.report}, sentence, as_json, quiet)
    refuse_unused(context, "where no adapter is evaluated", "--encoder", "--missing-rate")
    refuse_unused(context, "without --raw", "--key-column", when=not raw)
    tasks, outcome = asked_tasks(task, reconstructions), survival_labels(survival)
    for name, option in OPTIONS_OF.items():
        refuse_unused(context, f"without --task {name}", option, when=not {name, "all"} & set(tasks))
    spare_inputs(output, force, *runs, data, train, raw=raw)
    refuse_unused(context, "without --task impute", "--chain", when=bool(tasks) and not {"impute", "all"} & set(tasks))
    from mmtool.evaluation.evaluate import evaluate as judge

    with quieted(quiet):
        truth = raw_tables(raw, runs[0], key_column)
        done = judge(
            runs,
            data,
            output,
            tasks=tasks,
            train=train,
            label=label,
            limit=limit,
            train_limit=train_limit,
            draws=samples,
            params=sampling_params(temperature, top_k, guidance),
            contact_samples=contact_samples,
            candidates=candidates,
            donors=max_donors,
            chain=names(chain),
            ood=ood,
            mask_ratio=mask_ratio,
            raw=truth,
            survival=outcome,
            seed=seed,
            force=force,
        )
    sentence = f"{done.report}: {len(done.rows)} results on {done.samples:,} held-out samples; read report.md in it"
    results = {"results": done.rows, "samples": done.samples, "classifiers": done.classifiers, "report": done.report}
    finish(results, sentence, as_json, quiet)
