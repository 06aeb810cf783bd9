"""`mmtool impute`: samples in which modalities are missing in, real files of these out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mmtool.cli.adapt import EncoderSources
from mmtool.cli.options import (
    DRAWING,
    READING,
    STREAM,
    ByRow,
    Clip,
    Force,
    Guidance,
    Json,
    KeyColumn,
    Layer,
    OutputDirectory,
    Quiet,
    Seed,
    Temperature,
    TextColumn,
    TopK,
    assignments,
    examples,
    finish,
    names,
    quieted,
    refuse_unused,
    sampling_params,
    spare_inputs,
    stdin_or,
)
from mmtool.common.errors import UsageError
from mmtool.preprocessing.readers.entries import SourceOptions

if TYPE_CHECKING:
    from mmtool.imputation.files import ImputeSummary

REAL = "Real data"
EMBEDDINGS = "Embeddings"
OF_DRAWS = ("--temperature", "--top-k", "--guidance", "--no-confidence")
OF_CHOICE = ("--draws", "--donors", "--max-donors", "--seed")
OF_RAW = ("--key-column", "--by-row", "--text-column", "--clip", "--layer")
EXAMPLES = examples(
    "mmtool impute run/ shards/ --have text --want image -o imputed/",
    "mmtool impute run/ shards/ --split test --draws 8 --temperature 0.8 -o imputed/",
    "mmtool impute run/ shards/ --split test --have text --want image --donors shards/train -o imputed/",
    "mmtool impute adapter/ shards/ --split test --space embedding --format parquet -o embeddings/",
    "mmtool impute run/ shards/ --draws 16 --format h5mu -o imputed/",
    "mmtool impute run/ --raw text=notes.csv --want image,speech -o imputed/",
)


def impute(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What `mmtool pretrain` (or `adapt`) wrote.")],
    output: OutputDirectory,
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="Token set with missing modalities; '-' is standard input.")] = None,
    have: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Given modalities; repeatable, or a,b.", show_default="all a sample holds"),
    ] = None,
    want: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Modalities to impute; repeatable, or a,b.", show_default="all a sample lacks"),
    ] = None,
    raw: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="Raw files of a modality, joined by key. Repeatable.", rich_help_panel=READING),
    ] = None,
    split: Annotated[
        Literal["train", "validation", "test"] | None,
        typer.Option(help="Only samples of this split.", show_default="all", rich_help_panel=READING),
    ] = None,
    key_column: KeyColumn = None,
    by_row: ByRow = False,
    text_column: TextColumn = None,
    clip: Clip = None,
    layer: Layer = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many samples.", rich_help_panel=READING)] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws per missing modality, the best first.", rich_help_panel=DRAWING)] = 1,
    temperature: Temperature = None,
    top_k: TopK = None,
    guidance: Guidance = None,
    confidence: Annotated[
        bool, typer.Option(help="Rank draws by how well the given can be told from them.", rich_help_panel=DRAWING)
    ] = True,
    donors: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="Impute with real data of this token set (of its train split, if any).",
            rich_help_panel=REAL,
        ),
    ] = None,
    max_donors: Annotated[int, typer.Option(min=2, help="At most so many of those that hold it, at random.", rich_help_panel=REAL)] = 1000,
    space: Annotated[
        Literal["raw", "embedding"],
        typer.Option(help="Raw files by a run, or embeddings as an adapter predicts them.", rich_help_panel=EMBEDDINGS),
    ] = "raw",
    format: Annotated[
        Literal["csv", "h5ad", "h5mu", "npz", "parquet"] | None,
        typer.Option(help="Of tables: csv, h5ad, h5mu; of embeddings: npz, parquet.", show_default="csv, npz"),
    ] = None,
    encoders: EncoderSources = None,
    seed: Seed = 0,
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
        refuse_unused(context, "with --space embedding", "--raw", *OF_RAW, *OF_DRAWS, *OF_CHOICE)
        refuse_unused(context, f"as {format} with --space embedding", "--format", when=format not in (None, "npz", "parquet"))
        if data is None:
            raise UsageError("embeddings are predicted for token sets.", where="DATA", fix="Give shards.")
        from mmtool.adaptation.embeddings import impute_embeddings

        sources = {name: Path(path) for name, path in assignments(encoders, "--encoder").items()}
        with quieted(quiet):
            filled = impute_embeddings(
                run, data, output, have=names(have), want=names(want), split=split, limit=limit, sources=sources,
                format="parquet" if format == "parquet" else "npz",
                force=force,
            )  # fmt: skip
        counts = ", ".join(f"{count:,} {name}" for name, count in filled.imputed.items())
        return finish(filled, f"{filled.output}: embeddings of {counts} from {filled.samples:,} samples", as_json, quiet)
    if (run / "adapter.json").is_file():
        raise UsageError("this is an adapter, which predicts embeddings.", where=run, fix="Add --space embedding.")
    if (data is None) == (not raw):
        raise UsageError("what is to be imputed?", where="DATA/--raw", fix="Give a token set, or --raw NAME=PATH; one of the two.")
    refuse_unused(context, "without --space embedding", "--format", when=format in ("npz", "parquet"))
    _refuse_unused(context, run, names(want), bool(raw), bool(donors))
    files = {name: Path(path) for name, path in assignments(raw, "--raw").items()}
    inputs = [None if data == STREAM else data, donors, *files.values()]
    spare_inputs(output, force, run, *inputs)
    from mmtool.imputation.files import ImputeOptions, impute_files
    from mmtool.imputation.inputs import raw_samples, stored_samples

    options = ImputeOptions(
        have=names(have),
        want=names(want),
        draws=draws,
        params=sampling_params(temperature, top_k, guidance),
        consistency=confidence,
        limit=limit,
        seed=seed,
        donors=stored_samples(run, donors, "train" if (donors / "train").is_dir() else None) if donors else None,
        max_donors=max_donors,
        format=format if format in ("h5ad", "h5mu") else "csv",
    )
    with quieted(quiet):
        if data is None:
            options_of_raw = SourceOptions(key_column=key_column, text_column=text_column, clip=clip, layer=layer)
            samples_in = raw_samples(run, files, options_of_raw, by_row=by_row)
        else:
            samples_in = stored_samples(run, stdin_or(data), split)
        done = impute_files(run, samples_in, output, options, force=force, inputs=inputs)
    finish(done, _sentence(done), as_json, quiet)


def _sentence(done: "ImputeSummary") -> str:
    counts = ", ".join(f"{count:,} {name}" for name, count in done.imputed.items())
    left = [f"{done.complete:,} with nothing to impute"] if done.complete else []
    left += [f"{done.skipped - done.complete:,} without what it takes"] if done.skipped > done.complete else []
    return f"{done.output}: {counts} from {done.samples:,} samples" + (f" ({', '.join(left)})" if left else "")


def _refuse_unused(context: typer.Context, run: Path, wanted: tuple[str, ...], raw: bool, donors: bool) -> None:
    """Refuse options that have no effect on files made by a run."""
    from mmtool.training.run import open_run

    refuse_unused(context, "without --space embedding", "--encoder")
    refuse_unused(context, "with --raw", "--split", when=raw)
    refuse_unused(context, "without --raw", *OF_RAW, when=not raw)
    target = open_run(run).target
    refuse_unused(context, "where only a label is wanted", *OF_DRAWS, *OF_CHOICE, when=target is not None and wanted == (target.label,))
    refuse_unused(context, "without --donors", "--max-donors", when=not donors)
    refuse_unused(context, "with --donors", *OF_DRAWS, when=donors)
