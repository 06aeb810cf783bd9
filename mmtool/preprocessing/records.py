"""Rows of CSV, TSV, JSON-lines and npz files as (where, cells): encoding, quoting and ragged rows are errors with a line number."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from mmtool.errors import DataError
from mmtool.preprocessing.arrays import load_arrays
from mmtool.preprocessing.entries import SourceOptions
from mmtool.preprocessing.keys import has_row_names
from mmtool.preprocessing.raw_files import RawFile

Cells = Iterator[tuple[int, list[str]]]  # line number and cells of each row


def read_text_file(file: RawFile) -> str:
    """The content of a UTF-8 file, without byte order mark. Raises DataError naming the line that is not UTF-8."""
    data = file.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError("the text is not UTF-8.", where=f"{file.where}:{line}", fix="Convert it, e.g. with iconv.") from error


def read_cells(file: RawFile, columns: tuple[str, ...], *, row_names: bool = False) -> tuple[list[str], Cells]:
    """Header and rows of a CSV or TSV file; `columns` is the header of a file that has none.

    row_names: the header may lack the name of the first column, as R writes row names. Raises DataError for an empty file, a name that
    stands twice in the header, broken quotes and ragged rows.
    """
    rows = (_tsv_rows if file.format == "tsv" else _csv_rows)(read_text_file(file), file.where)
    header = list(columns) or next(rows, (0, []))[1]
    if not header:
        raise DataError("the file is empty.", where=file.where, fix="Give a file with a header and rows.")
    check_header(header, file.where)
    if row_names and not columns:
        first = next(rows, None)
        rows = rows if first is None else chain([first], rows)
        header = ["", *header] if first and has_row_names(header, first[1]) else header
    return header, _even(rows, header, file.where)


def picked(header: Sequence[str], rows: Cells, names: Sequence[str]) -> Iterator[list[str]]:
    """The cells of some columns, row by row, up to the first malformed row: whoever reads the rows for good reports it."""
    places = [header.index(name) for name in names]
    with suppress(DataError):
        for _, cells in rows:
            yield [cells[place] for place in places]


def read_rows(file: RawFile, options: SourceOptions) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a CSV, TSV, JSON-lines or npz file as (where, column -> value)."""
    if file.format == "jsonl":
        yield from _json_rows(file)
    elif file.format == "npz":
        yield from _array_rows(file)
    else:
        header, rows = read_cells(file, options.columns)
        for line, cells in rows:
            yield f"{file.where}:{line}", dict(zip(header, cells, strict=True))


def check_header(header: list[str], where: str) -> None:
    """Raise DataError where two columns have the same name."""
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"the column {twice[0]!r} stands twice in the header.", where=where, fix="Rename one (or name all with --columns).")


def _csv_rows(text: str, where: str) -> Cells:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"the CSV is malformed ({error}).", where=f"{where}:{reader.line_num}", fix="Export it again.") from error


def _tsv_rows(text: str, where: str) -> Cells:
    """Text collections in TSV hold stray quotes, so only a cell that is quoted as a whole is unquoted."""
    for line, row in enumerate(text.split("\n"), 1):
        row = row.removesuffix("\r")
        if row:
            yield line, [_unquoted(cell) for cell in row.split("\t")]


def _unquoted(cell: str) -> str:
    inner = cell[1:-1].replace('""', "")
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner
    return cell[1:-1].replace('""', '"') if quoted else cell


def _even(rows: Cells, header: list[str], where: str) -> Cells:
    for line, cells in rows:
        if len(cells) != len(header):
            fix = "Mend the row; in a file without header, name the columns with --columns."
            raise DataError(f"{len(cells)} cells where the header has {len(header)}.", where=f"{where}:{line}", fix=fix)
        yield line, cells


def _json_rows(file: RawFile) -> Iterator[tuple[str, dict[str, Any]]]:
    for line, text in enumerate(read_text_file(file).split("\n"), 1):
        where = f"{file.where}:{line}"
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise DataError(f"this is not JSON ({error}).", where=where, fix="Write one JSON object per line.") from error
        if not isinstance(row, dict):
            raise DataError("this is not a JSON object.", where=where, fix="Write one JSON object per line.")
        yield where, row


def _array_rows(file: RawFile) -> Iterator[tuple[str, dict[str, Any]]]:
    """One row per element of the one-dimensional arrays, which must agree in length."""
    arrays = {name: array for name, array in load_arrays(file).items() if array.ndim == 1}
    if len({len(array) for array in arrays.values()}) != 1:
        raise DataError("its one-dimensional arrays do not agree in length.", where=file.where, fix="Save one value per sample in each.")
    for index in range(len(next(iter(arrays.values())))):
        yield f"{file.where}, row {index}", {name: array[index].item() for name, array in arrays.items()}
