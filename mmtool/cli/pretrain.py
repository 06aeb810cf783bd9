"""`mmtool pretrain`: token shards in, a run out."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mmtool.cli.options import (
    BUDGET,
    CONFIG,
    STREAM,
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
    quieted,
    stdin_or,
)
from mmtool.training.config import PretrainConfig, resolve

MODEL = "Method and model"
Preset = Literal["tiny", "small", "base", "large", "vit-s", "vit-b", "vit-l", "vit-h"]
USUAL = PretrainConfig()
EXAMPLES = examples(
    "mmtool pretrain --method loretta --preset small --steps 4000 shards/ -o run/",
    "mmtool pretrain --method cm3 --minutes 30 --set method.mean_spans=2 shards/ -o run-cm3/",
    "mmtool shard image.tar text.tar -o - | mmtool pretrain - -o run/",
)


def pretrain(
    output: OutputDirectory,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Shards directory or token tar; '-' is standard input.")] = STREAM,
    method: Annotated[
        str | None,
        typer.Option(
            help="loretta, commutative, cm3, causal, masked, contrastive or m3ae; auto: loretta where a modality links two that never "
            "occur together, else commutative, or masked for one modality.",
            show_default=USUAL.method,
            rich_help_panel=MODEL,
        ),
    ] = None,
    preset: Annotated[
        Preset | None,
        typer.Option(help="Size of the transformer, the one dial.", show_default=USUAL.preset, rich_help_panel=MODEL),
    ] = None,
    row_length: Annotated[
        int | None, typer.Option(help="Tokens in a packed row.", show_default="from the data", rich_help_panel=MODEL)
    ] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16"] | None,
        typer.Option(help="Of activations; weights stay fp32.", show_default=USUAL.precision, rich_help_panel=MODEL),
    ] = None,
    compile: Annotated[
        bool | None,
        typer.Option("--compile/--no-compile", help="Compile the whole step.", show_default=USUAL.compile, rich_help_panel=MODEL),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.", show_default=str(USUAL.steps), rich_help_panel=BUDGET)] = None,
    minutes: Minutes = None,
    batch_tokens: Annotated[
        int | None, typer.Option(help="Tokens in one step.", show_default=str(USUAL.batch_tokens), rich_help_panel=BUDGET)
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(
            help="Batches that a step is split into, one after the other: less memory.", show_default="1", rich_help_panel=BUDGET
        ),
    ] = None,
    learning_rate: LearningRate = None,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(
            help="Steps between checkpoints; 0: only at the end.", show_default=str(USUAL.checkpoint_every), rich_help_panel=BUDGET
        ),
    ] = None,
    seed: TrainingSeed = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes beside the training that make its batches, which do not depend on them.",
            show_default="0, beside a GPU up to 4",
            rich_help_panel=BUDGET,
        ),
    ] = None,
    config: ConfigFile = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other setting: weight_decay=0, method.warmup=0.3, shape.depth=6. Repeatable.",
            rich_help_panel=CONFIG,
        ),
    ] = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train one transformer on whatever combinations of modalities exist.

    The same command continues an interrupted training from its last checkpoint; --force starts anew. The run holds its
    tokenizers and its resolved config: it is all that `impute` and `evaluate` need. Under `torchrun` several processes train
    together.
    """
    options = {
        "method": method,
        "preset": preset,
        "row_length": row_length,
        "precision": precision,
        "compile": None if compile is None else ("on" if compile else "off"),
        "steps": steps,
        "minutes": minutes,
        "batch_tokens": batch_tokens,
        "accumulate": accumulate,
        "learning_rate": learning_rate,
        "checkpoint_every": checkpoint_every,
        "seed": seed,
    }
    resolved = resolve(config, options, settings or ())
    from mmtool.training.distributed import speaks
    from mmtool.training.pretrain import pretrain as train

    with quieted(quiet):
        done = train(resolved, stdin_or(data), output, force=force, workers=workers)
    if not speaks():
        return
    finish(done, f"{done.run}: {done.method}, {done.parameters:,} parameters, {done.steps} steps, {done.seconds:.0f} s", as_json, quiet)
