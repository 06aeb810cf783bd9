"""What lies below a folder, one path after another."""

import os
from collections.abc import Iterator
from pathlib import Path

from mmtool.preprocessing.readers.other_formats import is_hidden, is_system_folder

ZARR = "zarr"
ZARR_RECORDS = (".zgroup", ".zarray", "zarr.json")  # of which a group or an array has one


def walk(folder: Path) -> Iterator[Path]:
    """Files below a folder in order of their paths, hidden ones left out; a Zarr store is one of them. Links to folders are followed; no
    folder is read twice."""
    if is_zarr(folder):
        yield folder
        return
    seen: set[str] = set()
    for directory, folders, files in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(directory))
        below = sorted(name for name in folders if not is_system_folder(name))
        stores = [name for name in below if is_zarr(Path(directory) / name)]
        folders[:] = [name for name in below if name not in stores and os.path.realpath(Path(directory) / name) not in seen]
        yield from (Path(directory) / name for name in sorted([*files, *stores]) if not is_hidden(name))


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store, or a group in one, which to a person is one file."""
    return any((path / name).is_file() for name in ZARR_RECORDS)
