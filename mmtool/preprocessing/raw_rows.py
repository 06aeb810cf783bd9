"""Raw tables by key, in the order of a tokenizer's features: the truth that imputed tables are compared with."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mmtool.common.errors import UsageError
from mmtool.common.log import track
from mmtool.preprocessing.fit import find_tokenizer
from mmtool.preprocessing.prepare import preparer_of
from mmtool.preprocessing.sources import SourceOptions, read_items


def raw_rows(files: Mapping[str, Path], run: Path, options: SourceOptions | None = None) -> dict[str, dict[str, np.ndarray]]:
    """modality -> key -> (F,) float32 row with NaN for missing values, columns as the run's tokenizer wants them. Rows without any value
    are absent.

    Raises UsageError where a modality is no table, DataError where a file cannot be read or has other columns.
    """
    return {name: _rows(name, path, run, replace(options or SourceOptions(), name=name)) for name, path in files.items()}


def _rows(name: str, path: Path, run: Path, options: SourceOptions) -> dict[str, np.ndarray]:
    tokenizer = find_tokenizer(run, name)
    if tokenizer.kind != "table":
        raise UsageError(f"{name!r} is {tokenizer.kind}, not a table.", where="--raw", fix="Give raw tables only.")
    prepare = preparer_of(tokenizer)
    reading = prepare.reading(options)
    reading = replace(reading, table=replace(reading.table, unseen="missing"))  # as where it was tokenized
    items = track(read_items("table", [path], reading), f"reading {name}")
    rows = {item.key: np.asarray(prepare(item.value, path), np.float32) for item in items}
    return {key: row for key, row in rows.items() if not prepare.is_absent(row)}
