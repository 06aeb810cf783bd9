"""`mmtool impute`: samples with holes in, real files for the holes out."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mmtool.cli.options import (
    DRAWING,
    READING,
    Clip,
    Force,
    Json,
    KeyColumn,
    OutputDirectory,
    Quiet,
    Seed,
    Temperature,
    TextColumn,
    TopK,
    assignments,
    examples,
    finish,
    hushed,
    names,
    stdin_or,
)
from mmtool.errors import UsageError
from mmtool.preprocessing.entries import SourceOptions

EXAMPLES = examples(
    "mmtool impute run/ shards/ --have text --want image -o filled/",
    "mmtool impute run/ shards/ --split test --samples 8 --temperature 0.8 -o filled/",
    "mmtool impute run/ --raw text=notes.csv --want image,speech -o filled/",
)


def impute(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What `mmtool pretrain` wrote.")],
    output: OutputDirectory,
    data: Annotated[Path | None, typer.Argument(metavar="DATA", help="Token set with holes; '-' is standard input.")] = None,
    have: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Given modalities; repeatable, or a,b.", show_default="all a sample holds"),
    ] = None,
    want: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Modalities to fill; repeatable, or a,b.", show_default="all a sample lacks"),
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
    text_column: TextColumn = None,
    clip: Clip = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many samples.", rich_help_panel=READING)] = None,
    samples: Annotated[int, typer.Option(min=1, help="Draws for each hole, the best first.", rich_help_panel=DRAWING)] = 1,
    temperature: Temperature = 1.0,
    top_k: TopK = None,
    confidence: Annotated[
        bool, typer.Option(help="Rank draws by how well the given can be told from them.", rich_help_panel=DRAWING)
    ] = True,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fill holes: any modalities from any others, pairs never seen together included.

    Writes real files (PNG, WAV, TXT, CSV, NPZ) and imputed.jsonl, which names for each hole its files and how much to trust them.
    """
    if (data is None) == (not raw):
        raise UsageError("what shall be filled?", where="DATA/--raw", fix="Give a token set, or --raw NAME=PATH; one of the two.")
    files = {name: Path(path) for name, path in assignments(raw, "--raw").items()}
    from mmtool.impute import ImputeOptions, impute_files
    from mmtool.impute_inputs import raw_samples, stored_samples

    options = ImputeOptions(
        have=names(have),
        want=names(want),
        draws=samples,
        temperature=temperature,
        top_k=top_k,
        consistency=confidence,
        limit=limit,
        seed=seed,
    )
    with hushed(quiet):
        if data is None:
            holed = raw_samples(run, files, SourceOptions(key_column=key_column, text_column=text_column, clip=clip))
        else:
            holed = stored_samples(run, stdin_or(data), split)
        done = impute_files(run, holed, output, options, force=force)
    made = ", ".join(f"{count:,} {name}" for name, count in done.imputed.items())
    finish(done, f"{done.output}: {made} from {done.samples:,} samples ({done.skipped:,} without what it takes)", as_json, quiet)
