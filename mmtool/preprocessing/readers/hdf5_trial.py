"""HDF5 files tried out in a process of their own: in some damaged ones the library goes round in circles for ever, or crashes, within a
single call, which nothing in the same process can end."""

import faulthandler
import io
import os
import signal
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError
from mmtool.common.processes import can_fork

STALLED_S = 2.0  # of processor time for one object, which takes milliseconds; waiting for a disk does not count
ROWS = 1000  # of a text array at once


def try_out(source: Path | io.BytesIO, where: str) -> None:
    """Read all attributes and texts of a file, and what numbers the ends of its arrays hold. Raises DataError where that does not end, or
    ends the process; what the library says of other damage it says again to whoever reads the file."""
    if not can_fork() or not hasattr(signal, "setitimer"):
        return
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            faulthandler.disable()
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
            _read(source)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        how = "reading it does not end" if number == signal.SIGPROF else f"reading it ends the process by {signal.Signals(number).name}"
        raise DataError(f"the HDF5 file is damaged ({how}).", where=where, fix="Get it again.")


def _read(source: Path | io.BytesIO) -> None:
    import h5py

    def visit(name: str, item: Any) -> None:
        signal.setitimer(signal.ITIMER_PROF, STALLED_S)
        with suppress(Exception):
            for attribute in item.attrs:
                with suppress(Exception):
                    _ = item.attrs[attribute]
            if isinstance(item, h5py.Dataset):
                _read_array(item)
        signal.setitimer(signal.ITIMER_PROF, STALLED_S)

    signal.setitimer(signal.ITIMER_PROF, STALLED_S)
    with h5py.File(source, "r") as root:
        visit("/", root)
        root.visititems(visit)


def _read_array(array: Any) -> None:
    if not prod(array.shape or ()):
        return
    if array.dtype.kind == "O" and array.ndim == 1:
        for start in range(0, len(array), ROWS):
            signal.setitimer(signal.ITIMER_PROF, STALLED_S)
            with suppress(Exception):
                _ = array[start : start + ROWS]
        return
    for end in (0, -1):
        with suppress(Exception):
            _ = array[tuple(end % size for size in array.shape)]
