"""Columns of categories: what pandas says of them, and which values the names stand for that a tokenizer gives back."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mmtool.preprocessing.readers.entries import name_of
from mmtool.tokenizers.column_types import ColumnType, Date

CATEGORY = "category"


def declared_categories(frame: pd.DataFrame) -> dict[str, str]:
    """Column -> type, as of `column_types`, of columns of the dtype `category` that their cells alone would not say to be one: of numbers,
    and of levels in an order."""
    dtypes = {name: dtype for name, dtype in frame.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)}
    filled = {name: dtype for name, dtype in dtypes.items() if frame[name].notna().any()}
    return {name: text for name, dtype in filled.items() if (text := _declared(dtype)) is not None}


def _declared(dtype: pd.CategoricalDtype) -> str | None:
    names = list(map(name_of, dtype.categories))
    if pd.api.types.is_datetime64_any_dtype(dtype.categories) or all(Date().read(name) is not None for name in names):
        return None
    levels = "<".join(names)
    if dtype.ordered and len(names) > 1 and levels.split("<") == names and len(set(names)) == len(names) and all(names):
        return levels
    like_numbers = any(not isinstance(value, str) or _number(value) is not None for value in dtype.categories)
    return CATEGORY if dtype.ordered or like_numbers else None


def category_values(frame: pd.DataFrame, types: Mapping[str, ColumnType]) -> dict[str, list[Any]]:
    """Column -> all values that its categories or levels stand for. Names that are text stand for themselves, dates have none, and the
    dtype `category` has its own."""
    typed = [name for name in frame.columns if name in types and not isinstance(types[name], Date)]
    values = {name: list(frame[name].dropna().unique()) for name in typed if not isinstance(frame[name].dtype, pd.CategoricalDtype)}
    return {name: held for name, held in values.items() if not all(isinstance(value, str) for value in held)}


def values_by_name(column_type: ColumnType, known: Sequence[Any], training: Sequence[Any]) -> dict[str, Any]:
    """Name of a category -> its value, of the kind that a column holds.

    known: values of the column, () for none. training: those of the training. A name that is among neither becomes text, or a number where
    all the others are.
    """
    examples = known or training or [False, True]
    truth = [False, True] if all(map(pd.api.types.is_bool, examples)) else []
    values = {name_of(value): value for value in (*truth, *training, *known)}
    return {name: _alike(values.get(name, name), name, examples) for name in {**dict.fromkeys(_names(column_type)), **values}}


def _names(column_type: ColumnType) -> tuple[str, ...]:
    names: tuple[str, ...] = getattr(column_type, "levels", column_type.categories)
    return names


def _alike(value: Any, name: str, examples: Sequence[Any]) -> Any:
    """A value, or its name, or that as a number: what the examples are."""
    if all(isinstance(example, str) for example in examples):
        return value if isinstance(value, str) else name
    if isinstance(value, str) and all(map(pd.api.types.is_number, examples)):
        number = _number(value)
        return value if number is None else number
    return value


def _number(text: str) -> int | float | None:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return None
