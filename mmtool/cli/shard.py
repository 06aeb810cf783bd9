"""`mmtool shard`: token sets in, one token set of train, validation and test out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from mmtool.cli.options import (
    LABELS,
    ByRow,
    Force,
    Fractions,
    Json,
    KeyColumn,
    Quiet,
    Seed,
    SplitLabel,
    assignments,
    examples,
    finish,
    names,
    quieted,
    refuse_unused,
    stdin_or,
    stdout_or,
)
from mmtool.common.errors import UsageError

LOST, ALIGNING = "Missing modalities", "Corpora without common keys"
EXAMPLES = examples(
    "mmtool shard tokens/image.tar tokens/text.tar tokens/speech.tar -o shards/",
    "mmtool shard tokens/*.tar --pair image,text --pair image,speech -o shards/",
    "mmtool shard tokens/*.tar --missing-rate image=0.5 --missing-rate text=0.2 -o shards/",
    "mmtool shard tokens/*.tar --missing-rate 0.7 --missing text --apply-to train,test -o shards/",
    "mmtool shard mnist.tar fsdd.tar --align digit --pair image,speech -o shards/",
    "mmtool tokenize text notes.csv --fit -o - | mmtool shard tokens/image.tar - -o - | mmtool pretrain - -o run/",
)


def shard(
    context: typer.Context,
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT", help="Token sets; '-' is standard input.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PATH", help="A directory, one .tar file, or '-' for standard output.")],
    pair: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B", help="Training samples keep one of these pairs and lose the rest. Repeatable.", rich_help_panel=LOST),
    ] = None,
    keep_unpaired: Annotated[
        bool,
        typer.Option("--keep-unpaired", help="With --pair, samples that hold none of the pairs keep one modality.", rich_help_panel=LOST),
    ] = False,
    missing_rate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]RATE",
            help="Share of samples that lose one modality, or the rate at which NAME is lost. Repeatable.",
            rich_help_panel=LOST,
        ),
    ] = None,
    missing: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Which of them --missing-rate RATE may take; repeatable.", show_default="any", rich_help_panel=LOST
        ),
    ] = None,
    num_missing: Annotated[int, typer.Option(min=1, help="How many modalities such a sample loses.", rich_help_panel=LOST)] = 1,
    least: Annotated[
        int, typer.Option(min=1, help="Leave out samples that hold fewer modalities than this from the start.", rich_help_panel=LOST)
    ] = 1,
    apply_to: Annotated[
        list[str] | None, typer.Option(metavar="SPLIT", help="Splits that lose modalities.", show_default="train", rich_help_panel=LOST)
    ] = None,
    align: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Deal items into samples by this label, not by key.", rich_help_panel=ALIGNING)
    ] = None,
    pairs_per_class: Annotated[
        int | None, typer.Option(help="Training samples of each pair and class.", show_default="larger pool", rich_help_panel=ALIGNING)
    ] = None,
    aligned_per_class: Annotated[
        int | None,
        typer.Option(help="Complete held-out samples of each class.", show_default="largest pool, 384 at most", rich_help_panel=ALIGNING),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV or TSV of further labels by key.", rich_help_panel=LABELS)
    ] = None,
    key_column: KeyColumn = None,
    by_row: ByRow = False,
    unpaired: Annotated[
        bool,
        typer.Option("--unpaired", help="A modality may have no key in common with any other: lone samples.", rich_help_panel=LABELS),
    ] = False,
    fractions: Fractions = (0.8, 0.1, 0.1),
    split_label: SplitLabel = None,
    samples_per_shard: Annotated[int, typer.Option(help="Samples in one file of a directory.")] = 10_000,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Join token sets into samples, absence declared, and deal them to train, validation and test.

    Samples are joined on their keys, or dealt by a label they share. Protocols remove modalities reproducibly, from training
    samples only unless told otherwise. The same input gives the same bytes, in whatever order it is given.
    """
    rates = _rates(missing_rate)
    refuse_unused(context, "without --pair", "--keep-unpaired", when=not pair)
    refuse_unused(context, "with --align", "--keep-unpaired", "--by-row", "--unpaired", when=bool(align))
    refuse_unused(context, "without --missing-rate RATE", "--num-missing", when=not isinstance(rates, float))
    refuse_unused(context, "without --pair or --missing-rate", "--apply-to", when=not pair and not missing_rate)
    refuse_unused(context, "without --align", "--pairs-per-class", "--aligned-per-class", when=not align)
    refuse_unused(context, "without --labels", "--key-column", when=not labels)
    sources, target = [stdin_or(path) for path in inputs], stdout_or(output)
    refuse_unused(context, "where no directory is written", "--samples-per-shard", when=target is None or target.suffix == ".tar")
    from mmtool.preprocessing.alignment import Alignment
    from mmtool.preprocessing.protocol import MissingnessProtocol
    from mmtool.preprocessing.shard import shard as join
    from mmtool.preprocessing.splits import Split

    with quieted(quiet):
        done = join(
            sources,
            target,
            protocol=MissingnessProtocol(
                pairs=tuple(map(_pair, pair or ())),
                missing_rate=rates,
                apply_to=names(apply_to) or ("train",),
                keep_unpaired=keep_unpaired,
                seed=seed,
                missing=names(missing),
                num_missing=num_missing,
                least=least,
            ),
            split=Split(fractions, seed),
            alignment=Alignment(align, pairs_per_class, aligned_per_class) if align else None,
            labels=labels,
            key_column=key_column,
            split_label=split_label,
            unpaired=unpaired,
            by_row=by_row,
            samples_per_shard=samples_per_shard,
            force=force,
        )
    splits = ", ".join(f"{count:,} {split} ({_combinations(done.combinations[split])})" for split, count in done.samples.items())
    finish(done, f"{done.output}: {splits}", as_json, quiet, to_stderr=target is None)


def _pair(text: str) -> tuple[str, str]:
    first, _, second = text.partition(",")
    return first.strip(), second.strip()


def _rates(values: list[str] | None) -> float | Mapping[str, float] | None:
    """`0.3` is one rate for all, `image=0.3` a rate for one modality. Raises UsageError for a mixture and for what is no number."""
    try:
        if values and len(values) == 1 and "=" not in values[0]:
            return float(values[0])
        return {name: float(rate) for name, rate in assignments(values, "--missing-rate").items()} or None
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError("a rate must be a number from 0 to 1.", where="--missing-rate", fix="Write 0.3, or image=0.3.") from error


def _combinations(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {names}" for names, count in counts.items())
