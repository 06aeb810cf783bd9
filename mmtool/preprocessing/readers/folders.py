"""What lies below a folder, one path after another."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from mmtool.preprocessing.readers.other_formats import is_hidden, is_system_folder

ZARR = "zarr"
ZARR_RECORDS = (".zgroup", ".zarray", "zarr.json")  # of which a group or an array has one


def walk(folder: Path, leave_out: Callable[[str], None] = lambda linked: None) -> Iterator[Path]:
    """Files below a folder in order of their paths, hidden ones left out; a Zarr store is one of them.

    Links to folders are followed, and no folder is read twice: `leave_out` is called with each link to one that is read without it.
    """
    if is_zarr(folder):
        yield folder
        return
    top, seen = os.path.realpath(folder), set[str]()
    for directory, folders, files in os.walk(folder, followlinks=True):
        place = os.path.realpath(directory)
        if place in seen or (place != top and Path(directory).is_symlink() and _is_met_below(top, place)):
            leave_out(directory)
            folders.clear()
            continue
        seen.add(place)
        below = sorted(name for name in folders if not is_system_folder(name))
        stores = [name for name in below if is_zarr(Path(directory) / name)]
        folders[:] = [name for name in below if name not in stores]
        yield from (Path(directory) / name for name in sorted([*files, *stores]) if not is_hidden(name))


def _is_met_below(top: str, place: str) -> bool:
    """Whether a folder lies below another one, and is met there without a link."""
    return not any(map(is_system_folder, Path(os.path.relpath(place, top)).parts))  # a part is `..` where it lies elsewhere


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr store, or a group in one, which to a person is one file."""
    return any((path / name).is_file() for name in ZARR_RECORDS)
