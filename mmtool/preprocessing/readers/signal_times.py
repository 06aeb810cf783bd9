"""Times of the samples of a series, as numbers, dates or times of day, and the rate that follows from them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.cell_values import shown
from mmtool.preprocessing.readers.numbers import NUMBER, Numbers
from mmtool.preprocessing.readers.signal_names import IN_SECONDS, SECONDS, unit_of, units_of, words

EPOCH = {  # numbers of the years 2000 to 2286; unit in s
    "seconds": (946_684_800, 10**10, 1.0),
    "milliseconds": (946_684_800 * 10**3, 10**13, 1e-3),
    "microseconds": (946_684_800 * 10**6, 10**16, 1e-6),
    "nanoseconds": (946_684_800 * 10**9, 10**19, 1e-9),
}
SINCE_START = "microseconds"  # since 1970 or nanoseconds since the start of a phone, which after 11 days are as many
JULIAN, MATLAB = (2_451_544, 2_488_070), (730_486, 767_011)  # days of the years 2000 to 2099, which as seconds would be weeks
DAYS, DAYS_STEP = (10_957, 88_070), 1e-3  # days since 1970, since 1900 as in spreadsheets, or since 1858
PER_DAY = 288  # steps of five minutes, of which longer ones in days are multiples
DAY = re.compile(r"\d{4}-\d\d-\d\d")
TIME_OF_DAY = re.compile(r"(?:(\d{1,3}):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")
HOURS, MINUTES_FIRST = 24, "mm:ss"
WITHOUT_HYPHENS = re.compile(r"(19|20)\d\d(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(\.0)?")  # 20240131
FRACTION = re.compile(r":\d\d[.,](\d+)")
UNEVEN = 0.1  # of a step: how far the times of samples may lie off
LEAST_TICKS = 2  # of a step, for which times that were rounded are told from such as lack a sample
RATE_DIGITS = 6
WRITE_TIME = (
    "Write seconds, or dates as 2024-01-31 12:00:00.004, or leave the column out (--column-type NAME=skip) and give the rate with "
    "--source-rate-hz."
)
SAY_UNIT = "Call it time_s, time_ms, time_us, time_min, time_h or time_days after its unit, or give the rate with --source-rate-hz."


@dataclass(frozen=True)
class Times:
    """seconds: (T,) since the first. tick_s: one in the last place that is written, infinite where none is. guess: the unit that they were
    taken in where neither name nor cells say it."""

    seconds: np.ndarray
    tick_s: float = math.inf
    guess: str = ""

    @property
    def rise(self) -> bool:
        """Whether none is before the one that precedes it, and not all are the same."""
        steps = np.diff(self.seconds)
        return bool((steps >= 0).all() and (steps > 0).any())

    @property
    def are_even(self) -> bool:
        """Whether they are evenly spaced, or would be if they had not been rounded to the last place that is written."""
        steps = np.diff(self.seconds)
        step = float(np.median(steps))
        return step > 0 and (float(np.abs(steps - step).max()) <= UNEVEN * step or self._are_rounded())

    def _are_rounded(self) -> bool:
        """Rounded steps differ by one tick at most. Where one is a tick or less, a missing sample would look the same."""
        ticks = np.rint(self.seconds / self.tick_s)
        steps, grid = np.diff(ticks), np.linspace(ticks[0], ticks[-1], len(ticks))
        return bool(steps.min() >= LEAST_TICKS and np.ptp(steps) <= 1 and np.abs(ticks - grid).max() <= 1 + 1e-6)


def is_day(cell: str) -> bool:
    """Whether a cell is a date without a time of day."""
    return DAY.fullmatch(_plain(cell)) is not None


def is_time_of_day(cell: str) -> bool:
    """Whether a cell is a time of day without a date."""
    return TIME_OF_DAY.fullmatch(_plain(cell)) is not None


def is_since_1970(cell: str) -> bool:
    """Whether a cell is a number of seconds since 1970, of this century."""
    low, high, _ = EPOCH["seconds"]
    return NUMBER.fullmatch(cell.strip()) is not None and low < float(cell) < high


def is_moment(cell: str, name: str) -> bool:
    """Whether a cell of a column of this name is a date or a time of day."""
    try:
        _moment(_plain(cell), _in_minutes(name))
    except ValueError:
        return False
    return True


def read_times(cells: Sequence[str], name: str, numbers: Numbers, where: str, lines: Sequence[int] = ()) -> Times:
    """The times of a column: numbers in the unit that its name says, by their size where it says none, or dates. lines: of the cells, for
    messages. Raises DataError where a time is missing or none, or the unit remains unclear."""
    values = numbers.row(cells)
    first = values[0]
    if any(value is not None and value != value for value in values):
        lacking = next(index for index, value in enumerate(values) if value is not None and value != value)
        fix = "Complete it, or give the rate with --source-rate-hz."
        raise DataError(f"the column {name!r} lacks a time.", where=_place(where, lines, lacking), fix=fix)
    if first is None:
        return _dates(cells, name, where, lines)
    if None in values:
        bad = next(index for index, value in enumerate(values) if value is None)
        what = f"the column {name!r} holds {shown(cells[bad])}, which is no time, where others are numbers."
        raise DataError(what, where=_place(where, lines, bad), fix=WRITE_TIME)
    times = numeric_times(cells, numbers)
    unit, guess = _unit(name, first, float(np.median(np.diff(times.seconds))) if len(cells) > 1 else 0.0, where)
    return Times(times.seconds * unit, times.tick_s * unit, guess)


def _place(where: str, lines: Sequence[int], index: int) -> str:
    return f"{where}:{lines[index]}" if lines else where


def numeric_times(cells: Sequence[str], numbers: Numbers) -> Times:
    """Cells that are all numbers as times in seconds."""
    times = np.array(numbers.row(cells), np.float64)
    return Times(times - times[0], 10.0 ** -max(_decimals(cell.strip(), numbers.decimal) for cell in cells))


def rate_of(times: Times, where: str) -> float:
    """The rate in Hz of samples at these times. Raises DataError where they are not evenly spaced."""
    seconds = times.seconds
    if len(seconds) == 1:
        fix = "Leave it out, or give its rate with --source-rate-hz."
        raise DataError("the file holds one sample, from which no rate follows.", where=where, fix=fix)
    if not times.are_even:
        fix = "Resample it to one rate, or give that with --source-rate-hz."
        raise DataError("the times of its samples are not evenly spaced.", where=where, fix=fix)
    count, total = len(seconds) - 1, float(seconds[-1] - seconds[0])
    rate_hz = count / total
    is_rounded = total > times.tick_s and np.ptp(np.diff(seconds)) > times.tick_s / 2
    if is_rounded and count / (total + times.tick_s) <= round(rate_hz) <= count / (total - times.tick_s):
        return float(round(rate_hz))  # 30 Hz of 0.033, 0.067, 0.100
    return float(f"{rate_hz:.{RATE_DIGITS}g}")


def _unit(name: str, first: float, step: float, where: str) -> tuple[float, str]:
    """The unit of times in seconds, and how it was guessed, if it was."""
    units = units_of(name)
    if len(set(units.values())) > 1:
        fix = "Keep the right one, or give the rate with --source-rate-hz."
        raise DataError(f"the times in the column {name!r} have several units: {', '.join(units)}.", where=where, fix=fix)
    unit = unit_of(name)
    epoch = next(((word, size) for word, (low, high, size) in EPOCH.items() if low < first < high), None)
    if epoch is not None and (unit is None or words(name)[-1] not in SECONDS) and not (epoch[0] == SINCE_START and step * epoch[1] >= 1):
        return epoch[1], f"{epoch[0]} since 1970"
    if unit is not None:
        return unit, ""
    if IN_SECONDS.issuperset(words(name)) and 0 < step < 1 and not _may_be_days(first, step):
        return 1.0, "seconds"
    if WITHOUT_HYPHENS.fullmatch(f"{first:.0f}"):
        fix = "Write dates as 2024-01-31, or give the rate with --source-rate-hz."
        raise DataError(f"the column {name!r} holds {first:.0f}, which seems to be a date.", where=where, fix=fix)
    steps = f"; its step is {step:g}" if step else ""
    raise DataError(f"the name of the column {name!r} does not say in which unit its times are{steps}.", where=where, fix=SAY_UNIT)


def _may_be_days(first: float, step: float) -> bool:
    """Whether times with this step, of less than one, may be those of days that are counted since long ago."""
    if any(low < first < high for low, high in (JULIAN, MATLAB)):
        return True
    steps = step * PER_DAY
    return DAYS[0] < first < DAYS[1] and (step < DAYS_STEP or abs(steps - round(steps)) < 0.01 * steps)


def _decimals(text: str, mark: str) -> int:
    """Digits of a number behind its decimal mark."""
    mantissa, _, exponent = text.casefold().partition("e")
    return len(mantissa.partition(mark)[2]) - int(exponent or 0)


def _dates(cells: Sequence[str], name: str, where: str, lines: Sequence[int]) -> Times:
    """Dates, or times of a day."""
    moments = []
    in_minutes = _in_minutes(name)
    for index, cell in enumerate(map(_plain, cells)):
        try:
            moments.append(_moment(cell, in_minutes))
        except ValueError:
            what, fix = f"the column {name!r} holds {shown(cell)}, which is no time.", WRITE_TIME
            if _lacks_seconds(cell):
                what = f"the column {name!r} holds {shown(cell)}, which is no time of day."
                fix = f"Call the column {name} ({MINUTES_FIRST}), if these are minutes and seconds."
            raise DataError(what, where=_place(where, lines, index), fix=fix) from None
    digits = max(len(match[1]) if (match := FRACTION.search(cell)) else 0 for cell in cells)
    guess = "" if in_minutes or not any(map(_lacks_seconds, map(_plain, cells))) else "hours and minutes"
    return Times(np.array([(moment - moments[0]).total_seconds() for moment in moments]), 10.0**-digits, guess)


def _in_minutes(name: str) -> bool:
    """Whether the times of day in a column of this name, such as 12:30, are in minutes and seconds."""
    return MINUTES_FIRST in name.casefold() or (unit_of(name) or 60) < 60


def _moment(cell: str, in_minutes: bool) -> datetime:
    """A date, or a time of the first day of 2000. in_minutes: 12:30 is in minutes and seconds. Raises ValueError for anything else."""
    time = TIME_OF_DAY.fullmatch(cell)
    if time is None:
        date = datetime.fromisoformat(cell if "-" in cell else f"2000-01-01 {cell}")
        return date if date.tzinfo else date.replace(tzinfo=UTC)
    hours, minutes, seconds = time.groups()
    if _lacks_seconds(cell) and not in_minutes:
        hours, minutes, seconds = minutes, seconds, "0"
        if int(hours) >= HOURS:
            raise ValueError(cell)
    return datetime(2000, 1, 1, tzinfo=UTC) + timedelta(hours=int(hours or 0), minutes=int(minutes), seconds=float(seconds))


def _lacks_seconds(cell: str) -> bool:
    """Whether a cell is a time of day such as 12:30, which holds hours and minutes."""
    time = TIME_OF_DAY.fullmatch(cell)
    return time is not None and time[1] is None and "." not in time[3]


def _plain(cell: str) -> str:
    """Without the quotes of PhysioNet."""
    return cell.strip().strip("'")
