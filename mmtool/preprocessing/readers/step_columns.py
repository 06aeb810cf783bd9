"""Columns of single steps (a Parquet row, say) as arrays; what is wrong with one step costs its episode alone."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from mmtool.common.errors import DataError

Faults = dict[int, DataError]  # number of a step -> what is wrong with it


def step_columns(table: Any, wanted: Collection[str], id_columns: Collection[str], where: str) -> tuple[dict[str, np.ndarray], Faults]:
    """The wanted columns of a pyarrow table, (steps, ...) each, and the faults of steps whose cells are empty, or unlike the others.

    Cells with a fault hold the value of another step; those of `id_columns` that of a step beside. Raises DataError for a column
    without any value.
    """
    arrays: dict[str, np.ndarray] = {}
    faults: Faults = {}
    for name in (name for name in map(str, table.column_names) if name in wanted):
        values = table[name].to_pylist()
        empty = np.array([value is None for value in values], bool)
        for step in np.flatnonzero(empty):
            faults.setdefault(int(step), _fault(f"the column {name!r} is empty.", where, step, "Fill it, or leave the column out."))
        if len(values) and empty.all():
            raise faults[0]
        if name in id_columns:
            values = filled_ids(values, empty, faults)
        arrays[name] = _array(values, name, where, faults)
    return arrays, faults


def filled_ids(ids: Sequence[Any], missing: np.ndarray, faults: Faults) -> list[Any]:
    """Ids of episodes, a missing one like that of the step before; the step behind it has the same fault, for either may lack a step."""
    filled = list(ids)
    known = np.flatnonzero(~missing)
    for step in np.flatnonzero(missing):
        filled[step] = filled[step - 1] if step else ids[known[0]]
        behind = known[known > step]
        if len(behind):
            faults.setdefault(int(behind[0]), faults[int(step)])
    return filled


def _array(values: list[Any], name: str, where: str, faults: Faults) -> np.ndarray:
    """(steps, ...): cells that are missing or of another shape than most hold the first that is like most."""
    try:
        array = np.array(values)
        if array.dtype.kind != "O":
            return array
    except ValueError:
        pass
    shapes = [_shape(value) for value in values]
    usual = Counter(shape for shape in shapes if shape is not None).most_common(1)
    if not usual:
        return np.array(values, object)
    like_most = next(value for value, shape in zip(values, shapes, strict=True) if shape == usual[0][0])
    for step, shape in enumerate(shapes):
        if shape != usual[0][0]:
            what = f"the lists of column {name!r} differ in length, or hold empty values."
            faults.setdefault(step, _fault(what, where, step, "Give every step as many."))
            values[step] = like_most
    return np.array(values)


def _shape(value: Any) -> tuple[int, ...] | None:
    """None where the value is missing, holds missing values, or lists that differ in length."""
    try:
        array = np.array(value)
    except ValueError:
        return None
    return None if array.dtype.kind == "O" else array.shape


def _fault(what: str, where: str, step: Any, fix: str) -> DataError:
    return DataError(what, where=f"{where}:{int(step) + 1}", fix=fix)
