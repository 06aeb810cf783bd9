"""What an estimator knows of a table of its training besides the run: columns and dtypes, values to fall back on, and its categories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from mmtool.sklearn.categories import category_values
from mmtool.sklearn.persistence import plain
from mmtool.tokenizers.column_types import Date


@dataclass(frozen=True)
class KnownTable:
    """template: a frame without rows that has the columns, as they were in training. fallback: a value of each column, NaN where none is
    known. categories: column -> the values that its categories stand for, where neither its dtype nor their names tell."""

    template: pd.DataFrame
    fallback: pd.Series
    categories: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, frame: pd.DataFrame, types: Mapping[str, Any]) -> "KnownTable":
        """Of a table of the training; types: of its columns that are no numbers."""
        return cls(frame.iloc[:0], _fallback_values(frame, types), category_values(frame, types))

    @classmethod
    def of_tokenizer(cls, tokenizer: Any) -> "KnownTable":
        """What a run alone knows of a table: its columns, without fallback values."""
        dtypes = {name: _dtype(tokenizer.types.get(name)) for name in (*tokenizer.features, *tokenizer.dropped)}
        template = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in dtypes.items()})
        return cls(template, pd.Series(np.nan, index=list(dtypes), dtype=object))

    def values(self, column: str) -> Sequence[Any]:
        """What the categories of a column stand for, () where that is their names, or not known."""
        dtype = self.template[column].dtype
        return list(dtype.categories) if isinstance(dtype, pd.CategoricalDtype) else self.categories.get(column, ())

    def to_json(self, labels: pd.Index | None) -> dict[str, Any]:
        """As a record; labels: of the columns, where these are their names."""
        values = [None if pd.isna(value) else _written(value) for value in self.fallback]
        columns, dtypes = list(self.template.columns), list(map(str, self.template.dtypes))
        record: dict[str, Any] = {"columns": columns, "dtypes": dtypes, "fallback": values}
        if self.categories:
            record["categories"] = {name: list(map(_written, held)) for name, held in self.categories.items()}
        if levels := _levels_to_json(self.template):
            record["levels"] = levels
        return record if labels is None else {**record, "labels": _labels_to_json(labels)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "KnownTable":
        """The inverse of `to_json`."""
        dtypes = {**dict(zip(record["columns"], record["dtypes"], strict=True)), **_levels_from_json(record.get("levels", {}))}
        template = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in dtypes.items()})
        pairs = zip(record["fallback"], template.dtypes, strict=True)
        fallback = [np.nan if value is None else pd.Timestamp(value) if _is_date(dtype) else value for value, dtype in pairs]
        return cls(template, pd.Series(fallback, index=list(dtypes), dtype=object), record.get("categories", {}))


def _levels_to_json(template: pd.DataFrame) -> dict[str, Any]:
    """Of columns of the dtype `category`."""
    dtypes = {name: dtype for name, dtype in template.dtypes.items() if isinstance(dtype, pd.CategoricalDtype)}
    return {
        name: {
            "values": list(map(_plain_or_text, dtype.categories)),
            "dtype": str(dtype.categories.dtype),
            "ordered": bool(dtype.ordered),
        }
        for name, dtype in dtypes.items()
    }


def _levels_from_json(record: Mapping[str, Any]) -> dict[str, pd.CategoricalDtype]:
    return {
        name: pd.CategoricalDtype(_as_they_were(pd.Index(levels["values"]), levels["dtype"]), levels["ordered"])
        for name, levels in record.items()
    }


def _as_they_were(values: pd.Index, dtype: str) -> pd.Index:
    """Values in a dtype, where they can be read as such."""
    try:
        return values.astype(dtype)
    except (TypeError, ValueError):
        return values


def _labels_to_json(labels: pd.Index) -> dict[str, Any]:
    values = [list(map(_plain_or_text, label)) if isinstance(label, tuple) else _plain_or_text(label) for label in labels]
    return {"values": values, "levels": labels.nlevels, "names": [None if name is None else str(name) for name in labels.names]}


def labels_from_json(record: Mapping[str, Any]) -> pd.Index:
    """The labels of the columns of a data frame, as `KnownTable.to_json` wrote them."""
    values = [tuple(value) if isinstance(value, list) else value for value in record["values"]]
    if record["levels"] > 1:
        return pd.MultiIndex.from_tuples(values, names=record["names"])
    return pd.Index(values, name=record["names"][0], tupleize_cols=False)


def _fallback_values(frame: pd.DataFrame, types: Mapping[str, Any]) -> pd.Series:
    """Of each column its mean, or of one that holds no numbers or dates its most frequent value; NaN where it has none."""

    def fallback(name: str) -> Any:
        column = frame[name].dropna()
        if pd.api.types.is_datetime64_any_dtype(column):
            return column.mean()
        if name not in types:
            return pd.to_numeric(column, errors="coerce").mean()
        return column.mode().iloc[0] if len(column) else np.nan

    return pd.Series({name: fallback(name) for name in frame.columns}, dtype=object)


def _dtype(column: Any) -> str:
    return "float64" if column is None else "datetime64[ns]" if isinstance(column, Date) else "object"


def _is_date(dtype: Any) -> bool:
    return bool(pd.api.types.is_datetime64_any_dtype(dtype))


def _written(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else _plain_or_text(value)


def _plain_or_text(value: Any) -> Any:
    try:
        return plain(value)
    except TypeError:
        return str(value)
