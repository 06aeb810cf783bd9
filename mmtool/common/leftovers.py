"""What interrupted commands left behind in and beside an artefact: temporary files and folders, half-deleted checkpoints, locks."""

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from mmtool.common.lock import is_held, is_lock, lock_of, locked
from mmtool.common.log import log
from mmtool.common.storage import WRITTEN, clean_orphans, orphans


def report_leftovers(path: Path, repair: bool = False) -> bool:
    """Name on standard error what was left behind there, once it is removed if it is to be; whether anything was."""
    repaired = False
    for done in remove_leftovers(path) if repair else ():
        log(done)
        repaired = True
    for left in leftovers(path):
        log(f"warning: {left}: an interrupted command left it behind; `mmtool lint --repair {shlex.quote(str(path))}` removes it")
    return repaired


def leftovers(path: Path) -> list[Path]:
    """What processes of this host that no longer live left behind in an artefact or folder, and beside it."""
    return [file for output in _outputs(path) for file in _left_of(output)]


def remove_leftovers(path: Path) -> Iterator[str]:
    """Remove it, and put back what was set aside to be replaced and was not; gives each thing that was done, in words.

    Raises UsageError where a process begins to write there meanwhile.
    """
    for output in _outputs(path):
        if not _left_of(output):
            continue
        lock = lock_of(output)
        was_locked = lock.exists()
        with locked(output):
            yield from clean_orphans(output)
        if was_locked:
            yield f"{lock}: removed"


def _outputs(path: Path) -> list[Path]:
    """Whatever was to be written: what the path names, and all below it that has a temporary name. Links are not followed."""
    place = path.resolve() if path.name in ("", "..") or path.is_symlink() else path
    outputs = {place}
    for directory, folders, files in os.walk(place):
        outputs |= {Path(directory, match[1]) for name in (*folders, *files) if (match := WRITTEN.match(name))}
        folders[:] = [name for name in folders if not WRITTEN.match(name)]
    return sorted(outputs)


def _left_of(output: Path) -> list[Path]:
    """What is left of an output, and its lock; nothing while it, or what it is a part of, is being written."""
    above = [folder for folder in output.absolute().parents if folder.name]
    if any(map(is_held, (output, *above))):
        return []
    lock = lock_of(output)
    return [*(orphan for orphan, _ in orphans(output)), *([lock] if is_lock(lock) else [])]
