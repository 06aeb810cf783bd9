"""Conditions that every step must meet, asked without holding up a GPU."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class _Answer(NamedTuple):
    """holds: on its way to the CPU; there is `ready`, behind it in the queue of the GPU. otherwise: raises."""

    holds: Tensor
    ready: torch.cuda.Event
    otherwise: Callable[[], None]


class Checks:
    """A CPU answers at once. A GPU works on a queue, which runs dry if each step waits for its answer: there, that of a step is read when
    the next one has been queued. So a step may be taken that ought not to be; `settle` before anything is kept of it.
    """

    def __init__(self, device: torch.device) -> None:
        self._queued = device.type == "cuda"
        self._awaited: _Answer | None = None

    def add(self, holds: Tensor, otherwise: Callable[[], None]) -> None:
        """`otherwise`, which raises, is called where the condition `holds` is False, at the next `add` or `settle` at the latest."""
        if not self._queued:
            _settle(bool(holds), otherwise)
            return
        answer = _Answer(holds.to("cpu", non_blocking=True), torch.cuda.Event(), otherwise)
        answer.ready.record()
        self.settle()
        self._awaited = answer

    def settle(self) -> None:
        """Wait for the answer that is still awaited."""
        answer, self._awaited = self._awaited, None
        if answer:
            answer.ready.synchronize()
            _settle(bool(answer.holds), answer.otherwise)


def _settle(holds: bool, otherwise: Callable[[], None]) -> None:
    if not holds:
        otherwise()
