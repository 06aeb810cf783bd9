"""The command `mmtool`: one verb, one job; each is a thin layer over the library call of the same name."""

import sys
from typing import Annotated

import typer

import mmtool
from mmtool.cli import adapt, bench, compare, evaluate, export, finetune, impute, info, lint, peek, pretrain, settings, shard, tokenize
from mmtool.cli.help import Verb, Verbs
from mmtool.cli.options import examples, help_text
from mmtool.common.errors import MmtoolError
from mmtool.common.log import log
from mmtool.common.urls import as_given

STAGES, ARTEFACTS = "Stages, in the order of a project", "Looking at what a stage wrote"
MACHINE = "Settings, and the machine"
INTERRUPTED = 130

app = typer.Typer(
    name="mmtool",
    cls=Verbs,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "mmtool tokenize image scans/ --fit -o tokens/image.tar",
        "mmtool tokenize text notes.csv --fit -o - | mmtool shard tokens/image.tar - -o shards/",
        "mmtool pretrain --method loretta shards/ -o run/",
        "mmtool impute run/ shards/ --have text --want image -o imputed/",
        "mmtool evaluate run/ shards/ -o report/",
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mmtool {mmtool.__version__}")
        raise typer.Exit()


@app.callback()
def about(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")] = False,
) -> None:
    """Tokenize, pretrain on and impute incomplete multimodal data.

    Each verb reads artefacts and writes one new artefact, whole or not at all. '-' is standard input or output. URLs (s3://, gs://, hf://,
    https://) may stand for paths, with the extra `remote`.
    """


VERBS = (
    (STAGES, tokenize.tokenize, tokenize.EXAMPLES),
    (STAGES, shard.shard, shard.EXAMPLES),
    (STAGES, pretrain.pretrain, pretrain.EXAMPLES),
    (STAGES, finetune.finetune, finetune.EXAMPLES),
    (STAGES, adapt.adapt, adapt.EXAMPLES),
    (STAGES, impute.impute, impute.EXAMPLES),
    (STAGES, evaluate.evaluate, evaluate.EXAMPLES),
    (STAGES, compare.compare, compare.EXAMPLES),
    (STAGES, export.export, export.EXAMPLES),
    (ARTEFACTS, info.info, info.EXAMPLES),
    (ARTEFACTS, peek.peek, peek.EXAMPLES),
    (ARTEFACTS, lint.lint, lint.EXAMPLES),
    (MACHINE, settings.settings, settings.EXAMPLES),
    (MACHINE, bench.bench, bench.EXAMPLES),
)
for panel, verb, epilog in VERBS:
    app.command(cls=Verb, rich_help_panel=panel, help=help_text(verb), epilog=epilog)(verb)


def main() -> None:
    """Run the command line: mistakes of the user end in one paragraph on standard error and the exit code of their kind.

    Typer itself ends quietly where whoever read our output has gone, and turns Ctrl-C into exit code 130.
    """
    try:
        app(prog_name="mmtool")
    except MmtoolError as error:
        _fail(str(error), error.exit_code)
    except OSError as error:
        place = as_given(f"{error.filename}: ") if error.filename else ""
        advice = "Check the path, its permissions and the free space, then run the same command again."
        _fail(f"{place}the system refused ({error.strerror or error}). {advice}", 1)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            log("interrupted.")
        raise


def _fail(message: str, code: int) -> None:
    log(f"error: {message}")
    sys.exit(code)
