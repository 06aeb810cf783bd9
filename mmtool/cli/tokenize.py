"""`mmtool tokenize`: raw files of one kind in, a token set of one modality out; or a manifest in, a folder of token sets out."""

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
    settings_by_modality,
    stdout_or,
)
from mmtool.cli.tokenize_checks import SETTINGS, check_use
from mmtool.common.log import log
from mmtool.kinds import KINDS, schemes_by_kind
from mmtool.preprocessing.readers.entries import SourceOptions
from mmtool.preprocessing.readers.table_options import TableOptions

if TYPE_CHECKING:
    from mmtool.preprocessing.manifest import ManifestSummary
    from mmtool.preprocessing.tokenize import TokenizeSummary

    KindName = str
else:
    KindName = Literal[tuple(KINDS)]  # a choice of the command line

TOKENIZER = "Tokenizer"
USUAL = SourceOptions()
OF_TABLES = ("delimiter", "transpose", "feature_column", "value_column", "sample_sheet", "duplicates", "censored", "decimal", "thousands")
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
    "mmtool tokenize --manifest data.csv --column image=image_path --column speech=wav --column text=caption --fit -o tokens/",
)
MANIFEST = "Several modalities from one table"
# Options that `SourceOptions` calls alike.
READ_ALIKE: tuple[str, ...] = (
    "key_column",
    "text_column",
    "file_column",
    "root",
    "member",
    "captions",
    "label_pattern",
)  # as in SourceOptions
READ_ALIKE += ("label_from_folder", "group_column", "lines", "keep_empty", "skip_other", "on_error", "channel", "value_range", "clip")
READ_ALIKE += ("layer", "mod", "source_rate_hz", "max_pixels", "max_duration_s")


def tokenize(
    context: typer.Context,
    output: Output,
    kind: Annotated[
        KindName | None,
        typer.Argument(metavar="KIND", help=f"{', '.join(KINDS)}.", show_default=False),
    ] = None,
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH", help="Files, folders and archives (.zip, .tar, .gz).", show_default=False)
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="CSV, TSV, JSON lines or Parquet, instead of KIND and PATH.", rich_help_panel=MANIFEST),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:KIND]=COLUMN",
            help="A modality and its column: paths, files or texts (of several: A,B). Repeatable.",
            rich_help_panel=MANIFEST,
        ),
    ] = None,
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
    file_column: Annotated[
        str | None, typer.Option(help="Column of a table that holds files, or their paths.", rich_help_panel=READING)
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the paths in a column begin.",
            show_default="the table's folder, or one near it",
            rich_help_panel=READING,
        ),
    ] = None,
    member: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="Read only files of this name, e.g. '{key}.left.jpg'.", rich_help_panel=READING),
    ] = None,
    captions: Annotated[
        Literal["first", "all"] | None,
        typer.Option(help="Rows that repeat a key are texts of one sample.", show_default="an error", rich_help_panel=READING),
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="A .txt file holds one sample per line.", rich_help_panel=READING)] = False,
    keep_empty: Annotated[
        bool, typer.Option("--keep-empty", help="Empty texts are texts; else such samples have none.", rich_help_panel=READING)
    ] = False,
    skip_other: Annotated[
        bool, typer.Option("--skip-other", help="Leave out files of formats that are not read.", rich_help_panel=READING)
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
    channel: Annotated[
        Literal["left", "right", "mean"] | None,
        typer.Option(help="Of recordings of several.", show_default="the mean, unless they cancel out", rich_help_panel=READING),
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
    check_use(context, kind, paths, manifest)
    from mmtool.preprocessing.splits import Split

    how: dict[str, Any] = {
        "tokenizer": tokenizer,
        "split": Split(fractions, seed),
        "split_label": split_label,
        "seed": seed,
        "force": force,
    }
    how["options"] = _source_options(context.params)
    if manifest is not None:
        from mmtool.preprocessing.manifest import tokenize_manifest

        columns_of = assignments(column, "--column")
        schemes = assignments(names([scheme or ""]), "--as")
        with quieted(quiet):
            sets = tokenize_manifest(manifest, output, columns_of, schemes=schemes, settings=settings_by_modality(settings), **how)
        return _finish_manifest(sets, as_json, quiet)
    assert kind is not None and paths is not None
    chosen = {name: value for name in SETTINGS if (value := context.params[name]) is not None}
    chosen |= {name: json_value(value) for name, value in assignments(settings, "--set").items()}
    target = stdout_or(output)
    from mmtool.preprocessing.tokenize import tokenize as encode

    with quieted(quiet):
        done = encode(
            kind,
            paths,
            target,
            name=name or kind,
            scheme=scheme,
            settings=chosen,
            augment=augment,
            guide=guide,
            save_tokenizer=save_tokenizer,
            **how,
        )
    finish(done, _sentence(done), as_json, quiet, to_stderr=target is None)


def _source_options(given: dict[str, Any]) -> SourceOptions:
    """How raw files are read, from the command's parameters."""
    return SourceOptions(
        label_columns=names(given["label"]),
        labels_path=given["labels"],
        columns=names(given["columns"]),
        split_within=given["fractions"] if given["split_within"] else None,
        ends=names(given["ends"]),
        table=TableOptions(na=tuple(given["na"] or ()), **{name: given[name] for name in OF_TABLES}),
        **{name: given[name] for name in READ_ALIKE},
    )


def _finish_manifest(sets: "ManifestSummary", as_json: bool, quiet: bool) -> None:
    if not quiet:
        for modality in sets.modalities.values():
            log(_sentence(modality))
    finish(sets, f"{sets.output}:\n{sets.matrix()}", as_json, quiet)


def _sentence(done: "TokenizeSummary") -> str:
    splits = ", ".join(f"{count:,} {split}" for split, count in done.splits.items())
    absent = f", {done.absent:,} absent" if done.absent else ""
    left_out = f", {done.left_out:,} {'file' if done.left_out == 1 else 'files'} left out" if done.left_out else ""
    tokens = f"{done.mean_length:.1f} tokens each on average"
    return f"{done.modality}: {done.samples:,} samples ({splits}){absent}{left_out}, {tokens}, {done.seconds:.0f} s"
