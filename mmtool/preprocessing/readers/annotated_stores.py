"""Where AnnData and MuData lie: an HDF5 file, or a Zarr store, which is a folder. Both are groups of arrays with attributes.

Formats: https://anndata.readthedocs.io/en/stable/fileformat-prose.html
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.common.log import log
from mmtool.preprocessing.readers.folders import ZARR
from mmtool.preprocessing.readers.hdf5 import damage_named, member, open_hdf5
from mmtool.preprocessing.readers.raw_files import RawFile

FORMATS = ("h5ad", "h5mu", ZARR)
ENCODINGS = ("anndata", "MuData")
MAX_NESTING = 3


@contextmanager
def open_annotated(file: RawFile) -> Iterator[Any]:
    """The root group. Raises UsageError without anndata, DataError for what is damaged or neither AnnData nor MuData."""
    try:
        import anndata.io  # noqa: F401
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[omics]'`, or write the values as csv.gz or Parquet."
        raise UsageError("reading AnnData and MuData needs anndata 0.11 or newer.", where=file.where, fix=fix) from error
    with _open_zarr(file) if file.format == ZARR else open_hdf5(file) as root:
        yield root


@contextmanager
def _open_zarr(file: RawFile) -> Iterator[Any]:
    import zarr

    if file.path is None or not file.path.is_dir():
        raise DataError("a Zarr store is read from its folder.", where=file.where, fix="Unpack it and give the folder.")
    with damage_named(file.where, "Zarr store"):
        root = zarr.open_group(file.path, mode="r")
        if root.attrs.get("encoding-type") not in ENCODINGS:
            fix = f"{_meant(root, file.path)}Only tables are read from Zarr."
            raise DataError("the Zarr store is neither AnnData nor MuData.", where=file.where, fix=fix)
        yield root


def _meant(root: Any, path: Path) -> str:
    """The stores within one that are AnnData or MuData, as a sentence."""
    groups = [*root.groups(), *((f"{name}/{inner}", group) for name, outer in root.groups() for inner, group in outer.groups())]
    inner = [name for name, group in groups if group.attrs.get("encoding-type") in ENCODINGS]
    return f"Give one of those in it: {', '.join(str(path / name) for name in inner)}. " if inner else ""


def item(group: Any, name: str, where: str) -> Any:
    """What a group holds under a name. Raises DataError where that lies in another file, or cannot be opened."""
    return group[name] if hasattr(group, "store") else member(group, name, where)


def plain(group: Any, name: str, where: str, depth: int = 0) -> Any:
    """The same. Raises DataError also where some of it lies in other files, which HDF5 can have."""
    found = item(group, name, where)
    if not hasattr(found, "keys"):
        if getattr(found, "external", None) or getattr(found, "is_virtual", False):
            raise DataError(f"the data of {name!r} lies in another file.", where=where, fix="Store the data itself.")
    elif depth < MAX_NESTING:
        for inner in found:
            plain(found, inner, where, depth + 1)
    return found


def check_chunks(matrix: Any, name: str, where: str) -> None:
    """Zarr reads a chunk whose file is not there as zeros. Raises DataError where that cannot be meant: where there is none at all, and in
    sparse matrices, which store no zeros; of a dense one, whose chunks of zeros need not be stored, it is said."""
    sparse = hasattr(matrix, "keys")
    for array in [matrix[part] for part in ("data", "indices", "indptr")] if sparse else [matrix]:
        if (lacking := getattr(array, "nchunks", 0) - getattr(array, "nchunks_initialized", 0)) and (sparse or lacking == array.nchunks):
            raise DataError(f"{lacking} of the {array.nchunks} chunks of {name} are not there.", where=where, fix="Get it again.")
        if lacking:
            log(f"{where}: {lacking} of the {array.nchunks} chunks of {name} are not stored, and read as zeros")
