"""Texts: one per .txt file (or per line), or a column of CSV, TSV, JSON lines and npz."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from mmtool.errors import DataError
from mmtool.preprocessing.entries import KEY, Broken, Entry, SourceOptions, is_unicode, require_column, row_entry
from mmtool.preprocessing.raw_files import RawFile
from mmtool.preprocessing.records import read_lines, read_rows, read_text_file

TEXT = "text"


def read_text(file: RawFile, options: SourceOptions) -> Iterator[Entry | Broken]:
    """Entries of one file; their values are str."""
    if file.format != "txt":
        yield from _row_entries(file, options)
    elif options.lines:
        for number, line in enumerate(read_lines(file)):
            yield line if isinstance(line, Broken) else Entry(f"{file.stem}-{number:06d}", line[0], partial(str, line[1]))
    else:
        yield Entry(file.stem, file.where, partial(read_text_file, file))


def _row_entries(file: RawFile, options: SourceOptions) -> Iterator[Entry | Broken]:
    for number, found in enumerate(read_rows(file, options)):
        if isinstance(found, Broken):
            yield found
            continue
        where, row = found
        try:
            yield _row_entry(row, where, f"{file.stem}-{number:06d}", options)
        except DataError as error:
            if file.format != "jsonl":  # elsewhere all rows have the same columns
                raise
            yield Broken(where, error)


def _row_entry(row: dict[str, Any], where: str, numbered: str, options: SourceOptions) -> Entry:
    column = require_column(_text_column(row, options), row, where, "--text-column (or name them all with --columns)")
    key_column = options.key_column or (KEY if KEY in row else None)
    key = str(row[require_column(key_column, row, where, "--key-column")]).strip() if key_column else numbered
    return row_entry(row, key, where, partial(_text_of, row[column], column, where), options)


def _text_column(row: dict[str, Any], options: SourceOptions) -> str:
    return options.text_column or (next(iter(row)) if len(row) == 1 and KEY not in row else TEXT)


def _text_of(value: Any, column: str, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"the column {column!r} holds {value!r}, which is no text.", where=where, fix="Name another with --text-column.")
    if not is_unicode(value):
        raise DataError(f"the column {column!r} holds half of a character: {value!r}.", where=where, fix="Write it whole, or leave it out.")
    return value
