"""`mmtool adapt`: frozen encoders of one modality each, and labels; an adapter that predicts from whatever is present."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmtool.adaptation.config import ENCODERS, AdaptConfig
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
from mmtool.common.arguments import assignments
from mmtool.common.errors import UsageError
from mmtool.common.machine import Machine
from mmtool.training.config import resolve_as

TASK = ("label", "task", "survival", "balanced")
MISSING = ("missing_rate", "missing", "num_missing")
BUDGET = ("train_samples", "steps", "batch", "learning_rate", "seed")
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


@with_config_options
def adapt(
    output: OutputDirectory,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Shards directory.")],
    encoders: EncoderSources = None,
    *,
    options: Annotated[dict[str, Any], OptionsOf(AdaptConfig, "method", *TASK, *MISSING, *BUDGET, rest=True)],
    settings: Annotated[
        list[str] | None, set_option("Any other setting: method.prompts=16, weight_decay=0. Repeatable.", panel=None)
    ] = None,
    machine: Machine,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Adapt frozen unimodal encoders to a labelled task with missing modalities.

    Only biases, read-only prompts, a predictor of absent embeddings and a small fusion are trained, and only these are written, with the
    fingerprints of the encoders. The same command continues an interrupted training.
    """
    resolved, sources = resolve_as(AdaptConfig, None, options, settings or ()), encoder_sources(encoders)
    from mmtool.adaptation.train import adapt as train

    with on_machine(machine), quieted(quiet):
        done = train(resolved, sources, data, output, force=force)
    sentence = (
        f"{done.adapter}: {done.method}, {done.trained:,} trained parameters ({done.share:.2%} of the encoders'), {done.bytes:,} bytes"
    )
    finish(done, f"{sentence}, {done.steps} steps, {done.seconds:.0f} s", as_json, quiet)


def encoder_sources(values: list[str] | None) -> dict[str, Path]:
    """--encoder options as paths. Raises UsageError where there are none."""
    sources = {name: Path(path) for name, path in assignments(values, "--encoder").items()}
    if not sources:
        raise UsageError("there are no encoders to adapt.", where="--encoder", fix="Give one per modality, e.g. --encoder image=run/.")
    return sources
