"""`mmtool pretrain`: token shards in, a run out."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mmtool.cli.config_options import OptionsOf, with_config_options
from mmtool.cli.options import (
    STREAM,
    Force,
    Json,
    OutputDirectory,
    Quiet,
    examples,
    finish,
    on_machine,
    quieted,
    set_option,
    stdin_or,
)
from mmtool.common.machine import Machine
from mmtool.training.config import BUDGET as BUDGET_AND_OPTIMISER
from mmtool.training.config import MODEL as MODEL_AND_METHOD
from mmtool.training.config import PretrainConfig, resolve

MODEL = ("method", "preset", "row_length", "precision", "compile")
BUDGET = ("steps", "minutes", "patience", "batch_tokens", "accumulate", "learning_rate", "schedule", "checkpoint_every", "seed")
EXAMPLES = examples(
    "mmtool pretrain --method loretta --preset small --steps 4000 shards/ -o run/",
    "mmtool pretrain --method cm3 --minutes 30 --set method.mean_spans=2 shards/ -o run-cm3/",
    "mmtool pretrain --init-from run/ --preset small --steps 2000 more-shards/ -o run-more/",
    "mmtool pretrain s3://bucket/shards -o run/",
    "mmtool shard image.tar text.tar -o - | mmtool pretrain - -o run/",
)


@with_config_options
def pretrain(
    output: OutputDirectory,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Shards directory, token tar, or URL; '-' is standard input.")] = STREAM,
    *,
    options: Annotated[dict[str, Any], OptionsOf(PretrainConfig, *MODEL, *BUDGET, rest=True)],
    init_from: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Begin with the weights of a run of the same modalities, or of fewer: new ones get fresh embeddings.",
            rich_help_panel=MODEL_AND_METHOD,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes beside the training that make its batches, which do not depend on them.",
            show_default="0, beside a GPU up to 4",
            rich_help_panel=BUDGET_AND_OPTIMISER,
        ),
    ] = None,
    shard_model: Annotated[
        bool,
        typer.Option(
            "--shard-model",
            help="Under `torchrun` each process keeps its part of the weights, gradients and moments alone: for models too large for one.",
            rich_help_panel=BUDGET_AND_OPTIMISER,
        ),
    ] = False,
    track: Annotated[
        Literal["tensorboard", "wandb", "trackio"] | None,
        typer.Option(help="A tracker to send metrics and pictures of imputed samples to as well.", show_default="none"),
    ] = None,
    settings: Annotated[
        list[str] | None, set_option("Any other setting: weight_decay=0, method.warmup=0.3, shape.depth=6. Repeatable.")
    ] = None,
    machine: Machine,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train one transformer on whatever combinations of modalities exist.

    The same command continues an interrupted training from its last checkpoint, and with more --steps, --minutes or --patience
    one that is at its end; --force starts anew. The run holds its tokenizers and its resolved config: it is all that `impute` and
    `evaluate` need. Under `torchrun` several processes train together.
    """
    resolved = resolve(None, options, settings or ())
    from mmtool.training.distributed import speaks
    from mmtool.training.pretrain import pretrain as train

    with on_machine(machine), quieted(quiet):
        done = train(
            resolved, stdin_or(data), output, init_from=init_from, force=force, workers=workers, track=track, shard_model=shard_model
        )
    if not speaks():
        return
    steps = f"{done.steps} steps" + (f" (best at step {done.best_step})" if done.best_step != done.steps else "")
    loss = "".join(f" {name} {value:.3f}" for name, value in done.loss.items())
    sentence = f"{done.run}: {done.method}, {done.parameters:,} parameters, {steps}, {done.seconds:.0f} s"
    finish(done, f"{sentence}, training loss{loss}" if loss else sentence, as_json, quiet)
