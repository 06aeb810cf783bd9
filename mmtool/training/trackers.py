"""Trackers: the records of `metrics.jsonl`, and pictures of imputed samples, sent on to TensorBoard, wandb or trackio as well.

RUN/tracking.json says for every tracker that was used by which name it knows the run, and up to which step it was sent records: a training
that goes on continues the tracker's run, and sends no step twice. A tracker that is new to a run is sent all that `metrics.jsonl` holds.
TensorBoard's files lie in RUN/tensorboard; where those of the others lie, they decide (wandb: ./wandb, without a network with
WANDB_MODE=offline).
"""

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmtool.common.errors import UsageError
from mmtool.common.seal import DIGEST, read_json
from mmtool.common.storage import write_json

TRACKING, FIX = "tracking.json", "Remove it: the tracker then begins a new run."
PROJECT = "mmtool"
SORTS = ("loss", "validation")  # of records: a report of the training, or a measurement of a checkpoint
Record = Mapping[str, Any]


class Tracker(ABC):
    """Shows numbers and pictures by step. module: what it is made of; name: by which it knows the run."""

    module: ClassVar[str]

    def __init__(self, library: Any, run: Path, name: str, config: Mapping[str, Any]) -> None:
        self.library, self.run, self.name = library, run, name
        self.open(config)

    @abstractmethod
    def open(self, config: Mapping[str, Any]) -> None:
        """Begin the tracker's run, or continue the one of this name."""

    @abstractmethod
    def numbers(self, step: int, values: Mapping[str, float]) -> None: ...

    @abstractmethod
    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """(H, W, 3) uint8 each."""

    @abstractmethod
    def close(self) -> None: ...


class TensorBoard(Tracker):
    """Event files in the run: `tensorboard --logdir RUN/tensorboard`."""

    module = "torch.utils.tensorboard"

    def open(self, config: Mapping[str, Any]) -> None:
        self._writer = self.library.SummaryWriter(str(self.run / "tensorboard"))

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        for name, picture in pictures.items():
            self._writer.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class Wandb(Tracker):
    """A run of Weights & Biases, in the project that WANDB_PROJECT names, or `mmtool`."""

    module = "wandb"

    def open(self, config: Mapping[str, Any]) -> None:
        named = {} if os.environ.get("WANDB_PROJECT") else {"project": PROJECT}
        self._run = self.library.init(id=self.name, name=self.run.name, resume="allow", config=dict(config), **named)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        self._run.log({name: self.library.Image(picture) for name, picture in pictures.items()}, step=step)

    def close(self) -> None:
        self._run.finish()


class Trackio(Tracker):
    """A run of trackio in the project `mmtool`, on this machine: `trackio show --project mmtool`."""

    module = "trackio"

    def open(self, config: Mapping[str, Any]) -> None:
        name = f"{self.run.name}-{self.name}"
        self.library.init(project=PROJECT, name=name, resume="allow", config=dict(config))

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        self.library.log(dict(values), step=step)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        self.library.log({name: self.library.Image(picture) for name, picture in pictures.items()}, step=step)

    def close(self) -> None:
        self.library.finish()


TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "wandb": Wandb, "trackio": Trackio}


class Tracking:
    """One tracker of one run, and what it was sent."""

    def __init__(self, tracker: str, run: Path, config: Mapping[str, Any]) -> None:
        self._path, self._key = run / TRACKING, tracker
        self._known = read_json(self._path, FIX) if self._path.exists() else {}
        entry = self._known.get(tracker, {})
        self._name, self.is_new = entry.get("name") or secrets.token_hex(4), tracker not in self._known
        self._sent: dict[str, int] = {sort: entry.get("sent", {}).get(sort, -1) for sort in SORTS}
        self._tracker = _open(tracker, run, self._name, config)

    def catch_up(self, logged: Sequence[Record], kept: Sequence[Record]) -> None:
        """At the start: logged is all that metrics.jsonl held, kept what the training goes on from."""
        if self.is_new:
            for record in kept:
                self.send(record)
        for record in [] if self.is_new else logged:
            self._sent[_sort(record)] = max(self._sent[_sort(record)], record["step"])
        self._note()

    def send(self, record: Record) -> None:
        """A record, unless the tracker had it before the training was interrupted."""
        if record["step"] > self._sent[_sort(record)]:
            self._tracker.numbers(record["step"], dict(numbers_of(record)))

    def wants_pictures(self, step: int) -> bool:
        """Whether a validation of this step is news to the tracker."""
        return step > self._sent["validation"]

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        if pictures:
            self._tracker.pictures(step, pictures)

    def close(self) -> None:
        self._tracker.close()

    def _note(self) -> None:
        write_json(self._path, {**self._known, self._key: {"name": self._name, "sent": self._sent}})


def _open(tracker: str, run: Path, name: str, config: Mapping[str, Any]) -> Tracker:
    """Raises UsageError where the tracker does not start: wandb, for example, without a key."""
    library = library_of(tracker)
    try:
        return TRACKERS[tracker](library, run, name, config)
    except Exception as error:
        fix = "See what it needs (for wandb without a network: WANDB_MODE=offline), or leave --track out."
        raise UsageError(f"{tracker} did not start ({' '.join(str(error).split())}).", where="--track", fix=fix) from error


@contextmanager
def tracked(tracker: str | None, run: Path, config: Mapping[str, Any]) -> Iterator[Tracking | None]:
    """The tracker of a run while it is trained, closed at the end whatever happens; None for none."""
    tracking = Tracking(tracker, run, config) if tracker else None
    try:
        yield tracking
    finally:
        if tracking:
            tracking.close()


def library_of(tracker: str) -> Any:
    """What a tracker is made of. Raises UsageError for one that does not exist, or is not installed."""
    if tracker not in TRACKERS:
        raise UsageError(f"there is no tracker {tracker!r}.", where="--track", fix=f"Choose from: {', '.join(TRACKERS)}.")
    try:
        return import_module(TRACKERS[tracker].module)
    except ImportError as error:
        fix = f"Install it with `pip install 'mmtool[{tracker}]'`, or leave --track out: metrics.jsonl has the same records."
        raise UsageError(f"the tracker needs {tracker}, which is not installed.", where="--track", fix=fix) from error


def numbers_of(record: Record, prefix: str = "") -> Iterator[tuple[str, float]]:
    """`loss/text` and the like of every number of a record but its step."""
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from numbers_of(value, f"{prefix}{name}/")
        elif name not in ("step", DIGEST) and isinstance(value, int | float):
            yield f"{prefix}{name}", float(value)


def _sort(record: Record) -> str:
    return "validation" if "validation" in record else "loss"
