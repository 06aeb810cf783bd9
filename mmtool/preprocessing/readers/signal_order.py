"""Whether the rows of a file are one series: their times neither go back nor repeat nor jump, and no column tells rows of several apart."""

from collections.abc import Collection, Sequence

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.cell_values import shown
from mmtool.preprocessing.readers.entries import MISSING
from mmtool.preprocessing.readers.signal_names import is_of_series, may_be_of_series
from mmtool.preprocessing.readers.signal_roles import KEEP_OR_SKIP, Column, cycle, first_filled
from mmtool.preprocessing.readers.signal_times import is_moment, numeric_times, read_times

OFTEN = 1.5  # rows for each time, or for each that the rate and the steps between times promise: so many are too many
GAP = 5  # samples that may be missing: more are a gap
OWN_FILE = "Write each series to a file of its own"


def check_same_series(column: Column, cell: str, wanted: Collection[str], where: str) -> None:
    """Raise DataError for a row of another subject, session ... than the first one."""
    here, before = cell.strip(), first_filled(column)
    if column.name in wanted and here in MISSING:
        return
    if here != before and column.name in wanted:
        what = f"the column {column.name!r} holds {shown(here)} here and {shown(before)} before, and is no label or group of all."
        raise DataError(what, where=where, fix="Write the rows of each to a file of their own, or give a label of each file with --labels.")
    if here != before:
        what = f"the column {column.name!r} holds {shown(here)} here and {shown(before)} before: several series?"
        raise DataError(what, where=where, fix=f"{OWN_FILE}. {KEEP_OR_SKIP.format(column.name)}")


def check_order(
    times: Sequence[Column],
    cells: Sequence[Sequence[str]],
    lines: Sequence[int],
    others: Sequence[Column],
    rate_hz: float | None,
    where: str,
) -> None:
    """Raise DataError where times go back, or repeat more often than the rate explains, as those of several series do; where they jump;
    and for a cell that is no time where others are.

    times: the columns that hold them; cells: all of each, which may be missing, in no known unit, or altogether in a format that is not
    known; lines: of the rows. others: columns by which series may be told apart. rate_hz: None where it would follow from the times.
    """
    if not times:
        return
    filled = [_are_filled(column, held) for column, held in zip(times, cells, strict=True)]
    kept = np.flatnonzero(np.all(filled, axis=0)).tolist()
    if len(kept) < 2:
        return
    lines = [lines[row] for row in kept]
    stamps = [[held[row].strip() for row in kept] for held in cells]
    parts = [_seconds(column, held, lines, where) for column, held in zip(times, stamps, strict=True)]
    known = [seconds for seconds, _ in parts if seconds is not None]
    seconds = np.sum(known, axis=0) if len(known) == len(parts) else None
    if seconds is not None and len(back := np.flatnonzero(np.diff(seconds) < 0)):
        if (np.diff(seconds) <= 0).all():
            what = f"the times in the column {times[0].name!r} go back from row to row: the newest stands first."
            raise DataError(what, where=where, fix="Sort the rows by time, the oldest first.")
        what = f"the times in the column {times[0].name!r} go back: several series?"
        fix = f"{OWN_FILE}, or leave it out: --column-type '{times[0].name}=skip'."
        raise DataError(what, where=f"{where}:{lines[back[0] + 1]}", fix=fix)
    repeats = len(kept) / len(set(zip(*stamps, strict=True)))
    has_unit = all(is_in_seconds for _, is_in_seconds in parts)
    is_explained = has_unit and seconds is not None and rate_hz is not None and _explains(rate_hz, seconds, repeats)
    if OFTEN <= repeats < len(kept) and not is_explained:
        raise _repeating(times[0].name, repeats, others, rate_hz, where)
    if seconds is not None and has_unit:
        _check_gaps(times[0].name, seconds, lines, rate_hz, where)


def _check_gaps(name: str, seconds: np.ndarray, lines: Sequence[int], rate_hz: float | None, where: str) -> None:
    """Raise DataError where times jump by more than several samples and the last place that is written explain."""
    steps = np.diff(seconds)
    rising = steps[steps > 0]
    if not len(rising):
        return
    step, longest = float(np.median(rising)), int(steps.argmax())
    if steps[longest] > GAP * step + rising.min():
        missing = round(steps[longest] / step) - 1
        what = f"the times in the column {name!r} jump by {steps[longest]:.6g} s here, as if {missing:,} samples were missing."
        fix = f"Write what lies before and behind it to files of their own, or read the rows as one series: --column-type '{name}=skip'"
        raise DataError(what, where=f"{where}:{lines[longest + 1]}", fix=f"{fix} --source-rate-hz {rate_hz or 1 / step:.6g}.")


def _repeating(name: str, repeats: float, others: Sequence[Column], rate_hz: float | None, where: str) -> DataError:
    rounded = f"leave them out with --column-type '{name}=skip'" if rate_hz else "give the rate with --source-rate-hz"
    apart = _told_apart(others, round(repeats))
    what = f"each time in the column {name!r} stands in {repeats:.3g} rows on average: several series{apart}?"
    return DataError(what, where=where, fix=f"{OWN_FILE}; if it is one, whose times were rounded, {rounded}.")


def _are_filled(column: Column, cells: Sequence[str]) -> list[bool]:
    return [value is None or value == value for value in column.numbers.row(cells)]


def _seconds(column: Column, cells: Sequence[str], lines: Sequence[int], where: str) -> tuple[np.ndarray | None, bool]:
    """Times since the first, and whether they are in seconds; None where their format is not known. Raises DataError for a cell that is no
    time where others are."""
    values = column.numbers.row(cells)
    if None not in values:
        try:
            return read_times(cells, column.called, column.numbers, where).seconds, True
        except DataError:  # the unit is not known
            return numeric_times(cells, column.numbers).seconds, False
    if all(value is None and not is_moment(cell, column.called) for value, cell in zip(values, cells, strict=True)):
        return None, False
    return read_times(cells, column.called, column.numbers, where, lines).seconds, True


def _explains(rate_hz: float, seconds: np.ndarray, repeats: float) -> bool:
    """Whether about so many samples lie between two times that differ."""
    steps = np.diff(seconds)
    promised = rate_hz * float(np.median(steps[steps > 0]))
    return 1 / OFTEN < repeats / promised < OFTEN


def _told_apart(columns: Sequence[Column], count: int) -> str:
    """Which column tells so many series apart whose rows alternate, for a message."""
    for column in columns:
        names = cycle(column.cells)
        if len(names) == count and (column.values is None or is_of_series(column.name) or may_be_of_series(column.name)):
            return f", told apart by the column {column.name!r} ({', '.join(names[:3])}{' ...' if count > 3 else ''})"
    return ""
