"""Rows of several tables with the same columns, on their way to a tokenizer: one list of categories for each column."""

from collections.abc import Sequence

import numpy as np

from mmtool.common.errors import DataError
from mmtool.tokenizers.column_types import NUMBER, Boolean, Category, ColumnType, Types


def in_common_types(rows: Sequence[tuple[np.ndarray, Types]], features: Sequence[str]) -> tuple[list[np.ndarray], dict[str, ColumnType]]:
    """Rows (F,) with the types of their tables -> rows in the types that all have in common, and these; categories are those that occur.

    Raises DataError where a column holds numbers in one table and something else in another.
    """
    names = {name for _, types in rows for name in types}
    columns = [(place, name) for place, name in enumerate(features) if name in names]
    common, moved = dict[str, ColumnType](), [row.copy() if columns else row for row, _ in rows]
    for place, name in columns:
        held = [types.get(name, NUMBER) for _, types in rows]
        _check_alike(name, held)
        if not isinstance(held[0], Category) or isinstance(held[0], Boolean):
            common[name] = held[0]
            continue
        words = [
            column.categories[int(row[place])] if row[place] == row[place] else None for (row, _), column in zip(rows, held, strict=True)
        ]
        common[name] = column = Category(tuple(sorted({word for word in words if word is not None})))
        for row, word in zip(moved, words, strict=True):
            row[place] = np.nan if word is None else column.read(word)
    return moved, common


def _check_alike(name: str, columns: Sequence[ColumnType]) -> None:
    kinds = sorted({column.name for column in columns})
    if len(kinds) > 1:
        what = f"the column {name!r} is read as {kinds[0]} in one table and as {kinds[1]} in another."
        raise DataError(what, where="table", fix=f"Say which it is, e.g. --column-type '{name}={kinds[0]}'.")
