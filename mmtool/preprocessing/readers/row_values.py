"""The cells of a row as numbers, each column by its type."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan
from typing import Any

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.cell_values import NOT_ONE_VALUE, decoded, shown
from mmtool.preprocessing.readers.column_recognition import ERRORS, Rows, is_missing, words_of
from mmtool.preprocessing.readers.entries import Note, name_of
from mmtool.preprocessing.readers.feature_names import Features
from mmtool.preprocessing.readers.numbers import Numbers
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.readers.table_values import Row, in_single_precision
from mmtool.tokenizers.column_types import Boolean, Category, ColumnType, Date, Header


@dataclass(frozen=True)
class RowValues:
    """Reads the cells at `indices` of rows with this header; types: of the columns that are no numbers."""

    header: Sequence[str]
    indices: Sequence[int]
    features: Features
    types: Mapping[str, ColumnType]
    options: TableOptions

    def __call__(self, cells: Sequence[Any], where: str) -> Row:
        """One row. Raises DataError for a cell that is not of its column's type."""
        numbers, chosen = Numbers.of(self.options), [cells[index] for index in self.indices]
        typed = self._typed
        values = numbers.row([nan if index in typed else cell for index, cell in enumerate(chosen)] if typed else chosen)
        if typed:
            values = [self._read(cell, typed[index]) if index in typed else values[index] for index, cell in enumerate(chosen)]
        if None in values:
            index = values.index(None)
            what, fix = self._problem(chosen[index], typed.get(index), numbers)
            raise DataError(f"the column {self.header[self.indices[index]]!r} holds {shown(chosen[index])}, {what}", where=where, fix=fix)
        return in_single_precision(self.features.merged(np.array(values, np.float64)), self._names, where)

    @cached_property
    def _names(self) -> Header:
        """The same for all rows: wide tables have many names."""
        return Header(self.features.names, self.types)

    @cached_property
    def _typed(self) -> dict[int, ColumnType]:
        """Number of a cell among those chosen -> its type, where it is no number."""
        names = enumerate(self.header[index] for index in self.indices)
        return {number: self.types[name] for number, name in names if name in self.types} if self.types else {}

    @cached_property
    def _na(self) -> frozenset[str]:
        """Missing whatever a type says of them."""
        return frozenset(map(name_of, self.options.na))

    def _read(self, cell: Any, column: ColumnType) -> float | None:
        word = name_of(cell)
        if word in self._na:
            return nan
        if word in ERRORS or isinstance(decoded(cell), NOT_ONE_VALUE):
            return None
        value = column.read(word)
        if value is not None and _is_finer(value, column):
            return None
        if value is None and (is_missing(word, self.options) or (self.options.unseen == "missing" and takes_unseen(column))):
            return nan
        return value

    def _problem(self, cell: Any, column: ColumnType | None, numbers: Numbers) -> tuple[str, str]:
        """What is wrong with a cell, and what to do."""
        if column is None:
            return numbers.problem(cell)
        if isinstance(decoded(cell), NOT_ONE_VALUE):
            return "which is neither text nor a number.", "Write one text or number into each cell, or leave the column out."
        if isinstance(column, Date) and column.read(name_of(cell)) is not None:
            return "which has hours, and the column holds days.", "Write the day alone, or fit a new tokenizer to rows with hours."
        if takes_unseen(column) and name_of(cell) not in ERRORS:
            fix = "Add --unseen missing to count such cells as missing, correct it, or fit a tokenizer to rows that hold it."
            return "a category that no training sample of the tokenizer has.", fix
        fix = "Correct it, say with --na that it is a missing value, or name another type with --column-type."
        return f"which is not of the column's type, {column.name}.", fix


def _is_finer(value: float, column: ColumnType) -> bool:
    """Whether a date has hours where the column has days, which would round it to the next one."""
    return isinstance(column, Date) and column.layout is None and not column.timed and value % 1 != 0


def takes_unseen(column: ColumnType) -> bool:
    """Whether a column may hold what its type does not know yet."""
    return isinstance(column, Category) and not isinstance(column, Boolean)


def unseen_notes(header: Sequence[str], types: Mapping[str, ColumnType], rows: Rows, options: TableOptions, where: str) -> Iterator[Note]:
    """Which categories count as missing because the tokenizer does not know them."""
    if options.known is None or options.unseen != "missing":
        return
    columns = {header.index(name): column for name, column in types.items() if takes_unseen(column)}
    for index, words in words_of(list(columns), rows, options).items():
        unseen = {word: count for word, count in words.items() if columns[index].read(word) is None}
        if unseen:
            listed = ", ".join(f"{word!r} ({count:,})" for word, count in sorted(unseen.items())[:10])
            text = f"{where}: categories of the column {header[index]!r} that the tokenizer does not know count as missing: {listed}"
            yield Note(text, text, always=True)
