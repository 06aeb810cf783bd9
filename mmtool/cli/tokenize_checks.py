"""What `mmtool tokenize` refuses before it reads anything: unclear calls, and options that have no effect."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from mmtool.cli.options import STREAM, refuse_unused
from mmtool.common.errors import UsageError
from mmtool.common.options import settings_of
from mmtool.kinds import KINDS, is_pretrained
from mmtool.preprocessing.tokenizer_settings import TokenizerSettings

SETTINGS = tuple(setting.flag for setting in settings_of(TokenizerSettings))
OF_ONE_KIND: tuple[str, ...] = ("--name", *SETTINGS, "--guide", "--augment", "--save-tokenizer")
OF_ONE_KIND += ("--text-column", "--file-column", "--lines", "--frames")
OF_TABLES = ("--delimiter", "--layer", "--mod", "--sheet")
OF_MATRICES = ("--transpose", "--feature-column", "--value-column", "--sample-sheet", "--duplicates")
OF_VALUES = ("--censored", "--column-type", "--unseen")
OF_CELLS = ("--decimal", "--thousands")  # of numbers, and of labels
OF_NUMBERS = ("table", "signal")  # kinds that are read from cells with numbers
OF_KINDS = tuple(dict.fromkeys(flag for entry in KINDS.values() for flag in entry.options))  # that not every kind has


def check_use(context: typer.Context, kind: str | None, paths: list[Path] | None, manifest: Path | None) -> None:
    """Raise UsageError where it is not clear what is to be tokenized and how, and for options that have no effect."""
    given = context.params
    pretrained = manifest is None and is_pretrained(given["scheme"])
    if given["fit"] + (given["tokenizer"] is not None) + pretrained != 1:
        fix = "Give --fit for a new one, --tokenizer PATH for one fitted before, or --scheme hf:PATH for one from elsewhere; one of them."
        raise UsageError("which tokenizer?", where="--fit/--tokenizer", fix=fix)
    if manifest is None and (kind is None or not paths):
        raise UsageError("what is to be tokenized?", where="KIND PATH", fix="Give a kind and files, or --manifest FILE.")
    if manifest is not None and kind is not None:
        raise UsageError("a manifest comes instead of a kind and files.", where="--manifest", fix="Leave out KIND and PATH.")
    if manifest is not None and given["output"] == STREAM:
        raise UsageError("the token sets of a manifest are a folder.", where="--output", fix="Name a folder.")
    alone = not given["workers"] and given["engine"] == "local"
    refuse_unused(context, "without --workers or --engine ray", "--timeout", when=alone)
    refuse_unused(context, "without --manifest", "--column", when=manifest is None)
    refuse_unused(context, "with --manifest; write --set NAME.KEY=VALUE for settings", *OF_ONE_KIND, when=manifest is not None)
    refuse_unused(context, "with --manifest", *OF_TABLES, *OF_MATRICES, *OF_VALUES, when=manifest is not None)
    refuse_unused(context, "with --manifest but without --label or --labels", *OF_CELLS, when=manifest is not None and not _labels(given))
    refuse_unused(context, "without --manifest or --file-column", "--root", when=manifest is None and given["file_column"] is None)
    if kind is not None:
        _check_kind(context, kind)


def _check_kind(context: typer.Context, kind: str) -> None:
    """Refuse options that have no effect on a kind."""
    given = context.params
    refuse_unused(context, f"on {kind}", *(flag for flag in OF_KINDS if flag not in KINDS[kind].options))
    by_column = given["file_column"] is not None
    refuse_unused(context, f"on {kind}", "--captions", when=kind != "text" and not by_column)
    refuse_unused(context, f"on {kind}", "--delimiter", "--columns", when="csv" not in KINDS[kind].suffixes and not by_column)
    of_labels = _labels(given) or kind == "table"
    refuse_unused(context, f"on {kind} without --label or --labels", *OF_CELLS, when=not (of_labels or kind in OF_NUMBERS))
    refuse_unused(context, f"on {kind} without --label or --labels", "--na", when=not (of_labels or kind == "text" or by_column))


def _labels(given: Mapping[str, Any]) -> bool:
    return bool(given["label_columns"]) or given["labels_path"] is not None
