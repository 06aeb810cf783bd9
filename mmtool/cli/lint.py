"""`mmtool lint`: is an artefact whole?"""

from pathlib import Path
from typing import Annotated

import typer

from mmtool.cli.config_options import with_config_options
from mmtool.cli.options import Json, examples, json_line
from mmtool.common.log import log
from mmtool.common.urls import as_given

EXAMPLES = examples("mmtool lint shards/ run/", "mmtool lint tokens/*.tar --json", "mmtool lint run/ --repair")


@with_config_options
def lint(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Tokenizers, token sets, runs, checkpoints or reports.")],
    repair: Annotated[bool, typer.Option("--repair", help="Remove what interrupted commands left in and beside them, never data.")] = False,
    as_json: Json = False,
) -> None:
    """Verify artefacts: digests, counts, end records, code ranges, fingerprints.

    One line per problem, or one line that says ok; exit code 1 where anything is wrong. Warnings, on standard error, are of what would
    weaken training on a token set: held-out samples that training holds too, thin pairs, modalities that never vary.

    Warnings are also of what interrupted commands left behind: temporary files and folders, half-deleted checkpoints, locks. --repair
    removes these and names each. What living processes or those of another host have there is left alone.
    """
    from mmtool.artefacts import lint as verify
    from mmtool.artefacts import weaknesses
    from mmtool.common.leftovers import report_leftovers

    repaired = {path: report_leftovers(path, repair) for path in paths}
    problems_of = {str(path): verify(path, repaired[path]) for path in paths}
    for path in paths:
        for weakness in [] if problems_of[str(path)] else weaknesses(path):
            log(f"warning: {path}: {weakness}")
    if as_json:
        print(json_line({path: [str(problem) for problem in problems] for path, problems in problems_of.items()}), flush=True)
    else:
        for name, problems in problems_of.items():
            print(as_given("\n".join(f"problem: {problem}" for problem in problems) or f"ok: {name}"), flush=True)
    if any(problems_of.values()):
        raise typer.Exit(1)
