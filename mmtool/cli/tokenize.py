"""`mmtool tokenize`: raw files of one kind in, a token set of one modality out; or a manifest in, a folder of token sets out."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mmtool.cli.config_options import OptionsOf, with_config_options
from mmtool.cli.options import (
    Force,
    Json,
    Output,
    Quiet,
    Seed,
    SplitLabel,
    examples,
    finish,
    quieted,
    set_option,
    settings_by_modality,
    stdout_or,
)
from mmtool.cli.tokenize_checks import check_use
from mmtool.common.arguments import assignments, json_value, names
from mmtool.common.log import log
from mmtool.kinds import KINDS, schemes_by_kind
from mmtool.preprocessing.decoding import Decoding
from mmtool.preprocessing.readers.entries import READING, SourceOptions
from mmtool.preprocessing.splits import SPLITTING, Split
from mmtool.preprocessing.tokenizer_settings import TOKENIZER, TokenizerSettings

if TYPE_CHECKING:
    from mmtool.preprocessing.manifest import ManifestSummary
    from mmtool.preprocessing.tokenize import TokenizeSummary

    KindName = str
else:
    KindName = Literal[tuple(KINDS)]  # a choice of the command line

QUALITY = {
    "psnr_db": "PSNR {:.1f} dB",
    "r2": "R² {:.2f}",
    "reconstruction_r2_median": "R² {:.2f}",
    "codebook_usage": "{:.0%} of the codes used",
}  # of decoded values
MANIFEST = "Several modalities from one table"
OTHER_SETTINGS = "Any other setting: levels=[8,8,8], fit=cover, steps=2000, components=32. Repeatable."
EXAMPLES = examples(
    "mmtool tokenize image scans/ --fit --size 32 -o tokens/image.tar",
    "mmtool tokenize image train-images-idx3-ubyte.gz --labels train-labels-idx1-ubyte.gz --fit -o tokens/digits.tar",
    "mmtool tokenize audio clips/ --fit --name speech --label-pattern '^(?P<digit>[0-9])_(?P<group>[a-z]+)' -o tokens/speech.tar",
    "mmtool tokenize image scans/ --fit --as patches --patch 8 --workers 8 --on-error skip -o tokens/patches.tar",
    "mmtool tokenize image /shared/scans/ --fit --engine ray --ray-address auto -o tokens/image.tar",
    "mmtool tokenize text notes.csv --text-column note --label author --fit -o - | mmtool shard tokens/image.tar - -o shards/",
    "mmtool tokenize table mrna.csv.gz --fit --scheme codec --set components=32 --name mrna -o tokens/mrna.tar",
    "mmtool tokenize trajectory maze.hdf5 --fit --clip 32 --set streams=observations,actions --name actions -o tokens/actions.tar",
    "mmtool tokenize table cells.h5mu --fit --name rna --layer counts --label cell_type -o tokens/rna.tar",
    "mmtool tokenize table mrna.csv.gz --tokenizer run/ --name mrna -o new.tar",
    "mmtool tokenize image s3://bucket/scans/ --fit -o s3://bucket/tokens/image.tar",
    "mmtool tokenize --manifest data.csv --column image=image_path --column speech=wav --column text=caption --fit -o tokens/",
)

Kind = Annotated[KindName | None, typer.Argument(metavar="KIND", help=f"{', '.join(KINDS)}.", show_default=False)]
Paths = Annotated[
    list[Path] | None, typer.Argument(metavar="PATH", help="Files, folders and archives (.zip, .tar, .gz), or URLs.", show_default=False)
]
Manifest = Annotated[
    Path | None, typer.Option(metavar="FILE", help="CSV, TSV, JSON lines or Parquet, instead of KIND and PATH.", rich_help_panel=MANIFEST)
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME[:KIND]=COLUMN",
        help="A modality and its column: paths, files or texts (of several: A,B). Repeatable.",
        rich_help_panel=MANIFEST,
    ),
]
Fitted = Annotated[
    Path | None, typer.Option(help="Use a fitted one: its file, or a token set or run that holds it.", rich_help_panel=TOKENIZER)
]
Guide = Annotated[
    Path | None,
    typer.Option(
        metavar="SHARDS",
        help="Shards with other tables of the same samples: components are chosen that predict these.",
        rich_help_panel=TOKENIZER,
    ),
]


@with_config_options
def tokenize(
    context: typer.Context,
    output: Output,
    kind: Kind = None,
    paths: Paths = None,
    manifest: Manifest = None,
    column: Columns = None,
    name: Annotated[str | None, typer.Option(help="Of the modality.", show_default="the kind")] = None,
    fit: Annotated[bool, typer.Option("--fit", help="Fit a new tokenizer on the training samples.", rich_help_panel=TOKENIZER)] = False,
    tokenizer: Fitted = None,
    save_tokenizer: Annotated[Path | None, typer.Option(help="Also write the tokenizer's file here.", rich_help_panel=TOKENIZER)] = None,
    scheme: Annotated[str | None, typer.Option("--scheme", "--as", help=f"{schemes_by_kind()}.", rich_help_panel=TOKENIZER)] = None,
    *,
    options: Annotated[dict[str, Any], OptionsOf(TokenizerSettings)],
    settings: Annotated[list[str] | None, set_option(OTHER_SETTINGS, panel=TOKENIZER)] = None,
    guide: Guide = None,
    augment: Annotated[int, typer.Option(help="Extra variants of each training image or recording.", rich_help_panel=READING)] = 0,
    source: SourceOptions,
    decoding: Decoding,
    split: Split,
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
    how: dict[str, Any] = {
        "tokenizer": tokenizer,
        "options": replace(source, split_within=split.fractions) if split_within else source,
        "split": replace(split, seed=seed),
        "split_label": split_label,
        "seed": seed,
        "force": force,
        "decoding": decoding,
    }
    if manifest is not None:
        from mmtool.preprocessing.manifest import tokenize_manifest

        columns, schemes = assignments(column, "--column"), assignments(names([scheme or ""]), "--as")
        with quieted(quiet):
            sets = tokenize_manifest(manifest, output, columns, schemes=schemes, settings=settings_by_modality(settings), **how)
        return _finish_manifest(sets, as_json, quiet)
    assert kind is not None and paths is not None
    how |= {"name": name or kind, "scheme": scheme, "augment": augment, "guide": guide, "save_tokenizer": save_tokenizer}
    target = stdout_or(output)
    from mmtool.preprocessing.tokenize import tokenize as encode

    with quieted(quiet):
        done = encode(kind, paths, target, settings=_settings(options, settings), **how)
    finish(done, _sentence(done), as_json, quiet, to_stderr=target is None)


def _settings(options: dict[str, Any], assigned: list[str] | None) -> dict[str, Any]:
    """The settings of a tokenizer that were given, as options or with --set."""
    given = {name: value for name, value in options.items() if value is not None}
    return given | {name: json_value(value) for name, value in assignments(assigned, "--set").items()}


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
    return f"{done.modality}: {done.samples:,} samples ({splits}){absent}{left_out}, {tokens}{_quality(done)}, {done.seconds:.0f} s"


def _quality(done: "TokenizeSummary") -> str:
    """How well the tokenizer gives back what it was fitted to, in short."""
    measured = dict(done.reconstruction)
    if "codebook_perplexity" not in measured:  # codes that were not learned: of these it says nothing
        measured.pop("codebook_usage", None)
    return "".join(f", {text.format(measured[name])}" for name, text in QUALITY.items() if measured.get(name) is not None)
