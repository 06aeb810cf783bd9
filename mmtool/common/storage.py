"""Every write of the toolkit: beside the target, flushed to disk, committed by one rename.

Nothing half-written is ever found under a final name. Leftovers of killed processes carry a recognisable name and are
removed when the same target is written again.
"""

import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial as bound
from pathlib import Path
from typing import IO, Any

from mmtool.common.errors import UsageError

PARTIAL = ".partial-"
WRITTEN = re.compile(rf"\.(.+){re.escape(PARTIAL)}")


def canonical_json(value: Any) -> str:
    """Sorted, compact JSON: the same value always gives the same text (NaN is refused)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def sha256_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_overwrite(path: Path, force: bool) -> None:
    """Raise UsageError when `path` exists (an empty directory does not count) and `force` is not set.

    Outputs that a user names have stricter rules: see `mmtool.common.output`.
    """
    if force or not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return
    raise UsageError("the output exists already.", where=path, fix="Choose another path, or pass --force to replace it.")


@contextmanager
def atomic_file(path: Path, force: bool = False, check: Callable[[], None] | None = None) -> Iterator[IO[bytes]]:
    """Open a binary file that appears under `path` only when the block ends without an error.

    check: raises where nothing may be written there, asked at once and again before the rename; None: `refuse_overwrite`.
    """
    path = Path(path)
    check = check or bound(refuse_overwrite, path, force)
    clean_orphans(path)
    check()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        check()
        commit(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_directory(path: Path, force: bool = False, check: Callable[[], None] | None = None) -> Iterator[Path]:
    """Give a working directory that becomes `path` only when the block ends without an error. check: as of `atomic_file`."""
    path = Path(path)
    check = check or bound(refuse_overwrite, path, force)
    clean_orphans(path)
    check()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    partial.mkdir()
    try:
        yield partial
        for file in sorted(partial.rglob("*")):
            _fsync(file)
        _fsync(partial)
        check()
        if path.is_dir() and not path.is_symlink():
            _replace_directory(partial, path)
        else:
            commit(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def write_bytes(path: Path, data: bytes, force: bool = True) -> None:
    with atomic_file(path, force) as file:
        file.write(data)


def write_json(path: Path, value: Any, force: bool = True) -> None:
    """Readable, sorted JSON, written atomically."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode(), force)


def commit(partial: Path, path: Path) -> None:
    """The one rename by which anything written becomes visible."""
    os.replace(partial, path)
    _fsync(path.parent)


def _replace_directory(partial: Path, path: Path) -> None:
    """A directory cannot be renamed over a full one: the old one steps aside, and comes back if the new one does not arrive."""
    old = _partial(path, "old-")
    path.rename(old)
    try:
        commit(partial, path)
    finally:
        if not path.exists():
            old.rename(path)
        shutil.rmtree(old, ignore_errors=True)


def clean_orphans(path: Path) -> list[str]:
    """Remove what writers of `path` that no longer live left beside it; what one had set aside and not yet replaced comes back. Gives what
    was done, in words."""
    done = []
    for orphan, set_aside in orphans(path):
        if set_aside and not path.exists():
            orphan.rename(path)
            done.append(f"{orphan}: put back as {path.name}")
        else:
            shutil.rmtree(orphan) if orphan.is_dir() else orphan.unlink(missing_ok=True)
            done.append(f"{orphan}: removed")
    return done


def orphans(path: Path) -> list[tuple[Path, bool]]:
    """What writers of `path` that no longer live left beside it, each with whether it is what stood there before and was set aside.

    Whether a writer on another host lives cannot be known here: what is theirs is not among them.
    """
    ours = re.compile(re.escape(f".{path.name}{PARTIAL}") + r"(?P<old>old-)?(?P<host>[0-9a-f]{8})-(?P<pid>[0-9]{1,10})")
    found = []
    for file in sorted(path.parent.iterdir()) if path.parent.is_dir() else ():
        match = ours.fullmatch(file.name)
        if match is None or match["host"] != _host() or file.is_symlink():
            continue
        if int(match["pid"]) == os.getpid() or not is_alive(match["pid"]):
            found.append((file, bool(match["old"])))
    return found


def clean_folder(folder: Path) -> None:
    """The same for whatever was to be written into a folder."""
    names = {match[1] for file in folder.iterdir() if (match := WRITTEN.match(file.name))} if folder.is_dir() else set()
    for name in sorted(names):
        clean_orphans(folder / name)


def remove_directory(path: Path) -> None:
    """Delete a directory, which is gone at once and as a whole: what a killed process leaves of it is an orphan."""
    partial = _partial(path)
    path.rename(partial)
    shutil.rmtree(partial)


def _partial(path: Path, old: str = "") -> Path:
    return path.with_name(f".{path.name}{PARTIAL}{old}{_host()}-{os.getpid()}")


def _host() -> str:
    """This host, as it stands in names of files."""
    return sha256_bytes(socket.gethostname().encode())[:8]


def is_alive(pid: Any) -> bool:
    """Whether a process of this host has the number `pid`; False for anything that is no such number."""
    try:
        number = int(pid)
        if number <= 0:  # stands for groups of processes
            return False
        os.kill(number, 0)
    except (TypeError, ValueError, ProcessLookupError, OverflowError):  # no system numbers processes so high
        return False
    except PermissionError:
        return True
    return True


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
