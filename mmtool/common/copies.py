"""Local copies of remote files, in a cache: fetched once for each version, and seen only when they are whole.

    CACHE/files/ab/abcd...                      each version of each file
    CACHE/copies/DIGEST/s3/bucket/folder/...    what an argument named, laid out as it is there: hard links to these files
    CACHE/incoming/...                          what is being fetched

A file that changed there gets another copy beside the old one, so that what a command reads does not change while it reads.
"""

import codecs
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from mmtool.common.errors import DataError, UsageError
from mmtool.common.log import log, track
from mmtool.common.remote import Place, RemoteFile, patiently
from mmtool.common.remote_listing import Listing, is_page, list_files, no_page
from mmtool.common.storage import canonical_json, sha256_bytes, sha256_file
from mmtool.common.urls import COPIES, cache_folder, shown

INCOMING = "incoming"
BATCH_FILES, BATCH_BYTES = 64, 256 << 20
STALE_AFTER_S = 7 * 24 * 3600.0
DIGEST_LETTERS = 20  # of the name of a copy, which stands in paths that people see


def local_copies(urls: Sequence[str]) -> list[list[Path]]:
    """For each URL the local copy of its file or folder, or several where it is a pattern; they lie to each other as they do there.

    A file of the same size and version as before is not fetched again. Raises DataError where a place cannot be read, UsageError where the
    package that reads it is missing, the disk has too little space, or two URLs differ in their queries alone.
    """
    places = [Place.of(url) for url in urls]
    listings = [list_files(place) for place in places]
    _refuse_same_names(places, listings)
    with temporary_folder(INCOMING) as incoming:
        parts = [(place, _with_versions(place, listing.files, incoming)) for place, listing in zip(places, listings, strict=True)]
        files = {file.name: file for _, part in parts for file in part}
        identities = {name.as_posix(): _identity(file) for name, file in sorted(files.items())}
        copy = cache_folder() / COPIES / sha256_bytes(canonical_json(identities).encode())[:DIGEST_LETTERS]
        with _one_at_a_time(copy):
            if not all(_is_whole(copy / file.name, file) for file in files.values()):
                for place, part in parts:
                    _fetch(place, [file for file in part if not _is_whole(_stored(file), file)], incoming)
                _lay_out(copy, list(files.values()), incoming)
    return [[copy / name for name in listing.named] for listing in listings]


def _refuse_same_names(places: Sequence[Place], listings: Sequence[Listing]) -> None:
    """Raise UsageError where copies of two files would have the same name: addresses on the web may differ in their queries alone."""
    paths: dict[PurePosixPath, str] = {}
    for place, listing in zip(places, listings, strict=True):
        for file in listing.files:
            if unquote(paths.setdefault(file.name, file.path)) != unquote(file.path):
                what = "another URL differs from this one in its query or user alone, and the copies of both would have the same name."
                raise UsageError(what, where=shown(place.url), fix="Download both under different names, and give the paths of these.")


def _with_versions(place: Place, files: Sequence[RemoteFile], incoming: Path) -> list[RemoteFile]:
    """The files; those of which the place tells no version are fetched whatever was fetched before, and named by their content."""
    unknown = [file for file in files if not file.version]
    fetched = dict(zip(unknown, _downloaded(place, unknown, incoming), strict=True))
    versions = {file: replace(file, version=f"sha256={sha256_file(path)}") for file, path in fetched.items()}
    for file, path in fetched.items():
        _keep(path, versions[file])
    return [versions.get(file, file) for file in files]


def _fetch(place: Place, files: Sequence[RemoteFile], incoming: Path) -> None:
    """Fetch files into the cache, each of which is there when it is whole: what was fetched before an interruption stays."""
    for batch, paths in _batches(place, files, incoming):
        for file, path in zip(batch, paths, strict=True):
            _keep(path, file)


def _downloaded(place: Place, files: Sequence[RemoteFile], incoming: Path) -> list[Path]:
    return [path for _, paths in _batches(place, files, incoming) for path in paths]


def _batches(place: Place, files: Sequence[RemoteFile], incoming: Path) -> Iterator[tuple[list[RemoteFile], list[Path]]]:
    """Files, several at once, and where they were downloaded to. Raises DataError for one that did not arrive as a whole."""
    if not files:
        return
    _say(place, files)
    batches = [[]]  # type: list[list[RemoteFile]]
    for file in files:
        if batches[-1] and (len(batches[-1]) == BATCH_FILES or sum(each.size or 0 for each in batches[-1]) > BATCH_BYTES):
            batches.append([])
        batches[-1].append(file)
    for batch in track(batches, f"fetching {shown(place.url)}"):
        folder = Path(tempfile.mkdtemp(dir=incoming))
        paths = [folder / str(number) for number in range(len(batch))]
        patiently(place.url, place.system.get, [file.path for file in batch], [str(path) for path in paths])
        for file, path in zip(batch, paths, strict=True):
            if not _is_whole(path, file):
                there, here = file.size, path.stat().st_size if path.is_file() else 0
                what = f"{here:,} of {there or 0:,} bytes of {shown(file.path)!r} arrived."
                raise DataError(what, where=shown(place.url), fix="Run the same command again.")
            if place.is_web and not is_page(file.name.name) and _begins_as_page(path):
                raise no_page(file.path)
        yield batch, paths


def _begins_as_page(path: Path) -> bool:
    """Whether a file is HTML by its first bytes."""
    with open(path, "rb") as file:
        return file.read(1024).removeprefix(codecs.BOM_UTF8).lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _say(place: Place, files: Sequence[RemoteFile]) -> None:
    """Say what is fetched. Raises UsageError where the disk has too little space for it."""
    size, cache = sum(file.size or 0 for file in files), cache_folder()
    free = shutil.disk_usage(cache).free
    if size > free:
        what = f"{size / 1e6:,.0f} MB are to be fetched, and the disk of the cache ({cache}) has {free / 1e6:,.0f} MB free."
        fix = "Delete the cache, which holds nothing but copies, or give a folder on another disk with MMTOOL_CACHE."
        raise UsageError(what, where=shown(place.url), fix=fix)
    log(f"fetching {len(files):,} {'file' if len(files) == 1 else 'files'} ({size / 1e6:,.1f} MB) from {shown(place.url)}")


def _keep(path: Path, file: RemoteFile) -> None:
    """Put a downloaded file into the cache."""
    target = _stored(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.chmod(0o444)  # its hard links are this very file
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(path, target)


def _lay_out(copy: Path, files: Sequence[RemoteFile], incoming: Path) -> None:
    """The files under their names, all of them at once. Raises DataError where a name would leave the folder."""
    folder = incoming / "copy"
    for file in files:
        path = folder / file.name
        if ".." in file.name.parts or file.name.is_absolute():
            raise DataError(f"{shown(file.path)!r} would lie outside of the cache.", fix="Rename it there.")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(_stored(file), path)
        except OSError:  # a file system without hard links
            shutil.copyfile(_stored(file), path)
    shutil.rmtree(copy, ignore_errors=True)  # from which somebody deleted files
    copy.parent.mkdir(parents=True, exist_ok=True)
    os.replace(folder, copy)


def _identity(file: RemoteFile) -> str:
    return sha256_bytes(canonical_json([file.name.as_posix(), file.path, file.size, file.version]).encode())


def _stored(file: RemoteFile) -> Path:
    identity = _identity(file)
    return cache_folder() / "files" / identity[:2] / identity


def _is_whole(path: Path, file: RemoteFile) -> bool:
    return path.is_file() and file.size in (None, path.stat().st_size)


@contextmanager
def temporary_folder(name: str) -> Iterator[Path]:
    """A folder below `name` in the cache, gone in the end; those of processes that were killed go after a week."""
    try:
        folder = cache_folder() / name
    except RuntimeError as error:
        raise UsageError(f"there is no place for copies of remote files ({error}).", fix="Name a folder in MMTOOL_CACHE.") from None
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE_AFTER_S:
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as temporary:
        yield Path(temporary)


@contextmanager
def _one_at_a_time(copy: Path) -> Iterator[None]:
    """Of several processes that need the same, such as those of one training, the first fetches and the others wait."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    with open(copy.with_name(f"{copy.name}.lock"), "wb") as lock:
        with suppress(OSError):  # a file system without locks: each fetches for itself
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
