"""A fitted estimator as JSON, beside its run: parameters, and what each table is like."""

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmtool.common.errors import DataError, UsageError
from mmtool.common.seal import check_seal, read_json
from mmtool.sklearn.containers import indices_of
from mmtool.tokenizers.column_types import Date

FILE, FORMAT = "imputer.json", "mmtool-imputer/1"
RESTORE = "Restore it from a copy."


def table_to_json(template: pd.DataFrame, fallback: pd.Series, labels: pd.Index | None) -> dict[str, Any]:
    """The columns of a table, their types, and the fallback values; labels: of the columns, where these are their names."""
    values = [None if pd.isna(value) else value.isoformat() if isinstance(value, date) else _plain(value) for value in fallback]
    record = {"columns": list(template.columns), "dtypes": [str(dtype) for dtype in template.dtypes], "fallback": values}
    return record if labels is None else {**record, "labels": _labels_to_json(labels)}


def _labels_to_json(labels: pd.Index) -> dict[str, Any]:
    values = [list(map(_plain_or_text, label)) if isinstance(label, tuple) else _plain_or_text(label) for label in labels]
    return {"values": values, "levels": labels.nlevels, "names": [None if name is None else str(name) for name in labels.names]}


def labels_from_json(record: Mapping[str, Any]) -> pd.Index:
    """The labels of the columns of a data frame, as `table_to_json` wrote them."""
    values = [tuple(value) if isinstance(value, list) else value for value in record["values"]]
    if record["levels"] > 1:
        return pd.MultiIndex.from_tuples(values, names=record["names"])
    return pd.Index(values, name=record["names"][0], tupleize_cols=False)


def table_from_json(record: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.Series]:
    """The inverse of `table_to_json`."""
    columns, dtypes = record["columns"], record["dtypes"]
    template = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in zip(columns, dtypes, strict=True)})
    pairs = zip(record["fallback"], template.dtypes, strict=True)
    fallback = [np.nan if value is None else pd.Timestamp(value) if is_date(dtype) else value for value, dtype in pairs]
    return template, pd.Series(fallback, index=columns, dtype=object)


def table_of_tokenizer(tokenizer: Any) -> tuple[pd.DataFrame, pd.Series]:
    """What a run alone knows of a table: its columns, without fallback values."""
    dtypes = {name: _dtype(tokenizer.types.get(name)) for name in (*tokenizer.features, *tokenizer.dropped)}
    template = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in dtypes.items()})
    return template, pd.Series(np.nan, index=list(dtypes), dtype=object)


def is_date(dtype: Any) -> bool:
    return bool(pd.api.types.is_datetime64_any_dtype(dtype))


def params_to_json(params: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Parameters as JSON, blocks as numbers of columns. Raises UsageError for one that JSON does not hold."""
    blocks = params["blocks"] and {name: indices.tolist() for name, indices in indices_of(params["blocks"], names).items()}
    plain = {**params, "blocks": blocks, "work_dir": None}
    for name, value in plain.items():
        try:
            plain[name] = json.loads(json.dumps(value, default=_plain))
        except (TypeError, ValueError) as error:
            what = f"the parameter {name} cannot be saved ({error})."
            raise UsageError(what, where="save", fix="Give plain values, such as an integer for random_state.") from error
    return plain


def read_record(folder: Path) -> dict[str, Any] | None:
    """What `save` wrote; None for a folder that holds none. Raises DataError where it is of another version, or damaged."""
    path = folder / FILE
    if not path.is_file():
        return None
    record = read_json(path, RESTORE)
    if record.get("format") != FORMAT:
        raise DataError(f"the format {record.get('format')!r} is unknown; this version reads {FORMAT}.", where=path)
    check_seal(record, path, RESTORE)
    return record


def _dtype(column: Any) -> str:
    return "float64" if column is None else "datetime64[ns]" if isinstance(column, Date) else "object"


def _plain(value: Any) -> Any:
    """Numbers of numpy as those of Python. Raises TypeError for what is none."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{type(value).__name__} is no plain value")


def _plain_or_text(value: Any) -> Any:
    try:
        return _plain(value)
    except TypeError:
        return str(value)
