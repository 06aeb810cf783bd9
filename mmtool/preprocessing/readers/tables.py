"""Tables of numbers, one sample per row: CSV, TSV and Parquet. An empty or NaN cell is a missing value, any other text an error."""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.keys import Keys, RowSource, choose_keys, nameless_columns
from mmtool.preprocessing.readers import annotated
from mmtool.preprocessing.readers.entries import MISSING, Broken, Entry, Note, SourceOptions, UnreadArrays, row_entry
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.records import Cells, check_header, picked, read_cells
from mmtool.tokenizers.table_rows import SINGLE_PRECISION_INTEGERS

Row = tuple[np.ndarray, tuple[str, ...]]  # (F,) float32 (see `_values`) with NaN for missing values, and the names of the features
Rows = Callable[[], Iterator[tuple[int, Sequence[Any]] | Broken]]  # all rows with their numbers, opened anew by each call


def read_tables(file: RawFile, options: SourceOptions) -> Iterator[Entry | Broken | Keys | Note | UnreadArrays]:
    """Entries of one table; their values are ((F,) float32, feature names): every column but ids, labels and group is a feature."""
    if file.format in annotated.FORMATS:
        yield from annotated.read_annotated(file, options)
        return
    annotated.refuse_options(file, options)
    file = file.held()
    source, rows = _parquet_source(file) if file.format == "parquet" else _text_source(file, options)
    header = list(source.header)
    first = next((row[1] for row in rows() if not isinstance(row, Broken)), None)
    if first is None:
        yield from (row for row in rows() if isinstance(row, Broken))
        raise DataError("the table has no rows.", where=file.where, fix="Give a table with a header and rows.")
    keys = choose_keys(source, options, fallback=_first_text(source, first, options))
    yield keys
    others = {keys.column, *keys.ids, options.group_column, *options.label_names.values()}
    places = [i for i, name in enumerate(header) if name not in others]
    features = tuple(header[i] for i in places)
    if not features:
        raise DataError("the table has no column of numbers besides key and labels.", where=file.where, fix="Add features.")
    apart = [(name, header.index(name)) for name in others if name in header]
    for number, read in enumerate(rows()):
        if isinstance(read, Broken):
            yield read
            continue
        line, cells = read
        row = {name: cells[place] for name, place in apart if name is not None}
        where = f"{file.where}:{line}"
        yield row_entry(row, keys.of(row, number), where, partial(_values, cells, places, features, where), options, keys.rows)


def _text_source(file: RawFile, options: SourceOptions) -> tuple[RowSource, Rows]:
    """The rows are opened anew for each pass, so that no two passes hold the text at once."""
    may_break = [name for name in (options.group_column, *options.label_names.values()) if name is not None]
    header = read_cells(file, options.columns, row_names=True)[0]

    def rows() -> Cells:
        return read_cells(file, options.columns, may_break, row_names=True)[1]

    return RowSource(file.where, file.stem, header, lambda names: picked(header, rows(), names), nameless_columns(header)), rows


def _first_text(source: RowSource, cells: Sequence[Any], options: SourceOptions) -> str | None:
    """The first column that is no index, where it holds text and has no other use."""
    place, name = next(((place, name) for place, name in enumerate(source.header) if name not in source.index), (0, None))
    taken = {options.group_column, *options.label_names.values()}
    return name if name not in taken and isinstance(cells[place], str) and _number(cells[place]) is None else None


def _number(cell: Any) -> float | None:
    """A cell as a number, NaN where it is missing, None where it is something else."""
    if cell is None or (isinstance(cell, str) and cell.strip() in MISSING):
        return math.nan
    try:
        value = float(cell)
    except (ValueError, TypeError):
        return None
    readable = not isinstance(cell, str) or "_" not in cell  # Python reads 1_000 as a number; in data it is a name
    return value if readable and not math.isinf(value) else None


def _plain_numbers(cells: Sequence[Any]) -> list[float] | None:
    """The fast way for rows that hold nothing but numbers (7 million cells: 0.9 s instead of 2.1), None for all others."""
    try:
        return list(map(float, cells)) if "_" not in ",".join(cells) else None
    except (ValueError, TypeError):
        return None


def _values(cells: Sequence[Any], places: Sequence[int], features: tuple[str, ...], where: str) -> Row:
    """A row in single precision; in double where it holds a value beyond 2^24 that would be rounded, for tokenizers to see by how much."""
    chosen = [cells[place] for place in places]
    values: Sequence[float | None] = _plain_numbers(chosen) or [_number(cell) for cell in chosen]
    if None in values:
        column = values.index(None)
        what = f"the column {features[column]!r} holds {chosen[column]!r}, which is no finite number."
        raise DataError(what, where=where, fix="Declare it with --label or --key-column, or leave missing values empty.")
    exact = np.array(values, np.float64)
    with np.errstate(over="ignore"):
        row = exact.astype(np.float32)
    if np.isinf(row).any():
        name = features[int(np.isinf(row).argmax())]
        raise DataError(f"the value of column {name!r} is infinite in single precision.", where=where, fix="Scale it, or leave it empty.")
    rounded = (row != exact) & (np.abs(exact) > SINGLE_PRECISION_INTEGERS)
    return exact if rounded.any() else row, features


def parquet_table(file: RawFile) -> Any:
    """The pyarrow table of a Parquet file. Raises UsageError without pyarrow, DataError for a damaged file."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[parquet]'`, or convert the file to csv.gz or npz."
        raise UsageError("reading Parquet needs pyarrow.", where=file.where, fix=fix) from error
    try:
        return parquet.read_table(io.BytesIO(file.read()))
    except (ArrowException, OSError) as error:
        raise DataError(f"the Parquet file is damaged ({error}).", where=file.where, fix="Get it again.") from error


def _parquet_source(file: RawFile) -> tuple[RowSource, Rows]:
    table = parquet_table(file)
    header = [str(name) for name in table.column_names]
    check_header(header, file.where)

    def cells(names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        columns = [table.column(header.index(name)).to_pylist() for name in names]
        return zip(*columns, strict=True) if columns else iter([()] * table.num_rows)

    columns: list[Callable[[int], Any]] = [column.to_pylist().__getitem__ for column in table.columns]

    def rows() -> Iterator[tuple[int, Sequence[Any]] | Broken]:
        return ((row + 1, [column(row) for column in columns]) for row in range(table.num_rows))

    return RowSource(file.where, file.stem, header, cells, _pandas_index(table)), rows


def _pandas_index(table: Any) -> tuple[str, ...]:
    """The columns that are the index of the data frame which was written; a range of numbers is a record and no column."""
    try:
        columns = (table.schema.pandas_metadata or {}).get("index_columns", [])
    except ValueError:  # whatever else wrote under pandas' name
        return ()
    return tuple(name for name in columns if isinstance(name, str) and name in table.column_names)
