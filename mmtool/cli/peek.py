"""`mmtool peek`: what does a token set hold, decoded?"""

from pathlib import Path
from typing import Annotated

import typer

from mmtool.cli.config_options import with_config_options
from mmtool.cli.options import Force, Json, OutputDirectory, Quiet, Seed, examples, finish, quieted, stdin_or

EXAMPLES = examples(
    "mmtool peek shards/ --split train -o look/",
    "mmtool tokenize audio clips/ --fit -o - | mmtool peek - --samples 20 -o look/",
)


@with_config_options
def peek(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Shards directory or token tar; '-' is standard input.")],
    output: OutputDirectory,
    split: Annotated[str | None, typer.Option(help="Of a shards directory.", show_default="train")] = None,
    samples: Annotated[int, typer.Option(help="How many, of every combination of modalities in turn.")] = 12,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Decode some samples to look at, to listen to and to read, before anything is trained on them.

    sheet.png shows samples below each other and their modalities side by side; folders 00, 01 ... hold the same as files. It is what a
    model can learn from: what tokens lost is lost there as well.
    """
    from mmtool.evaluation.peek import peek as write_samples

    with quieted(quiet):
        done = write_samples(stdin_or(data), output, split=split, samples=samples, seed=seed, force=force)
    held = ", ".join(f"{count:,} of {names}" for names, count in done.combinations.items())
    finish(done, f"{done.output}: {done.samples} of {sum(done.combinations.values()):,} samples ({held})", as_json, quiet)
