"""Raw files read in processes of their own: what crashes, hangs or runs out of memory there costs one sample, which is named.

Every worker reads the whole sequence of messages (`messages.py`), which is cheap, and loads every N-th sample of it, which is not. So a
worker needs to know nothing but which of them it is, and one that starts anew in the place of another passes over what was done. They run
on this machine (`worker_process.py`), or on those of a Ray cluster (`ray_workers.py`).
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.common.processes import can_fork
from mmtool.preprocessing.decoding import Decoding, IsEmpty, Source, Steps
from mmtool.preprocessing.worker import Activity, Ended, Failed, Losses, Share, Start
from mmtool.preprocessing.worker_process import LostError, Runner, WorkerProcess

MAX_STARTS = 100  # of one worker, where it is not known what it died of
CHANGED = "Wait until nobody writes them, then run the same command again."
DIFFERENT = "Wait until nobody writes them, and give paths at which all nodes of the cluster find the same files."
FEWER = "Give fewer --workers where memory ran out, or --workers 0."
NOT_ON_RAY = "See what Ray's logs say of it, or give --workers N instead of --engine ray."


def read_in_workers(source: Source, steps: Steps, is_empty: IsEmpty, decoding: Decoding) -> Iterator[Any]:
    """What the source yields, in its order. Raises what it raises, UsageError where this system has no fork, and DataError where the files
    change meanwhile."""
    share = Share(source, steps, is_empty, decoding.timeout_s, decoding.memory_bytes)
    with decoding.opened() as opened:
        here = opened.cluster is None
        readers = _Readers(_here(share, decoding.workers) if here else opened.cluster.runners(share), here)
        try:
            yield from readers.messages()
        finally:
            readers.close()


def _here(share: Share, count: int) -> list[WorkerProcess]:
    if not can_fork():
        raise UsageError("this system cannot start workers.", where="--workers", fix="Give --workers 0.")
    return [WorkerProcess(replace(share, number=number, count=count)) for number in range(count)]


class _Readers:
    """All workers of one reading. here: on this machine."""

    def __init__(self, runners: Sequence[Runner], here: bool) -> None:
        self._losses, self._here = Losses(), here
        self._workers = [_Worker(runner, self._losses) for runner in runners]

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
            except LostError as lost:
                self._recover(worker, lost)

    def _recover(self, worker: "_Worker", lost: LostError) -> None:
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
            raise DataError(what, fix=FEWER if self._here else NOT_ON_RAY)

    def _check_same_end(self) -> None:
        first, *others = (worker.received[0] for worker in self._workers)
        if any(received != first for received in others):
            raise DataError("the files changed while they were read.", fix=CHANGED if self._here else DIFFERENT)


class _Worker:
    """One worker, and what was received from it: (index, message) in their order. It goes on at `next_index` when it is started anew."""

    def __init__(self, runner: Runner, losses: Losses) -> None:
        self._runner, self._losses = runner, losses
        self.received: deque[tuple[int, Any]] = deque()
        self.next_index, self.one_by_one, self.num_starts = 0, False, 0

    def start(self) -> None:
        """Start it, in the place of an earlier run."""
        self.num_starts += 1
        self._runner.start(Start(self._losses, self.next_index, self.one_by_one))

    def receive(self) -> None:
        """Wait for further messages. Raises LostError where none will come."""
        batch = self._runner.receive()
        self.received.extend(batch)
        self.next_index = batch[-1][0] + 1

    def discard(self, index: int) -> None:
        """Forget the messages from `index` on: the sequence is another one there."""
        self.received = deque(received for received in self.received if received[0] < index)
        self.next_index = min(self.next_index, index)

    def end(self) -> None:
        self._runner.end()
