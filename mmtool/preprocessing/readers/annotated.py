"""AnnData and MuData: observations by variables in HDF5 (`.h5ad`, `.h5mu`) or Zarr, a few rows at a time, also of sparse matrices.

The names of observations are keys, those of variables features. A zero is a value, also where a sparse matrix leaves it out; NaN is a
missing one. The format: https://anndata.readthedocs.io/en/stable/fileformat-prose.html
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.keys import numbers_rows
from mmtool.preprocessing.readers.annotated_stores import check_chunks, item, open_annotated, plain
from mmtool.preprocessing.readers.entries import Entry, Note, SourceOptions, UnreadArrays, key_of, name_of, require_column, row_entry
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.tokenizers.table_rows import SINGLE_PRECISION_INTEGERS

CHUNK_VALUES = 1 << 22  # dense at once
MODALITIES, RAW = "mod", "raw"
ALIGNED = ("obs", "var", "layers", "obsm", "obsp", "varm", "varp")  # groups of arrays


@dataclass(frozen=True)
class Matrix:
    """Where the values of one modality lie. name: `X`, `layers/NAME` or `raw/X`; data: an array, or a group that is a sparse matrix."""

    name: str
    data: Any
    var: Any


def read_annotated(file: RawFile, options: SourceOptions) -> Iterator[Entry | Note | UnreadArrays]:
    """Entries of one file, of one modality where it is MuData; their values are ((F,) float32, names of variables).

    Raises UsageError without anndata, and where the modality or layer is unclear or not there, DataError for damaged files.
    """
    with open_annotated(file) as root:
        group, where = _modality(root, file.where, options)
        matrix = _matrix(group, where, options)
        features = tuple(_index(matrix.var, where))
        if len(set(features)) < len(features):
            fix = "Make them unique, e.g. with `var_names_make_unique`."
            raise DataError("names of variables stand twice.", where=where, fix=fix)
        obs, names = _obs(root, group, where, options)
        yield Note("observations", f"values: {matrix.name} of {where}; keys: {'row numbers' if names is None else names}")
        yield from _unread(root, group, matrix, where, options)
        yield from _entries(matrix, obs, features, file.stem, where, names, options)


def refuse_options(file: RawFile, options: SourceOptions) -> None:
    """Raise UsageError where a layer or modality of a plain table is asked for."""
    asked = [option for option, value in (("--layer", options.layer), ("--mod", options.mod)) if value is not None]
    if asked:
        raise UsageError("only AnnData and MuData files have that.", where=f"{asked[0]}, {file.where}", fix="Leave it out.")


def _modality(root: Any, where: str, options: SourceOptions) -> tuple[Any, str]:
    """The group that holds the modality, and what a person calls it."""
    if MODALITIES not in root:
        if options.mod is not None:
            raise UsageError("this is AnnData, which holds one modality.", where=where, fix="Leave --mod out.")
        return root, where
    modalities = item(root, MODALITIES, where)
    names = list(modalities)
    implied = options.name if options.name in names else names[0] if len(names) == 1 else None
    name = options.mod or implied
    if name is None or name not in names:
        what = f"the file holds the modalities {', '.join(names)}" + (f", and no {name!r}." if name else ".")
        raise UsageError(
            what, where=where, fix="Tokenize one after another: --name NAME, and --mod NAME if that is another name in the file."
        )
    return item(modalities, name, where), f"{where}, {name}"


def _matrix(group: Any, where: str, options: SourceOptions) -> Matrix:
    layers = item(group, "layers", where) if "layers" in group else {}
    if options.layer is None and "X" in group:
        return Matrix("X", plain(group, "X", where), plain(group, "var", where))
    if options.layer is not None and options.layer in layers:
        return Matrix(f"layers/{options.layer}", plain(layers, options.layer, where), plain(group, "var", where))
    if options.layer == RAW and f"{RAW}/X" in group:
        raw = item(group, RAW, where)
        return Matrix("raw/X", plain(raw, "X", where), plain(raw, "var", where))
    what = "there is no X" if options.layer is None else f"there is no layer {options.layer!r}"
    known = [*layers, *([RAW] if f"{RAW}/X" in group else [])]
    fix = f"Choose from {', '.join(known)} with --layer." if known else "Leave --layer out." if "X" in group else "Give a file with values."
    raise UsageError(f"{what}.", where=where, fix=fix)


def _index(frame: Any, where: str) -> list[str]:
    """The index of a data frame."""
    if not hasattr(frame, "keys"):
        raise DataError("the file was written by anndata before 0.7.", where=where, fix="Open it with anndata and write it again.")
    return [str(value) for value in _column(frame, frame.attrs.get("_index", "_index"))]


def _column(frame: Any, name: str) -> list[Any]:
    """A column of a data frame, None where a value is missing."""
    import pandas
    from anndata.io import read_elem

    values = pandas.Series(read_elem(frame[name])).astype(object)
    return list(values.where(values.notna(), None))


def _column_names(frame: Any) -> list[str]:
    return [name for name in frame if name != frame.attrs.get("_index", "_index")]


def _obs(root: Any, group: Any, where: str, options: SourceOptions) -> tuple[list[dict[str, Any]], str | None]:
    """For each observation its key and the columns that are needed, and what keys are called, None where rows are numbered."""
    frame = plain(group, "obs", where)
    index = _index(frame, where)
    known = _column_names(frame)
    whole = plain(root, "obs", where) if "obs" in root and root != group else None  # of all modalities
    key_column = None if numbers_rows(options, known) else options.key_column
    if key_column is not None:
        require_column(key_column, known, where, "--key-column")
    wanted = {name for name in (key_column, options.group_column, *options.label_names.values()) if name}
    columns = {name: _column(frame, name) for name in known if name in wanted}
    if whole is not None and (further := [name for name in _column_names(whole) if name in wanted - columns.keys()]):
        place = {name: number for number, name in enumerate(_index(whole, where))}
        for name in further:
            values = _column(whole, name)
            columns[name] = [values[place[key]] if key in place else None for key in index]
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)] if columns else [{} for _ in index]
    keys: Sequence[Any] = index if key_column is None else columns[key_column]
    rows = [{**row, "": name_of(key)} for row, key in zip(rows, keys, strict=True)]
    numbered = options.key_column is not None and key_column is None
    return rows, None if numbered else "names of observations" if key_column is None else f"column {key_column!r}"


def _entries(
    matrix: Matrix,
    obs: Sequence[Mapping[str, Any]],
    features: tuple[str, ...],
    stem: str,
    where: str,
    names: str | None,
    options: SourceOptions,
) -> Iterator[Entry]:
    number = 0
    for chunk in _chunks(matrix, (len(obs), len(features)), where):
        for values in chunk:
            row = obs[number]
            key = key_of(stem, number) if names is None else row[""]
            place = f"{where}, {row[''] or f'row {number}'}"
            yield row_entry(row, key, place, partial(_values, values, features, place), options, len(obs) if names is None else None)
            number += 1


def _chunks(matrix: Matrix, shape: tuple[int, int], where: str) -> Iterator[np.ndarray]:
    """(n, F) rows, dense."""
    sparse = hasattr(matrix.data, "keys")
    data = matrix.data["data"] if sparse else matrix.data
    stored = tuple(int(size) for size in (_attribute(matrix.data, "shape") if sparse else data.shape))
    if stored != shape:
        what = f"{matrix.name} has the shape {stored} for {shape[0]} observations and {shape[1]} variables."
        raise DataError(what, where=where, fix="Get the file again.")
    if data.dtype.kind not in "buif":
        raise DataError(f"{matrix.name} holds {data.dtype}, no numbers.", where=where, fix="Store numbers.")
    check_chunks(matrix.data, matrix.name, where)
    size = max(1, CHUNK_VALUES // max(1, shape[1]))
    yield from _sparse_chunks(matrix.data, shape, size) if sparse else (data[start : start + size] for start in range(0, shape[0], size))


def _sparse_chunks(group: Any, shape: tuple[int, int], size: int) -> Iterator[np.ndarray]:
    """Rows that are stored as such are read as they are needed. Rows of a matrix stored by columns are sought in all of it, which stays
    sparse in memory."""
    from scipy.sparse import csc_matrix, csr_matrix

    parts = [group[name] for name in ("data", "indices", "indptr")]
    if str(_attribute(group, "format")).startswith("csc"):
        rows = csc_matrix(tuple(part[()] for part in parts), shape).tocsr()
        yield from (rows[start : start + size].toarray() for start in range(0, shape[0], size))
        return
    data, indices, indptr = parts[0], parts[1], parts[2][()]
    for start in range(0, shape[0], size):
        ends = indptr[start : start + size + 1]
        first, last = int(ends[0]), int(ends[-1])
        yield csr_matrix((data[first:last], indices[first:last], ends - first), (len(ends) - 1, shape[1])).toarray()


def _attribute(group: Any, name: str) -> Any:
    """`shape` or `format` of a sparse matrix; the latter names are those of anndata before 0.7."""
    attribute = {"shape": "shape", "format": "encoding-type"}[name]
    return group.attrs[attribute] if attribute in group.attrs else group.attrs[f"h5sparse_{name}"]


def _values(values: np.ndarray, features: tuple[str, ...], where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """A row in single precision; in double where it holds a value beyond 2^24 that would be rounded, for tokenizers to see by how much."""
    with np.errstate(over="ignore"):
        row = values.astype(np.float32)
    if np.isinf(row).any():
        name = features[int(np.isinf(row).argmax())]
        raise DataError(f"the value of {name!r} is infinite in single precision.", where=where, fix="Scale it, or make it NaN.")
    exact = values.astype(np.float64)
    return (exact if ((row != exact) & (np.abs(exact) > SINGLE_PRECISION_INTEGERS)).any() else row), features


def _unread(root: Any, group: Any, matrix: Matrix, where: str, options: SourceOptions) -> Iterator[UnreadArrays]:
    """What the file holds and nothing reads."""
    frames = {name: set(_column_names(group[name])) if name in ("obs", "var") else set(group[name]) for name in ALIGNED if name in group}
    contents = [f"{name}/{part}" for name, parts in frames.items() for part in sorted(parts)]
    contents += [name for name in ("X", f"{RAW}/X") if name in group]
    if root != group:
        contents += [f"{MODALITIES}/{name}" for name in root[MODALITIES] if root[MODALITIES][name] != group]
    read = {matrix.name, *(f"obs/{name}" for name in (options.key_column, options.group_column, *options.label_names.values()))}
    unread = [name for name in contents if name not in read]
    if unread:
        yield UnreadArrays(where, unread, ["X", "another layer with --layer"])
