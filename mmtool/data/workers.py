"""Documents made ahead of the training, by processes beside it.

What they make is a function of the place in the stream alone: neither their number nor their speed changes a batch. They are forked, so
that they share the samples; requests to stop are the business of their parent, with which they end.
"""

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import wait

from mmtool.common.errors import DataError, UsageError
from mmtool.data.documents import Documents, join

Make = Callable[[int, int], Documents]  # (number of the first, how many) -> documents of a stream
CHUNKS_AHEAD = 2  # of each worker
STOP = (signal.SIGINT, signal.SIGTERM)


class Workers:
    """Processes that make documents of some streams; none where their number is 0.

    Raises UsageError where this system has no fork.
    """

    def __init__(self, number: int, makes: Sequence[Make]) -> None:
        self.number, self._makes = number, makes
        self._pool: ProcessPoolExecutor | None = None
        if not number:
            return
        if "fork" not in multiprocessing.get_all_start_methods():
            raise UsageError("this system cannot start workers.", where="--workers", fix="Give --workers 0.")
        context = multiprocessing.get_context("fork")
        self._pool = ProcessPoolExecutor(number, context, initializer=_begin, initargs=(makes,))
        others = multiprocessing.active_children()
        heeded = signal.pthread_sigmask(signal.SIG_BLOCK, STOP)  # workers are born with it, and keep it
        with warnings.catch_warnings():  # that forked threads may hold locks: workers use none of these
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pool.submit(os.getpid)  # starts all of them
        signal.pthread_sigmask(signal.SIG_SETMASK, heeded)
        self._children = [child for child in multiprocessing.active_children() if child not in others]

    def start(self, stream: int, first: int, count: int) -> Callable[[], Documents]:
        """Have documents made; the result is called for when they are needed. Raises DataError where a worker has died."""
        if self._pool is None:
            return partial(self._makes[stream], first, count)
        try:
            return partial(self._result, self._pool.submit(_make, stream, first, count))
        except BrokenProcessPool as error:
            raise self._died() from error

    def _result(self, future: "Future[Documents]") -> Documents:
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise self._died() from error

    def _died(self) -> DataError:
        """One of them has: end the others, which do not heed the pool."""
        for child in self._children:
            child.kill()
        fix = "Where memory ran out, give fewer of them. The last checkpoint is intact, the same command continues."
        return DataError("a process that makes batches ended all of a sudden.", where="--workers", fix=fix)

    def close(self) -> None:
        """End all of them."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


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


_streams: Sequence[Make] = ()  # of a worker, set once when it starts


def _begin(makes: Sequence[Make]) -> None:
    global _streams
    _streams = makes
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(0)


def _make(stream: int, first: int, count: int) -> Documents:
    return _streams[stream](first, count)
