"""Where raw files are read and decoded: in this process, or in others that may crash, hang or run out of memory for one sample each.

What is read, and in which order, is the same in any number of processes.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from typing import Annotated, Any, Literal, ParamSpec, TypeVar

from mmtool.common.bounds import Bounds, Positive
from mmtool.common.errors import UsageError
from mmtool.common.options import Option, check_bounds
from mmtool.preprocessing.readers.entries import READING, Entry

P = ParamSpec("P")
T = TypeVar("T")
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
    engine: Annotated[Literal["local", "ray"], Option(panel=READING)] = "local"
    """Where workers run; a Ray cluster has to share the files.

    All nodes of the cluster read them, at the same paths. On Ray there is one worker for each CPU that is free, 256 at most."""
    ray_address: Annotated[str | None, Option(metavar="ADDRESS", default="RAY_ADDRESS, or found or started here", panel=READING)] = None
    """Of a running Ray cluster, e.g. auto or HOST:PORT.

    None: what the environment variable RAY_ADDRESS says, else that of a cluster which runs on this machine; where none does, Ray is
    started on this machine alone, and ended with the command."""
    memory_bytes: int = 4 << 30
    """What a worker may need more than it begins with."""
    cluster: Any = field(default=None, repr=False, compare=False)
    """The `ray_workers.Cluster` that is open."""

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.engine == "ray" and self.workers:
            fix = "Leave --workers out: there is a worker for each CPU of the cluster."
            raise UsageError("these are processes of this machine.", where="--workers", fix=fix)
        if self.engine != "ray" and self.ray_address is not None:
            raise UsageError("there is no Ray cluster without --engine ray.", where="--ray-address", fix="Leave it out, or add that.")

    @property
    def has_workers(self) -> bool:
        """Whether other processes read."""
        return self.engine == "ray" or self.workers > 0

    @contextmanager
    def opened(self) -> Iterator["Decoding"]:
        """The same, with one Ray cluster for all that is read by it until the end. Raises UsageError where Ray is not installed."""
        if self.engine != "ray" or self.cluster is not None:
            yield self
            return
        from mmtool.preprocessing.ray_workers import Cluster

        with closing(Cluster(self.ray_address)) as cluster:
            yield replace(self, cluster=cluster)

    def read(self, source: Source, steps: Steps, is_empty: IsEmpty) -> Iterator[Any]:
        """What the source yields, in its order; values of its entries are loaded when they are asked for here, or have been in a worker."""
        if not self.has_workers:
            return (_stepped(message, steps, is_empty) for message in source())
        from mmtool.preprocessing.workers import read_in_workers

        return read_in_workers(source, steps, is_empty, self)


IN_PROCESS = Decoding()


def opens_engine(stage: Callable[P, T]) -> Callable[P, T]:
    """A stage whose argument `decoding` is open as long as it works."""
    signature = inspect.signature(stage)

    @wraps(stage)
    def with_engine(*args: P.args, **kwargs: P.kwargs) -> T:
        given = signature.bind(*args, **kwargs)
        with given.arguments.get("decoding", IN_PROCESS).opened() as decoding:
            given.arguments["decoding"] = decoding
            return stage(*given.args, **given.kwargs)

    return with_engine


def _stepped(message: Any, steps: Steps, is_empty: IsEmpty) -> Any:
    if steps.each is None or not isinstance(message, Entry):
        return message
    further = [partial(steps.load, load, is_empty) for load in message.further]
    return replace(message, load=partial(steps.load, message.load, is_empty), further=further)
