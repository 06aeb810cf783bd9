"""Folders of 10x Genomics' Cell Ranger: `matrix.mtx`, genes by cells, beside `barcodes.tsv` and `features.tsv` (or `genes.tsv`).

All may be compressed, and called after their sample (`GSM1_matrix.mtx.gz`, `GSM1_barcodes.tsv.gz`). The barcodes are keys, the ids of the
features (ENSG...), of which no two are the same, their names; a gene that the matrix leaves out has no counts.
"""

import io
import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from glob import escape
from typing import Any

import numpy as np

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.readers.entries import Broken, Entry, Note, SourceOptions
from mmtool.preprocessing.readers.raw_files import RawFile, raw_file
from mmtool.preprocessing.readers.records import read_lines
from mmtool.preprocessing.readers.table_values import in_single_precision

FORMAT = "mtx"
MATRIX = re.compile(r"(?P<prefix>.*)matrix\.mtx(\.\w+)?", re.IGNORECASE)
LISTS = re.compile(r"(?P<prefix>.*)(barcodes|features|genes)\.tsv(\.\w+)?", re.IGNORECASE)
CELLS_AT_ONCE = 256  # dense
FIX = "Put barcodes.tsv and features.tsv (or genes.tsv) beside the matrix, as Cell Ranger writes them."


def is_list_beside(file: RawFile) -> bool:
    """Whether a file lists the barcodes or features of a matrix that lies beside it."""
    match = LISTS.fullmatch(file.path.name) if file.path is not None else None
    return match is not None and file.path is not None and any(file.path.parent.glob(f"{escape(match['prefix'])}matrix.mtx*"))


def read_cell_ranger(file: RawFile, options: SourceOptions) -> Iterator[Entry | Note]:
    """One entry for each barcode; values are ((F,) float32, ids of features).

    Raises UsageError where the features are of several types and none is chosen, DataError where lists are missing or do not fit.
    """
    barcodes = [line.split("\t")[0] for line in _lines(file, "barcodes")]
    features = [line.split("\t") for line in _lines(file, "features", "genes")]
    matrix = _matrix(file, (len(features), len(barcodes)))
    kept = _of_type(features, file.where, options)
    names = tuple(features[index][0] for index in kept)
    _check_ids(names, file.where)
    yield Note("cells", f"samples: {len(barcodes):,} barcodes of {file.where}; features: the {len(names):,} ids beside it")
    folder, slash, _ = file.stem.rpartition("/")
    cells = matrix[kept].T.tocsr()
    for start in range(0, len(barcodes), CELLS_AT_ONCE):
        for barcode, row in zip(barcodes[start:], cells[start : start + CELLS_AT_ONCE].toarray(), strict=False):
            where = f"{file.where}, {barcode}"
            yield Entry(f"{folder}{slash}{barcode}", where, partial(in_single_precision, row.astype(np.float64), names, where))


def _check_ids(names: tuple[str, ...], where: str) -> None:
    bad = next((name for name, count in Counter(names).items() if count > 1 or not name), None)
    if bad is not None:
        what = f"the id {bad!r} of a feature stands twice." if bad else "a feature has no id."
        raise DataError(what, where=where, fix="Give each feature an id of its own, in the first column of its list.")


def _lines(file: RawFile, *names: str) -> list[str]:
    """The lines of the list that is called so."""
    match = MATRIX.fullmatch(file.path.name) if file.path is not None else None
    if file.path is None or match is None:
        raise DataError("only a file called matrix.mtx, in no archive, has its lists beside it.", where=file.where, fix=FIX)
    paths = (path for name in names for path in sorted(file.path.parent.glob(f"{escape(match['prefix'])}{name}.tsv*")))
    path = next(paths, None)
    if path is None:
        raise DataError(f"there is no {names[0]}.tsv beside it.", where=file.where, fix=FIX)
    lines: list[str] = []
    for line in read_lines(raw_file(path)):
        if isinstance(line, Broken):
            raise line.error
        lines.append(line[1])
    return lines


def _matrix(file: RawFile, shape: tuple[int, int]) -> Any:
    from scipy.io import mmread
    from scipy.sparse import csr_matrix

    try:
        entries = mmread(io.BytesIO(file.read()))
        matrix = csr_matrix(entries)  # adds up entries of one place
    except (ValueError, IndexError, OverflowError, TypeError) as error:
        raise DataError(f"this is no whole Matrix Market file ({error}).", where=file.where, fix="Get it again.") from error
    if matrix.nnz < getattr(entries, "nnz", 0):
        raise DataError("a feature of a cell has two numbers.", where=file.where, fix="Leave one of them, or their sum.")
    if matrix.dtype.kind == "c":
        raise DataError("the numbers are complex.", where=file.where, fix="Write real ones.")
    if matrix.shape != shape:
        what = f"the matrix has the shape {matrix.shape} for {shape[0]} features and {shape[1]} barcodes."
        raise DataError(what, where=file.where, fix="Get the three files of one run.")
    return matrix


def _of_type(features: list[list[str]], where: str, options: SourceOptions) -> list[int]:
    """The places of the features of the type that is wanted: the third column of their list, where it has one."""
    types = [feature[2] if len(feature) > 2 else "" for feature in features]
    known = list(dict.fromkeys(types))
    if options.mod is None and len(known) == 1:
        return list(range(len(features)))
    if options.mod not in known:
        fix = "Tokenize one after another, each with --mod TYPE and a --name of its own."
        raise UsageError(f"the features are of the types {', '.join(map(repr, known))}.", where=where, fix=fix)
    return [index for index, name in enumerate(types) if name == options.mod]
