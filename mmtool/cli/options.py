"""Options that mean the same in every verb, and how a verb reports what it did.

Nothing heavy is imported here: `mmtool --help` reads this module.
"""

import contextlib
import dataclasses
import io
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mmtool.cli.config_options import CONFIG, OptionsOf, was_given
from mmtool.common.arguments import assignments, json_value
from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.common.machine import Machine
from mmtool.common.options import settings_of
from mmtool.common.output import OutputPath
from mmtool.common.urls import as_given
from mmtool.preprocessing.readers.entries import LABELS, SourceOptions
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.splits import SPLITTING

STREAM = Path("-")
CELLS = tuple(setting.name for setting in settings_of(TableOptions) if setting.offered)
OF_RAW_TABLES = OptionsOf(SourceOptions, "key_column", "label_pattern", "columns", "layer", "mod", *CELLS)
OF_RAW_FILES = OptionsOf(
    SourceOptions,
    *(
        "text_column",
        "file_column",
        "root",
        "member",
        "lines",
        "frames",
        "keep_empty",
        "keep_na",
        "skip_other",
        "columns",
        "clip",
        "ends",
        "layer",
    ),
    *("mod", "source_rate_hz", "channel", "value_range", "max_pixels", "max_duration_s", *CELLS, "key_column", "label_pattern"),
)

Output = Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="Where the result goes; '-' is standard output.")]


def _no_stream(path: Path | None) -> Path | None:
    if path == STREAM:
        raise UsageError("a directory cannot be written to standard output.", where="--output", fix="Name a directory.")
    return path


OutputDirectory = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The directory to write.", callback=_no_stream)]
Seed = Annotated[int, typer.Option(help="Same seed and same input give the same result.")]
SplitLabel = Annotated[
    str | None, typer.Option(metavar="LABEL", help="A label that names the split of a sample.", rich_help_panel=SPLITTING)
]
ByRow = Annotated[
    bool,
    typer.Option("--by-row", help="Join files without keys by row, if they have equally many rows.", rich_help_panel=LABELS),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what mmtool wrote there, nothing else.")]
Json = Annotated[bool, typer.Option("--json", help="End with one line of JSON on stdout (on stderr when the data goes to stdout).")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary; errors are still printed.")]


def set_option(help: str, panel: str | None = CONFIG) -> Any:
    """--set, for the settings that have no option."""
    return typer.Option("--set", metavar="KEY=VALUE", help=help, rich_help_panel=panel)


def examples(*lines: str) -> str:
    """The foot of a help page."""
    return "\n".join(["[bold]Examples[/bold]", *(f"  $ {line}".replace("[", "\\[") for line in lines)])


def help_text(verb: Callable[..., None]) -> str:
    """The docstring of a verb with its paragraphs unwrapped: the terminal wraps them."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (verb.__doc__ or "").split("\n\n"))


def refuse_unused(context: typer.Context, reason: str, *options: str, when: bool = True) -> None:
    """Raise UsageError where one of `options` was given (a default never counts) that has no effect; `reason`: for example "with --raw".

    when: whether they have none, for a call in one line.
    """
    names = {flag: option.name for option in context.command.params for flag in (*option.opts, *option.secondary_opts)}
    given = [flag for flag in options if when and was_given(context, names[flag] or "")]
    if given:
        subject = f"{', '.join(given[:-1])} and {given[-1]} have" if len(given) > 1 else f"{given[0]} has"
        raise UsageError(f"{subject} no effect {reason}.", fix="Leave them out." if len(given) > 1 else "Leave it out.")


def stdin_or(path: Path) -> Path | None:
    """None stands for standard input, which the command line calls '-'. Raises UsageError where nobody feeds it."""
    if path != STREAM:
        return path
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("standard input is a terminal, not data.", where="-", fix="Give a path, or pipe a token set in.")
    return None


def stdout_or(path: Path) -> Path | None:
    """None stands for standard output, which the command line calls '-'. Raises UsageError where it is a terminal."""
    if path != STREAM:
        return path
    if sys.stdout.isatty():
        raise UsageError("standard output is a terminal; tokens would garble it.", where="--output", fix="Give a path, or pipe it on.")
    return None


def settings_by_modality(settings: list[str] | None) -> dict[str, dict[str, Any]]:
    """`NAME.KEY=VALUE` options as settings by modality."""
    by_modality: dict[str, dict[str, Any]] = {}
    for key, value in assignments(settings, "--set").items():
        name, dot, setting = key.partition(".")
        if not dot:
            raise UsageError(f"{key!r} names no modality.", where="--set", fix="Write --set NAME.KEY=VALUE, e.g. --set image.size=32.")
        by_modality.setdefault(name, {})[setting] = json_value(value)
    return by_modality


def raw_tables(values: Sequence[str] | None, tokens: Path, reading: Mapping[str, Any]) -> Any:
    """The tables of --raw with columns as the tokenizers in `tokens` (a run or token set) want them; None where there are none.

    reading: what was given of `OF_RAW_TABLES`.
    """
    files = {name: Path(path) for name, path in assignments(values, "--raw").items()}
    if not files:
        return None
    from mmtool.preprocessing.raw_rows import raw_rows

    return raw_rows(files, tokens, source_options(reading))


def source_options(reading: Mapping[str, Any]) -> SourceOptions:
    """How raw files are read, from the options that were given (None: not given)."""
    return SourceOptions.of({name: value for name, value in reading.items() if value is not None})


def spare_inputs(output: Path, force: bool, *inputs: Path | None, raw: Sequence[str] | None = None) -> None:
    """With --force, raise UsageError at once where a directory would be replaced that is or holds what the command reads. raw: of --raw."""
    if force:
        OutputPath(output, True, [*inputs, *map(Path, assignments(raw, "--raw").values())]).check_directory()


@contextlib.contextmanager
def quieted(quiet: bool) -> Iterator[None]:
    """With `quiet`, what the library says on standard error is dropped; an error raised inside is not."""
    with contextlib.redirect_stderr(io.StringIO()) if quiet else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def on_machine(machine: Machine) -> Iterator[None]:
    """Compute where --device says, with --threads. Raises UsageError where there is no such device."""
    from mmtool.training.hardware import using

    with using(machine.device, machine.threads):
        yield


def finish(summary: Any, sentence: str, as_json: bool, quiet: bool, *, to_stderr: bool = False) -> None:
    """Say what was done: a sentence on standard error, and with `as_json` one JSON line (`to_stderr`: the data went to stdout)."""
    if not quiet:
        log(sentence)
    if as_json:
        print(json_line(summary), file=sys.stderr if to_stderr else sys.stdout, flush=True)


def json_line(value: Any) -> str:
    """Sorted JSON on one line; dataclasses by their fields, copies of remote files by their URLs."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return as_given(json.dumps(value, sort_keys=True, ensure_ascii=False, default=str))
