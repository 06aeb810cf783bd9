"""Rows of tables given in Python, {feature: value}: each is read as that of a data frame, a category by its name."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.given import is_missing
from mmtool.preprocessing.readers.cell_values import shown
from mmtool.preprocessing.readers.feature_names import features_of
from mmtool.preprocessing.readers.row_values import RowValues
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.readers.table_values import Row
from mmtool.tokenizers.column_types import Types

FIX = "Give a value that its tokenizer knows, or None."


class GivenRows:
    """Reads rows by the types of the tokenizer's columns."""

    def __init__(self, types: Types) -> None:
        self._types, self._options = types, TableOptions(known=types)
        self._readers: dict[tuple[Any, ...], RowValues] = {}

    def __call__(self, row: Any, where: str) -> Row:
        """One row. Raises DataError for what is no such row, and for a cell that its column cannot hold."""
        if not isinstance(row, Mapping):
            fix = "Give {feature: value}, or a data frame of all rows; a series with row.to_dict()."
            raise DataError(f"a row of a table is {type(row).__name__}.", where=where, fix=fix)
        if (names := tuple(row)) not in self._readers:
            self._readers[names] = self._reader(names, where)
        try:
            return self._readers[names]([_cell(name, value) for name, value in row.items()], where)
        except DataError as error:
            raise DataError(error.what, where=where, fix=FIX) from None

    def _reader(self, names: tuple[Any, ...], where: str) -> RowValues:
        header = [str(name).strip() for name in names]
        types = {name: self._types[name] for name in header if name in self._types}
        return RowValues(header, range(len(header)), features_of(header, "error", where), types, self._options)


def _cell(name: Any, value: Any) -> Any:
    """None where it is missing; NumPy's moments, whose numbers depend on their unit, as those of Python. Raises DataError for several
    values."""
    if is_missing(value):
        return None
    if isinstance(value, np.ndarray | list | tuple | Mapping):
        raise DataError(f"the column {name!r} holds {shown(value)}, which is neither text nor a number.")
    return value.astype("datetime64[us]").item() if isinstance(value, np.datetime64) else value
