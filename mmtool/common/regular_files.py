"""Files of other people: opened only where they are plain ones. A pipe would keep a reader waiting for ever, a device never ends."""

import os
import stat
from pathlib import Path
from typing import IO

from mmtool.common.errors import DataError


def open_regular(path: Path) -> IO[bytes]:
    """The file for reading. Raises DataError where it is not a regular file, or cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # so that opening a pipe does not wait either
    except (FileNotFoundError, PermissionError) as error:
        fix = "Check the link and its permissions, or leave it out with --on-error skip."
        raise DataError(f"the file cannot be opened ({error.strerror}).", where=path, fix=fix) from error
    except OSError as error:  # of a socket
        if not path.is_file():
            raise not_regular(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise not_regular(path)
    return os.fdopen(descriptor, "rb")


def not_regular(path: Path) -> DataError:
    """What to say of such a file."""
    return DataError("this is not a regular file but a pipe, a device or a folder.", where=path, fix="Give a plain file.")


def mode_of(path: Path) -> int:
    """What sort of file it is, as `stat.S_ISREG` and its like take it; 0 where there is none."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return 0
