"""Imputed tables as AnnData (`.h5ad`) and MuData (`.h5mu`): the names of observations and variables are those that were read."""

import gc
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.common.errors import UsageError
from mmtool.imputation.config import TableFormat

MUDATA_FILE = "imputed.h5mu"
UNS = "mmtool"
ERRNO = re.compile(r"errno = (\d+)")


def require_library(format: TableFormat) -> None:
    """Raise UsageError where what writes the format is not installed."""
    try:
        if format == "h5ad":
            import anndata  # noqa: F401
        elif format == "h5mu":
            import mudata  # noqa: F401
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[omics]'`, or leave --format out for CSV."
        raise UsageError(f"writing {format} needs anndata and mudata.", where="--format", fix=fix) from error


def annotated(
    values: np.ndarray,
    layers: Mapping[str, np.ndarray],
    keys: Sequence[str],
    features: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    run: Mapping[str, Any],
) -> Any:
    """An AnnData: values and layers (N, F), for N keys; columns: one value for each key, None where there is none; run: what `uns` says."""
    from anndata import AnnData
    from pandas import DataFrame, Index

    obs = DataFrame({name: _column(column) for name, column in columns.items()}, index=Index(list(keys), dtype=object))
    var = DataFrame(index=Index(list(features), dtype=object))
    return AnnData(np.asarray(values, np.float32), obs, var, layers=dict(layers), uns={UNS: dict(run)})


def write_annotated(tables: Mapping[str, Any], folder: Path, format: TableFormat) -> None:
    """Write `NAME.h5ad` for each of the tables, or all as modalities of `imputed.h5mu`. Raises OSError where the disk refuses."""
    hooks = sys.excepthook, sys.unraisablehook
    sys.excepthook, sys.unraisablehook = _ignore, _ignore  # objects of a file that cannot be written say so again when they are freed
    try:
        refused = _refusal(tables, folder, format)
        gc.collect()
    finally:
        sys.excepthook, sys.unraisablehook = hooks
    if refused is not None:
        raise refused


def _ignore(*error: Any) -> None:
    """Say nothing of it."""


def _refusal(tables: Mapping[str, Any], folder: Path, format: TableFormat) -> OSError | None:
    """Write the files; gives what the system said where it refused (h5py raises one error or another, with a dump of its buffers)."""
    try:
        _write(tables, folder, format)
    except (OSError, RuntimeError) as error:
        number = ERRNO.search(str(error))
        if number is None:
            raise
        return OSError(int(number[1]), os.strerror(int(number[1])), str(folder))
    return None


def _write(tables: Mapping[str, Any], folder: Path, format: TableFormat) -> None:
    if format == "h5ad":
        for name, table in tables.items():
            table.write_h5ad(folder / f"{name}.h5ad")
        return
    from mudata import MuData, set_options

    with set_options(pull_on_update=False):
        MuData(dict(tables)).write_h5mu(folder / MUDATA_FILE)


def file_of(name: str, format: TableFormat) -> str:
    """The file that a table is written to."""
    return MUDATA_FILE if format == "h5mu" else f"{name}.h5ad"


def _column(values: Sequence[Any]) -> Any:
    from pandas import Categorical, Index, Series

    if any(isinstance(value, str) for value in values):
        names = sorted({value for value in values if value is not None})
        return Categorical(list(values), categories=Index(names, dtype=object))
    return Series(list(values), dtype=np.float64).to_numpy()
