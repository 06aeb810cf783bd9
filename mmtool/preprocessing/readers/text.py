"""Texts: one per .txt file (or per line), or a column of CSV, TSV, JSON lines and npz."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from mmtool.common.errors import DataError
from mmtool.preprocessing.keys import Keys, RowSource, choose_keys, nameless_columns
from mmtool.preprocessing.readers.entries import KEY, Broken, Entry, SourceOptions, is_unicode, key_of, require_column, row_entry
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.records import read_lines, read_rows, read_text_file

TEXT = "text"


def read_text(file: RawFile, options: SourceOptions) -> Iterator[Entry | Broken | Keys]:
    """Entries of one file; their values are str, None where there is no text."""
    if file.format != "txt":
        yield from _row_entries(file.held(), options)
    elif options.lines:
        lines = list(read_lines(file))
        for number, line in enumerate(lines):
            if isinstance(line, Broken):
                yield line
            else:
                yield Entry(key_of(file.stem, number), line[0], partial(str, line[1]), rows=len(lines))
    else:
        yield Entry(file.stem, file.where, partial(read_text_file, file))


def _row_entries(file: RawFile, options: SourceOptions) -> Iterator[Entry | Broken | Keys]:
    keys = _keys(file, options)
    if keys is not None:
        yield keys
    for number, found in enumerate(read_rows(file, options)):
        if isinstance(found, Broken):
            yield found
            continue
        where, row = found
        try:
            yield _row_entry(row, number, where, keys, options)
        except DataError as error:
            if file.format != "jsonl":  # elsewhere all rows have the same columns
                raise
            yield Broken(where, error)


def _keys(file: RawFile, options: SourceOptions) -> Keys | None:
    """Where the keys are, by the first row that has a text; None where no row has one."""
    for found in read_rows(file, options):
        if isinstance(found, Broken):
            continue
        try:
            text_column = _text_column(*found, options)
        except DataError:
            if file.format != "jsonl":
                raise
            continue
        header = list(found[1])
        source = RowSource(file.where, file.stem, header, partial(_cells, file, options), nameless_columns(header))
        return choose_keys(source, options, apart=(text_column,))
    return None


def _cells(file: RawFile, options: SourceOptions, names: Sequence[str]) -> Iterator[list[Any] | None]:
    for read in read_rows(file, options):
        yield None if isinstance(read, Broken) else [read[1].get(name) for name in names]


def _row_entry(row: dict[str, Any], number: int, where: str, keys: Keys | None, options: SourceOptions) -> Entry:
    column = _text_column(where, row, options)
    assert keys is not None  # a row with a text column has shown where the keys are
    if keys.column is not None:
        require_column(keys.column, row, where, "--key-column")
    return row_entry(row, keys.of(row, number), where, partial(_text_of, row[column], column, where), options, keys.rows)


def _text_column(where: str, row: dict[str, Any], options: SourceOptions) -> str:
    name = options.text_column or (next(iter(row)) if len(row) == 1 and KEY not in row else TEXT)
    return require_column(name, row, where, "--text-column (or name them all with --columns)")


def _text_of(value: Any, column: str, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise DataError(f"the column {column!r} holds {value!r}, which is no text.", where=where, fix="Name another with --text-column.")
    if value is not None and not is_unicode(value):
        raise DataError(f"the column {column!r} holds half of a character: {value!r}.", where=where, fix="Write it whole, or leave it out.")
    return value
