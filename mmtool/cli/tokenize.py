"""`mmtool tokenize`: raw files of one kind in, a token set of one modality out."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mmtool.cli.options import (
    LABELS,
    READING,
    SPLITTING,
    TABLES,
    Clip,
    Force,
    Fractions,
    Json,
    KeyColumn,
    Layer,
    Output,
    Quiet,
    Seed,
    SplitLabel,
    TextColumn,
    assignments,
    examples,
    finish,
    json_value,
    names,
    quieted,
    refuse_unused,
    stdout_or,
)
from mmtool.common.errors import UsageError
from mmtool.kinds import KINDS, schemes_by_kind
from mmtool.preprocessing.readers.entries import SourceOptions
from mmtool.preprocessing.readers.table_options import TableOptions

if TYPE_CHECKING:
    from mmtool.preprocessing.tokenize import TokenizeSummary

    KindName = str
else:
    KindName = Literal[tuple(KINDS)]  # a choice of the command line

TOKENIZER = "Tokenizer"
USUAL = SourceOptions()
OF_MATRICES = ("--transpose", "--feature-column", "--value-column", "--sample-sheet", "--duplicates")
OF_NUMBERS = ("--na", "--censored", "--decimal", "--thousands")
EXAMPLES = examples(
    "mmtool tokenize image scans/ --fit --size 32 -o tokens/image.tar",
    "mmtool tokenize image train-images-idx3-ubyte.gz --labels train-labels-idx1-ubyte.gz --fit -o tokens/digits.tar",
    "mmtool tokenize audio clips/ --fit --name speech --label-pattern '^(?P<digit>[0-9])_(?P<group>[a-z]+)' -o tokens/speech.tar",
    "mmtool tokenize image scans/ --fit --as patches --patch 8 -o tokens/patches.tar",
    "mmtool tokenize text notes.csv --text-column note --label author --fit -o - | mmtool shard tokens/image.tar - -o shards/",
    "mmtool tokenize table mrna.csv.gz --fit --scheme codec --set components=32 --name mrna -o tokens/mrna.tar",
    "mmtool tokenize trajectory maze.hdf5 --fit --clip 32 --set streams=observations,actions --name actions -o tokens/actions.tar",
    "mmtool tokenize table cells.h5mu --fit --name rna --layer counts --label cell_type -o tokens/rna.tar",
    "mmtool tokenize table mrna.csv.gz --tokenizer run/ --name mrna -o new.tar",
)


def tokenize(
    context: typer.Context,
    kind: Annotated[
        KindName,
        typer.Argument(metavar="KIND", help=f"{', '.join(KINDS)}."),
    ],
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Files, folders and archives (.zip, .tar, .gz).")],
    output: Output,
    name: Annotated[str | None, typer.Option(help="Of the modality.", show_default="the kind")] = None,
    fit: Annotated[bool, typer.Option("--fit", help="Fit a new tokenizer on the training samples.", rich_help_panel=TOKENIZER)] = False,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="Use a fitted one: its file, or a token set or run that holds it.", rich_help_panel=TOKENIZER),
    ] = None,
    save_tokenizer: Annotated[Path | None, typer.Option(help="Also write the tokenizer's file here.", rich_help_panel=TOKENIZER)] = None,
    scheme: Annotated[
        str | None,
        typer.Option(
            "--scheme",
            "--as",
            help=f"{schemes_by_kind()}.",
            rich_help_panel=TOKENIZER,
        ),
    ] = None,
    size: Annotated[int | None, typer.Option(help="Side of an image in pixels.", rich_help_panel=TOKENIZER)] = None,
    patch: Annotated[int | None, typer.Option(help="Pixels or frames that become one token.", rich_help_panel=TOKENIZER)] = None,
    codebook: Annotated[int | None, typer.Option(help="Codes of a learned codec.", rich_help_panel=TOKENIZER)] = None,
    sample_rate_hz: Annotated[int | None, typer.Option(help="Of recordings.", rich_help_panel=TOKENIZER)] = None,
    vocabulary_size: Annotated[int | None, typer.Option(help="Pieces of a text.", rich_help_panel=TOKENIZER)] = None,
    n_bins: Annotated[
        int | None,
        typer.Option(
            help="Bins of a feature (table) or stream (trajectory; item ids need one each), or levels of a component.",
            rich_help_panel=TOKENIZER,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other setting: levels=[8,8,8], fit=cover, steps=2000, components=32. Repeatable.",
            rich_help_panel=TOKENIZER,
        ),
    ] = None,
    guide: Annotated[
        Path | None,
        typer.Option(
            metavar="SHARDS", help="A table's components tell what other tables of its samples in there hold.", rich_help_panel=TOKENIZER
        ),
    ] = None,
    augment: Annotated[int, typer.Option(help="Extra variants of each training image or recording.", rich_help_panel=READING)] = 0,
    text_column: TextColumn = None,
    lines: Annotated[bool, typer.Option("--lines", help="A .txt file holds one sample per line.", rich_help_panel=READING)] = False,
    keep_empty: Annotated[
        bool, typer.Option("--keep-empty", help="Empty texts are texts; else such samples have none.", rich_help_panel=READING)
    ] = False,
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME,...", help="Names of the columns of a file without header.", rich_help_panel=READING),
    ] = None,
    clip: Clip = None,
    ends: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME,...", help="Arrays that mark the ends of episodes.", show_default="usual names", rich_help_panel=READING
        ),
    ] = None,
    layer: Layer = None,
    mod: Annotated[
        str | None, typer.Option(help="Modality to read of a MuData file.", show_default="--name, or the only one", rich_help_panel=READING)
    ] = None,
    source_rate_hz: Annotated[
        float | None, typer.Option(help="Of time series whose files state no sample rate.", rich_help_panel=READING)
    ] = None,
    value_range: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Of 16-bit images: what is black, and what white.", rich_help_panel=READING),
    ] = None,
    max_pixels: Annotated[int, typer.Option(help="Larger images are refused.", rich_help_panel=READING)] = USUAL.max_pixels,
    max_duration_s: Annotated[float, typer.Option(help="Longer recordings are refused.", rich_help_panel=READING)] = USUAL.max_duration_s,
    on_error: Annotated[
        Literal["raise", "skip"], typer.Option(help="At a bad sample: stop, or list it in OUTPUT.rejects.jsonl.", rich_help_panel=READING)
    ] = USUAL.on_error,
    delimiter: Annotated[
        str | None,
        typer.Option(
            metavar="CHAR",
            help="Between columns; or tab, comma, semicolon, bar, blanks.",
            show_default="recognised in tables",
            rich_help_panel=TABLES,
        ),
    ] = None,
    transpose: Annotated[
        bool | None,
        typer.Option("--transpose/--no-transpose", help="Features are in rows, samples in columns.", rich_help_panel=TABLES),
    ] = None,
    feature_column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Where features are in rows: their names.", show_default="the first column", rich_help_panel=TABLES
        ),
    ] = None,
    value_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Each file is one sample: its values, a row per feature.", rich_help_panel=TABLES),
    ] = None,
    sample_sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of such files and keys of their samples.", rich_help_panel=TABLES)
    ] = None,
    duplicates: Annotated[
        Literal["error", "first", "mean"], typer.Option(help="What becomes of features of one name.", rich_help_panel=TABLES)
    ] = "error",
    na: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Also means a missing value. Repeatable.", rich_help_panel=TABLES)
    ] = None,
    censored: Annotated[
        Literal["missing", "bound"] | None,
        typer.Option(help="What <0.5 and >100 count as.", show_default="an error", rich_help_panel=TABLES),
    ] = None,
    decimal: Annotated[Literal[".", ","], typer.Option(help="Mark within numbers.", rich_help_panel=TABLES)] = ".",
    thousands: Annotated[
        bool, typer.Option("--thousands", help="Numbers are written as 1,234.5 (or 1.234,5).", rich_help_panel=TABLES)
    ] = False,
    key_column: KeyColumn = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]COLUMN", help="Column kept as a label. Repeatable, or a,b,c.", rich_help_panel=LABELS),
    ] = None,
    label_pattern: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX", help="Searched in the key; its named groups become labels (key, group: that).", rich_help_panel=LABELS
        ),
    ] = None,
    label_from_folder: Annotated[
        str | None, typer.Option(metavar="NAME", help="This label is the name of a file's folder.", rich_help_panel=LABELS)
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV or TSV with a key column, or MNIST's idx1 file.", rich_help_panel=LABELS)
    ] = None,
    group_column: Annotated[
        str | None, typer.Option(help="Column or label: samples of one group share a split.", rich_help_panel=SPLITTING)
    ] = None,
    fractions: Fractions = (0.8, 0.1, 0.1),
    split_label: SplitLabel = None,
    split_within: Annotated[
        bool, typer.Option("--split-within", help="Divide episodes: clips of each in all splits, with gaps.", rich_help_panel=SPLITTING)
    ] = False,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn raw files into tokens of one modality.

    Tokenizers are fitted on training samples only, and travel with the tokens. The same input gives the same bytes.
    """
    _check(context, kind, fit == (tokenizer is not None))
    table = TableOptions(
        delimiter, transpose, feature_column, value_column, sample_sheet, duplicates, tuple(na or ()), censored, decimal, thousands
    )
    options = SourceOptions(
        key_column=key_column,
        text_column=text_column,
        label_columns=names(label),
        label_pattern=label_pattern,
        label_from_folder=label_from_folder,
        labels_path=labels,
        group_column=group_column,
        columns=names(columns),
        lines=lines,
        keep_empty=keep_empty,
        on_error=on_error,
        value_range=value_range,
        clip=clip,
        split_within=fractions if split_within else None,
        ends=names(ends),
        layer=layer,
        mod=mod,
        source_rate_hz=source_rate_hz,
        table=table,
        max_pixels=max_pixels,
        max_duration_s=max_duration_s,
    )
    common = {"size": size, "patch": patch, "codebook": codebook, "n_bins": n_bins}
    common |= {"sample_rate_hz": sample_rate_hz, "vocabulary_size": vocabulary_size}
    target = stdout_or(output)
    from mmtool.preprocessing.splits import Split
    from mmtool.preprocessing.tokenize import tokenize as encode

    with quieted(quiet):
        done = encode(
            kind,
            paths,
            target,
            name=name or kind,
            tokenizer=tokenizer,
            scheme=scheme,
            settings=_settings(common, settings),
            options=options,
            split=Split(fractions, seed),
            split_label=split_label,
            augment=augment,
            guide=guide,
            seed=seed,
            force=force,
            save_tokenizer=save_tokenizer,
        )
    finish(done, _sentence(done), as_json, quiet, to_stderr=target is None)


def _settings(common: Mapping[str, int | None], others: Sequence[str] | None) -> dict[str, Any]:
    """What was given of the common settings, and all of --set."""
    chosen = {name: value for name, value in common.items() if value is not None}
    return chosen | {name: json_value(value) for name, value in assignments(others, "--set").items()}


def _check(context: typer.Context, kind: "KindName", unclear: bool) -> None:
    """Refuse options that have no effect on a kind, and where it is unclear which tokenizer is meant."""
    if unclear:
        fix = "Give --fit for a new one, or --tokenizer PATH for one fitted before; one of the two."
        raise UsageError("which tokenizer?", where="--fit/--tokenizer", fix=fix)
    refuse_unused(context, f"on {kind}", "--keep-empty", when=not KINDS[kind].is_text)
    refuse_unused(context, f"on {kind}", "--ends", when=kind != "trajectory")
    refuse_unused(context, f"on {kind}", "--layer", "--mod", *OF_MATRICES, *OF_NUMBERS, when=KINDS[kind].recognizer is None)
    refuse_unused(context, f"on {kind}", "--delimiter", when="csv" not in KINDS[kind].suffixes)


def _sentence(done: "TokenizeSummary") -> str:
    splits = ", ".join(f"{count:,} {split}" for split, count in done.splits.items())
    absent = f", {done.absent:,} absent" if done.absent else ""
    left_out = f", {done.left_out:,} {'file' if done.left_out == 1 else 'files'} left out" if done.left_out else ""
    tokens = f"{done.mean_length:.1f} tokens each on average"
    return f"{done.modality}: {done.samples:,} samples ({splits}){absent}{left_out}, {tokens}, {done.seconds:.0f} s"
