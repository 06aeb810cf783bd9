"""Arrays in HDF5 files, without what such files can hide: links to other files, virtual and object data, endless sizes."""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from mmtool.common.errors import DataError, MmtoolError, UsageError
from mmtool.preprocessing.readers.compressed import is_compressed
from mmtool.preprocessing.readers.hdf5_trial import try_out
from mmtool.preprocessing.readers.raw_files import RawFile, check_growth
from mmtool.tokenizers.trajectory import MAX_TOKENS_PER_STEP

MAX_NESTING = 4
NUMBERED = re.compile(r"(.*_)\d+")


@contextmanager
def open_hdf5(file: RawFile) -> Iterator[Any]:
    """The root group. Raises UsageError without h5py, DataError for a damaged file; a failing disk raises OSError."""
    try:
        import h5py
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[trajectory]'`, or convert the file to npz."
        raise UsageError("reading HDF5 needs h5py.", where=file.where, fix=fix) from error
    plain = file.path is not None and not is_compressed(file.path.name)
    source = file.path if file.path is not None and plain else io.BytesIO(file.read())
    try_out(source, file.where)
    with damage_named(file.where), h5py.File(source, "r") as root:
        yield root


@contextmanager
def damage_named(where: str, what: str = "HDF5 file") -> Iterator[None]:
    """Whatever h5py or zarr raises for damaged parts of a file becomes a DataError; a failing disk stays an OSError."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, MmtoolError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        raise DataError(f"the {what} is damaged ({error}).", where=where, fix="Get it again.") from error


def read_array(group: Any, name: str, where: str, left_out: list[str]) -> np.ndarray:
    """One array; a group of arrays (an observation of several parts) is flattened into (steps, numbers), parts in order of their names.

    Parts of a group that hold text, or pictures (more than 1,024 numbers in a step), are left out; their names are appended to `left_out`.
    Raises DataError for links to other files, objects, sizes beyond 4 GiB and parts that differ in length.
    """
    item = member(group, name, where)
    if not hasattr(item, "keys"):
        return _checked(item, name, where)
    parts = list(_parts(item, name, where, left_out, 1))
    if not parts:
        raise DataError(f"the group {name!r} holds no arrays of numbers.", where=where, fix="Store plain arrays.")
    if len({len(part) if part.ndim else 0 for part in parts}) > 1:
        raise DataError(f"the parts of {name!r} differ in length.", where=where, fix="Store one value per step in each.")
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _parts(group: Any, path: str, where: str, left_out: list[str], depth: int) -> Iterator[np.ndarray]:
    for name in sorted(group):
        item, inner = member(group, name, where), f"{path}/{name}"
        if hasattr(item, "keys"):
            if depth == MAX_NESTING:
                raise DataError(f"the group {inner!r} is nested too deeply.", where=where, fix="Store plain arrays.")
            yield from _parts(item, inner, where, left_out, depth + 1)
        elif item.dtype.kind not in "buif":
            left_out.append(f"{inner} (no numbers)")
        elif (width := prod(item.shape[1:])) > MAX_TOKENS_PER_STEP:
            left_out.append(f"{inner} ({width:,} numbers in each step)")
        else:
            yield _checked(item, name, where)


def contents(group: Any, depth: int = 1) -> list[str]:
    """The names below a group, `data/demo_N` for `data/demo_0`, `data/demo_1`. No array is read, and no link to another file followed."""
    names: list[str] = []
    for shown, name in _numbered(group).items():
        inner = subgroup(group, name) if depth else None
        parts = [] if inner is None else contents(inner, depth - 1)
        names += [f"{shown}/{part}" for part in parts] or [shown]
    return names


def subgroup(group: Any, name: str) -> Any | None:
    """The group of that name, None where it is an array, damaged, or in another file."""
    import h5py

    try:
        item = group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
    except (OSError, RuntimeError, KeyError, ValueError):  # who reads it says what is wrong
        return None
    return item if hasattr(item, "keys") else None


def _numbered(names: Iterable[str]) -> dict[str, str]:
    """The names by how to show them: several that differ in a number at their end alone are one, `traj_N`, which stands for the first."""
    alike: dict[str, list[str]] = {}
    for name in names:
        match = NUMBERED.fullmatch(name)
        alike.setdefault(f"{match[1]}N" if match else name, []).append(name)
    return {shown if len(same) > 1 else same[0]: same[0] for shown, same in alike.items()}


def attributes(group: Any) -> dict[str, Any]:
    """Its scalar attributes, text as text."""
    values = {name: group.attrs[name] for name in group.attrs}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items() if np.ndim(value) == 0}


def member(group: Any, name: str, where: str) -> Any:
    """What a group holds under a name. Raises DataError where that lies in another file, or cannot be opened."""
    import h5py

    if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
        raise DataError(f"{name!r} is a link to another file.", where=where, fix="Store the data itself.")
    try:
        return group[name]
    except KeyError as error:
        raise DataError(f"{name!r} cannot be opened ({error}).", where=where, fix="Get the file again.") from error


def _checked(item: Any, name: str, where: str) -> np.ndarray:
    if item.external or item.is_virtual:
        raise DataError(f"the data of {name!r} lies in another file.", where=where, fix="Store the data itself.")
    if item.dtype.kind == "O" and item.dtype.metadata and item.dtype.metadata.get("vlen") is str:
        return np.array(np.asarray(item.asstr()[()]).astype(str))
    if item.dtype.kind not in "buifSU":
        raise DataError(f"{name!r} holds {item.dtype}, no numbers.", where=where, fix="Store plain arrays of numbers.")
    check_growth(item.nbytes, item.id.get_storage_size(), f"{where}, {name!r}")
    return np.asarray(item[()])
