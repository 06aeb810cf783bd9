"""Where raw files are read and decoded: in this process, or in others that may crash, hang or run out of memory for one sample each.

What is read, and in which order, is the same in any number of processes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

from mmtool.common.bounds import Bounds, Positive
from mmtool.common.options import Option, check_bounds
from mmtool.preprocessing.readers.entries import READING, Entry

Source = Callable[[], Iterator[Any]]  # `messages.messages`, from the start at each call
IsEmpty = Callable[[Any], bool]


class Taken:
    """A value that is no raw one any more, for steps took it further."""


@dataclass(frozen=True)
class Steps:
    """What is done with values right where they were decoded. each: with one that is not empty. batch: with those that are `Taken` then,
    several at once, where workers do it: else that is left to whoever reads."""

    each: Callable[[Any], Any] | None = None
    batch: Callable[[Sequence[Any]], Sequence[Any]] | None = None

    def load(self, load: Callable[[], Any], is_empty: IsEmpty) -> Any:
        """A value as `each` makes it. Raises what loading raises."""
        value = load()
        return value if self.each is None or is_empty(value) else self.each(value)


@dataclass(frozen=True)
class Decoding:
    """Which processes read raw files, and what a sample may cost these."""

    workers: Annotated[int, Bounds(0, 256), Option(metavar="N", panel=READING)] = 0
    """Processes that read, decode and encode.

    The result is the same in any number; 0: all is done in this one, with which a decoder that crashes or hangs ends."""
    timeout_s: Annotated[Positive, Option("--timeout", metavar="SECONDS", panel=READING)] = 60.0
    """A worker that takes longer for a sample is ended.

    The sample is a bad one then. Of a file of many samples, every 100 kB allow a second more."""
    memory_bytes: int = 4 << 30
    """What a worker may need more than it begins with."""

    def __post_init__(self) -> None:
        check_bounds(self)

    def read(self, source: Source, steps: Steps, is_empty: IsEmpty) -> Iterator[Any]:
        """What the source yields, in its order; values of its entries are loaded when they are asked for here, or have been in a worker."""
        if not self.workers:
            return (_stepped(message, steps, is_empty) for message in source())
        from mmtool.preprocessing.workers import read_in_workers

        return read_in_workers(source, steps, is_empty, self)


IN_PROCESS = Decoding()


def _stepped(message: Any, steps: Steps, is_empty: IsEmpty) -> Any:
    if steps.each is None or not isinstance(message, Entry):
        return message
    further = [partial(steps.load, load, is_empty) for load in message.further]
    return replace(message, load=partial(steps.load, message.load, is_empty), further=further)
