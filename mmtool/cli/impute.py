"""`mmtool impute`: samples in which modalities are missing in, real files of these out."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mmtool.cli.adapt import EncoderSources
from mmtool.cli.config_options import with_config_options
from mmtool.cli.options import (
    OF_RAW_FILES,
    STREAM,
    ByRow,
    Force,
    Json,
    OutputDirectory,
    Quiet,
    Seed,
    examples,
    finish,
    on_machine,
    quieted,
    refuse_unused,
    source_options,
    spare_inputs,
    stdin_or,
)
from mmtool.common.arguments import assignments
from mmtool.common.errors import UsageError
from mmtool.common.machine import Machine
from mmtool.imputation.config import REAL, ImputeOptions
from mmtool.preprocessing.readers.entries import READING

if TYPE_CHECKING:
    from mmtool.adaptation.embeddings import EmbeddingSummary
    from mmtool.imputation.files import ImputeSummary

EMBEDDINGS = "Embeddings"
OF_DRAWS = ("--temperature", "--top-k", "--guidance", "--no-confidence", "--chain", "--calibration")
OF_CHOICE = ("--only-missing", "--draws", "--donors", "--max-donors", "--seed")
OF_RAW = ("--by-row", *OF_RAW_FILES.flags)
EXAMPLES = examples(
    "mmtool impute run/ shards/ --have text --want image -o imputed/",
    "mmtool impute run/ shards/ --split test --draws 8 --temperature 0.8 -o imputed/",
    "mmtool impute run/ shards/ --split test --have text --want image --donors shards/train -o imputed/",
    "mmtool impute adapter/ shards/ --split test --space embedding --format parquet -o embeddings/",
    "mmtool impute run/ shards/ --draws 16 --format h5mu -o imputed/",
    "mmtool impute run/ shards/ --draws 32 --calibration report/ -o imputed/",
    "mmtool impute run-commutative/ shards/ --have text --want speech --chain -o imputed/",
    "mmtool impute run/ --raw text=notes.csv --want image,speech -o imputed/",
)


RawFiles = Annotated[
    list[str] | None,
    typer.Option("--raw", metavar="NAME=PATH", help="Raw files of a modality, joined by key. Repeatable.", rich_help_panel=READING),
]
Split = Annotated[
    Literal["train", "validation", "test"] | None,
    typer.Option(help="Only samples of this split.", show_default="all", rich_help_panel=READING),
]
Donors = Annotated[
    Path | None,
    typer.Option(metavar="DATA", help="Impute with real data of this token set (of its train split, if any).", rich_help_panel=REAL),
]
Space = Annotated[
    Literal["raw", "embedding"],
    typer.Option(help="Raw files by a run, or embeddings as an adapter predicts them.", rich_help_panel=EMBEDDINGS),
]
Format = Annotated[
    Literal["csv", "h5ad", "h5mu", "npz", "parquet"] | None,
    typer.Option(help="Of tables: csv, h5ad, h5mu; of embeddings: npz, parquet.", show_default="csv, npz"),
]


@with_config_options
def impute(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What `mmtool pretrain` (or `adapt`) wrote.")],
    output: OutputDirectory,
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="Token set with missing modalities; '-' is standard input.")] = None,
    raw: RawFiles = None,
    split: Split = None,
    *,
    reading: Annotated[dict[str, Any], OF_RAW_FILES],
    by_row: ByRow = False,
    options: ImputeOptions,
    donors: Donors = None,
    space: Space = "raw",
    format: Format = None,
    encoders: EncoderSources = None,
    seed: Seed = 0,
    machine: Machine,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Impute missing modalities: any from any others, pairs never seen together included.

    Writes real files (PNG, WAV, TXT, CSV, NPZ) and imputed.jsonl, which names for each imputed modality its files and how likely they
    are. What is missing inside a table row that is there is not imputed.

    With --donors, real data of other samples is taken: of those that fit what is given best, by the run's own measure. It is written as
    its tokens decode; imputed.jsonl names the donors.

    With --space embedding, RUN is an adapter and each modality becomes one table of embeddings, real and predicted ones; --encoder says
    where its encoders lie if they were moved.
    """
    if space == "embedding":
        _check_embeddings(context, data, format)
        with on_machine(machine), quieted(quiet):
            tables = _embeddings(run, data or STREAM, output, options, split, encoders, format=format, force=force)
        counts = ", ".join(f"{count:,} {name}" for name, count in tables.imputed.items())
        return finish(tables, f"{tables.output}: embeddings of {counts} from {tables.samples:,} samples", as_json, quiet)
    _check(context, run, data, raw)
    _refuse_unused(context, run, options.want, bool(raw), bool(donors))
    files = {name: Path(path) for name, path in assignments(raw, "--raw").items()}
    inputs = [None if data == STREAM else data, donors, Path(options.calibration) if options.calibration else None, *files.values()]
    spare_inputs(output, force, run, *inputs)
    from mmtool.imputation.files import impute_files
    from mmtool.imputation.inputs import raw_samples, stored_samples

    if donors is not None:
        options = replace(options, donors=stored_samples(run, donors, "train" if (donors / "train").is_dir() else None))
    options = replace(options, seed=seed, format=format if format in ("h5ad", "h5mu") else "csv")
    with on_machine(machine), quieted(quiet):
        if data is None:
            samples = raw_samples(run, files, source_options(reading), by_row=by_row)
        else:
            samples = stored_samples(run, stdin_or(data), split)
        done = impute_files(run, samples, output, options, force=force, inputs=inputs)
    finish(done, _sentence(done), as_json, quiet)


def _check_embeddings(context: typer.Context, data: Path | None, format: str | None) -> None:
    """Refuse what has no effect on embeddings."""
    refuse_unused(context, "with --space embedding", "--raw", *OF_RAW, *OF_DRAWS, *OF_CHOICE)
    refuse_unused(context, f"as {format} with --space embedding", "--format", when=format not in (None, "npz", "parquet"))
    if data is None:
        raise UsageError("embeddings are predicted for token sets.", where="DATA", fix="Give shards.")


def _embeddings(
    adapter: Path,
    data: Path,
    output: Path,
    options: ImputeOptions,
    split: str | None,
    encoders: list[str] | None,
    *,
    format: str | None,
    force: bool,
) -> "EmbeddingSummary":
    """Tables of embeddings, as an adapter predicts them."""
    from mmtool.adaptation.embeddings import impute_embeddings

    return impute_embeddings(
        adapter,
        data,
        output,
        have=options.have,
        want=options.want,
        split=split,
        limit=options.limit,
        sources={name: Path(path) for name, path in assignments(encoders, "--encoder").items()},
        format="parquet" if format == "parquet" else "npz",
        force=force,
    )


def _check(context: typer.Context, run: Path, data: Path | None, raw: list[str] | None) -> None:
    """Refuse calls of which it is unclear what is to be imputed, and formats of embeddings."""
    if (run / "adapter.json").is_file():
        raise UsageError("this is an adapter, which predicts embeddings.", where=run, fix="Add --space embedding.")
    if (data is None) == (not raw):
        raise UsageError("what is to be imputed?", where="DATA/--raw", fix="Give a token set, or --raw NAME=PATH; one of the two.")
    refuse_unused(context, "without --space embedding", "--format", when=context.params["format"] in ("npz", "parquet"))


def _sentence(done: "ImputeSummary") -> str:
    counts = ", ".join(f"{count:,} {name}" for name, count in done.imputed.items())
    left = [f"{done.complete:,} with nothing to impute"] if done.complete else []
    left += [f"{done.skipped - done.complete:,} without any modality to impute from"] if done.skipped > done.complete else []
    return f"{done.output}: {counts} from {done.samples:,} samples" + (f" ({', '.join(left)})" if left else "")


def _refuse_unused(context: typer.Context, run: Path, wanted: tuple[str, ...], raw: bool, donors: bool) -> None:
    """Refuse options that have no effect on files made by a run."""
    from mmtool.training.run import open_run

    refuse_unused(context, "without --space embedding", "--encoder")
    refuse_unused(context, "with --raw", "--split", when=raw)
    refuse_unused(context, "without --raw", *OF_RAW, when=not raw)
    refuse_unused(context, "without --want", "--only-missing", when=not wanted)
    target = open_run(run).target
    refuse_unused(context, "where only a label is wanted", *OF_DRAWS, *OF_CHOICE, when=target is not None and wanted == (target.label,))
    refuse_unused(context, "without --donors", "--max-donors", when=not donors)
    refuse_unused(context, "with --donors", *OF_DRAWS, when=donors)
