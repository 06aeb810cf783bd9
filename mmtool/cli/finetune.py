"""`mmtool finetune`: a pretrained run and labelled samples in, a run with a head out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmtool.cli.config_options import OptionsOf, with_config_options
from mmtool.cli.options import (
    Force,
    Json,
    OutputDirectory,
    Quiet,
    examples,
    finish,
    on_machine,
    quieted,
    set_option,
)
from mmtool.common.machine import Machine
from mmtool.training.config import FinetuneConfig, resolve_as

TASK = ("label", "kind", "have", "pooling", "class_weights")
BUDGET = ("steps", "minutes", "batch_samples", "learning_rate", "schedule", "layer_decay", "checkpoint_every", "patience", "seed")
EXAMPLES = examples(
    "mmtool finetune run/ shards/ --label digit -o digits/",
    "mmtool finetune run/ shards/ --label cancer --have mrna,rppa --class-weights balanced -o cancer/",
    "mmtool finetune run/ shards/ --label age --as number --layer-decay 0 -o age/",
    "mmtool evaluate digits/ shards/ -o report/",
    "mmtool impute digits/ --raw image=new.png --want digit -o predicted/",
)


@with_config_options
def finetune(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What `mmtool pretrain` (or finetune) wrote.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Shards with labels; trains on train, stops by validation.")],
    output: OutputDirectory,
    *,
    options: Annotated[dict[str, Any], OptionsOf(FinetuneConfig, *TASK, *BUDGET, rest=True)],
    settings: Annotated[list[str] | None, set_option("Any other setting: dropout=0, weight_decay=0. Repeatable.")] = None,
    machine: Machine,
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
    resolved = resolve_as(FinetuneConfig, None, options, settings or ())
    from mmtool.training.finetune import finetune as train

    with on_machine(machine), quieted(quiet):
        done = train(resolved, run, data, output, force=force)
    scores = "; ".join(f"{row['metric']} {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" for row in done.results)
    sentence = f"{done.run}: {done.label}, best at step {done.best_step} of {done.steps}, {done.seconds:.0f} s"
    finish(done, f"{sentence}; on {done.results[0]['n']} validation samples: {scores}" if done.results else sentence, as_json, quiet)
