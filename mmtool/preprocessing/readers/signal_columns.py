"""Time series in CSV and TSV: a column for each channel, and columns of times or numbers of samples, which are no channels.

Names say which column is which: `time_s`, `Time (ms)`, `timestamp`, `index`. The rate follows from the first column of times.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.cell_values import shown
from mmtool.preprocessing.readers.entries import MISSING, Broken, SourceOptions
from mmtool.preprocessing.readers.numbers import COMMA_WITHIN, NUMBER, Numbers
from mmtool.preprocessing.readers.orientation import is_called_like_an_index
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.records import read_cells

SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "\N{MICRO SIGN}s", "\N{GREEK SMALL LETTER MU}s", "usec", "micros", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanoseconds"), 1e-9),
    **dict.fromkeys(("min", "minutes"), 60.0),
}
OF_TIME = frozenset(
    ["time", "times", "t", "timestamp", "timestamps", "stamp", "date", "datetime", "elapsed", "epoch", "unix", "utc", "clock"]
)
IN_SECONDS = frozenset(["time", "times", "t", "elapsed"])  # where nothing else is said
ALONE = frozenset(SECONDS) - {"s", "sec", "secs", "second", "min"}  # units that a column of times may be called by; others may be channels
COUNTING = frozenset(
    ("", "sample", "samples", "sample number", "sample index", "sample no", "frame", "frame number", "unnamed 0")
)  # pandas: its index
BETWEEN = re.compile(r"[\s_\-./()\[\],:'\"#]+")  # 'sample #', as PhysioNet writes
EPOCH = ((1e8, 1e10, 1.0), (1e11, 1e13, 1e-3), (1e14, 1e16, 1e-6), (1e17, 1e19, 1e-9))  # numbers of the years 1973 to 2286, by unit in s
UNEVEN = 0.1  # of a step: how far the times of samples may lie off
RATE_DIGITS = 6


@dataclass(frozen=True)
class Columns:
    """Places of the columns in a header. times: with their unit in seconds, None where the name does not say it."""

    channels: tuple[int, ...]
    counts: tuple[int, ...]
    times: dict[int, float | None]

    @classmethod
    def of(cls, header: Sequence[str]) -> "Columns":
        times = {place: _unit(name) for place, name in enumerate(header) if _is_time(name)}
        counts = tuple(place for place, name in enumerate(header) if place not in times and _counts(name))
        return cls(tuple(place for place in range(len(header)) if place not in times and place not in counts), counts, times)

    def unused(self, header: Sequence[str], options: SourceOptions) -> list[str]:
        """Names of those that are neither channels nor give the rate."""
        rate = [] if options.source_rate_hz else list(self.times)[:1]
        return [header[place] for place in sorted({*self.times, *self.counts} - set(rate))]


def columns_left_out(file: RawFile, options: SourceOptions) -> list[str]:
    """Names of the columns of a file that are left out; none where it cannot be read, which is said when it is."""
    try:
        header = read_cells(file, options.columns, delimiter=options.table.delimiter)[0]
    except DataError:
        return []
    return Columns.of(header).unused(header, options)


def read_columns(file: RawFile, options: SourceOptions) -> tuple[np.ndarray, float | None, tuple[str, ...]]:
    """(T, C) numbers, the rate in Hz that a column of times states (None: without one, or where the options do) and the names of the
    channels. Raises DataError for a cell that is no number, and for columns of times and of numbers of samples that are not even."""
    header, rows = read_cells(file, options.columns, delimiter=options.table.delimiter)
    columns, numbers = Columns.of(header), Numbers.of(options.table)
    places = (*columns.channels, *columns.counts)
    values: list[Sequence[float]] = []
    stamps: list[list[str]] = []
    for row in rows:
        if isinstance(row, Broken):
            raise row.error
        line, cells = row
        if not values and not options.columns:
            _check_header(header, cells, file.where)
        values.append(_numbers([cells[place] for place in places], numbers, f"{file.where}:{line}"))
        stamps.append([cells[place] for place in columns.times])
    if not values or not columns.channels:
        raise DataError("the file holds no samples.", where=file.where, fix="Give a column of numbers for each channel.")
    table = np.array(values, np.float64)
    for number, place in enumerate(columns.counts, len(columns.channels)):
        _check_count(table[:, number], header[place], file.where)
    rate_hz = None
    if columns.times and not options.source_rate_hz:
        first, unit = next(iter(columns.times.items()))
        rate_hz = _rate_of(_seconds([cells[0] for cells in stamps], unit, header[first], numbers, file.where), file.where)
    return table[:, : len(columns.channels)], rate_hz, tuple(header[place] for place in columns.channels)


def _words(name: str) -> list[str]:
    return [word for word in BETWEEN.split(name.strip().casefold()) if word]


def _is_time(name: str) -> bool:
    words = _words(name)
    named = [word for word in words if word in OF_TIME]
    if len(words) == 1 and not named:
        return words[0] in ALONE
    return named != [] and len(named) + sum(word in SECONDS for word in words) == len(words)


def _unit(name: str) -> float | None:
    words = _words(name)
    return next((SECONDS[word] for word in words if word in SECONDS), 1.0 if IN_SECONDS.issuperset(words) else None)


def _counts(name: str) -> bool:
    return " ".join(_words(name)) in COUNTING or is_called_like_an_index(name)


def _check_header(header: Sequence[str], cells: Sequence[str], where: str) -> None:
    """Raise DataError where the first line holds nothing but numbers, unless it counts columns, as pandas does, over fractions."""
    names = [name.strip() for name in header if name.strip()]
    counts = names == list(map(str, range(len(names)))) and any("." in cell for cell in cells)
    if names and all(NUMBER.fullmatch(name) or COMMA_WITHIN.fullmatch(name) for name in names) and not counts:
        what = f"the first line seems to be a sample and no header: it holds {', '.join(names[:5])}."
        fix = "Name the channels with --columns, or write a header, whose names are no numbers."
        raise DataError(what, where=where, fix=fix)


def _numbers(cells: Sequence[str], numbers: Numbers, where: str) -> Sequence[float]:
    values = numbers.row(cells)
    bad = next((cell for cell, value in zip(cells, values, strict=True) if value is None or value != value), None)
    if bad is None:
        return [value for value in values if value is not None]
    fix = "Fill the cell, or leave the file out."
    if numbers.decimal == "." and COMMA_WITHIN.fullmatch(bad.strip()):
        fix = "Add --decimal , where the comma is the decimal mark."
    raise DataError(f"a channel holds no number, but {shown(bad)}.", where=where, fix=fix)


def _check_count(values: np.ndarray, name: str, where: str) -> None:
    """Raise DataError where a column that is called like one of row numbers does not count."""
    steps = np.diff(values)
    if len(steps) and (steps[0] == 0 or (steps != steps[0]).any()):
        what = f"the column {name!r} is called like one of row numbers, but does not count."
        fix = "Name it otherwise if it is a channel, or remove it; where rows are missing, complete them."
        raise DataError(what, where=where, fix=fix)


def _seconds(cells: Sequence[str], unit: float | None, name: str, numbers: Numbers, where: str) -> np.ndarray:
    """The times of a column: numbers in its unit, by their size where it has none, or dates."""
    values = numbers.row(cells)
    if any(value is None for value in values):
        return _dates(cells, name, where)
    times = np.array(values, np.float64)
    if np.isnan(times).any():
        raise DataError(f"the column {name!r} lacks a time.", where=where, fix="Complete it, or give the rate with --source-rate-hz.")
    of_epoch = next((size for low, high, size in EPOCH if low < times[0] < high), None)
    unit = of_epoch if of_epoch is not None and (unit is None or _words(name)[-1] not in SECONDS) else unit
    if unit is None:
        fix = "Call it time_s, time_ms or time_us, or give the rate with --source-rate-hz."
        raise DataError(f"the name of the column {name!r} does not say in which unit its times are.", where=where, fix=fix)
    return (times - times[0]) * unit


def _dates(cells: Sequence[str], name: str, where: str) -> np.ndarray:
    """Seconds between the first of some dates, or times of a day, and all."""
    try:
        dates = [datetime.fromisoformat(cell.strip() if "-" in cell else f"2000-01-01 {cell.strip()}") for cell in cells]
    except ValueError:
        bad = next((cell for cell in cells if cell.strip() in MISSING), cells[0])
        fix = "Write seconds, or dates as 2024-01-31 12:00:00.004, or give the rate with --source-rate-hz."
        raise DataError(f"the column {name!r} holds {shown(bad)}, which is no time.", where=where, fix=fix) from None
    moments = [date if date.tzinfo else date.replace(tzinfo=UTC) for date in dates]
    return np.array([(moment - moments[0]).total_seconds() for moment in moments])


def _rate_of(seconds: np.ndarray, where: str) -> float:
    """The rate in Hz of samples at these times. Raises DataError where they are not evenly spaced."""
    if len(seconds) == 1:
        fix = "Leave it out, or give its rate with --source-rate-hz."
        raise DataError("the file holds one sample, from which no rate follows.", where=where, fix=fix)
    steps = np.diff(seconds)
    step = float(np.median(steps))
    if not step > 0 or float(np.abs(steps - step).max()) > UNEVEN * step:
        fix = "Resample it to one rate, or give that with --source-rate-hz."
        raise DataError("the times of its samples are not evenly spaced.", where=where, fix=fix)
    return float(f"{(len(steps) / (seconds[-1] - seconds[0])):.{RATE_DIGITS}g}")
