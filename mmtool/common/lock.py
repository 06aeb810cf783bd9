"""One writer for each output: a lock beside it says who that is, and goes when the writer ends, however it ends.

`.NAME.partial-lock` holds the host, the process and when it started. On one host the kernel knows whether the writer lives (flock). Of a
writer on another host, which may share the folder, the lock's time decides: a living one renews it every half minute.
"""

import fcntl
import inspect
import json
import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.common.storage import PARTIAL, is_alive

P = ParamSpec("P")
T = TypeVar("T")
RENEWED_EVERY_S, GIVEN_UP_AFTER_S = 30.0, 300.0
_held: set[Path] = set()  # locks of this process


def one_writer(stage: Callable[P, T]) -> Callable[P, T]:
    """A stage that holds the lock of its argument `output` as long as it works (None: standard output)."""
    signature = inspect.signature(stage)

    @wraps(stage)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        output = signature.bind(*args, **kwargs).arguments["output"]
        refused = output is None or Path(output).name in ("", "..") or Path(output).is_symlink()  # which the stage says
        with nullcontext() if refused else locked(Path(output)):
            return stage(*args, **kwargs)

    return alone


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of an output. Raises UsageError where another process writes it; a lock that a dead one left is taken over, said aloud.

    Of the processes of one distributed training the first holds it for all.
    """
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    path = Path(path).absolute()
    created = _make_parents(path)
    file = lock_of(path)
    try:
        descriptor = _take(file, path)
        _held.add(file)
        ended = threading.Event()
        threading.Thread(target=_renew, args=(descriptor, ended), daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            _held.discard(file)
            with suppress(FileNotFoundError):
                file.unlink()
            os.close(descriptor)
    finally:
        for folder in created:
            with suppress(OSError):  # something was written into it
                folder.rmdir()


def release_locks() -> None:
    """Remove the locks of this process, which is about to end without coming back to where it took them."""
    for file in list(_held):
        file.unlink(missing_ok=True)


def lock_of(path: Path) -> Path:
    """The file that is the lock of an output."""
    return path.with_name(f".{path.name}{PARTIAL}lock")


def is_lock(file: Path) -> bool:
    """Whether a file says which process holds an output, as a lock does; one that only has the name of a lock belongs to somebody."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return {"host", "pid"} <= _holder(descriptor).keys()
    except OSError:
        return False
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether an output has a lock that somebody may need: a living process of this host, or any of another host."""
    try:
        descriptor = os.open(lock_of(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        return not isinstance(error, FileNotFoundError)
    try:
        return not _alone(descriptor) or _holder(descriptor).get("host", socket.gethostname()) != socket.gethostname()
    finally:
        os.close(descriptor)


def _make_parents(path: Path) -> list[Path]:
    """Create the folders above a path; gives those that were missing, the innermost first."""
    missing = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    return missing


def _take(file: Path, output: Path) -> int:
    """The descriptor of the lock, which is ours now."""
    while True:
        if file.is_dir():
            what = "a folder stands where the lock of this output has to be."
            raise UsageError(what, where=file, fix="Move it away, or choose another output.")
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            if not _alone(descriptor):
                raise _refusal(_holder(descriptor), file, output)
            if not _is_at(descriptor, file):  # its last holder removed it meanwhile
                os.close(descriptor)
                continue
            _take_over(descriptor, file, output)
            return descriptor
        except BaseException:
            with suppress(OSError):
                os.close(descriptor)
            raise


def _alone(descriptor: int) -> bool:
    """Whether no living process of this host holds the lock; then it is ours until the descriptor is closed."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without such locks: what is written in it has to do
        holder = _holder(descriptor)
        return holder.get("host") != socket.gethostname() or not is_alive(holder.get("pid"))
    return True


def _is_at(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _take_over(descriptor: int, file: Path, output: Path) -> None:
    holder = _holder(descriptor)
    if holder:
        if holder.get("host") != socket.gethostname() and _age_s(descriptor, file) < GIVEN_UP_AFTER_S:
            raise _refusal(holder, file, output)
        log(f"{output}: taking over from {_words(holder)}, which ended without a word")
    ours = {"host": socket.gethostname(), "pid": os.getpid(), "started": time.strftime("%Y-%m-%d %H:%M:%S %Z")}
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(ours).encode(), 0)
    except OSError:  # a full disk, on which an empty lock would be left
        file.unlink(missing_ok=True)
        raise


def _age_s(descriptor: int, file: Path) -> float:
    """Seconds since the lock was renewed, by the clock of the file system: those of two hosts differ."""
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f"{file.name}-") as now:
        return Path(now.name).stat().st_mtime - os.fstat(descriptor).st_mtime


def _renew(descriptor: int, ended: threading.Event) -> None:
    while not ended.wait(RENEWED_EVERY_S):
        with suppress(OSError):
            os.utime(descriptor)


def _holder(descriptor: int) -> dict[str, Any]:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
    except (ValueError, IsADirectoryError):  # somebody's file, or folder
        return {}
    return holder if isinstance(holder, dict) else {}


def _words(holder: dict[str, Any]) -> str:
    return (
        f"process {holder.get('pid', '?')} on {holder.get('host', 'another host')}, started {holder.get('started', 'at an unknown time')}"
    )


def _refusal(holder: dict[str, Any], file: Path, output: Path) -> UsageError:
    fix = "Wait for it, stop it, or choose another output."
    if holder.get("host") != socket.gethostname():
        fix += f" Where it is certain that it no longer runs, delete {file}."
    return UsageError(f"another process is writing this output ({_words(holder)}).", where=output, fix=fix)
