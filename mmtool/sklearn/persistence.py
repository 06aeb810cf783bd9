"""A fitted estimator as JSON, beside its run: its parameters, and the record that holds all of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.common.errors import DataError, UsageError
from mmtool.common.seal import check_seal, read_json
from mmtool.sklearn.containers import indices_of

FILE, FORMAT = "imputer.json", "mmtool-imputer/1"
RESTORE = "Restore it from a copy."


def params_to_json(params: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    """Parameters as JSON, blocks as numbers of columns. Raises UsageError for one that JSON does not hold."""
    blocks = params["blocks"] and {name: indices.tolist() for name, indices in indices_of(params["blocks"], names).items()}
    written = {**params, "blocks": blocks, "work_dir": None}
    for name, value in written.items():
        try:
            written[name] = json.loads(json.dumps(value, default=plain))
        except (TypeError, ValueError) as error:
            what = f"the parameter {name} cannot be saved ({error})."
            raise UsageError(what, where="save", fix="Give plain values, such as an integer for random_state.") from error
    return written


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


def plain(value: Any) -> Any:
    """Numbers of numpy as those of Python. Raises TypeError for what is none."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{type(value).__name__} is no plain value")
