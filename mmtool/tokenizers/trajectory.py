"""Trajectories: clips of (returns-to-go, observation, action, reward) steps, interleaved step by step as one row of tokens each.

After Gato (arXiv 2205.06175): discrete values as they are, continuous ones by mu-law and equal bins (or by quantile bins). Every
stream has a range of codes of its own, so a token says what it is; the grid position says its step (row) and slot (column).
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmtool.common.bounds import Count
from mmtool.common.errors import DataError, UsageError
from mmtool.common.storage import write_bytes
from mmtool.tokenizers.base import Bins, Positions, PositiveNumber, check_settings
from mmtool.tokenizers.streams import ACTIONS, OBSERVATIONS, Stream, fit_stream, stream_from

ORDER = ("returns_to_go", OBSERVATIONS, ACTIONS, "rewards")  # of the streams within a step
USUAL = (OBSERVATIONS, ACTIONS, "rewards")
CHOICES = ("mu-law", "quantile")
MAX_TOKENS_PER_STEP = 1024
CLIP_LENGTHS, MAX_SHARE_LOST = (32, 16, 8, 4, 2), 0.25  # of clips that are proposed
Clip = Mapping[str, np.ndarray]


class TrajectoryTokenizer:
    """Clips {stream: (steps, ...)} <-> (steps * slots,) codes, step by step; in a step the streams stand in the fixed order
    returns_to_go, observations, actions, rewards, each as many slots as it has numbers.

    Settings of `fit`: streams (which are tokenized; default observations, actions and rewards, those that the clips have), binning of
    continuous values (mu-law, the default, or quantile; or one per stream, {"rewards": "quantile"}), n_bins (default 1024), mu and
    max_value of the mu-law (100, and 256 or what training data reach), num_actions (where training data may lack some). Reported per
    stream on training clips: R2 and mean squared error of decoded values, share of clipped ones, use of the codes.
    """

    kind: ClassVar[str] = "trajectory"
    scheme: ClassVar[str] = "steps"
    SETTINGS: ClassVar[dict[str, Any]] = {
        "streams": str | list | tuple,
        "binning": str | dict,
        "n_bins": Bins,
        "mu": PositiveNumber,
        "max_value": PositiveNumber,
        "num_actions": Count,
    }
    positions: Positions = "grid"

    def __init__(self, steps: int, streams: Sequence[Stream]) -> None:
        self.steps, self.streams = steps, tuple(streams)
        self.vocabulary_size = sum(stream.size for stream in self.streams)
        self.slots = sum(stream.width for stream in self.streams)
        self.shape: tuple[int, ...] | None = (steps, self.slots)
        self.report: dict[str, Any] = {}

    @classmethod
    def fit(cls, values: Sequence[Clip], settings: Mapping[str, Any], seed: int) -> "TrajectoryTokenizer":
        """Learn ranges and bins from training clips, which must all have the same number of steps. Nothing is random.

        Raises UsageError for settings that make no sense, DataError for clips that differ in length or lack a stream.
        """
        check_settings(settings, cls.SETTINGS, "trajectory")
        names, steps = _streams(settings, values), _steps(values)
        streams = []
        for name in names:
            shape = values[0][name].shape[1:] if name in values[0] else ()
            _check_width(name, shape)
            rows = np.concatenate([_rows(value, name, shape) for value in values])
            streams.append(fit_stream(name, shape, rows, *_binning(settings, name), settings))
        tokenizer = cls(steps, streams)
        tokenizer.report = tokenizer._measure(values)
        return tokenizer

    def encode(self, values: Sequence[Clip]) -> list[np.ndarray]:
        """(steps * slots,) codes of each clip. Raises DataError for a clip that does not fit; streams that are not tokenized may lack."""
        if not len(values):
            return []
        dtype = np.uint16 if self.vocabulary_size <= 1 << 16 else np.uint32
        parts: list[np.ndarray] = []
        first = 0
        for value in values:
            self.check(value)
        for stream in self.streams:
            rows = np.concatenate([_rows(value, stream.name, stream.shape) for value in values])
            parts.append(stream.encode(rows).reshape(len(values), self.steps, stream.width) + first)
            first += stream.size
        return list(np.concatenate(parts, axis=2).reshape(len(values), -1).astype(dtype))

    def decode(self, tokens: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """Clips of the tokenized streams, int64 or float32. A code of another stream's range counts as the nearest of its own."""
        if not len(tokens):
            return []
        codes = np.stack([np.asarray(row, np.int64) for row in tokens]).reshape(len(tokens) * self.steps, self.slots)
        arrays: dict[str, np.ndarray] = {}
        first = slot = 0
        for stream in self.streams:
            stream_codes = np.clip(codes[:, slot : slot + stream.width] - first, 0, stream.size - 1)
            arrays[stream.name] = stream.decode(stream_codes).reshape(len(tokens), self.steps, *stream.shape)
            first, slot = first + stream.size, slot + stream.width
        return [{name: array[i] for name, array in arrays.items()} for i in range(len(tokens))]

    def check(self, value: Clip, where: object = None) -> None:
        """Raise DataError where a clip has another length than the ones of fitting, lacks a stream, or has one of another shape."""
        for stream in self.streams:
            if len(_rows(value, stream.name, stream.shape, where)) != self.steps:
                what = f"the clip has {len(value[stream.name])} steps, the tokenizer {self.steps}."
                raise DataError(what, where=where, fix=f"Cut episodes with --clip {self.steps}.")

    def beyond(self, value: Clip) -> dict[str, int]:
        """How many numbers of each stream of a clip lie beyond the range of its codes, which are encoded as if they lay at its ends."""
        counts = {stream.name: int(stream.beyond(_rows(value, stream.name, stream.shape)).sum()) for stream in self.streams}
        return {name: count for name, count in counts.items() if count}

    def write(self, value: Clip, stem: Path) -> Path:
        """Write a clip as `stem`.npz, its arrays under the names they were read by."""
        path, data = stem.with_name(stem.name + ".npz"), io.BytesIO()
        arrays: dict[str, Any] = {stream.name: value[stream.name] for stream in self.streams}
        np.savez(data, **arrays)
        write_bytes(path, data.getvalue())
        return path

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        tensors = {f"{stream.name}.{name}": tensor for stream in self.streams for name, tensor in stream.tensors().items()}
        return tensors, {"steps": self.steps, "streams": [stream.to_json() for stream in self.streams]}

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> "TrajectoryTokenizer":
        streams = []
        for record in settings["streams"]:
            prefix = f"{record['name']}."
            streams.append(stream_from(record, {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}))
        return cls(settings["steps"], streams)

    def _measure(self, values: Sequence[Clip]) -> dict[str, Any]:
        """Per stream, and over all: the mean and the worst R2."""
        streams = {
            stream.name: stream.measure(np.concatenate([_rows(value, stream.name, stream.shape) for value in values]))
            for stream in self.streams
        }
        means = [stream["r2"] for stream in streams.values() if stream["r2"] is not None]
        return {
            "samples": len(values),
            "steps": self.steps,
            "tokens_per_step": self.slots,
            "reconstruction_r2": round(float(np.mean(means)), 5) if means else None,
            "reconstruction_r2_worst": min(
                (stream["r2_worst"] for stream in streams.values() if stream["r2_worst"] is not None), default=None
            ),
            "streams": streams,
        }


def _rows(value: Clip, name: str, shape: tuple[int, ...], where: object = None) -> np.ndarray:
    """(steps, width) finite numbers of one stream of a clip: integers, or float32."""
    if name not in value:
        held = ", ".join(value) or "nothing"
        raise DataError(f"the clip has no {name}, only {held}.", where=where, fix="Choose others with --set streams=actions,rewards.")
    array = np.asarray(value[name])
    if array.shape[1:] != shape:
        what = f"the {name} have the shape {array.shape[1:]} in each step, elsewhere {shape}."
        raise DataError(what, where=where, fix="Give episodes of one environment.")
    rows = array.reshape(len(array), -1)
    if rows.dtype.kind == "f":
        with np.errstate(over="ignore"):
            rows = rows.astype(np.float32)
    if rows.dtype.kind not in "buif" or not np.isfinite(rows).all():
        fix = "Leave such steps out, or other streams only: --set streams=actions."
        raise DataError(f"the {name} hold values that are no finite numbers.", where=where, fix=fix)
    return rows


def asked_streams(settings: Mapping[str, Any]) -> list[str]:
    """The streams that the settings name; none where they name none."""
    asked = settings.get("streams", [])
    return [name.strip() for name in asked.split(",")] if isinstance(asked, str) else list(asked)


def _streams(settings: Mapping[str, Any], values: Sequence[Clip]) -> list[str]:
    """Those asked for, in their fixed order, or the usual ones that clips have."""
    if not len(values):
        raise DataError("there are no training clips to fit a tokenizer on.", fix="Check the paths and the split fractions.")
    names = [name for name in USUAL if name in values[0]] if "streams" not in settings else asked_streams(settings)
    unknown = [name for name in names if name not in ORDER]
    if unknown or not names:
        raise UsageError(f"there is no stream {(unknown or [''])[0]!r}.", where="--set streams", fix=f"Choose from: {', '.join(ORDER)}.")
    return [name for name in ORDER if name in names]


def _steps(values: Sequence[Clip]) -> int:
    """The one length of all clips."""
    lengths = [len(array) for value in values for array in list(value.values())[:1]]
    if len(set(lengths)) > 1:
        clip, lost = _fitting_clip(lengths)
        fix = f"Cut episodes into clips of one length, e.g. --clip {clip}, which leaves out {lost:.0%} of the steps."
        raise DataError(f"the episodes have from {min(lengths)} to {max(lengths)} steps.", where="trajectory", fix=fix)
    return lengths[0]


def _fitting_clip(lengths: Sequence[int]) -> tuple[int, float]:
    """A length of clips for episodes of these lengths, and the share of steps that no such clip holds: the longest power of 2 up to 32 that
    loses at most a quarter of the steps, else the one that loses least."""
    total = sum(lengths)
    lost = {clip: sum(length % clip for length in lengths) / total for clip in CLIP_LENGTHS}
    good = [clip for clip, share in lost.items() if share <= MAX_SHARE_LOST]
    clip = good[0] if good else min(lost, key=lost.__getitem__)
    return clip, lost[clip]


def _binning(settings: Mapping[str, Any], name: str) -> tuple[str, bool]:
    """The binning of a stream, and whether it was asked for."""
    asked = settings.get("binning", {})
    binning = asked.get(name, CHOICES[0]) if isinstance(asked, dict) else asked
    if binning not in CHOICES or (isinstance(asked, dict) and not set(asked) <= set(ORDER)):
        fix = f'Choose from {", ".join(CHOICES)}, for all or by stream: {{"rewards": "quantile"}}.'
        raise UsageError(f"the binning {asked!r} is unknown.", where="--set binning", fix=fix)
    return str(binning), not isinstance(asked, dict) or name in asked


def _check_width(name: str, shape: tuple[int, ...]) -> None:
    width = int(np.prod(shape))
    if not 1 <= width <= MAX_TOKENS_PER_STEP:
        fix = "Leave them out with --set streams=actions,rewards; pictures are tokenized by `mmtool tokenize image`."
        raise UsageError(f"the {name} have {width} numbers in each step, which would be as many tokens.", where="trajectory", fix=fix)
