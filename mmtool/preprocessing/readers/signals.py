"""Time series of several channels (ECG, EEG, accelerometers): npz and npy arrays, CSV and TSV with a column per channel, WAV, EDF.

They are read whole, or cut into clips of one length; and brought to the channels and the sample rate of a tokenizer.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.signal import resample_poly

from mmtool.common.errors import DataError
from mmtool.common.log import log
from mmtool.preprocessing.keys import Keys
from mmtool.preprocessing.prepare import Preparer
from mmtool.preprocessing.readers.arrays import NPY_NAME
from mmtool.preprocessing.readers.audio import decode_recording
from mmtool.preprocessing.readers.clips import clip_entries, rate_stated, stacked_entries
from mmtool.preprocessing.readers.edf import read_edf
from mmtool.preprocessing.readers.entries import Broken, Entry, LeftOut, Note, SourceOptions, UnreadArrays
from mmtool.preprocessing.readers.raw_files import RawFile, held
from mmtool.preprocessing.readers.signal_arrays import (
    CHANNELS,
    RATES,
    STATE_RATE,
    channels_beside_times,
    check_single,
    direction,
    take_channels,
    take_rate,
)
from mmtool.preprocessing.readers.signal_columns import cells_of_series, notes, opened, read_columns
from mmtool.preprocessing.readers.signal_direction import check_no_times, check_rows
from mmtool.preprocessing.readers.signal_times import Times
from mmtool.preprocessing.readers.stacks import IMAGES, cells_of_single, has_splits, load_stacks, name_of_samples
from mmtool.tokenizers.base import PositiveNumber, check_settings

ARRAYS = ("signal", "signals", "data", "x", NPY_NAME)  # names of the array of samples
Found = Entry | Broken | LeftOut | Note | Keys | UnreadArrays
MAX_CHANNELS = 1024
MAX_RATIO = 1000  # of numerator and denominator of two sample rates


class Signal(NamedTuple):
    """samples: (T, C) float32 at `rate_hz`. channels: their names."""

    samples: np.ndarray
    rate_hz: float
    channels: tuple[str, ...]

    @property
    def steps(self) -> int:
        return len(self.samples)

    def cut(self, start: int, stop: int) -> "Signal":
        return self._replace(samples=self.samples[start:stop])


class SignalPreparer(Preparer):
    """A `Signal` -> (T, C) samples of the tokenizer's channels, in its order and at its rate. Raises DataError where one is
    missing."""

    def __call__(self, value: Any, where: object = None) -> Any:
        return prepared(value, self.tokenizer.channels, self.tokenizer.sample_rate_hz, where)

    def reading(self, options: SourceOptions) -> SourceOptions:
        """The channels of the tokenizer are channels of any file, whatever their columns hold."""
        return replace(options, table=replace(options.table, features=tuple(self.tokenizer.channels)))

    @classmethod
    def for_fitting(cls, values: Sequence[Any], settings: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """All with the channels of the settings, else of the first one; at the rate of the settings, else the commonest."""
        rate_hz = settings.get("sample_rate_hz", Counter(value.rate_hz for value in values).most_common(1)[0][0])
        check_settings({"sample_rate_hz": rate_hz}, {"sample_rate_hz": PositiveNumber}, "signal")
        channels = settings.get("channels", values[0].channels)
        channels = channels.split(",") if isinstance(channels, str) else [str(name) for name in channels]
        if "channels" not in settings:
            _check_same_channels(values)
        rows = [prepared(value, channels, rate_hz, "signal") for value in values]
        for name, column in zip(channels, zip(*(row.T for row in rows), strict=True), strict=True):
            if all((part == column[0][0]).all() for part in column):
                log(f"warning: the channel {name!r} holds {column[0][0]:g} everywhere in the samples that are fitted to.")
        return rows, {**settings, "sample_rate_hz": rate_hz, "channels": channels}


def _check_same_channels(values: Sequence[Signal]) -> None:
    """Raise DataError where a series has a channel that the first one, by which a tokenizer is fitted, does not have."""
    known = set(values[0].channels)
    for value in values:
        if further := [name for name in value.channels if name not in known]:
            what = f"the series differ: some have a channel {further[0]!r}, the first one has {', '.join(values[0].channels[:20])}."
            fix = "Say which to take with --set channels=NAME,NAME; --column-type NAME=number keeps a column that was left out of one."
            raise DataError(what, where="signal", fix=fix)


def prepared(signal: Signal, channels: Sequence[str], rate_hz: float, where: object) -> np.ndarray:
    """(T, C) float32: these channels at this rate, by a polyphase filter. Raises DataError where that cannot be."""
    missing = [name for name in channels if name not in signal.channels]
    if missing:
        what = f"there is no channel {missing[0]!r}; there are {', '.join(signal.channels[:20])}."
        fix = "Rename channels, keep a column that was left out with --column-type NAME=number, or fit with --set channels=NAME,NAME."
        raise DataError(what, where=where, fix=fix)
    samples = signal.samples[:, [signal.channels.index(name) for name in channels]]
    ratio = Fraction(rate_hz / signal.rate_hz).limit_denominator(MAX_RATIO)
    if ratio == 1:
        return samples
    if not ratio:
        what = f"{signal.rate_hz:g} Hz is more than {MAX_RATIO} times the tokenizer's {rate_hz:g} Hz."
        raise DataError(what, where=where, fix="Check the sample rate, or resample the file.")
    return resample_poly(samples, ratio.numerator, ratio.denominator, axis=0, padtype="line").astype(np.float32)


def read_signals(file: RawFile, options: SourceOptions) -> Iterator[Found]:
    """Entries of one file; their values are `Signal`. With `options.clip` they are cut into clips `NAME-STEP` of so many samples, which
    never part between splits, and the rest at the end is left out.

    Arrays are (time, channels) or (channels, time), the longer axis being time unless an array `channels` says which is which, or a stack
    of such along a first axis, whose other arrays are keys and labels. Their rate is an array `sample_rate_hz`; in CSV files it follows
    from a column of times (`signal_columns.py`). Where a file states none it is `options.source_rate_hz`.
    """
    if file.format in ("npz", "npy"):
        yield from _array_entries(file, options)
    elif file.format in DECODERS:
        yield from clip_entries(file.stem, file.where, partial(DECODERS[file.format], file, options), options, {})
    else:
        table = held(file)
        assert isinstance(table, RawFile)
        series = opened(table, options)
        row = {} if series is None else cells_of_series(series, options)
        if series is not None:
            yield from notes(series, options, file.where)
        yield from clip_entries(file.stem, file.where, partial(_of_columns, table, options), options, row)


def _array_entries(file: RawFile, options: SourceOptions) -> Iterator[Found]:
    arrays = load_stacks(file)
    name = name_of_samples(arrays, ARRAYS)
    if name is None and not has_splits(arrays):
        what = f"there is no array of samples; the arrays are: {', '.join(arrays)}."
        raise DataError(what, where=file.where, fix="Call it `signal`.")
    samples = None if name is None else arrays.pop(name)
    rate_hz, note = take_rate(arrays, file.where, options)
    if note is not None:
        yield note
    channels = take_channels(arrays, file.where)
    if samples is not None and samples.ndim != 3:
        yield from _single_entries(file, samples, arrays, rate_hz, channels, options)
        return
    stacks = [array for called, array in arrays.items() if called.endswith(f"_{IMAGES}")] if samples is None else [samples]
    channels = channels or channels_beside_times(stacks[0].shape[1:], arrays, file.where, {*map(len, stacks)})
    if channels is None:
        yield from direction(stacks[0], file.where)
    yield from stacked_entries(file, samples, arrays, lambda array, where: _signal(array, rate_hz, channels, where), options)


def _single_entries(
    file: RawFile,
    samples: np.ndarray,
    arrays: Mapping[str, np.ndarray],
    rate_hz: float,
    channels: tuple[str, ...] | None,
    options: SourceOptions,
) -> Iterator[Found]:
    """Those of an array of one series; what else the file holds is its label, or named."""
    check_single(samples, arrays, file.where)
    channels = channels or channels_beside_times(samples.shape, arrays, file.where)
    if channels is None:
        yield from direction(samples, file.where)
    row, options = cells_of_single(arrays, options)
    if unread := [name for name in arrays if name not in row]:
        yield UnreadArrays(file.where, unread, [ARRAYS[0], RATES[0], CHANNELS[0]])
    yield from clip_entries(file.stem, file.where, partial(_signal, samples, rate_hz, channels, file.where), options, row)


def _signal(array: np.ndarray, rate_hz: float, channels: tuple[str, ...] | None, where: str) -> Signal:
    """An array of one series, time first. Raises DataError where it is none, or it is unclear which axis is time."""
    if array.dtype.kind not in "buif" or array.ndim not in (1, 2) or not array.size:
        fix = "Save numbers as (time, channels) or (channels, time)."
        raise DataError(f"an array of {array.dtype} of shape {array.shape} is no series.", where=where, fix=fix)
    array = array[:, None] if array.ndim == 1 else array
    matching = [axis for axis in (0, 1) if channels and array.shape[axis] == len(channels)]
    if (channels and not matching) or (len(matching) != 1 and array.shape[0] == array.shape[1]):
        names = f" and {len(channels)} channels" if channels else ""
        fix = "Name the channels in an array `channels`, as many as there are, and cut series to another length than that."
        raise DataError(f"it is unclear which axis of {array.shape}{names} is time.", where=where, fix=fix)
    axis = matching[0] if len(matching) == 1 else int(array.shape[0] > array.shape[1])
    samples = array if axis == 1 else array.T
    if not channels:
        fix = f"Save recordings of one channel as {(*array.shape, 1)}, or name the channels in an array `channels`."
        check_rows(samples.T, f"a row of {array.shape} seems to hold a whole recording, and not the channels at one time.", where, fix)
        if samples.shape[1] > 1:
            fix = "Leave it out of the array, or name the channels in an array `channels`, if it is one."
            check_no_times({str(place): Times(values) for place, values in enumerate(samples.T.astype(np.float64))}, where, fix)
    return _checked(samples, rate_hz, channels or tuple(f"ch{number}" for number in range(samples.shape[1])), where)


def _checked(samples: np.ndarray, rate_hz: float, channels: tuple[str, ...], where: str) -> Signal:
    if samples.shape[1] > MAX_CHANNELS:
        raise DataError(f"the series has {samples.shape[1]} channels.", where=where, fix=f"Choose {MAX_CHANNELS} of them at most.")
    with np.errstate(over="ignore"):
        samples = samples.astype(np.float32)
    if not np.isfinite(samples).all():
        step, channel = np.argwhere(~np.isfinite(samples))[0].tolist()
        what = f"the channel {channels[channel]!r} is NaN or infinite in single precision at sample {step}."
        raise DataError(what, where=where, fix="Mend the file, or leave such samples out with --on-error skip.")
    return Signal(samples, rate_hz, channels)


def _of_wav(file: RawFile, options: SourceOptions) -> Signal:
    samples, rate_hz = decode_recording(file, options, MAX_CHANNELS)
    return Signal(samples, float(rate_hz), tuple(f"ch{number}" for number in range(samples.shape[1])))


def _of_edf(file: RawFile, options: SourceOptions) -> Signal:
    """All channels at the rate of the fastest one."""
    channels = read_edf(file.read(), file.where)
    if not channels:
        raise DataError("the file holds annotations alone.", where=file.where, fix="Leave it out.")
    names, rate_hz = tuple(channel.name for channel in channels), max(channel.rate_hz for channel in channels)
    if len(set(names)) < len(names):
        raise DataError(f"two channels have the same name: {', '.join(names)}.", where=file.where, fix="Rename one.")
    series = (Signal(channel.samples[:, None], channel.rate_hz, (channel.name,)) for channel in channels)
    columns = [prepared(signal, signal.channels, rate_hz, file.where) for signal in series]
    steps = min(map(len, columns))
    return _checked(np.concatenate([column[:steps] for column in columns], axis=1), rate_hz, names, file.where)


def _of_columns(file: RawFile, options: SourceOptions) -> Signal:
    """A series with a column per channel, and one of times or none."""
    samples, stated, channels = read_columns(file, options)
    return _checked(samples, rate_stated(stated, file.where, options, STATE_RATE), channels, file.where)


DECODERS = {"wav": _of_wav, "edf": _of_edf}
