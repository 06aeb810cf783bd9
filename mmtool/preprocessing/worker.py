"""What one worker does (see `workers.py`): goes through all messages, loads the samples that are its own, and sends what came of them.

It runs in a process of its own, which `worker_process.py` starts and watches.
"""

import ctypes
import mmap
import signal
import struct
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from zlib import crc32

from mmtool.common.errors import DataError, MmtoolError
from mmtool.common.processes import STOP_SIGNALS, end_with_parent
from mmtool.common.seal import foreign
from mmtool.preprocessing.decoding import IsEmpty, Source, Steps, Taken
from mmtool.preprocessing.messages import Position
from mmtool.preprocessing.readers.entries import Broken, Entry
from mmtool.preprocessing.value_size import num_bytes

BATCH, BATCH_BYTES = 64, 16 << 20  # messages that are sent at once
LEAST_BYTES_PER_S = 1e5  # of a file that holds many samples, at which it is read all the same
PR_SET_PDEATHSIG = 1  # of linux/prctl.h
LEAVE_OUT = "Get it again, or leave it out with --on-error skip."


class Activity(IntEnum):
    """What a worker is about: NOTHING that could fail for a sample's sake, LISTING files, READING one of them, LOADING a sample, ENCODING
    some."""

    NOTHING = 0
    LISTING = 1
    READING = 2
    LOADING = 3
    ENCODING = 4


class Progress:
    """What a worker is doing at which message, since when and for how long it may; in memory that it shares with its parent."""

    _FORM = struct.Struct("qqdd")

    def __init__(self) -> None:
        self._memory: Any = mmap.mmap(-1, self._FORM.size)

    def note(self, activity: Activity, index: int = 0, allowance_s: float = 0.0) -> None:
        """allowance_s: 0 where there is no limit."""
        self._FORM.pack_into(self._memory, 0, activity, index, time.monotonic(), allowance_s)

    @property
    def activity(self) -> Activity:
        return Activity(self._FORM.unpack_from(self._memory)[0])

    @property
    def index(self) -> int:
        return int(self._FORM.unpack_from(self._memory)[1])

    @property
    def allowance_s(self) -> float:
        return float(self._FORM.unpack_from(self._memory)[3])

    def overdue(self, now_s: float) -> bool:
        _, _, since_s, allowance_s = self._FORM.unpack_from(self._memory)
        return bool(allowance_s and now_s - since_s > allowance_s)


@dataclass(frozen=True)
class Share:
    """The work of the worker `number` among `count`. timeout_s, memory_bytes: see `Decoding`."""

    source: Source
    steps: Steps
    is_empty: IsEmpty
    timeout_s: float
    memory_bytes: int
    number: int = 0
    count: int = 1


@dataclass
class Losses:
    """What ended workers: index of a sample, or of the message at which a file is given up -> what happened."""

    samples: dict[int, str] = field(default_factory=dict)
    files: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """How a worker begins: at the message `index`, passing over what was lost. one_by_one: it sends each message by itself."""

    losses: Losses
    index: int = 0
    one_by_one: bool = False


@dataclass(frozen=True)
class Loaded:
    """Loads what was loaded elsewhere."""

    value: Any = None
    error: Exception | None = None

    def __call__(self) -> Any:
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(frozen=True)
class Failed:
    """The sequence ended by an error."""

    error: BaseException


@dataclass(frozen=True)
class Ended:
    """The sequence came to its end. digest: of all that it held."""

    digest: int


def run_worker(share: Share, start: Start, progress: Progress, connection: Connection, is_main_thread: bool) -> None:
    """Send the messages of a share from the start on, in lists of (index, message). The last one is `Ended` or `Failed`.

    is_main_thread: whether the thread that started the worker ends with its process alone.
    """
    _settle(share.memory_bytes, is_main_thread)
    work = _Work(share, start, progress, connection)
    try:
        work.run()
    except BrokenPipeError:  # nobody listens any more
        return
    except (MmtoolError, OSError) as error:  # of the data, or of the machine
        work.send(Failed(error))
    except Exception:
        work.send(Failed(RuntimeError(f"a worker failed:\n{traceback.format_exc()}")))


class _Work:
    def __init__(self, share: Share, start: Start, progress: Progress, connection: Connection) -> None:
        self._share, self._losses, self._start = share, start.losses, start.index
        self._batch = 1 if start.one_by_one else BATCH
        self._progress, self._connection = progress, connection
        self._pending: list[tuple[int, Any]] = []
        self._bytes = 0
        self._index = -1

    def run(self) -> None:
        digest, entries, share = 0, 0, self._share
        for message in self._read():
            if isinstance(message, Entry):
                digest = crc32(f"{message.where}\0{message.key}\0".encode(errors="replace"), digest)
                entries += 1
                if entries % share.count == share.number and self._index >= self._start:
                    self._add(self._loaded(message))
            elif share.number == 0 and self._index >= self._start and not isinstance(message, Position):
                self._add(message)
        self._index += 1
        self.send(Ended(digest))

    def send(self, last: Any) -> None:
        """Send what is pending, and this."""
        self._flush()
        self._connection.send([(max(self._index, self._start), last)])

    def _read(self) -> Iterator[Any]:
        """All messages; where a file is given up, that it was in the place of those left of it."""
        sequence, timeout_s = self._share.source(), self._share.timeout_s
        activity, allowance_s = Activity.LISTING, 0.0
        while True:
            self._index += 1
            self._progress.note(activity, self._index, allowance_s)
            try:
                lost = self._losses.files.get(self._index)
                message = next(sequence) if lost is None else sequence.throw(_error(f"reading the file {lost}."))  # type: ignore[attr-defined]
            except StopIteration:
                self._index -= 1
                self._progress.note(Activity.NOTHING)
                return
            self._progress.note(Activity.NOTHING)
            if isinstance(message, Position):
                inside = message.num_bytes is not None
                activity = Activity.READING if inside else Activity.LISTING
                allowance_s = timeout_s + message.num_bytes / LEAST_BYTES_PER_S if message.num_bytes is not None else 0.0
            yield message

    def _loaded(self, entry: Entry) -> Entry | Broken:
        lost = self._losses.samples.get(self._index)
        if lost is not None:
            return Broken(entry.where, _error(f"decoding it {lost}.", entry.where), entry.key)
        self._progress.note(Activity.LOADING, self._index, self._share.timeout_s)
        try:
            with foreign(entry.where):
                values = [self._share.steps.load(load, self._share.is_empty) for load in (entry.load, *entry.further)]
            loaded = replace(entry, load=Loaded(values[0]), further=[Loaded(value) for value in values[1:]])
        except (MmtoolError, OSError) as error:
            loaded = replace(entry, load=Loaded(error=error), further=())
        self._progress.note(Activity.NOTHING)
        return loaded

    def _add(self, message: Any) -> None:
        self._pending.append((self._index, message))
        if isinstance(message, Entry):
            self._bytes += sum(num_bytes(getattr(load.value, "value", load.value)) for load in _loads(message))
        if len(self._pending) >= self._batch or self._bytes >= BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Send what is pending, encoded."""
        if not self._pending:
            return
        batch = self._share.steps.batch
        taken = [load.value for _, message in self._pending for load in _loads(message) if isinstance(load.value, Taken)]
        if batch is not None and taken:
            self._progress.note(Activity.ENCODING, self._pending[0][0], self._share.timeout_s * len(taken))
            pending, self._pending = self._pending, []  # which is lost where the next line raises
            results = iter(batch(taken))
            self._pending = [(index, _replaced(message, results)) for index, message in pending]
            self._progress.note(Activity.NOTHING)
        self._connection.send(self._pending)
        self._pending, self._bytes = [], 0


def _loads(message: Any) -> list[Loaded]:
    return [load for load in (message.load, *message.further) if isinstance(load, Loaded)] if isinstance(message, Entry) else []


def _replaced(message: Any, results: Iterator[Any]) -> Any:
    """The message with the next results in the place of what was taken."""
    if not isinstance(message, Entry):
        return message
    loads = [Loaded(next(results)) if isinstance(load.value, Taken) else load for load in _loads(message)]
    return replace(message, load=loads[0], further=loads[1:])


def _error(what: str, where: object = None) -> DataError:
    return DataError(what, where=where, fix=LEAVE_OUT)


def _settle(memory_bytes: int, is_main_thread: bool) -> None:
    """What a process does that is a worker now: it leaves Ctrl-C to its parent, ends with that, and asks for no more memory than it may."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    if sys.platform == "linux" and is_main_thread:  # also where a decoder gives no other thread a chance
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    end_with_parent()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    _limit_memory(memory_bytes)


def _limit_memory(more_bytes: int) -> None:
    """Where Linux says how much is in use: what is asked for beyond fails, and costs the sample. Libraries are not counted."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[5])
        resource.setrlimit(resource.RLIMIT_DATA, (pages * mmap.PAGESIZE + more_bytes, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    except (ImportError, OSError, ValueError):
        return
