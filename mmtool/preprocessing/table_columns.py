"""Rows of several tables with the same columns, on their way to a tokenizer: one list of categories for each column."""

from collections.abc import Sequence

import numpy as np

from mmtool.common.errors import DataError
from mmtool.tokenizers.column_types import NUMBER, Boolean, Category, ColumnType, Date, Number, Types


def in_common_types(rows: Sequence[tuple[np.ndarray, Types]], features: Sequence[str]) -> tuple[list[np.ndarray], dict[str, ColumnType]]:
    """Rows (F,) with the types of their tables -> rows in the types that all have in common, and these; categories are those that occur.

    Raises DataError where a column holds numbers in one table and something else in another.
    """
    names = {name for _, types in rows for name in types}
    columns = [(index, name) for index, name in enumerate(features) if name in names]
    common, moved = dict[str, ColumnType](), [row.copy() if columns else row for row, _ in rows]
    for index, name in columns:
        held = [types.get(name, NUMBER) for _, types in rows]
        common[name] = column = _type_of_all(name, held, [bool(np.isnan(row[index])) for row, _ in rows])
        if not isinstance(column, Category) or isinstance(column, Boolean):
            continue
        words = [
            column.categories[int(row[index])] if row[index] == row[index] and isinstance(column, Category) else None
            for (row, _), column in zip(rows, held, strict=True)
        ]
        common[name] = column = Category(tuple(sorted({word for word in words if word is not None})))
        for row, word in zip(moved, words, strict=True):
            row[index] = np.nan if word is None else column.read(word)
    return moved, common


def _type_of_all(name: str, columns: Sequence[ColumnType], missing: Sequence[bool]) -> ColumnType:
    """The type of the column in the tables that hold a value of it; dates are timed where those of one table are."""
    telling = [column for column, is_missing in zip(columns, missing, strict=True) if not is_missing]
    telling = telling or [column for column in columns if not isinstance(column, Number)]
    kinds = sorted({column.name for column in telling})
    if len(kinds) > 1:
        what = f"the column {name!r} is read as {kinds[0]} in one table and as {kinds[1]} in another."
        raise DataError(what, where="table", fix=f"Say which it is, e.g. --column-type '{name}={kinds[0]}'.")
    return next((column for column in telling if isinstance(column, Date) and column.timed), telling[0])
