"""Parquet files: as tables, and as rows that need not fit into memory."""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.keys import RowSource
from mmtool.preprocessing.readers.cell_values import decoded
from mmtool.preprocessing.readers.column_recognition import Rows
from mmtool.preprocessing.readers.compressed import is_compressed
from mmtool.preprocessing.readers.entries import Broken
from mmtool.preprocessing.readers.raw_files import RawFile

PARQUET = b"PAR1"
BATCH_ROWS = 256  # as Python objects at once


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Raises UsageError without pyarrow, DataError for a damaged file."""
    try:
        from pyarrow import ArrowException
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[parquet]'`, or convert the file to csv.gz or npz."
        raise UsageError("reading Parquet needs pyarrow.", where=where, fix=fix) from error
    try:
        yield
    except (ArrowException, OSError) as error:
        raise DataError(f"the Parquet file is damaged ({error}).", where=where, fix="Get it again.") from error


def parquet_file(file: RawFile) -> Any:
    """Opened by pyarrow, from the disk where it can be."""
    from pyarrow import parquet

    plain = file.path is not None and not is_compressed(file.path.name)
    return parquet.ParquetFile(file.path if plain else io.BytesIO(file.read()))


def parquet_table(file: RawFile) -> Any:
    """The whole pyarrow table. Raises UsageError without pyarrow, DataError for a damaged file."""
    with readable(file.where):
        return parquet_file(file).read()  # read_table refuses columns of one name


def parquet_source(file: RawFile) -> tuple[RowSource, Rows]:
    """The rows of a table, which are read a part at a time and anew in each pass."""
    with readable(file.where):
        opened = parquet_file(file)
        schema, num_rows = opened.schema_arrow, opened.metadata.num_rows
    header = [str(name) for name in schema.names]
    once = len(set(header)) == len(header)  # columns of one name cannot be chosen by it

    def columns(names: Sequence[str]) -> Iterator[list[list[Any]]]:
        """The values of columns, a part of the rows at a time."""
        with readable(file.where):
            for batch in parquet_file(file).iter_batches(BATCH_ROWS, columns=list(names) if once else None):
                yield [_cells(batch.column(batch.schema.names.index(name))) for name in names]

    def cells(names: Sequence[str]) -> Iterator[Sequence[Any]]:
        if not names:
            return iter([()] * num_rows)
        return (row for part in columns(names) for row in zip(*part, strict=True))

    def rows() -> Iterator[tuple[int, Sequence[Any]] | Broken]:
        with readable(file.where):
            batches = (batch.columns for batch in parquet_file(file).iter_batches(BATCH_ROWS))
            parts = ([_cells(column) for column in batch] for batch in batches)
            yield from enumerate((list(row) for part in parts for row in zip(*part, strict=True)), 1)

    return RowSource(file.where, file.stem, header, cells, _pandas_index(schema)), rows


def _cells(column: Any) -> list[Any]:
    """The values of a column, bytes as text where they are some: so writers without types of text leave it."""
    values: list[Any] = column.to_pylist()
    return [decoded(value) for value in values] if "binary" in str(column.type) else values


def _pandas_index(schema: Any) -> tuple[str, ...]:
    """The columns that are the index of the data frame which was written; a range of numbers is a record and no column."""
    try:
        columns = (schema.pandas_metadata or {}).get("index_columns", [])
    except ValueError:  # whatever else wrote under pandas' name
        return ()
    return tuple(name for name in columns if isinstance(name, str) and name in schema.names)
