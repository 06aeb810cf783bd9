"""`mmtool finetune`: a pretrained run and labelled samples in, a run with a head out."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mmtool.cli.options import (
    BUDGET,
    CONFIG,
    ConfigFile,
    Force,
    Json,
    LearningRate,
    Minutes,
    OutputDirectory,
    Quiet,
    TrainingSeed,
    examples,
    finish,
    names,
    quieted,
)
from mmtool.training.config import FinetuneConfig, resolve_as

TASK = "What is predicted, and from what"
USUAL = FinetuneConfig()
EXAMPLES = examples(
    "mmtool finetune run/ shards/ --label digit -o digits/",
    "mmtool finetune run/ shards/ --label cancer --have mrna,rppa --class-weights balanced -o cancer/",
    "mmtool finetune run/ shards/ --label age --as number --layer-decay 0 -o age/",
    "mmtool evaluate digits/ shards/ -o report/",
    "mmtool impute digits/ --raw image=new.png --want digit -o predicted/",
)


def finetune(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What `mmtool pretrain` (or finetune) wrote.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Shards with labels; trains on train, stops by validation.")],
    output: OutputDirectory,
    label: Annotated[str | None, typer.Option(help="The label to predict.", show_default="the only one", rich_help_panel=TASK)] = None,
    kind: Annotated[
        Literal["auto", "classes", "number"] | None,
        typer.Option("--as", help="How the label is taken.", show_default=USUAL.kind, rich_help_panel=TASK),
    ] = None,
    have: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Given modalities; repeatable, or a,b.", show_default="all a sample holds", rich_help_panel=TASK),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="How states become features: mean, or what else the method has.", show_default=USUAL.pooling, rich_help_panel=TASK
        ),
    ] = None,
    class_weights: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=W,...", help="none, balanced, or weights by class.", show_default=USUAL.class_weights, rich_help_panel=TASK
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.", show_default=str(USUAL.steps), rich_help_panel=BUDGET)] = None,
    minutes: Minutes = None,
    batch_samples: Annotated[
        int | None, typer.Option(help="Samples in one step.", show_default=str(USUAL.batch_samples), rich_help_panel=BUDGET)
    ] = None,
    learning_rate: LearningRate = None,
    layer_decay: Annotated[
        float | None,
        typer.Option(
            help="Learning rate of a block as a share of the one above; 0: the head alone.",
            show_default=str(USUAL.layer_decay),
            rich_help_panel=BUDGET,
        ),
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Steps between validations.", show_default=str(USUAL.checkpoint_every), rich_help_panel=BUDGET)
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="Validations without progress before it stops; 0: never.", show_default=str(USUAL.patience), rich_help_panel=BUDGET
        ),
    ] = None,
    seed: TrainingSeed = None,
    config: ConfigFile = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Any other setting: dropout=0, weight_decay=0. Repeatable.", rich_help_panel=CONFIG
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a run further, to predict a class or a number.

    A linear head is put on the features of a pretrained run, and both are trained on the labelled samples of the train split. The step that
    is best on the validation split is kept. The same command continues an interrupted training.

    The result is a run: `evaluate` measures its predictions on held-out samples (accuracy, macro F1, R2), and `impute --want LABEL`
    predicts the label of new ones.
    """
    options = {
        "label": label,
        "kind": kind,
        "have": names(have) or None,
        "pooling": pooling,
        "class_weights": class_weights,
        "steps": steps,
        "minutes": minutes,
        "batch_samples": batch_samples,
        "learning_rate": learning_rate,
        "layer_decay": layer_decay,
        "checkpoint_every": checkpoint_every,
        "patience": patience,
        "seed": seed,
    }
    resolved = resolve_as(FinetuneConfig, config, options, settings or ())
    from mmtool.training.finetune import finetune as train

    with quieted(quiet):
        done = train(resolved, run, data, output, force=force)
    scores = "; ".join(f"{row['metric']} {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" for row in done.results)
    sentence = f"{done.run}: {done.label}, best at step {done.best_step} of {done.steps}, {done.seconds:.0f} s"
    finish(done, f"{sentence}; on {done.results[0]['n']} validation samples: {scores}" if done.results else sentence, as_json, quiet)
