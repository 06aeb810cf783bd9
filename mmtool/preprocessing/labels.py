"""Labels of samples in a file of their own: a text in columns, such as CSV or TSV, with one row per key."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mmtool.common.errors import DataError, UsageError
from mmtool.common.log import log
from mmtool.preprocessing.keys import Keys, RowSource, choose_keys, nameless_columns, numbers_rows
from mmtool.preprocessing.label_columns import LabelColumns
from mmtool.preprocessing.readers.delimited import looks_delimited
from mmtool.preprocessing.readers.entries import AS_USUAL, Broken, SourceOptions, label_value
from mmtool.preprocessing.readers.raw_files import RawFile, raw_file
from mmtool.preprocessing.readers.records import check_header, filled, picked, read_cells
from mmtool.preprocessing.readers.table_options import TableOptions

LOOKED_AT_BYTES = 1 << 16


@dataclass(frozen=True)
class LabelsFile:
    """names: of the labels. rows: key -> labels, None for a missing one. wrong: key -> what is wrong with one of its labels."""

    path: Path
    names: tuple[str, ...]
    rows: Mapping[str, Mapping[str, Any]]
    wrong: Mapping[str, DataError]

    def unnamed(self, keys: Collection[str]) -> int:
        """How many of the keys have no row. Raises DataError where none of them has one."""
        missing = sum(key not in self.rows for key in keys)
        if keys and missing == len(keys):
            raise DataError("no sample has a row in the labels file.", where=self.path, fix="Check its key column.")
        return missing


def read_labels(
    path: Path,
    key_column: str | None = None,
    names: Mapping[str, str] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    *,
    table: TableOptions = AS_USUAL,
    quiet: bool = False,
) -> LabelsFile:
    """Labels by key from a CSV or TSV file: keys by the rule of `keys.py`, if in doubt in the first column.

    names: name of each wanted label -> its column, where the file has it; all other columns where it has none of them.
    on_error: `raise` where a row is broken or a cell is no number in a column that is mostly numbers, or `skip` such rows: the former are
    named at once, the latter by the result.
    table: how its cells are written. quiet: do not say where the keys are.
    """
    if not path.is_file():
        raise DataError("there is no such labels file.", where=path, fix="Check the path.")
    file = raw_file(path).held()
    if file.format not in ("csv", "tsv") and not looks_delimited(file.read()[:LOOKED_AT_BYTES], named=True):
        raise DataError("a labels file is a CSV or TSV with a key column.", where=path, fix="Convert it.")
    layout = TableOptions(decimal=table.decimal, na=table.na)
    header, cells = read_cells(file, (), table=layout)
    check_header(header, file.where)
    wanted = {name: column for name, column in (names or {}).items() if column in header}
    keys = _keys(file, header, key_column, list(wanted.values()), layout)
    if not quiet:
        log(str(keys))
    nameless = nameless_columns(header)
    wanted = wanted or {name: name for name in header if name != keys.column and name not in nameless}
    by_key: dict[str, dict[str, Any]] = {}
    columns = LabelColumns()
    for number, entry in enumerate(filled(cells)):
        try:
            line, values = _whole(entry)
            row = dict(zip(header, values, strict=True))
            key = _new_key(keys.of(row, number), by_key, f"{path}:{line}")
        except DataError as error:
            if on_error == "raise":
                raise
            log(f"left out: {error}")
            continue
        by_key[key] = {name: label_value(row[column], table) for name, column in wanted.items()}
        columns.add(key, f"{path}:{line}", by_key[key])
    if on_error == "raise":
        columns.check()
    wrong = {key: error for key, (_, error) in columns.wrong().items()}
    return LabelsFile(path, tuple(wanted), {key: columns.corrected(labels) for key, labels in by_key.items()}, wrong)


def _whole(entry: Broken | tuple[Any, list[str]]) -> tuple[Any, list[str]]:
    if isinstance(entry, Broken):
        raise entry.error
    return entry


def _new_key(key: str, taken: Mapping[str, Any], where: str) -> str:
    """The key of a row of labels. Raises DataError where it is empty or another row has it."""
    if not key:
        raise DataError("the row has no key.", where=where, fix="Fill in its key, or remove the row.")
    if key in taken:
        raise DataError(f"the key {key!r} stands twice.", where=where, fix="Keep one row per sample.")
    return key


def _keys(file: RawFile, header: list[str], key_column: str | None, labels: Sequence[str], layout: TableOptions) -> Keys:
    named = None if numbers_rows(SourceOptions(key_column=key_column), header) else key_column
    if named is not None and named not in header:
        raise UsageError(f"there is no column {named!r} in {file.where}.", where="--key-column", fix=f"Choose from: {', '.join(header)}.")

    def cells(columns: Sequence[str]) -> Iterator[list[str] | None]:
        return picked(header, filled(read_cells(file, (), table=layout)[1]), columns)

    index = nameless_columns(header)
    first = next((name for name in header if name not in index), None)
    source = RowSource(file.where, file.stem, header, cells, index)
    return replace(
        choose_keys(source, SourceOptions(key_column=named, table=layout), apart=labels, fallback=first), ids={}
    )  # ids are labels here
