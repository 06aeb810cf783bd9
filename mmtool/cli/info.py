"""`mmtool info`: what an artefact is and what it holds."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mmtool.cli.config_options import with_config_options
from mmtool.cli.options import Json, examples, json_line, stdin_or
from mmtool.common.errors import UsageError

EXAMPLES = examples(
    "mmtool info run/",
    "mmtool info run/ --card > card.md",
    "mmtool info tokens/image.tar --json",
    "mmtool tokenize text notes.csv --fit -o - | mmtool info -",
)
FEW = 12  # values of a list that a person still reads


@with_config_options
def info(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="A tokenizer, token set, run, adapter, checkpoint or report; '-' is a token tar on standard input.",
        ),
    ],
    card: Annotated[
        bool, typer.Option("--card", help="Of a run: print a card to pass on with it (Markdown), with fields that only you can fill in.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Describe any artefact: a tokenizer, a token set, a run, a checkpoint, imputed files or a report."""
    if card:
        if as_json:
            raise UsageError("a card is Markdown, not JSON.", where="--card", fix="Leave --json out.")
        from mmtool.training.card import card_of

        print(card_of(path), end="", flush=True)
        return
    from mmtool.artefacts import describe

    description = describe(stdin_or(path))
    if as_json:
        print(json_line(description), flush=True)
    else:
        _show(description)


def _show(description: Mapping[str, Any]) -> None:
    """Indented lines, the names in bold on a terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout)
    for depth, name, value in _lines(description):
        console.print(Text("  " * depth) + Text(name, "bold cyan") + Text(f": {value}" if value else ""), soft_wrap=True)


def _lines(description: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[int, str, str]]:
    """(depth, name, value) of every entry; groups have no value."""
    for name, value in description.items():
        if isinstance(value, Mapping):
            yield depth, name, "" if value else "none"
            yield from _lines(value, depth + 1)
        else:
            yield depth, name, _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        parts = (f"({_plain(part)})" if isinstance(part, list | tuple) else _plain(part) for part in value[:FEW])
        shown = ", ".join(parts) or "none"
        return shown if len(value) <= FEW else f"{shown}, ... ({len(value)} in all)"
    return "-" if value is None else str(value)
