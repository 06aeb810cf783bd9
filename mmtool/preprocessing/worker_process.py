"""One worker in a process of its own, forked: what this process knows, such as the tokenizer, is the worker's as well.

It notes in shared memory what it is about to do, and since when, so that it is known what it died of, and ended where that takes too long.
"""

import signal
import threading
import time
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

from mmtool.common.processes import fork
from mmtool.preprocessing.worker import Activity, Progress, Share, Start, run_worker

POLL_S = 0.1
START_S = 60.0  # in which a worker begins, on any machine

Batch = list[tuple[int, Any]]  # (index, message) in their order


class LostError(Exception):
    """A worker that ended or was ended: what it was doing, at which index, and why."""

    def __init__(self, activity: Activity, index: int, reason: str) -> None:
        super().__init__(activity, index, reason)
        self.activity, self.index, self.reason = activity, index, reason


class Runner(Protocol):
    """Runs one worker, wherever that is."""

    def start(self, start: Start) -> None:
        """Begin, in the place of an earlier run."""

    def receive(self) -> Batch:
        """The next messages, once they are there. Raises LostError where none will come."""

    def end(self) -> None:
        """Have the worker end, whatever it is doing."""


class WorkerProcess:
    """A `Runner` on this machine."""

    def __init__(self, share: Share) -> None:
        self._share = share
        self._process: Any = None
        self._progress: Progress
        self._connection: Connection

    def start(self, start: Start) -> None:
        """Start the process, in the place of an earlier one."""
        self.end()
        self._progress = Progress()
        self._connection, theirs = Pipe(duplex=False)
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._progress.note(Activity.NOTHING, allowance_s=START_S)
        self._process = fork(run_worker, self._share, start, self._progress, theirs, in_main_thread)
        theirs.close()

    def receive(self) -> Batch:
        """Wait for further messages. Raises LostError where none will come."""
        return unpacked(self.receive_bytes())

    def receive_bytes(self) -> bytes:
        """The same, as they were sent (see `unpacked`)."""
        while not self._connection.poll():
            ready = wait([self._connection, self._process.sentinel], POLL_S)
            if self._process.sentinel in ready and not self._connection.poll():
                raise self._lost()
            if not ready and self._progress.overdue(time.monotonic()):
                raise self._overdue(time.monotonic())
        try:
            return self._connection.recv_bytes()
        except (EOFError, OSError):
            raise self._lost() from None

    def end(self) -> None:
        """Kill the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._connection.close()
            self._process = None

    def _lost(self) -> LostError:
        self._process.join()
        return LostError(self._progress.activity, self._progress.index, _how_it_ended(self._process.exitcode))

    def _overdue(self, now_s: float) -> LostError:
        """End the process, which seems overdue. What it notes is certain then; where it is not, nothing that it did is to blame."""
        self._process.kill()
        self._process.join()
        progress, allowance = self._progress, f"{self._progress.allowance_s:,.0f} s"
        if not progress.overdue(now_s):
            return LostError(Activity.NOTHING, progress.index, "was ended by mistake")
        begun = progress.activity is not Activity.NOTHING
        reason = f"took longer than {allowance} (--timeout)" if begun else f"did not begin within {allowance}"
        return LostError(progress.activity, progress.index, reason)


def unpacked(sent: bytes) -> Batch:
    """The messages that a process of ours sent."""
    batch: Batch = ForkingPickler.loads(sent)
    return batch


def _how_it_ended(code: int | None) -> str:
    """In words."""
    if code is None or code >= 0:
        return f"ended with the code {code}"
    name = signal.Signals(-code).name
    memory = ", as happens where memory runs out" if -code == signal.SIGKILL else ""
    return f"crashed ({name}{memory})"
