"""Rows of any file of rows as (where, cells): CSV, TSV, JSON lines and npz, and through pyarrow Parquet and Arrow.

What Hugging Face datasets keep on disk is read like this: Parquet, and the Arrow files of `save_to_disk`.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.keys import Keys, RowSource, choose_keys, nameless_columns
from mmtool.preprocessing.readers.entries import Broken, SourceOptions
from mmtool.preprocessing.readers.parquet import parquet_file
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.records import check_header, read_cells, read_rows

COLUMNAR = ("parquet", "arrow")
ROW_FORMATS = ("csv", "tsv", "jsonl", *COLUMNAR)
PANDAS_INDEX = re.compile(r"__index_level_\d+__")  # how pandas names a nameless index in Parquet
BATCH_ROWS = 64  # decoded at once: cells may be pictures


class Row(NamedTuple):
    """One row: its key, where it stands, and its cells by column."""

    key: str
    where: str
    cells: dict[str, Any]


def rows_of(file: RawFile, options: SourceOptions, names: Sequence[str] | None = None) -> Iterator[tuple[str, dict[str, Any]] | Broken]:
    """Rows as (where, column -> value), a cell without value None where the format has such; names: of the columns wanted (None: all)."""
    if file.format not in COLUMNAR:
        yield from read_rows(file, options)
        return
    cells = chain.from_iterable(batch.to_pylist() for batch in _batches(file, names))
    for number, row in enumerate(cells, 1):
        yield f"{file.where}:{number}", row


def header_of(file: RawFile, options: SourceOptions) -> list[str]:
    """The columns: of the header, or of the first row that can be read. Raises DataError where there are none."""
    if file.format in COLUMNAR:
        return _column_names(file)
    if file.format in ("csv", "tsv"):
        return read_cells(file, options.columns, delimiter=options.table.delimiter)[0]
    header = next((list(row[1]) for row in rows_of(file, options) if not isinstance(row, Broken)), [])
    if not header:
        raise DataError("the file has no rows.", where=file.where, fix="Give a file with rows.")
    return header


def row_keys(file: RawFile, header: Sequence[str], options: SourceOptions, apart: Sequence[str], *, numbered: bool = False) -> Keys:
    """Where the keys are, by the rule of `keys.py`. apart: columns with another use. numbered: number the rows instead of raising
    DataError."""
    index = (*nameless_columns(header), *(name for name in header if PANDAS_INDEX.fullmatch(name)))
    source = RowSource(file.where, file.stem, header, partial(_cells, file, options), index)
    return choose_keys(source, options, apart=apart, numbered=numbered)


def together(rows: Iterator[Row | Broken], options: SourceOptions) -> Iterator[list[Row] | Broken]:
    """Rows of one key as one list, in the order of the first, where `options.captions` allows several; else each row alone.

    Raises DataError where they have different labels.
    """
    if options.captions is None:
        yield from (row if isinstance(row, Broken) else [row] for row in rows)
        return
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if isinstance(row, Broken):
            yield row
        else:
            groups.setdefault(row.key, []).append(row)
    for key, group in groups.items():
        differing = _differing(group, [*options.label_names.values(), *filter(None, [options.group_column])])
        if differing:
            what = f"rows of the key {key!r} differ in {differing!r}."
            yield Broken(group[0].where, DataError(what, where=group[0].where, fix="Give all rows of a key the same labels."), key)
        else:
            yield group


def _differing(group: Sequence[Row], columns: Sequence[str]) -> str | None:
    """The first of these columns in which rows differ."""
    first = group[0].cells
    return next((name for name in columns for row in group if row.cells.get(name) != first.get(name)), None)


def _cells(file: RawFile, options: SourceOptions, names: Sequence[str]) -> Iterator[list[Any] | None]:
    for read in rows_of(file, options, names):
        yield None if isinstance(read, Broken) else [read[1].get(name) for name in names]


def _batches(file: RawFile, names: Sequence[str] | None) -> Iterator[Any]:
    """Batches of rows of a Parquet or Arrow file, of these columns alone."""
    with _readable(file):
        from pyarrow import ipc

        if file.format == "parquet":
            yield from parquet_file(file).iter_batches(BATCH_ROWS, columns=names)
        else:
            table = _opened(ipc, file.read()).read_all()
            yield from table.select(table.column_names if names is None else names).to_batches(BATCH_ROWS)


def _column_names(file: RawFile) -> list[str]:
    with _readable(file):
        from pyarrow import ipc

        schema = parquet_file(file).schema_arrow if file.format == "parquet" else _opened(ipc, file.read()).schema
    check_header(list(schema.names), file.where)
    return list(schema.names)


def _opened(ipc: Any, data: bytes) -> Any:
    """An Arrow file is a stream, as `save_to_disk` writes it, or has a footer."""
    return ipc.open_file(data) if data.startswith(b"ARROW1") else ipc.open_stream(data)


@contextmanager
def _readable(file: RawFile) -> Iterator[None]:
    """Raises UsageError without pyarrow, DataError for a damaged file."""
    try:
        from pyarrow import ArrowException
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[parquet]'`, or convert the file to jsonl."
        raise UsageError(f"reading .{file.format} needs pyarrow.", where=file.where, fix=fix) from error
    try:
        yield
    except (ArrowException, OSError) as error:
        raise DataError(f"the .{file.format} file is damaged ({error}).", where=file.where, fix="Get it again.") from error
