"""`mmtool export`: a run in, a directory to pass on or an encoder for other runtimes out."""

from pathlib import Path
from typing import Annotated

import typer

from mmtool.cli.config_options import with_config_options
from mmtool.cli.options import Force, Json, Quiet, examples, finish, quieted

EXAMPLES = examples("mmtool export run/ -o digits/", "mmtool info digits/")


@with_config_options
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What `mmtool pretrain` (or finetune) wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="The directory to write.")],
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a run to pass on: best weights and tokenizers, opened anywhere.

    The directory holds config.json and model.safetensors as model hubs expect them, tokenizers, and a card (README.md) to fill in. Checkpoints and
    paths of this machine are left out. Every verb that takes a run takes it.
    """
    from mmtool.exports.export import export as write

    with quieted(quiet):
        done = write(run, output, force=force)
    sentence = f"{done.output}: step {done.step}, {done.parameters:,} parameters, {done.bytes / 1e6:,.1f} MB"
    finish(done, sentence, as_json, quiet)
