"""Rows of CSV, TSV, JSON-lines and npz files as (where, cells): a row that cannot be read is given as broken, with its line."""

import io
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from mmtool.common.errors import DataError
from mmtool.preprocessing.keys import has_row_names, numbers_rows
from mmtool.preprocessing.readers.arrays import load_arrays
from mmtool.preprocessing.readers.csv_rows import Cells, CsvRows, damage
from mmtool.preprocessing.readers.delimited import (
    BLANKS,
    COMMA,
    TAB,
    USUAL,
    Layout,
    declared_layout,
    end_of_comments,
    layout_of,
)
from mmtool.preprocessing.readers.entries import Broken, SourceOptions
from mmtool.preprocessing.readers.line_rows import LineRows
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.readers.text_streams import decoded, lines_of, open_text

HEAD = 16 << 20  # characters by which the layout of a table is recognised
LOOKED_AT_BYTES = 64  # by which it is seen whether a file declares its delimiter; a multiple of two, as in UTF-16
SERIES_MARKS = ("!", "^")  # with which a GEO series matrix begins
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read_text_file(file: RawFile) -> str:
    """The content of a UTF-8 file, without byte order mark. Raises DataError naming the line that is not UTF-8."""
    data = file.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError("the text is not UTF-8.", where=f"{file.where}:{line}", fix="Convert it, e.g. with iconv.") from error


def read_cells(
    file: RawFile,
    columns: tuple[str, ...],
    may_break: Collection[str] | None = None,
    *,
    delimiter: str | None = None,
    comments: tuple[str, ...] = (),
    table: TableOptions | None = None,
) -> tuple[list[str], Cells]:
    """Header and rows of a text in columns; `columns` is the header of a file that has none.

    may_break: columns whose cells may hold line breaks, None: all. delimiter: of the columns; default: that of the format. comments: marks
    of lines above the header that are passed over, as are rows of nothing but delimiters there. table: the file is a table, whose layout
    is recognised (`delimited.py`), whose columns may share names, and whose first column may lack one, as R writes row names. Rows with
    broken quotes, too many or too few cells and bytes that are not UTF-8 are given as `Broken`. Raises DataError for an empty file, a
    broken header, and a name that stands twice in it.
    """
    layout = plain_layout(file, delimiter, comments) if table is None else _layout(file, table)
    rows = _rows(file, layout)
    first = None if columns else next(rows, None)
    while comments and first is not None and not isinstance(first, Broken) and not any(cell.strip() for cell in first[1]):
        first = next(rows, None)
    if isinstance(first, Broken):
        raise first.error
    header = list(columns) or (first[1] if first else [])
    if not header:
        raise DataError("the file is empty.", where=file.where, fix="Give a file with a header and rows.")
    if table is None:
        check_header(header, file.where)
    else:
        header = [name.strip() for name in header]
    if not columns:
        _check_separator(header, file, layout)
    if table is not None and not columns:
        second = next(islice(_rows(file, layout), 1, None), None)
        if second is not None and not isinstance(second, Broken) and has_row_names(header, second[1]):
            header = ["", *header]
    rows.expect(header, may_break)
    return header, rows


def _check_separator(header: Sequence[str], file: RawFile, layout: Layout) -> None:
    """Raise DataError for a single column whose name holds what separates columns elsewhere, as spreadsheets write it in Europe, or as many
    commas as the cell below."""
    if len(header) > 1:
        return
    separator = next((name for mark, name in SEPARATORS.items() if mark in header[0]), None)
    if separator is None and layout.delimiter != COMMA and COMMA in header[0]:
        row = next(islice(_rows(file, layout), 1, None), None)
        commas = None if row is None or isinstance(row, Broken) else row[1][0].count(COMMA)
        separator = "commas" if commas == header[0].count(COMMA) else None
    if separator is not None:
        what = f"the columns of this .{file.format} seem to be separated by {separator}: its header is one cell, {header[0][:60]!r}."
        fix = "Say so with --delimiter, or save it with commas between columns (or with tabs, as .tsv)."
        raise DataError(what, where=file.where, fix=fix)


def plain_layout(file: RawFile, delimiter: str | None, comments: tuple[str, ...]) -> Layout:
    """The layout by the name of a file, or by what its first line declares; behind comments."""
    with file.open() as content:
        head = decoded(content.read(LOOKED_AT_BYTES))
    layout = declared_layout(head) or Layout(USUAL.get(file.format, COMMA))
    layout = replace(layout, delimiter=delimiter or layout.delimiter)
    if not comments or not head.lstrip().startswith(comments):
        return layout
    with open_text(file) as text:
        start = text.read(HEAD)
    table = end_of_comments(start, 0, comments)[1]
    return replace(layout, start=table, lines=start.count("\n", 0, table))


def _layout(file: RawFile, table: TableOptions) -> Layout:
    """The layout by the first lines of a file; by all of it where a table may end before the file does."""
    with open_text(file) as text:
        head = text.read(HEAD)
        if head.startswith(SERIES_MARKS):
            head += text.read()
        elif len(head) == HEAD:
            head = head[: head.rfind("\n") + 1] or head
    return layout_of(head, file.format, table.delimiter, decimal=table.decimal)


def _rows(file: RawFile, layout: Layout) -> CsvRows | LineRows:
    """The rows of a table behind what stands before it."""
    by_lines = layout.delimiter in (TAB, BLANKS)
    text = open_text(file, "\n" if by_lines else "")
    if layout.stop is not None:
        text = io.StringIO(layout.body(text.read()), newline="\n" if by_lines else "")
    else:
        text.read(layout.start)
    lines = lines_of(text, file.where)
    return (LineRows if by_lines else CsvRows)(lines, file.where, layout.delimiter, layout.lines)


def filled(rows: Cells) -> Cells:
    """Without rows of nothing but delimiters, which spreadsheets write for blank ones. Not for rows whose numbers are keys."""
    return (row for row in rows if isinstance(row, Broken) or len(row[1]) < 2 or any(cell.strip() for cell in row[1]))


def picked(header: Sequence[str], rows: Cells, names: Sequence[str]) -> Iterator[list[str] | None]:
    """The cells of some columns, row by row, None for a broken row."""
    indices = [header.index(name) for name in names]
    for row in rows:
        yield None if isinstance(row, Broken) else [row[1][start_of_table] for start_of_table in indices]


def read_rows(file: RawFile, options: SourceOptions) -> Iterator[tuple[str, dict[str, Any]] | Broken]:
    """Rows of a CSV, TSV, JSON-lines or npz file as (where, column -> value)."""
    if file.format == "jsonl":
        yield from _json_rows(file)
    elif file.format == "npz":
        yield from _array_rows(file)
    else:
        header, rows = read_cells(file, options.columns, delimiter=options.table.delimiter)
        for row in rows if numbers_rows(options, header) else filled(rows):
            yield row if isinstance(row, Broken) else (f"{file.where}:{row[0]}", dict(zip(header, row[1], strict=True)))


def read_lines(file: RawFile) -> Iterator[tuple[str, str] | Broken]:
    """The lines of a file as (where, text), line ends left out."""
    number = 0
    for number, line in enumerate(lines_of(open_text(file, "\n"), file.where), 1):
        line = line.removesuffix("\n")
        yield damage([line], file.where, number) or (f"{file.where}:{number}", line.removesuffix("\r"))
    if not number:
        yield f"{file.where}:1", ""


def check_header(header: list[str], where: str) -> None:
    """Raise DataError where two columns have the same name."""
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"the column {twice[0]!r} stands twice in the header.", where=where, fix="Rename one (or name all with --columns).")


def _json_rows(file: RawFile) -> Iterator[tuple[str, dict[str, Any]] | Broken]:
    """Rows with the fields that any of them has, None where a row lacks one."""
    fields: dict[str, None] = {}
    for read in _json_lines(file):
        if not isinstance(read, Broken):
            fields |= dict.fromkeys(read[1])
    for read in _json_lines(file):
        yield read if isinstance(read, Broken) else (read[0], {name: read[1].get(name) for name in fields})


def _json_lines(file: RawFile) -> Iterator[tuple[str, dict[str, Any]] | Broken]:
    for number, line in enumerate(lines_of(open_text(file, "\n"), file.where), 1):
        line = line.removesuffix("\n")
        if not line.strip():
            continue
        where = f"{file.where}:{number}"
        try:
            yield damage([line], file.where, number) or (where, _json_object(line, where))
        except DataError as error:
            yield Broken(where, error)


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=partial(_fields_once, where))
    except DataError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"this is not JSON ({error}).", where=where, fix="Write one JSON object per line.") from error
    if not isinstance(row, dict):
        raise DataError("this is not a JSON object.", where=where, fix="Write one JSON object per line.")
    return row


def _fields_once(where: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of an object. Raises DataError for one that stands twice, of which JSON readers keep the last."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise DataError(f"the field {twice!r} stands twice.", where=where, fix="Keep one, or write several texts as a list.")
    return fields


def _array_rows(file: RawFile) -> Iterator[tuple[str, dict[str, Any]]]:
    """One row per element of the one-dimensional arrays, which must agree in length."""
    arrays = {name: array for name, array in load_arrays(file).items() if array.ndim == 1}
    if len({len(array) for array in arrays.values()}) != 1:
        raise DataError("its one-dimensional arrays do not agree in length.", where=file.where, fix="Save one value per sample in each.")
    for index in range(len(next(iter(arrays.values())))):
        yield f"{file.where}, row {index}", {name: array[index].item() for name, array in arrays.items()}
