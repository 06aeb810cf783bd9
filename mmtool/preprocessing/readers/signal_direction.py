"""Whether the rows of a series in columns are instants, as they should be, or recordings, each of which goes from left to right."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.signal_roles import Column
from mmtool.preprocessing.readers.signal_times import Times
from mmtool.preprocessing.readers.table_options import TableOptions

LEAST_COLUMNS, LEAST_ROWS = 12, 4  # by which it is seen
NUMBERED = re.compile(r"(.*?)(-?\d+(?:\.\d+)?)\D{0,3}")  # X1, 0, t_0.05, -100ms
OF_CHANNELS = re.compile(r"\b(ch|chan|channel|exg|eeg|ecg|emg|eog|lead|sensor|electrode|station|node|joint)s?\b", re.IGNORECASE)
SMOOTH, ROUGH = 0.7, 0.3  # correlation of neighbours along a recording, and across recordings
SINGLE = 0.95  # share of the variance in one component, such as mains in all channels


def check_direction(channels: Sequence[Column], options: TableOptions, where: str) -> None:
    """Raise DataError where columns are numbered and values go on smoothly from one to the next, but not from row to row."""
    columns = _numbered(channels)
    if len(columns) < LEAST_COLUMNS or columns[0].name in options.declared or OF_CHANNELS.search(_words(columns[0].name)):
        return
    rows = [values for values in (column.values for column in columns) if values is not None]
    if len(rows) == len(columns):
        first, last = columns[0].name, columns[-1].name
        what = f"a row seems to hold a whole recording, from {first!r} to {last!r}, and not the channels at one time."
        save = "numpy.savez('x.npz', signal=table[:, :, None], sample_rate_hz=RATE)"
        fix = f"Save such as an array: {save}. If these are {len(columns)} channels, say so with --column-type '{first}=number'."
        check_rows(np.stack(rows), what, where, fix)


def check_rows(table: np.ndarray, what: str, where: str, fix: str) -> None:
    """Raise DataError (`what`, `fix`) where values (C, T) of C channels go on smoothly from channel to channel, but not in time. What all
    channels have in common is left out, and so is what a single source may cause in all of them."""
    if table.shape[0] < LEAST_COLUMNS or table.shape[1] < LEAST_ROWS or not np.isfinite(table := table.astype(np.float64)).all():
        return
    table = table - table.mean(1, keepdims=True)
    table = table - table.mean(0, keepdims=True)
    if _alike(table[1:], table[:-1]) > SMOOTH and _alike(table[:, 1:], table[:, :-1]) < ROUGH and _largest_share(table) < SINGLE:
        raise DataError(what, where=where, fix=fix)


def check_labels(rows: np.ndarray, where: str) -> None:
    """Raise DataError where a whole number begins or ends each row (N, T), and no other value is one: they are labels of N recordings."""
    if rows.shape[0] < LEAST_ROWS or rows.shape[1] < max(LEAST_COLUMNS, rows.shape[0]) or rows.dtype.kind != "f":
        return
    is_whole = rows % 1 == 0
    for place, at in ((0, "begins"), (-1, "ends")):
        if is_whole[:, place].all() and is_whole.sum() == len(rows) and len(set(rows[:, place].tolist())) > 1:
            what = f"a whole number {at} each row of {rows.shape}, as a label does of a recording, and no other value is one."
            shape = (len(rows), rows.shape[1] - 1, 1)
            fix = f"Save recordings as an array `signal` {shape} and labels as `label` in an npz; name channels in an array `channels`."
            raise DataError(what, where=where, fix=fix)


def check_no_times(channels: Mapping[str, Times], where: str, fix: str) -> None:
    """Raise DataError where a channel rises evenly throughout, as the times of the samples do, or their numbers. fix: says what to do, with
    the name of the channel in place of {0}."""
    for name, times in channels.items():
        with np.errstate(over="ignore", invalid="ignore"):
            is_even = len(times.seconds) >= LEAST_COLUMNS and times.are_even
        if is_even:
            what = f"the channel {name!r} rises evenly throughout, as times or numbers of samples do."
            raise DataError(what, where=where, fix=fix.format(name))


def _numbered(columns: Sequence[Column]) -> list[Column]:
    """The most columns behind each other whose names count, with the same words before the numbers."""
    matched = [(NUMBERED.fullmatch(column.name.strip()), column) for column in columns]
    runs = [[*run] for _, run in groupby(matched, lambda pair: None if pair[0] is None else pair[0][1])]
    longest = max((run for run in runs if run[0][0] is not None), key=len, default=[])
    steps = np.diff([float(match[2]) for match, _ in longest if match is not None])
    return [column for _, column in longest] if (steps > 0).all() else []


def _words(name: str) -> str:
    """Those of a name, with blanks in place of what separates them."""
    return re.sub(r"[\d_\W]+", " ", name)


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of values; 0 where they do not vary."""
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / size if size > 0 else 0.0


def _largest_share(table: np.ndarray) -> float:
    """The share of the variance that the first principal component has."""
    table = table if table.shape[0] <= table.shape[1] else table.T
    variances = np.linalg.eigvalsh(table @ table.T)
    return float(variances[-1] / variances.sum())
