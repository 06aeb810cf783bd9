"""Requests to stop: SIGINT and SIGTERM, which a training answers with a checkpoint."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from torch import nn

from mmtool.common.errors import MmtoolError
from mmtool.common.lock import release_locks
from mmtool.common.log import log

T = TypeVar("T")
AGAIN_S = 1.0  # until it is tried once more to leave: Python drops what is raised while it collects garbage
RESCUE_S = 0.5  # after the grace: that the main thread has before another one saves and ends the process
HAS_TIMER = hasattr(signal, "setitimer")  # not on Windows, where work is finished


class Stopped(BaseException):
    """A request to stop came where nothing has to be finished."""


class StopRequests:
    """SIGINT and SIGTERM that came, in their order."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self._grace_s: float | None = None  # of the work that is being done; None: it is to be finished
        self._save: Callable[[], None] | None = None
        self._leaving, self._rescuing, self._expired = threading.Lock(), False, False

    def interrupting(self, work: Callable[[], T], grace_s: float = 0.0, save: Callable[[], None] = lambda: None) -> T:
        """What `work` gives. Raises Stopped in the midst of it, `grace_s` seconds after a request; at once where one came before.

        save: keeps the state from before the work. Another thread calls it, and ends the process, where one operation of the work is so
        long that Python does not come to raise anything.
        """
        if self.signals:
            raise Stopped
        self._grace_s, self._save = grace_s, save
        try:
            return work()
        finally:
            self._grace_s = None
            with self._leaving:  # held for good by the thread that ends the process
                self._save = None

    def note(self, number: int) -> None:
        """Take a request."""
        self.signals.append(number)
        if self._grace_s == 0:
            log("leaving the validation; the checkpoint is saved")
            raise Stopped
        log("finishing the step and saving a checkpoint; once more to stop at once")
        if self._grace_s is not None and HAS_TIMER:
            signal.setitimer(signal.ITIMER_REAL, self._grace_s, AGAIN_S)

    def expire(self) -> None:
        """The grace is over."""
        if self._grace_s is not None and not self._rescuing:
            if not self._expired:
                log("the step takes long: it is abandoned, and done anew when the training goes on")
            self._expired = True
            raise Stopped

    def rescue(self, number: int) -> None:
        """From another thread: save what the main thread cannot, and end the process as the signal says. Does nothing where no work is
        being done that may be left."""
        self._rescuing = True
        with self._leaving:
            if self._save is None:
                self._rescuing = False
                return
            code = 128 + number
            try:
                self._save()
                log("one operation of the step takes long: it is left in its midst; the checkpoint is saved, the same command continues.")
            except (MmtoolError, OSError) as error:
                log(f"error: {error}")
                code = 1
            release_locks()
            os._exit(code)


@contextmanager
def stop_requests(grace_s: float) -> Iterator[StopRequests]:
    """Collects SIGINT and SIGTERM instead of dying of them; the second one acts as usual. grace_s: the longest that work has after one."""
    requests = StopRequests()
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        for old_number, handler in old.items():
            signal.signal(old_number, handler)
        requests.note(number)

    try:
        for number in old:
            signal.signal(number, note)
        with _alarm(requests.expire), _watch(requests, grace_s + RESCUE_S):
            yield requests
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def _watch(requests: StopRequests, patience_s: float) -> Iterator[None]:
    """A thread that learns of signals while the main thread is busy within one operation, when Python calls no handler."""
    if not HAS_TIMER:
        yield
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    before, done = signal.set_wakeup_fd(told, warn_on_full_buffer=False), threading.Event()

    def watch() -> None:
        for number in iter(lambda: os.read(heard, 1), b""):
            if number[0] in (signal.SIGINT, signal.SIGTERM):
                while not done.wait(patience_s):
                    requests.rescue(number[0])
                return

    thread = threading.Thread(target=watch, name="stop requests", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(before)
        os.close(told)
        thread.join()
        os.close(heard)


@contextmanager
def _alarm(ring: Callable[[], None]) -> Iterator[None]:
    """Calls `ring` whenever the timer expires that is set in the block. One that ran before goes on after it."""
    if not HAS_TIMER:
        yield
        return
    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    handler = signal.signal(signal.SIGALRM, lambda number, frame: ring())
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)


@contextmanager
def heard_in_backward(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Signals are handled in the midst of a backward pass as well: whenever the gradient of one of the parameters is complete. The pass is
    a single operation otherwise, before whose end Python handles none."""
    hooks = [parameter.register_post_accumulate_grad_hook(_pause) for parameter in parameters if parameter.requires_grad]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _pause(parameter: nn.Parameter) -> None:
    """Nothing, but in Python."""
