"""`mmtool adapt`: frozen encoders of one modality each, and labels; an adapter that predicts from whatever is present."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mmtool.cli.options import (
    BUDGET,
    ConfigFile,
    Force,
    Json,
    OutputDirectory,
    Quiet,
    TrainingSeed,
    assignments,
    examples,
    finish,
    names,
    quieted,
    survival_labels,
)
from mmtool.common.errors import UsageError
from mmtool.training.config import resolve_as

ENCODERS, TASK, MISSING = "Encoders and method", "What is predicted", "What is missing in training"
BOTH = ("both", "any")
EXAMPLES = examples(
    "mmtool adapt shards/ --encoder image=run-image/ --encoder text=bert/ --label digit --missing-rate 0.7 --missing both -o adapter/",
    "mmtool adapt shards/ --encoder mrna=run-a/ --encoder mirna=run-b/ --survival time_days,event --set method.prompts=16 -o adapter/",
    "mmtool evaluate adapter/ shards/ -o report/",
)

EncoderSources = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="NAME=PATH",
        help="Of a modality: a run of `mmtool pretrain`, or a local directory in Hugging Face format. Repeatable.",
        rich_help_panel=ENCODERS,
    ),
]
MissingRate = Annotated[
    float | None,
    typer.Option(
        "--missing-rate",
        "--eta",
        min=0,
        max=1,
        help="Share of training samples that lose modalities (eta in the paper).",
        show_default="0",
        rich_help_panel=MISSING,
    ),
]
Missing = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME", help="Which may be missing; 'both': any, in equal parts.", show_default="any", rich_help_panel=MISSING),
]
NumMissing = Annotated[int | None, typer.Option(min=1, help="How many each such sample loses.", show_default="1", rich_help_panel=MISSING)]
TaskKind = Annotated[
    Literal["auto", "single", "multilabel", "binary", "regression", "survival"] | None,
    typer.Option("--kind", help="Kind of label.", show_default="auto", rich_help_panel=TASK),
]


def adapt(
    output: OutputDirectory,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Shards directory.")],
    encoders: EncoderSources = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="joint, or one it is compared with: mse, ridge, mean, zeros, dropout, late, complete, alone:NAME.",
            show_default="joint",
            rich_help_panel=ENCODERS,
        ),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Label to predict.", rich_help_panel=TASK)] = None,
    kind: TaskKind = None,
    survival: Annotated[
        str | None, typer.Option(metavar="TIME,EVENT", help="Predict survival: labels of a time and its event.", rich_help_panel=TASK)
    ] = None,
    balanced: Annotated[
        bool | None, typer.Option("--balanced", help="Rare classes weigh as much as frequent ones.", rich_help_panel=TASK)
    ] = None,
    missing_rate: MissingRate = None,
    missing: Missing = None,
    num_missing: NumMissing = None,
    train_samples: Annotated[
        int | None, typer.Option(min=1, help="Train on so many samples at most.", show_default="all", rich_help_panel=BUDGET)
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.", show_default="1000", rich_help_panel=BUDGET)] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Samples in one step.", show_default="64", rich_help_panel=BUDGET)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="At its peak.", show_default="0.003", rich_help_panel=BUDGET)] = None,
    seed: TrainingSeed = None,
    config: ConfigFile = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting: method.prompts=16, weight_decay=0. Repeatable."),
    ] = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Adapt frozen unimodal encoders to a labelled task with missing modalities.

    Only biases, read-only prompts, a predictor of absent embeddings and a small fusion are trained, and only these are written, with the
    fingerprints of the encoders. The same command continues an interrupted training.
    """
    options = {
        **shared_options(label, kind, survival, missing_rate, missing, num_missing),
        "method": method,
        "balanced": balanced,
        "train_samples": train_samples,
        "steps": steps,
        "batch": batch,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    from mmtool.adaptation.config import AdaptConfig

    resolved, sources = resolve_as(AdaptConfig, config, options, settings or ()), encoder_sources(encoders)
    from mmtool.adaptation.train import adapt as train

    with quieted(quiet):
        done = train(resolved, sources, data, output, force=force)
    sentence = (
        f"{done.adapter}: {done.method}, {done.trained:,} trained parameters ({done.share:.2%} of the encoders'), {done.bytes:,} bytes"
    )
    finish(done, f"{sentence}, {done.steps} steps, {done.seconds:.0f} s", as_json, quiet)


def shared_options(
    label: str | None,
    kind: str | None,
    survival: str | None,
    missing_rate: float | None,
    missing: list[str] | None,
    num_missing: int | None,
) -> dict[str, Any]:
    """Settings of an adaptation that mean the same in every verb."""
    removable = names(missing)
    return {
        "label": label,
        "task": kind,
        "survival": survival_labels(survival),
        "missing_rate": missing_rate,
        "missing": None if not removable else () if set(removable) <= set(BOTH) else removable,
        "num_missing": num_missing,
    }


def encoder_sources(values: list[str] | None) -> dict[str, Path]:
    """--encoder options as paths. Raises UsageError where there are none."""
    sources = {name: Path(path) for name, path in assignments(values, "--encoder").items()}
    if not sources:
        raise UsageError("there are no encoders to adapt.", where="--encoder", fix="Give one per modality, e.g. --encoder image=run/.")
    return sources
