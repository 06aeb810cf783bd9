"""`mmtool export`: a run in, a directory to pass on or an encoder for other runtimes out."""

from pathlib import Path
from typing import Annotated

import typer

from mmtool.cli.config_options import with_config_options
from mmtool.cli.options import Force, Json, Quiet, examples, finish, quieted, refuse_unused
from mmtool.common.arguments import names

EXAMPLES = examples(
    "mmtool export run/ -o digits/",
    "mmtool info digits/",
    "mmtool export run/ --have image,text -o digits.onnx",
)


@with_config_options
def export(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What `mmtool pretrain` (or finetune) wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="The directory to write, or a file that ends with .onnx.")],
    have: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Modalities that the ONNX file reads; repeatable, or a,b.", show_default="all"),
    ] = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a run to pass on: best weights and tokenizers, opened anywhere.

    The directory holds config.json and model.safetensors as model hubs expect them, tokenizers, and a card (README.md) to fill in.
    Checkpoints and paths of this machine are left out. Every verb that takes a run takes it.

    A file that ends with .onnx makes features of tokens in other runtimes: those that the run makes itself, which is checked when it is
    written.
    """
    refuse_unused(context, "without a file that ends with .onnx", "--have", when=output.suffix != ".onnx")
    from mmtool.exports.export import export as write

    with quieted(quiet):
        done = write(run, output, have=names(have), force=force)
    finish(done, done.sentence, as_json, quiet)
