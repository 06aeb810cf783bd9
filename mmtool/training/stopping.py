"""Requests to stop: SIGINT and SIGTERM, which a training answers with a checkpoint."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

from torch import nn

from mmtool.common.log import log

T = TypeVar("T")
AGAIN_S = 1.0  # until it is tried once more to leave: Python drops what is raised while it collects garbage
HAS_TIMER = hasattr(signal, "setitimer")  # not on Windows, where work is finished


class Stopped(BaseException):
    """A request to stop came where nothing has to be finished."""


class StopRequests:
    """SIGINT and SIGTERM that came, in their order."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self._grace_s: float | None = None  # of the work that is being done; None: it is to be finished

    def interrupting(self, work: Callable[[], T], grace_s: float = 0.0) -> T:
        """What `work` gives. Raises Stopped in the midst of it, `grace_s` seconds after a request; at once where one came before."""
        if self.signals:
            raise Stopped
        self._grace_s = grace_s
        try:
            return work()
        finally:
            self._grace_s = None

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
        if self._grace_s is not None:
            log("the step takes long: it is abandoned, and done anew when the training goes on")
            self._grace_s = None
            raise Stopped


@contextmanager
def stop_requests() -> Iterator[StopRequests]:
    """Collects SIGINT and SIGTERM instead of dying of them; the second one acts as usual."""
    requests = StopRequests()
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        for old_number, handler in old.items():
            signal.signal(old_number, handler)
        requests.note(number)

    try:
        for number in old:
            signal.signal(number, note)
        with _alarm(requests.expire):
            yield requests
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


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
