"""HDF5 files tried out in a process of their own: in some damaged ones the library goes round in circles for ever, or crashes, within a
single call, which nothing in the same process can end."""

import faulthandler
import io
import os
import signal
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from mmtool.common.errors import DataError
from mmtool.common.processes import can_fork
from mmtool.preprocessing.readers.raw_files import MAX_GROWTH_BYTES, check_growth

T = TypeVar("T")
STALLED_S = 1.0  # of processor time for one attribute or piece of an array, which takes milliseconds; waiting for a disk does not count
ROWS = 1000  # of a text array at once
DEEPEST = 32
EXPANDS = 3  # the exit code where a chunk would expand without bounds


def try_out(source: Path | io.BytesIO, where: str) -> None:
    """Read all attributes and texts of a file, and what numbers the ends of its arrays hold. Raises DataError where that does not end, or
    ends the process, or takes memory without bounds; what the library says of other damage it says again to whoever reads the file."""
    if not can_fork() or not hasattr(signal, "setitimer"):
        return
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            faulthandler.disable()
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])
            _read(source)
        except DataError:
            code = EXPANDS
        finally:
            os._exit(code)
    try:
        _, status = os.waitpid(pid, 0)
    except BaseException:  # a request to stop
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    if reason := _reason(status):
        raise DataError(f"the HDF5 file is damaged ({reason}).", where=where, fix="Get it again.")


def _reason(status: int) -> str | None:
    """Why a file is not to be read, from how its trial ended."""
    if not os.WIFSIGNALED(status):
        return (
            f"a chunk holds more than {MAX_GROWTH_BYTES >> 30} GiB beyond what is stored of it"
            if os.WEXITSTATUS(status) == EXPANDS
            else None
        )
    number = os.WTERMSIG(status)
    return "reading it does not end" if number == signal.SIGPROF else f"reading it ends the process by {signal.Signals(number).name}"


def _read(source: Path | io.BytesIO) -> None:
    import h5py

    _go_on()
    with h5py.File(source, "r") as root:
        _visit(root, set(), 0)


def _visit(item: Any, seen: set[int], depth: int) -> None:
    """Try out a group or an array, and all that a group holds of its own, each once."""
    import h5py

    address = h5py.h5o.get_info(item.id).addr
    if address in seen or depth > DEEPEST:
        return
    seen.add(address)
    for attribute in _tried(lambda: list(item.attrs), []):
        _tried(lambda name=attribute: item.attrs[name])  # type: ignore[misc]
    if isinstance(item, h5py.Dataset):
        _try_array(item)
    elif isinstance(item, h5py.Group):
        for name in _tried(lambda: list(item), []):
            if isinstance(_tried(lambda name=name: item.get(name, getlink=True)), h5py.HardLink):  # type: ignore[misc]
                _tried(lambda name=name: _visit(item[name], seen, depth + 1))  # type: ignore[misc]


def _try_array(array: Any) -> None:
    if array.chunks:
        check_growth(prod(array.chunks) * array.dtype.itemsize, array.id.get_storage_size(), "a chunk")
    if not prod(array.shape or ()):
        return
    if array.dtype.kind == "O" and array.ndim == 1:
        for start in range(0, len(array), ROWS):
            _tried(lambda start=start: array[start : start + ROWS])  # type: ignore[misc]
        return
    for end in (0, -1):
        _tried(lambda end=end: array[tuple(end % size for size in array.shape)])  # type: ignore[misc]


def _tried(work: Callable[[], T], otherwise: Any = None) -> T | Any:
    """What the work gives, in time; `otherwise` where the library refuses it."""
    _go_on()
    try:
        return work()
    except DataError:
        raise
    except Exception:
        return otherwise
    finally:
        _go_on()


def _go_on() -> None:
    signal.setitimer(signal.ITIMER_PROF, STALLED_S)
