"""Documents made ahead of the training, by processes beside it.

What they make is a function of the place in the stream alone: neither their number nor their speed changes a batch. They are forked, so
that they share the samples; requests to stop are the business of their parent, with which they end. Every worker has a pipe of its own,
with which it ends: one that is killed in the middle of a message, as happens where memory runs out, keeps nobody waiting.
"""

import atexit
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

from mmtool.common.errors import DataError, UsageError
from mmtool.common.processes import can_fork, end_with_parent, fork
from mmtool.data.documents import Documents, join

Make = Callable[[int, int], Documents]  # (number of the first, how many) -> documents of a stream
CHUNKS_AHEAD = 2  # of each worker


class Workers:
    """Processes that make documents of some streams; none where their number is 0.

    Raises UsageError where this system has no fork.
    """

    def __init__(self, number: int, makes: Sequence[Make]) -> None:
        self.number, self._makes = number, makes
        self._workers: list[_Worker] = []
        if not number:
            return
        if not can_fork():
            raise UsageError("this system cannot start workers.", where="--workers", fix="Give --workers 0.")
        atexit.register(self.close)
        self._workers = [_Worker(makes) for _ in range(number)]
        self._collector = threading.Thread(target=self._collect, name="collecting", daemon=True)
        self._collector.start()

    def start(self, stream: int, first: int, count: int) -> Callable[[], Documents]:
        """Have documents made; the result is called for when they are needed. Raises DataError where a worker has died."""
        if not self._workers:
            return partial(self._makes[stream], first, count)
        return min(self._workers, key=lambda worker: len(worker.tasks)).submit(stream, first, count).result

    def close(self) -> None:
        """End all of them."""
        if self._workers:
            atexit.unregister(self.close)
            self._kill()
            self._collector.join()
            self._workers = []

    def _collect(self) -> None:
        """Take what workers send until one has ended, then end all. Whoever waits for a result is told."""
        by_connection = {worker.connection: worker for worker in self._workers}
        going = True
        while going:
            going = all(by_connection[ready].receive() for ready in wait(list(by_connection)))  # type: ignore[index]
        self._kill()
        for worker in self._workers:
            worker.end()

    def _kill(self) -> None:
        for worker in self._workers:
            worker.process.kill()


class _Worker:
    """One process, and the results that it owes, in the order in which it makes them."""

    def __init__(self, makes: Sequence[Make]) -> None:
        self.connection, theirs = Pipe()
        self.tasks: list[Future[Documents]] = []
        self._lock, self._ended = threading.Lock(), False
        self.process = fork(_work, theirs, makes)
        theirs.close()

    def submit(self, stream: int, first: int, count: int) -> "Future[Documents]":
        future: Future[Documents] = Future()
        with self._lock:
            if self._ended:
                raise _died()
            self.tasks.append(future)
            with suppress(OSError):  # of one that has ended, which the collector will find
                self.connection.send((stream, first, count))
        return future

    def receive(self) -> bool:
        """Hand on a result. False where the process has ended, or sends what cannot be read."""
        try:
            documents, error = self.connection.recv()
        except Exception:
            return False
        future = self.tasks.pop(0)
        if error is None:
            future.set_result(documents)
        else:
            future.set_exception(error)
        return True

    def end(self) -> None:
        """After the process: nothing that it owes will come."""
        self.process.join()
        with self._lock:
            self._ended = True
            self.connection.close()
            for future in self.tasks:
                future.set_exception(_died())
            self.tasks = []


def _died() -> DataError:
    fix = "Where memory ran out, give fewer of them. The last checkpoint is intact, the same command continues."
    return DataError("a process that makes batches ended all of a sudden.", where="--workers", fix=fix)


def _work(connection: Connection, makes: Sequence[Make]) -> None:
    """What a worker does: make documents in the order in which they are asked for."""
    end_with_parent()
    with suppress(EOFError, BrokenPipeError):  # nobody is there any more
        while True:
            connection.send(_attempt(makes, *connection.recv()))


def _attempt(makes: Sequence[Make], stream: int, first: int, count: int) -> tuple[Documents | None, Exception | None]:
    try:
        return makes[stream](first, count), None
    except Exception as error:
        return None, error


class Stream:
    """Documents of an endless stream, made in chunks of `size`; as many chunks ahead of those asked for as keep all workers busy."""

    def __init__(self, workers: Workers, number: int, size: int) -> None:
        self._workers, self._number, self._size = workers, number, size
        self._chunks: dict[int, Callable[[], Documents]] = {}

    def read(self, start: int, count: int) -> Documents:
        """`count` documents from number `start` on; those before are forgotten."""
        first, last = start // self._size, (start + count - 1) // self._size
        ahead = range(first, last + 1 + CHUNKS_AHEAD * self._workers.number)
        self._chunks = {chunk: self._chunks.get(chunk) or self._start(chunk) for chunk in ahead}
        parts = [self._chunks[chunk]() for chunk in range(first, last + 1)]
        self._chunks.update((first + i, partial(_same, part)) for i, part in enumerate(parts))
        return join(parts).part(start - first * self._size, start - first * self._size + count)

    def _start(self, chunk: int) -> Callable[[], Documents]:
        return self._workers.start(self._number, chunk * self._size, self._size)


def _same(documents: Documents) -> Documents:
    return documents
