"""Options that mean the same in every verb, and how a verb reports what it did.

Nothing heavy is imported here: `mmtool --help` reads this module.
"""

import contextlib
import dataclasses
import io
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.common.output import OutputPath

STREAM = Path("-")
READING, LABELS = "Reading raw files", "Keys and labels"
TABLES = "Tables"
SPLITTING, DRAWING = "Train, validation, test", "Sampling"
BUDGET, CONFIG = "Budget and optimiser", "Configuration"

Output = Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="Where the result goes; '-' is standard output.")]
OutputDirectory = Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The directory to write.")]
Seed = Annotated[int, typer.Option(help="Same seed and same input give the same result.")]
Fractions = Annotated[
    tuple[float, float, float],
    typer.Option(metavar="TRAIN VALIDATION TEST", help="Shares of the splits, dealt by the hash of the key.", rich_help_panel=SPLITTING),
]
SplitLabel = Annotated[
    str | None, typer.Option(metavar="LABEL", help="A label that names the split of a sample.", rich_help_panel=SPLITTING)
]
KeyColumn = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|none",
        help="Column that holds the sample keys; none: number the rows.",
        show_default="found by its name: key, id, sample, patient_id ...",
        rich_help_panel=LABELS,
    ),
]
ByRow = Annotated[
    bool,
    typer.Option("--by-row", help="Join files without keys by row, if they have equally many rows.", rich_help_panel=LABELS),
]
TextColumn = Annotated[str | None, typer.Option(help="Column that holds the text.", rich_help_panel=READING)]
Layer = Annotated[str | None, typer.Option(help="Of AnnData (raw: its .raw).", show_default="X", rich_help_panel=READING)]
Clip = Annotated[
    int | None,
    typer.Option(min=1, help="Steps of the clips that episodes are cut into.", show_default="whole episodes", rich_help_panel=READING),
]
Temperature = Annotated[
    list[str] | None,
    typer.Option(
        metavar="T|NAME=T,...",
        help="Of the draws; 0: the most likely code. Of all modalities, of one, or both: 0.5,text=0.2.",
        show_default="1",
        rich_help_panel=DRAWING,
    ),
]
TopK = Annotated[int | None, typer.Option(min=1, help="Draw from the k most likely codes.", show_default="all", rich_help_panel=DRAWING)]
Guidance = Annotated[
    list[str] | None,
    typer.Option(
        metavar="G|NAME=G,...",
        help="Of the draws; 1: what the given speaks for counts twice. Fits better where the model knows, varies less (0 where bounds of "
        "tables matter), takes twice as long. By wanted modality as --temperature is.",
        show_default="0",
        rich_help_panel=DRAWING,
    ),
]
Minutes = Annotated[float | None, typer.Option(help="Wall time of training; with --steps, whichever ends first.", rich_help_panel=BUDGET)]
LearningRate = Annotated[float | None, typer.Option(help="At its peak.", show_default="from the width", rich_help_panel=BUDGET)]
TrainingSeed = Annotated[int | None, typer.Option(help="Of weights, order and draws.", show_default="0", rich_help_panel=BUDGET)]
ConfigFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="TOML or JSON settings; options win over it.", rich_help_panel=CONFIG)
]
Force = Annotated[bool, typer.Option("--force", help="Replace what mmtool wrote there, nothing else.")]
Json = Annotated[bool, typer.Option("--json", help="End with one line of JSON on stdout (on stderr when the data goes to stdout).")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary; errors are still printed.")]


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
    given = [flag for flag in options if when and _was_given(context, names[flag])]
    if given:
        said = f"{', '.join(given[:-1])} and {given[-1]} have" if len(given) > 1 else f"{given[0]} has"
        raise UsageError(f"{said} no effect {reason}.", fix="Leave them out." if len(given) > 1 else "Leave it out.")


def _was_given(context: typer.Context, name: str | None) -> bool:
    source = context.get_parameter_source(name or "")
    return source is not None and source.name == "COMMANDLINE"


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


def names(values: Sequence[str] | None) -> tuple[str, ...]:
    """An option that may be repeated or comma separated, in the order given, each name once."""
    parts = [part.strip() for value in values or () for part in value.split(",")]
    return tuple(dict.fromkeys(part for part in parts if part))


def assignments(values: Sequence[str] | None, option: str) -> dict[str, str]:
    """`KEY=VALUE` options as a dict. Raises UsageError where a value has no '=' or a key is given twice."""
    assigned: dict[str, str] = {}
    for text in values or ():
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UsageError(f"{text!r} is not KEY=VALUE.", where=option, fix=f"Write {option} KEY=VALUE.")
        if key in assigned:
            raise UsageError(f"{key!r} is given twice.", where=option, fix="Give each key once.")
        assigned[key] = value
    return assigned


def settings_by_modality(settings: list[str] | None) -> dict[str, dict[str, Any]]:
    """`NAME.KEY=VALUE` options as settings by modality."""
    by_modality: dict[str, dict[str, Any]] = {}
    for key, value in assignments(settings, "--set").items():
        name, dot, setting = key.partition(".")
        if not dot:
            raise UsageError(f"{key!r} names no modality.", where="--set", fix="Write --set NAME.KEY=VALUE, e.g. --set image.size=32.")
        by_modality.setdefault(name, {})[setting] = json_value(value)
    return by_modality


def sampling_params(temperature: Sequence[str] | None, top_k: int | None, guidance: Sequence[str] | None) -> Any:
    """The `SamplingParams` that --temperature, --top-k and --guidance ask for."""
    from mmtool.imputation.sampling_params import SamplingParams

    return SamplingParams(by_modality(temperature, "--temperature", 1.0), top_k, by_modality(guidance, "--guidance", 0.0))


def by_modality(values: Sequence[str] | None, option: str, usual: float) -> float | dict[str, float]:
    """`X` or `NAME=X`, repeatable or comma separated; a bare X is that of modalities not named, which else have the usual one. Raises
    UsageError where X is not a number of at least 0."""
    assigned = assignments([text if "=" in text else f"*={text}" for text in names(values)], option)
    read = {name: _not_negative(text, option) for name, text in assigned.items()}
    return read.get("*", usual) if set(read) <= {"*"} else read


def _not_negative(text: str, option: str) -> float:
    value = json_value(text)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        fix = f"Write {option} 0.5, or {option} 0.5,text=0.2."
        raise UsageError(f"{text!r} is not a number of 0 or more.", where=option, fix=fix)
    return float(value)


def raw_tables(values: Sequence[str] | None, tokens: Path, key_column: str | None) -> Any:
    """The tables of --raw with columns as the tokenizers in `tokens` (a run or token set) want them; None where there are none."""
    files = {name: Path(path) for name, path in assignments(values, "--raw").items()}
    if not files:
        return None
    from mmtool.preprocessing.raw_rows import raw_rows
    from mmtool.preprocessing.sources import SourceOptions

    return raw_rows(files, tokens, SourceOptions(key_column=key_column))


def spare_inputs(output: Path, force: bool, *inputs: Path | None, raw: Sequence[str] | None = None) -> None:
    """With --force, raise UsageError at once where a directory would be replaced that is or holds what the command reads. raw: of --raw."""
    if force:
        OutputPath(output, True, [*inputs, *map(Path, assignments(raw, "--raw").values())]).check_directory()


def survival_labels(text: str | None) -> tuple[str, str] | None:
    """`TIME,EVENT` as two names. Raises UsageError for anything else."""
    if text is None:
        return None
    labels = names([text])
    if len(labels) != 2:
        raise UsageError(f"{text!r} is not TIME,EVENT.", where="--survival", fix="Name two labels, e.g. time_days,event.")
    return labels[0], labels[1]


def json_value(text: str) -> Any:
    """What the value of KEY=VALUE means: JSON where it is JSON (numbers, true, lists), else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@contextlib.contextmanager
def quieted(quiet: bool) -> Iterator[None]:
    """With `quiet`, what the library says on standard error is dropped; an error raised inside is not."""
    with contextlib.redirect_stderr(io.StringIO()) if quiet else contextlib.nullcontext():
        yield


def finish(summary: Any, sentence: str, as_json: bool, quiet: bool, *, to_stderr: bool = False) -> None:
    """Say what was done: a sentence on standard error, and with `as_json` one JSON line (`to_stderr`: the data went to stdout)."""
    if not quiet:
        log(sentence)
    if as_json:
        print(json_line(summary), file=sys.stderr if to_stderr else sys.stdout, flush=True)


def json_line(value: Any) -> str:
    """Sorted JSON on one line; dataclasses by their fields."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
