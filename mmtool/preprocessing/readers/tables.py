"""Tables of numbers: text in columns of any delimiter, Excel sheets, and Parquet.

Samples lie in rows, or in columns where features lie in rows.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.keys import KeyColumnError, Keys, RowSource, choose_keys, nameless_columns, numbers_rows
from mmtool.preprocessing.readers import annotated, annotated_stores, cell_ranger, excel
from mmtool.preprocessing.readers.column_recognition import Rows, column_types, notes
from mmtool.preprocessing.readers.delimited import is_gct
from mmtool.preprocessing.readers.entries import MISSING, Broken, Entry, Note, SourceOptions, UnreadArrays, name_of, row_entry
from mmtool.preprocessing.readers.excel import excel_source
from mmtool.preprocessing.readers.feature_names import Features, features_of
from mmtool.preprocessing.readers.matrices import matrix_entries, sample_entry
from mmtool.preprocessing.readers.numbers import Numbers
from mmtool.preprocessing.readers.orientation import (
    PLAIN_NUMBER,
    check_header_row,
    check_one_sample,
    features_in_rows,
    is_called_like_an_index,
    is_called_like_features,
)
from mmtool.preprocessing.readers.parquet import PARQUET, parquet_source
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.read_errors import ReadBeside
from mmtool.preprocessing.readers.records import Cells, filled, picked, read_cells
from mmtool.preprocessing.readers.row_values import RowValues, unseen_notes
from mmtool.tokenizers.column_types import ColumnType, Skip

LOOKED_AT_CELLS, LEAST_ROWS = 4_000_000, 200  # by which it is seen which way a table lies
NUM_CANDIDATES = 3  # columns among which the names of rows are sought


def read_tables(file: RawFile, options: SourceOptions) -> Iterator[Entry | Broken | Keys | Note | UnreadArrays]:
    """Entries of one table; their values are ((F,) float32, feature names). Where samples lie in rows, every column but ids, labels and
    group is a feature."""
    if file.format in annotated_stores.FORMATS:
        _refuse_types(options, file.where)
        yield from annotated.read_annotated(file, options)
        return
    if file.format == cell_ranger.FORMAT:
        _refuse_types(options, file.where)
        yield from cell_ranger.read_cell_ranger(file, options)
        return
    if cell_ranger.is_list_beside(file):
        raise ReadBeside("this belongs to the matrix beside it.", where=file.where, fix="Give the folder, or matrix.mtx.")
    annotated.refuse_options(file, options)
    file = file.held()
    with file.open() as content:
        head = content.read(len(PARQUET))
    is_parquet = file.format == "parquet" or head == PARQUET
    is_excel = file.format == excel.FORMAT
    source, rows = parquet_source(file) if is_parquet else excel_source(file, options) if is_excel else _text_source(file, options)
    index, names = _row_names(source, rows, options)
    if not (is_parquet or is_excel) and options.table.transpose is None and is_gct(head):
        options = replace(options, table=replace(options.table, transpose=True))
    if not options.columns:
        check_header_row(source.header, names, file.where)
    check_one_sample(source.header, index, options.table, file.where)
    if options.table.value_column is not None:
        _refuse_types(options, file.where)
        yield from sample_entry(file, source.header, rows, index, options)
    elif features_in_rows(source.header, index, names, options.table, file.where):
        _refuse_types(options, file.where)
        if options.key_column is not None and options.labels_path is None:
            yield Note("keys of columns", f"--key-column has no effect on {file.where}: keys are the names of its columns")
        yield from matrix_entries(file, source.header, rows, index, options)
    elif options.table.feature_column is not None:
        fix = "Add --transpose where features are in rows, or leave it out."
        raise UsageError("each row is a sample, so no column names features.", where=f"--feature-column, {file.where}", fix=fix)
    else:
        yield from _row_entries(file, source, rows, options)


def _row_entries(file: RawFile, source: RowSource, rows: Rows, options: SourceOptions) -> Iterator[Entry | Broken | Keys | Note]:
    header = list(source.header)
    first = next((row[1] for row in rows() if not isinstance(row, Broken)), None)
    if first is None:
        yield from (row for row in rows() if isinstance(row, Broken))
        raise DataError("the table has no rows.", where=file.where, fix="Give a table with a header and rows.")
    numbers = Numbers.of(options.table)
    keys = choose_keys(source, options, fallback=_first_text(source, first, options, numbers))
    yield keys
    others = {keys.column, *keys.ids, options.group_column, *options.label_names.values()}
    nameless = _empty_columns(header, others, rows, file.where)
    if nameless:
        yield Note("nameless columns", f"left out of {file.where}: {len(nameless)} columns without a name or any value")
    indices = [i for i, name in enumerate(header) if name not in others and i not in nameless]
    types = column_types(header, indices, rows, options.table, file.where)
    yield from notes(types, file.where)
    indices = [index for index in indices if not isinstance(types.get(header[index]), Skip)]
    types = {name: column for name, column in types.items() if not isinstance(column, Skip)}
    yield from unseen_notes(header, types, rows, options.table, file.where)
    if not indices:
        raise DataError("the table has no column besides key and labels.", where=file.where, fix="Add features.")
    apart = [(name, header.index(name)) for name in others if name in header]
    _check_once(header, [name for name, _ in apart if name is not None], file.where)
    features = features_of([header[i] for i in indices], options.table.duplicates, file.where)
    _check_numbers(features, types, file.where)
    values = RowValues(header, indices, features, types, options.table)
    for number, read in enumerate(rows()):
        if isinstance(read, Broken):
            yield read
            continue
        line, cells = read
        where = f"{file.where}:{line}"
        if not options.columns and all(name_of(cell) == name for cell, name in zip(cells, header, strict=True)):
            yield Broken(where, DataError("the row repeats the header.", where=where, fix="Remove it."))
            continue
        row = {name: cells[index] for name, index in apart if name is not None}
        load = partial(values, cells, where)
        yield row_entry(row, keys.of(row, number), where, load, options, keys.rows)


def _refuse_types(options: SourceOptions, where: str) -> None:
    if options.table.column_types:
        what = "only tables with samples in rows have columns of several types; this file holds numbers."
        raise UsageError(what, where=where, fix="Leave --column-type out.")


def _check_numbers(features: Features, types: Mapping[str, ColumnType], where: str) -> None:
    """Raise KeyColumnError where several columns of one name, which are made one, hold something else than numbers."""
    odd = [name for name in types if features.indices is not None and (features.indices == features.names.index(name)).sum() > 1]
    if odd:
        fix = "Rename them, or leave them out with --column-type NAME=skip."
        raise KeyColumnError(f"several columns are called {odd[0]!r}, and one holds no numbers.", where=where, fix=fix)


def _empty_columns(header: Sequence[str], others: Collection[str | None], rows: Rows, where: str) -> list[int]:
    """The places of columns without a name, which a delimiter at the ends of lines makes. Raises KeyColumnError where one holds a value."""
    indices = [index for index, name in enumerate(header) if not name.strip() and name not in others]
    for read in rows() if indices else ():
        if not isinstance(read, Broken) and any(name_of(read[1][index]) for index in indices):
            fix = "Name it, or remove it."
            raise KeyColumnError(f"a column without a name holds values (row {read[0]}).", where=where, fix=fix)
    return indices


def _check_once(header: Sequence[str], names: Sequence[str], where: str) -> None:
    twice = next((name for name in names if header.count(name) > 1), None)
    if twice is not None:
        fix = "Rename one (or name all with --columns)."
        raise KeyColumnError(f"the column {twice!r} stands twice in the header.", where=where, fix=fix)


def _row_names(source: RowSource, rows: Rows, options: SourceOptions) -> tuple[int, list[str]]:
    """The place of the column that names the rows, and the first of these names: the first column, unless it merely counts the rows where
    one of the next holds text, or is called like features are."""
    header = list(source.header)
    named = options.table.feature_column
    if named is not None and named not in header:
        fix = f"The first columns are: {', '.join(map(repr, header[:10]))}."
        raise KeyColumnError(f"there is no column {named!r}.", where=source.where, fix=f"Name another with --feature-column. {fix}")
    candidates = [named] if named is not None else list(dict.fromkeys([*source.index, *header[:NUM_CANDIDATES]]))
    indices = [header.index(name) for name in candidates]
    looked_at = islice(rows(), max(LEAST_ROWS, LOOKED_AT_CELLS // len(header)))
    cells = [[name_of(row[1][index]) for index in indices] for row in looked_at if not isinstance(row, Broken)]
    columns = [list(names) for names in zip(*cells, strict=True)] or [[] for _ in indices]
    naming = (number for number, names in enumerate(columns) if _names_rows(candidates[number], names, first=number == 0))
    chosen = next(naming, 0)
    return indices[chosen], columns[chosen]


def _names_rows(column: str, cells: list[str], first: bool) -> bool:
    """Whether a column names rows: neither an index, nor (but for the first one) numbers measured."""
    counts = any(cells == list(map(str, range(start, start + len(cells)))) for start in (0, 1))
    if counts or (is_called_like_an_index(column) and all(map(str.isdigit, cells))):
        return False
    return first or is_called_like_features(column) or not all(cell in MISSING or PLAIN_NUMBER.fullmatch(cell) for cell in cells)


def _text_source(file: RawFile, options: SourceOptions) -> tuple[RowSource, Rows]:
    """The rows are opened anew for each pass, so that no two passes hold the text at once."""
    may_break = [name for name in (options.group_column, *options.label_names.values()) if name is not None]
    header = read_cells(file, options.columns, table=options.table)[0]
    if header[0].startswith(("{", "[{")):
        fix = "Write it as CSV, e.g. with pandas.read_json(PATH, lines=True).to_csv(PATH)."
        raise KeyColumnError("this is JSON, no text in columns.", where=file.where, fix=fix)

    def rows() -> Cells:
        cells = read_cells(file, options.columns, may_break, table=options.table)[1]
        return cells if numbers_rows(options, header) else filled(cells)

    return RowSource(file.where, file.stem, header, lambda names: picked(header, rows(), names), nameless_columns(header)), rows


def _first_text(source: RowSource, cells: Sequence[Any], options: SourceOptions, numbers: Numbers) -> str | None:
    """The first column that is no index, where it holds text and has no other use."""
    index, name = next(((index, name) for index, name in enumerate(source.header) if name not in source.index), (0, None))
    taken = {options.group_column, *options.label_names.values()}
    return name if name not in taken and isinstance(cells[index], str) and numbers.number(cells[index]) is None else None
