"""`mmtool shard`: token sets in, one token set of train, validation and test out."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mmtool.cli.config_options import OptionsOf, with_config_options
from mmtool.cli.options import (
    ByRow,
    Force,
    Json,
    Quiet,
    Seed,
    SplitLabel,
    examples,
    finish,
    quieted,
    refuse_unused,
    stdin_or,
    stdout_or,
)
from mmtool.preprocessing.protocol import Alignment, MissingnessProtocol
from mmtool.preprocessing.readers.entries import LABELS, SourceOptions
from mmtool.preprocessing.splits import Split

EXAMPLES = examples(
    "mmtool shard tokens/image.tar tokens/text.tar tokens/speech.tar -o shards/",
    "mmtool shard tokens/*.tar --pair image,text --pair image,speech -o shards/",
    "mmtool shard tokens/*.tar --missing-rate image=0.5 --missing-rate text=0.2 -o shards/",
    "mmtool shard tokens/*.tar --missing-rate 0.7 --missing text --apply-to train,test -o shards/",
    "mmtool shard mnist.tar fsdd.tar --align digit --pair image,speech -o shards/",
    "mmtool tokenize text notes.csv --fit -o - | mmtool shard tokens/image.tar - -o - | mmtool pretrain - -o run/",
)


@with_config_options
def shard(
    context: typer.Context,
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Token sets; '-' is standard input.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="A directory, one .tar file, or '-' for standard output.")],
    *,
    protocol: MissingnessProtocol,
    alignment: Annotated[dict[str, Any], OptionsOf(Alignment)],
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV or TSV of further labels by key.", rich_help_panel=LABELS)
    ] = None,
    reading: Annotated[dict[str, Any], OptionsOf(SourceOptions, "key_column")],
    by_row: ByRow = False,
    unpaired: Annotated[
        bool,
        typer.Option("--unpaired", help="A modality may have no key in common with any other: lone samples.", rich_help_panel=LABELS),
    ] = False,
    allow_missing_parts: Annotated[
        bool,
        typer.Option("--allow-missing-parts", help="Parts that `tokenize --part` wrote may be missing, with their samples."),
    ] = False,
    split: Split,
    split_label: SplitLabel = None,
    samples_per_shard: Annotated[int, typer.Option(help="Samples in one file of a directory.")] = 10_000,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Join token sets into samples, absence declared, and deal them to train, validation and test.

    Samples are joined on their keys, or dealt by a label they share. Protocols remove modalities reproducibly, from training
    samples only, unless --apply-to names others. The same input gives the same bytes, in whatever order it is given.
    """
    refuse_unused(context, "without --pair", "--keep-unpaired", when=not protocol.pairs)
    refuse_unused(context, "with --align", "--keep-unpaired", "--by-row", "--unpaired", when=bool(alignment["label"]))
    refuse_unused(context, "without --missing-rate RATE", "--num-missing", when=not isinstance(protocol.missing_rate, float))
    refuse_unused(context, "without --pair or --missing-rate", "--apply-to", when=not protocol.pairs and protocol.missing_rate is None)
    refuse_unused(context, "without --align", "--pairs-per-class", "--aligned-per-class", when=not alignment["label"])
    refuse_unused(context, "without --labels", "--key-column", when=not labels)
    sources, target = [stdin_or(path) for path in inputs], stdout_or(output)
    refuse_unused(context, "where no directory is written", "--samples-per-shard", when=target is None or target.suffix == ".tar")
    from mmtool.preprocessing.shard import shard as join

    with quieted(quiet):
        done = join(
            sources,
            target,
            protocol=replace(protocol, seed=seed),
            split=replace(split, seed=seed),
            alignment=Alignment(**alignment) if alignment["label"] else None,
            labels=labels,
            key_column=reading["key_column"],
            split_label=split_label,
            unpaired=unpaired,
            by_row=by_row,
            allow_missing_parts=allow_missing_parts,
            samples_per_shard=samples_per_shard,
            force=force,
        )
    splits = ", ".join(f"{count:,} {split} ({_combinations(done.combinations[split])})" for split, count in done.samples.items())
    finish(done, f"{done.output}: {splits}", as_json, quiet, to_stderr=target is None)


def _combinations(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {names}" for names, count in counts.items())
