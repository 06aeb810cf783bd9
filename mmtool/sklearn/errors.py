"""Errors of the stages in the words of the estimator: its tables, rows and parameters instead of its files and the options of commands."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmtool.common.errors import DataError, MmtoolError, UsageError
from mmtool.sklearn.containers import Frames
from mmtool.tokenizers.table import TableTokenizer

WRITTEN = "another process is writing this output"
FIXES = {  # what an advice speaks of -> advice that suits data frames; the first that applies
    "--column-type": "Correct it, leave the column out, or say what it holds, e.g. column_types={example}.",
    "--duplicates": "Rename them.",
    "--text-column": "Give rows that hold values.",
    "--label": "Subtract an offset from the column, or leave it out.",
    "--max-donors": "Fit on more samples that have it, or ask for fewer with n=...",
}
PARAMETERS = {"--column-type": "column_types", "--n-bins": "bins"}  # others have the name of their option
DECLARED = re.compile(r"--column-type '(.+?)=(.+?)'")
COLUMN = re.compile(r"the column '(.+?)'")
OPTION = re.compile(r"--[a-z][a-z-]*")


@contextmanager
def in_words_of_the_estimator(frames: Frames, folder: Path | None = None) -> Iterator[None]:
    """Errors are raised as of the frames, which lie as `NAME.csv` in the folder."""
    try:
        yield
    except MmtoolError as error:
        where = None if error.where is None else _place(str(error.where), frames, folder)
        fix = error.fix and _renamed(_advice(error.fix, error.what))
        if error.what.startswith(WRITTEN):
            fix = f"{fix} A work_dir is for one estimator: give none where several are fitted at once, as in a grid search with n_jobs."
        kind = UsageError if isinstance(error, UsageError) else DataError
        raise kind(error.what, where=where, fix=fix) from error


def _place(where: str, frames: Frames, folder: Path | None) -> str:
    """A table and the label of a row, for a file and a line."""
    for name, frame in frames.items():
        path = f"{folder}/{name}.csv"
        if where.startswith(path):
            line = where.removeprefix(path).removeprefix(":")
            simple = line.isdecimal() and len(Path(path).read_bytes().splitlines()) == len(frame) + 1  # no cell of several lines
            return f"{name}, {frame.index[int(line) - 2]}" if simple and int(line) > 1 else name
    return next(iter(frames)) if where == TableTokenizer.kind and len(frames) == 1 else _renamed(where)


def _advice(fix: str, what: str) -> str:
    named = COLUMN.search(what)
    column, kind = next(iter(DECLARED.findall(fix)), (named[1] if named else "COLUMN", "category"))
    known = (advice for option, advice in FIXES.items() if option in fix)
    return next(known, fix).replace("{example}", f"{{{column!r}: {kind!r}}}")


def _renamed(text: str) -> str:
    return OPTION.sub(lambda option: PARAMETERS.get(option[0], option[0].removeprefix("--").replace("-", "_")), text)
