"""What the arrays of an npz file say of a time series beside its samples: the rate, the names of its channels, which axis is time."""

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.cell_values import decoded
from mmtool.preprocessing.readers.clips import rate_stated
from mmtool.preprocessing.readers.entries import Note, SourceOptions
from mmtool.preprocessing.readers.signal_direction import check_labels
from mmtool.preprocessing.readers.signal_names import is_label, is_time

RATES = (
    *("sample_rate_hz", "sample_rate", "sampling_rate", "sampling_rate_hz", "sfreq", "fs", "fs_hz", "srate", "fsample", "samp_rate"),
    *("sampling_frequency", "sampling_freq", "sample_frequency", "sample_freq"),
)  # in small letters or capitals, with underscores or without
CHANNELS = ("channels", "channel_names", "ch_names")
STATE_RATE = "in an array `sample_rate_hz` (npz), or a column of times, such as `time_s` or `time_ms` (csv)."
DIRECTION = "direction of arrays"  # a kind of notes


def take_rate(arrays: dict[str, np.ndarray], where: str, options: SourceOptions) -> tuple[float, Note | None]:
    """The rate in Hz that an array states, which is taken out, else that of the options; and a note where both differ: the file's holds, as
    in WAV and EDF. Raises DataError where there is none, or several arrays state different ones."""
    found = {name: rate_stated(arrays.pop(name), where, options, STATE_RATE) for name in _called(arrays, RATES)}
    if len(set(found.values())) > 1:
        listed = ", ".join(f"`{name}` {rate:g} Hz" for name, rate in found.items())
        raise DataError(f"the file states several sample rates: {listed}.", where=where, fix="Keep the one of the series.")
    if not found:
        return rate_stated(None, where, options, STATE_RATE), None
    name, rate_hz = next(iter(found.items()))
    if options.source_rate_hz in (None, rate_hz):
        return rate_hz, None
    text = f"{where} states {rate_hz:g} Hz in `{name}`, which holds; --source-rate-hz is for files that state none"
    return rate_hz, Note("rate of arrays", text)


def take_channels(arrays: dict[str, np.ndarray], where: str) -> tuple[str, ...] | None:
    """The names that an array gives the channels, which is taken out; None without one. Raises DataError where they are no names, or two
    are the same."""
    name = next(iter(_called(arrays, CHANNELS)), None)
    if name is None:
        return None
    array = arrays.pop(name)
    values = [decoded(value) for value in array.reshape(-1).tolist()]
    are_names = array.dtype.kind in "US" or (array.dtype.kind in "iu" and array.ndim > 0)
    if not are_names or not values or len(values) != max(array.shape, default=1) or any(isinstance(value, bytes) for value in values):
        what = f"the array `{name}` ({array.dtype} of shape {array.shape}) does not hold the names of the channels."
        raise DataError(what, where=where, fix="Save one text for each channel, such as channels=['x', 'y', 'z'].")
    names = tuple(str(value).strip() for value in values)
    if len(set(names)) < len(names):
        raise DataError(f"two channels have the same name: {', '.join(names)}.", where=where, fix=f"Rename one in `{name}`.")
    return names


def check_single(samples: np.ndarray, arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Raise DataError for an array (N, T) beside one of N, which may be N series or one with a value at each time; and for one of a single
    channel beside others as long, which may be its other channels, or it their times."""
    for name, array in arrays.items():
        if is_time(name) or not _is_flat(array) or array.size == 1:
            continue
        if _is_flat(samples) and array.size == samples.size and array.dtype.kind in "buif" and not is_label(name):
            what = f"the array of samples is as long as `{name}`, which may be another channel, or the values at its times."
            fix = "Save channels as the columns of one array `signal`, with their names in `channels`; times as `time`. Leave out others."
            raise DataError(what, where=where, fix=fix)
        if samples.ndim == 2 and array.size == len(samples):
            what = f"it is unclear whether {samples.shape} with {array.size:,} values of `{name}` are {len(samples):,} series, or one."
            fix = f"Save series of one channel as {(*samples.shape, 1)}, and one series without `{name}`."
            raise DataError(what, where=where, fix=fix)


def channels_beside_times(
    shape: tuple[int, ...], arrays: Mapping[str, np.ndarray], where: str, counts: Collection[int] = ()
) -> tuple[str, ...] | None:
    """Names for the channels of series of a shape beside which an array holds the times of one of its axes; None where none does.

    counts: how many series a stack holds. Raises DataError where the times may as well be those of whole series."""
    lengths = {_num_times(array, counts): name for name, array in arrays.items() if is_time(name)}
    others = [(shape[1 - axis], lengths[shape[axis]]) for axis in range(2) if len(shape) == 2 and shape[axis] in lengths]
    if len(others) != 1:
        return None
    num_channels, name = others[0]
    if _is_flat(arrays[name]) and arrays[name].size in counts:
        what = f"it is unclear whether `{name}` holds the times within series of shape {shape}, or one of each series."
        raise DataError(what, where=where, fix="Name the channels in an array `channels`.")
    return tuple(f"ch{number}" for number in range(num_channels))


def direction(samples: np.ndarray, where: str) -> Iterator[Note]:
    """As what an array is read whose rows or columns may as well be recordings of one channel, or a stack whose axes may be swapped. Raises
    DataError where rows hold labels."""
    if samples.ndim not in (2, 3) or 1 in samples.shape[-2:]:
        return
    steps, count = max(samples.shape[-2:]), min(samples.shape[-2:])
    if samples.ndim == 2:
        check_labels(samples, where)
        number, advice = "one", "if each row or column is a recording, save them as (recordings, time, 1)"
    else:
        number, advice = f"{len(samples):,}", "if these are swapped, name the channels in an array `channels`"
    text = f"{where}, an array {samples.shape}, is read as {number} series of {count:,} channels and {steps:,} samples"
    yield Note(DIRECTION, f"{text}; {advice}")


def _called(arrays: Mapping[str, np.ndarray], names: Collection[str]) -> list[str]:
    """Those of the arrays that have one of these names, in their order; in small letters or capitals, with underscores or without."""
    plain = {name: name.casefold().replace("_", "") for name in arrays}
    return [name for wanted in names for name, called in plain.items() if called == wanted.replace("_", "")]


def _is_flat(array: np.ndarray) -> bool:
    """Whether it holds one row or one column, as MATLAB saves vectors."""
    return array.ndim > 0 and array.size == max(array.shape)


def _num_times(array: np.ndarray, counts: Collection[int]) -> int | None:
    """How many times an array holds of a series, (T,), (T, 1), or (N, T) of each of N; None where it is none of these."""
    if _is_flat(array):
        return array.size if array.size > 1 else None
    return array.shape[1] if array.ndim == 2 and len(array) in counts else None
