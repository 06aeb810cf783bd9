"""Work that is repeated in the same memory, without launching each kernel anew."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch


class Repeated:
    """Calls `step`, which takes and gives nothing, uses the same tensors every time and never waits for the device. A GPU records the
    second call as a CUDA graph and replays it from then on: one launch in place of hundreds. Random numbers go on as ever."""

    def __init__(self, step: Callable[[], None], generator: torch.Generator) -> None:
        self._step, self._generator = step, generator
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        self._calls += 1
        if self._generator.device.type != "cuda" or self._calls == 1:
            self._step()
            return
        self._graph = self._graph or self._recorded()
        self._graph.replay()

    def _recorded(self) -> torch.cuda.CUDAGraph:
        """By hand, since `torch.cuda.graph` first collects garbage and empties the allocator, which takes longer than the recording."""
        graph, recorder, current = torch.cuda.CUDAGraph(), _recorder(self._generator.device), torch.cuda.current_stream()
        graph.register_generator_state(self._generator)
        recorder.stream.wait_stream(current)
        with torch.cuda.stream(recorder.stream):
            graph.capture_begin(recorder.memory, capture_error_mode="thread_local")
            self._step()
            graph.capture_end()
        current.wait_stream(recorder.stream)
        recorder.last = graph
        return graph


class _Recorder:
    """What all recordings on a device share: a stream, each of which has a workspace of its own for matrix products, and the memory of
    intermediate results, which none needs between two replays. With memory of their own, recordings would pile up until there is none
    left: the allocator does not give back that of old ones while a new one is made."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.last: torch.cuda.CUDAGraph | None = None  # kept, so that its memory is

    @property
    def memory(self) -> Any:
        """The pool of the last recording; None before the first."""
        return self.last.pool() if self.last else None


@lru_cache
def _recorder(device: torch.device) -> _Recorder:
    return _Recorder(device)


@contextmanager
def any_order(device: torch.device) -> Iterator[None]:
    """For work that writes no place twice: a GPU need not sort what it writes so that the order is always the same."""
    if device.type != "cuda" or not torch.are_deterministic_algorithms_enabled():
        yield
        return
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=warn_only)
