"""Filled columns in the form in which they came: their dtype, their time zone, their way of writing dates."""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from functools import partial
from typing import Any

import pandas as pd

from mmtool.preprocessing.readers.entries import name_of
from mmtool.sklearn.categories import values_by_name
from mmtool.tokenizers.column_types import DAY, EPOCH, NUMBER, ColumnType, Date

ISO_PARTS = re.compile(r"\d{4}-\d{2}-\d{2}(?:([T ])\d{2}:\d{2}(:\d{2})?(?:\.(\d+))?(.*))?")  # separator, seconds, fraction, offset
SINGLE_PRECISION = 1e-6
EXACT_FLOATS = 2**53  # double precision holds all integers up to it


def filled_column(column: pd.Series, values: pd.Series, column_type: ColumnType, example: Any, training: Sequence[Any] = ()) -> pd.Series:
    """A column whose missing entries are those of `values`, in the form of its other ones, or of the example where it has none.

    training: values that categories stood for there; their names become these, or what the column writes for them.
    """
    chosen = values[column.isna()].dropna()
    known = list(column.dropna().unique())
    examples = known or ([] if pd.isna(example) else [example])
    if isinstance(column_type, Date):
        return _put(column, _dates(chosen, column, column_type, examples))
    if pd.api.types.is_integer_dtype(column) and pd.api.types.is_numeric_dtype(chosen):  # too large for floats
        return column.fillna(chosen.round().astype(column.dtype))
    if column_type is NUMBER:
        return _put(column, chosen.map(NUMBER.write) if examples and all(map(_is_text, examples)) else chosen)
    spelled = values_by_name(column_type, known, training or examples)
    return _put(column, chosen.map(lambda value: spelled.get(name_of(value), value)), training)


def in_dtype(column: pd.Series, dtype: Any) -> pd.Series:
    """A complete column in a dtype, where all its values fit into that; integers that do not are floats of the same family."""
    if column.dtype == dtype:
        return column
    options = [dtype]
    if pd.api.types.is_integer_dtype(dtype) and isinstance(dtype, pd.api.extensions.ExtensionDtype):
        options.append("double[pyarrow]" if isinstance(dtype, pd.ArrowDtype) else "Float64")
    converted = (_converted(column, option) for option in options)
    return next((candidate for candidate in converted if candidate is not None), column)


def large_integers(frame: pd.DataFrame) -> list[str]:
    """Columns of integers that double precision does not hold."""
    integers = frame.select_dtypes("integer")
    return list(integers.columns[((integers > EXACT_FLOATS) | (integers < -EXACT_FLOATS)).any().to_numpy(bool)])


def _converted(column: pd.Series, dtype: Any) -> pd.Series | None:
    """None where a value does not fit."""
    if pd.api.types.is_integer_dtype(dtype) and pd.api.types.is_float_dtype(column):
        column = _whole(column)
    try:
        converted = column.astype(dtype)
    except (TypeError, ValueError, OverflowError):
        return None
    kept = column.notna()
    if not kept.equals(converted.notna()):
        return None
    if pd.api.types.is_float_dtype(dtype):
        return converted
    numbers = pd.api.types.is_numeric_dtype(column) and pd.api.types.is_numeric_dtype(converted)
    before, after = (part[kept] if numbers else part[kept].astype(object) for part in (column, converted))
    return converted if bool((before == after).all()) else None


def _whole(column: pd.Series) -> pd.Series:
    """Numbers that are whole but for what single precision rounds, in which they were imputed, as such."""
    rounded = column.round()
    return column.where((column - rounded).abs() > SINGLE_PRECISION * (1 + rounded.abs()), rounded)


def _put(column: pd.Series, values: pd.Series, order: Sequence[Any] = ()) -> pd.Series:
    """A column with values of its form in their places. New categories come last, or into the order where that has them all."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        categories = list(column.cat.categories)
        extended = [*categories, *(value for value in values.unique() if value not in set(categories))]
        in_order = [value for value in order if value in set(extended)]
        keeps = len(in_order) == len(extended) and [value for value in in_order if value in set(categories)] == categories
        return column.cat.set_categories(in_order if keeps else extended).fillna(values)
    if pd.api.types.is_datetime64_any_dtype(column):
        return column.fillna(values)
    both = column.astype(object)
    both.loc[values.index] = values.astype(object)
    return both


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _dates(values: pd.Series, column: pd.Series, column_type: Date, known: list[Any]) -> pd.Series:
    """Dates in the form of a column: of its dtype, or like what it holds."""
    moments = values.map(partial(_moment, column_type=column_type))
    if pd.api.types.is_datetime64_any_dtype(column):
        in_utc = pd.Series(pd.DatetimeIndex(list(moments), tz="UTC"), values.index)
        return in_utc.dt.tz_convert(column.dt.tz).astype(column.dtype)
    write = _writer(column_type, known)
    return pd.Series([write(moment) for moment in moments], values.index, dtype=object)


def _moment(value: Any, column_type: Date) -> pd.Timestamp:
    """A date, as precise as its type is, in UTC. Text is in the layout of the type."""
    if isinstance(value, str):
        days = column_type.read(value.strip())
    else:
        moment = pd.Timestamp(value)
        days = (moment.tz_localize(UTC) if moment.tzinfo is None else moment) - pd.Timestamp(EPOCH, tz=UTC)
        days = days / DAY
    return pd.NaT if days is None else pd.Timestamp(column_type.write(days), tz=UTC)


def _writer(column_type: Date, known: list[Any]) -> Callable[[pd.Timestamp], Any]:
    """Writes dates as the longest text is written, or as objects of the first one's class."""
    texts = [value.strip() for value in known if _is_text(value) and column_type.read(value.strip()) is not None]
    if texts:
        return partial(_as_text, example=max(texts, key=len), layout=column_type.layout)
    return partial(_as_object, example=known[0] if known else None)


def _as_text(moment: pd.Timestamp, example: str, layout: str | None) -> str:
    like = datetime.fromisoformat(example) if layout is None else datetime.strptime(example, layout)
    local = moment.tz_convert(like.tzinfo or UTC)
    if layout is not None:
        return local.strftime(layout)
    parts = ISO_PARTS.fullmatch(example)
    separator, seconds, fraction, offset = parts.groups() if parts else (None,) * 4
    if separator is None:
        return local.strftime("%Y-%m-%d")
    clock = local.strftime(f"%Y-%m-%d{separator}%H:%M{':%S' if seconds else ''}")
    return clock + ("." + "0" * len(fraction) if fraction else "") + offset


def _as_object(moment: pd.Timestamp, example: Any) -> Any:
    if isinstance(example, date) and not isinstance(example, datetime):
        return moment.date()
    local = moment.tz_convert(getattr(example, "tzinfo", None))
    return local.to_pydatetime() if isinstance(example, datetime) and not isinstance(example, pd.Timestamp) else local
