"""`mmtool lint`: is an artefact whole?"""

from pathlib import Path
from typing import Annotated

import typer

from mmtool.cli.config_options import with_config_options
from mmtool.cli.options import Json, examples, json_line

EXAMPLES = examples("mmtool lint shards/ run/", "mmtool lint tokens/*.tar --json")


@with_config_options
def lint(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Tokenizers, token sets, runs, checkpoints or reports.")],
    as_json: Json = False,
) -> None:
    """Verify artefacts: digests, counts, end records, code ranges, fingerprints.

    One line per problem, or one line that says ok; exit code 1 where anything is wrong.
    """
    from mmtool.artefacts import lint as verify

    problems_of = {str(path): verify(path) for path in paths}
    if as_json:
        print(json_line({path: [str(problem) for problem in problems] for path, problems in problems_of.items()}), flush=True)
    else:
        for path, problems in problems_of.items():
            print("\n".join(f"problem: {problem}" for problem in problems) or f"ok: {path}", flush=True)
    if any(problems_of.values()):
        raise typer.Exit(1)
