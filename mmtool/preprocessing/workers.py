"""Raw files read in processes of their own: what crashes, hangs or runs out of memory there costs one sample, which is named.

Every worker reads the whole sequence of messages (`messages.py`), which is cheap, and loads every N-th sample of it, which is not. So a
worker needs to know nothing but which of them it is, and one that starts anew in the place of another passes over what was done. They
are forked: what this process knows, such as the tokenizer, is theirs as well. A worker notes in shared memory what it is about to do, and
since when, so that it is known what it died of.
"""

import signal
import threading
import time
from collections import deque
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.common.processes import can_fork, fork
from mmtool.preprocessing.decoding import Decoding, IsEmpty, Source, Steps
from mmtool.preprocessing.worker import Activity, Ended, Failed, Losses, Progress, Share, run_worker

POLL_S = 0.1
START_S = 60.0  # in which a worker begins, on any machine
MAX_STARTS = 100  # of one worker, where it is not known what it died of
CHANGED = "Wait until nobody writes them, then run the same command again."


def read_in_workers(source: Source, steps: Steps, is_empty: IsEmpty, decoding: Decoding) -> Iterator[Any]:
    """What the source yields, in its order. Raises what it raises, UsageError where this system has no fork, and DataError where the files
    change meanwhile."""
    if not can_fork():
        raise UsageError("this system cannot start workers.", where="--workers", fix="Give --workers 0.")
    readers = _Readers(source, steps, is_empty, decoding)
    try:
        yield from readers.messages()
    finally:
        readers.close()


class _LostError(Exception):
    """A worker that ended or was ended: what it was doing, and why."""

    def __init__(self, progress: Progress, reason: str) -> None:
        super().__init__(reason)
        self.activity, self.index, self.reason = progress.activity, progress.index, reason


class _Readers:
    """All workers of one reading."""

    def __init__(self, source: Source, steps: Steps, is_empty: IsEmpty, decoding: Decoding) -> None:
        self._losses = Losses()
        self._workers = [_Worker(Share(source, steps, is_empty, decoding, number), self._losses) for number in range(decoding.workers)]

    def messages(self) -> Iterator[Any]:
        """The messages of all workers in their order."""
        for worker in self._workers:
            worker.start()
        while True:
            for worker in self._workers:
                self._fill(worker)
            index, message = min((worker.received[0] for worker in self._workers), key=lambda received: received[0])
            if isinstance(message, Ended):
                self._check_same_end()
                return
            worker = next(worker for worker in self._workers if worker.received[0][0] == index)
            worker.received.popleft()
            if isinstance(message, Failed):
                raise message.error
            yield message

    def close(self) -> None:
        for worker in self._workers:
            worker.end()

    def _fill(self, worker: "_Worker") -> None:
        while not worker.received:
            try:
                worker.receive()
            except _LostError as lost:
                self._recover(worker, lost)

    def _recover(self, worker: "_Worker", lost: _LostError) -> None:
        """Have the work done but for what was fatal. A file that is given up shortens the sequence for all workers."""
        if lost.activity is Activity.LOADING or (lost.activity is Activity.ENCODING and worker.one_by_one):
            self._losses.samples[lost.index] = lost.reason
            worker.start()
        elif lost.activity is Activity.ENCODING:  # of several samples: each alone will show
            worker.one_by_one = True
            worker.start()
        elif lost.activity is Activity.READING:
            self._losses.files[lost.index] = lost.reason
            for each in self._workers:
                each.discard(lost.index)
                each.start()
        elif lost.activity is Activity.NOTHING and worker.num_starts < MAX_STARTS:  # by chance, or for want of memory
            worker.start()
        else:
            what = f"a process that reads files {lost.reason}, before or between them."
            raise DataError(what, fix="Give fewer --workers where memory ran out, or --workers 0.")

    def _check_same_end(self) -> None:
        first, *others = (worker.received[0] for worker in self._workers)
        if any(received != first for received in others):
            raise DataError("the files changed while they were read.", fix=CHANGED)


class _Worker:
    """One process, and what was received from it: (index, message) in their order. It goes on at `next_index` when it is started anew."""

    def __init__(self, share: Share, losses: Losses) -> None:
        self._share, self._losses = share, losses
        self.received: deque[tuple[int, Any]] = deque()
        self.next_index, self.one_by_one, self.num_starts = 0, False, 0
        self._process: Any = None
        self._connection: Connection

    def start(self) -> None:
        """Start the process, in the place of an earlier one."""
        self.end()
        self.num_starts += 1
        self._progress = Progress()
        self._connection, theirs = Pipe(duplex=False)
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._progress.note(Activity.NOTHING, allowance_s=START_S)
        self._process = fork(
            run_worker, self._share, self._losses, self.next_index, self.one_by_one, self._progress, theirs, in_main_thread
        )
        theirs.close()

    def receive(self) -> None:
        """Wait for further messages. Raises _LostError where none will come."""
        while not self._connection.poll():
            ready = wait([self._connection, self._process.sentinel], POLL_S)
            if self._process.sentinel in ready and not self._connection.poll():
                raise self._lost()
            if not ready and self._progress.overdue(time.monotonic()):
                self._end_overdue(time.monotonic())
        try:
            batch = self._connection.recv()
        except (EOFError, OSError):
            raise self._lost() from None
        self.received.extend(batch)
        self.next_index = batch[-1][0] + 1

    def discard(self, index: int) -> None:
        """Forget the messages from `index` on: the sequence is another one there."""
        self.received = deque(received for received in self.received if received[0] < index)
        self.next_index = min(self.next_index, index)

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._connection.close()
            self._process = None

    def _lost(self) -> _LostError:
        self._process.join()
        return _LostError(self._progress, _how_it_ended(self._process.exitcode))

    def _end_overdue(self, now_s: float) -> None:
        """End the process. What it notes is certain then: raises _LostError where it is overdue, else it goes on anew."""
        self._process.kill()
        self._process.join()
        if self._progress.overdue(now_s):
            allowance = f"{self._progress.allowance_s:,.0f} s"
            begun = self._progress.activity is not Activity.NOTHING
            raise _LostError(self._progress, f"took longer than {allowance} (--timeout)" if begun else f"did not begin within {allowance}")
        self.start()


def _how_it_ended(code: int | None) -> str:
    """In words."""
    if code is None or code >= 0:
        return f"ended with the code {code}"
    name = signal.Signals(-code).name
    memory = ", as happens where memory runs out" if -code == signal.SIGKILL else ""
    return f"crashed ({name}{memory})"
