"""Texts: one per .txt file (or per line), or a column of CSV, TSV, JSON lines and npz."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from mmtool.errors import DataError
from mmtool.preprocessing.entries import Entry, SourceOptions, key_of, require_column, row_entry
from mmtool.preprocessing.keys import Keys, RowSource, choose_keys, nameless_columns
from mmtool.preprocessing.raw_files import RawFile
from mmtool.preprocessing.records import read_rows, read_text_file

TEXT = "text"


def read_text(file: RawFile, options: SourceOptions) -> Iterator[Entry | Keys]:
    """Entries of one file; their values are str, None where there is no text."""
    if file.format != "txt":
        yield from _row_entries(file.held(), options)
    elif options.lines:
        lines = read_text_file(file).removesuffix("\n").split("\n")
        for number, line in enumerate(lines):
            text = partial(str, line.removesuffix("\r"))
            yield Entry(key_of(file.stem, number), f"{file.where}:{number + 1}", text, rows=len(lines))
    else:
        yield Entry(file.stem, file.where, partial(read_text_file, file))


def _row_entries(file: RawFile, options: SourceOptions) -> Iterator[Entry | Keys]:
    first = next(read_rows(file, options), None)
    if first is None:
        return
    header, text_column = list(first[1]), _text_column(*first, options)

    def cells(names: Sequence[str]) -> Iterator[list[Any]]:
        with suppress(DataError):  # whoever reads the rows for good reports it
            for _, row in read_rows(file, options):
                yield [row.get(name) for name in names]

    source = RowSource(file.where, file.stem, header, cells, nameless_columns(header))
    keys = choose_keys(source, options, apart=(text_column,))
    yield keys
    for number, (where, row) in enumerate(read_rows(file, options)):
        column = _text_column(where, row, options)
        if keys.column is not None:
            require_column(keys.column, row, where, "--key-column")
        yield row_entry(row, keys.of(row, number), where, partial(_text_of, row[column], column, where), options, keys.rows)


def _text_column(where: str, row: dict[str, Any], options: SourceOptions) -> str:
    name = options.text_column or (next(iter(row)) if len(row) == 1 else TEXT)
    return require_column(name, row, where, "--text-column (or name them all with --columns)")


def _text_of(value: Any, column: str, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise DataError(f"the column {column!r} holds {value!r}, which is no text.", where=where, fix="Name another with --text-column.")
    return value
