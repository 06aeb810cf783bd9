"""Time series in CSV and TSV: a column for each channel, and others that give the rate or are left out (`signal_roles.py`)."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.cell_values import shown
from mmtool.preprocessing.readers.csv_rows import Cells
from mmtool.preprocessing.readers.entries import MISSING, Broken, Note, SourceOptions
from mmtool.preprocessing.readers.numbers import COMMA_WITHIN, NUMBER, Numbers
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.records import read_cells
from mmtool.preprocessing.readers.signal_direction import LEAST_COLUMNS, check_direction, check_no_times
from mmtool.preprocessing.readers.signal_header import COMMENTS, heading_of, names_time
from mmtool.preprocessing.readers.signal_names import counts
from mmtool.preprocessing.readers.signal_order import check_order, check_same_series
from mmtool.preprocessing.readers.signal_roles import (
    KEEP_OR_SKIP,
    Column,
    Role,
    first_filled,
    is_counting,
    rate_columns,
    roles_of,
    wanted_of_series,
)
from mmtool.preprocessing.readers.signal_times import Times, is_since_1970, numeric_times, rate_of, read_times

LOOKED_AT = 1000  # rows by which it is seen what columns hold
HEAD_BYTES = 1000  # by which it is seen how a file begins
SEPARATOR = re.compile(r"[,;\t]")
RENAME = "If it is the times, call it time_s (or time_ms ...)."
LEFT_OUT = {
    "times or numbers of samples": (Role.TIME, Role.COUNT),
    "labels, or names of the whole series": (Role.LABEL, Role.SERIES),
    "columns without name and values": (Role.EMPTY,),
}  # as what columns are left out; those that the options skip need no word


@dataclass(frozen=True)
class Series:
    """A file that was opened. columns: with their first cells; roles: of each; time_indices: of those that give the times of samples;
    units: a line below the header or in a comment that holds them, None: there is none; names_from: the
    line of a comment that names the columns, 0: none does; rows: all others."""

    columns: Sequence[Column]
    roles: Sequence[Role]
    time_indices: Sequence[int]
    units: tuple[int, list[str]] | None
    names_from: int
    rows: Cells

    @classmethod
    def open(cls, file: RawFile, options: SourceOptions) -> "Series":
        """Raises DataError where there are no rows, or it is unclear what a column holds."""
        _check_start(file)
        heading = heading_of(file, options)
        header, rows = read_cells(file, options.columns or heading.names, delimiter=options.table.delimiter, comments=COMMENTS)
        head = _sound(list(islice(rows, LOOKED_AT)), file.where)
        if not options.columns:
            _check_header(header, head[0][1], file.where)
        numbers = Numbers.of(options.table)
        _check_decimals([cells for _, cells in head[:2]], numbers, file.where)
        units = head.pop(0) if _holds_units([cells for _, cells in head[:2]], numbers) else None
        _check_units(header, units, file.where)
        units = units or heading.units
        columns = [
            Column(name, units[1][index] if units else "", [cells[index] for _, cells in head], numbers)
            for index, name in enumerate(header)
        ]
        roles = roles_of(columns, options, file.where)
        check_direction([column for column, role in zip(columns, roles, strict=True) if role is Role.CHANNEL], options.table, file.where)
        return cls(columns, roles, rate_columns(columns, roles, file.where), units, heading.line, chain(head, rows))

    def indices(self, *roles: Role) -> list[int]:
        """Of the columns with one of these roles."""
        return [index for index, role in enumerate(self.roles) if role in roles]

    @property
    def columns_of_times(self) -> Sequence[Column]:
        return [self.columns[index] for index in self.time_indices]

    def times(self, cells: Sequence[Sequence[str]], where: str, lines: Sequence[int] = ()) -> Times | None:
        """Of the cells of the columns that give the times; None where none does. Dates and times of day are added. lines: of the cells."""
        columns = self.columns_of_times
        parts = [read_times(each, column.called, column.numbers, where, lines) for column, each in zip(columns, cells, strict=True)]
        if not parts:
            return None
        return Times(np.sum([part.seconds for part in parts], axis=0), parts[-1].tick_s, parts[0].guess)


def opened(file: RawFile, options: SourceOptions) -> Series | None:
    """The series of a file; None where it cannot be read, which is said when its samples are."""
    try:
        return Series.open(file, options)
    except DataError:
        return None


def notes(series: Series, options: SourceOptions, where: str) -> Iterator[Note]:
    """What is left out of a file, and how its times are taken where it does not say."""
    times = None
    if not options.source_rate_hz:
        with suppress(DataError):  # it is said when the samples are read
            times = series.times([column.cells for column in series.columns_of_times], where)
    if series.names_from:
        names = ", ".join(repr(column.name) for column in series.columns[:10])
        yield Note("names", f"names of columns from line {series.names_from} of {where}, a comment: {names} (--columns gives others)")
    if series.units:
        line, cells = series.units
        yield Note("units", f"left out of {where}: line {line}, which holds units: {', '.join(map(repr, cells[:5]))}")
    if times is not None and times.guess:
        name = series.columns[series.time_indices[0]].name
        yield Note(f"times of {name}", f"the times in the column {name!r} of {where} are taken as {times.guess}")
    for why, roles in LEFT_OUT.items():
        indices = sorted(set(series.indices(*roles)).difference([] if options.source_rate_hz else series.time_indices))
        columns = [series.columns[index].name for index in indices]
        names = ", ".join(repr(name) for name in columns if name not in wanted_of_series(options))
        if names:
            way_on = " (--column-type NAME=number makes channels of them{})".format(", --label NAME a label" if Role.LABEL in roles else "")
            way_on = "" if Role.EMPTY in roles else way_on
            yield Note(f"{why}: {names}", f"left out of {where}, as {why}: {names}{way_on}")


def cells_of_series(series: Series, options: SourceOptions) -> dict[str, str]:
    """The first cells of the columns that labels and groups are taken from, by their names; that they do not change is seen when the series
    is read."""
    return {column.name: first_filled(column) for column in series.columns if column.name in wanted_of_series(options)}


def read_columns(file: RawFile, options: SourceOptions) -> tuple[np.ndarray, float | None, tuple[str, ...]]:
    """(T, C) numbers, the rate in Hz that a column of times states (None: without one, or where the options do) and the names of the
    channels. Raises DataError for a cell that is no number, columns of times and of numbers of samples that are not even, and several
    series in one file."""
    series, numbers = Series.open(file, options), Numbers.of(options.table)
    channels, counters, names = series.indices(Role.CHANNEL), series.indices(Role.COUNT), series.indices(Role.SERIES)
    names += [index for index, column in enumerate(series.columns) if column.name in wanted_of_series(options) and index not in names]
    numbered, wanted = [*channels, *counters], wanted_of_series(options)
    columns = [series.columns[index] for index in numbered]
    values: list[Sequence[float]] = []
    lines: list[int] = []
    stamps: list[list[str]] = []
    for row in series.rows:
        if isinstance(row, Broken):
            raise row.error
        line, cells = row
        lines.append(line)
        values.append(_numbers([cells[index] for index in numbered], columns, numbers, f"{file.where}:{line}"))
        stamps.append([cells[index] for index in series.time_indices])
        for index in names:
            check_same_series(series.columns[index], cells[index], wanted, f"{file.where}:{line}")
    if not channels:
        what = f"there is no channel: {', '.join(repr(column.name) for column in series.columns[:10])} are left out."
        raise DataError(what, where=file.where, fix="Name those that are channels with --column-type NAME=number.")
    table = np.array(values, np.float64)
    for number, column in enumerate(columns[len(channels) :], len(channels)):
        _check_count(table[:, number], column.name, file.where)
    _check_no_times(columns[: len(channels)], table, options, file.where)
    cells_of_times = list(zip(*stamps, strict=True))
    times = None if options.source_rate_hz else series.times(cells_of_times, file.where, lines)
    if times is None or (len(lines) > 1 and not times.are_even):
        others = [column for index, column in enumerate(series.columns) if index not in series.time_indices]
        check_order(series.columns_of_times, cells_of_times, lines, others, options.source_rate_hz, file.where)
    rate_hz = None if times is None else rate_of(times, file.where)
    return table[:, : len(channels)], rate_hz, tuple(column.name for column in columns[: len(channels)])


def _check_no_times(channels: Sequence[Column], table: np.ndarray, options: SourceOptions, where: str) -> None:
    """Raise DataError where a channel rises evenly, as times do, and neither options nor the tokenizer know it."""
    known = {*options.table.declared, *options.table.features}
    rising = {
        column.name: Times(values, numeric_times(column.cells, column.numbers).tick_s)
        for column, values in zip(channels, table.T, strict=False)
        if column.name not in known
    }
    check_no_times(rising, where, f"{RENAME} {KEEP_OR_SKIP}")


def _sound(rows: Sequence[tuple[int, list[str]] | Broken], where: str) -> list[tuple[int, list[str]]]:
    """Rows none of which is broken. Raises DataError where one is, or there is none."""
    for row in rows:
        if isinstance(row, Broken):
            raise row.error
    if not rows:
        raise DataError("the file holds no samples.", where=where, fix="Give a column of numbers for each channel.")
    return [row for row in rows if not isinstance(row, Broken)]


def _check_start(file: RawFile) -> None:
    """Raise DataError where the first line holds the time of the start, as Empatica writes it, with the rate of the samples below it."""
    with file.open() as content:
        first, second = [*content.read(HEAD_BYTES).decode("latin-1").splitlines(), "", ""][:2]
    starts = [is_since_1970(cell) for cell in SEPARATOR.split(first)]
    if not starts[0] or any(map(is_since_1970, SEPARATOR.split(second))):
        return
    fix = "Write names of the columns in its place."
    if all(starts):
        rate = SEPARATOR.split(second)[0].strip()
        fix = f"Remove both (tail -n +3), and add --columns with a name for each channel and --source-rate-hz {rate}."
    what = "the first lines seem to hold a time of start and a rate" if all(starts) else "the first line seems to hold a time of start"
    raise DataError(f"{what}, and no header.", where=file.where, fix=fix)


def _check_header(header: Sequence[str], cells: Sequence[str], where: str) -> None:
    """Raise DataError where the first line holds nothing but numbers, unless it counts columns, as pandas does, over fractions."""
    names = [name.strip() for name in header if name.strip()]
    counted = names == list(map(str, range(len(names)))) and any("." in cell for cell in cells)
    if names and all(NUMBER.fullmatch(name) or COMMA_WITHIN.fullmatch(name) for name in names) and not counted:
        what = f"the first line seems to be a sample and no header: it holds {', '.join(names[:5])}."
        fix = "Name the channels with --columns, or write a header, whose names are no numbers."
        if len(names) >= LEAST_COLUMNS:
            fix += " Where each row is a recording, save them as an array (N, time, 1)."
        raise DataError(what, where=where, fix=fix)


def _check_decimals(rows: Sequence[Sequence[str]], numbers: Numbers, where: str) -> None:
    """Raise DataError where a first row without numbers, of units, stands above numbers with decimal commas, which were not declared."""
    if numbers.decimal == "." and not any(numbers.number(cell) is not None for cell in rows[0] if cell not in MISSING):
        cell = next((cell for row in rows[1:] for cell in row if COMMA_WITHIN.fullmatch(cell.strip())), None)
        if cell is not None:
            fix = "Add --decimal , where the comma is the decimal mark."
            raise DataError(f"{shown(cell)} is no number with a decimal point.", where=where, fix=fix)


def _holds_units(rows: Sequence[Sequence[str]], numbers: Numbers) -> bool:
    """Whether the first of two rows holds words, or nothing, above all numbers of the second, and no dates."""
    if len(rows) < 2:
        return False
    first, second = ([cell.strip().strip("'") for cell in row] for row in rows)
    above = [cell for cell, below in zip(first, second, strict=True) if below not in MISSING and numbers.number(below) is not None]
    filled = [cell for cell in above if cell not in MISSING]
    return bool(filled) and not any(numbers.may_be(cell) for cell in filled) and not any(cell[:1].isdigit() for cell in first)


def _check_units(header: Sequence[str], units: tuple[int, list[str]] | None, where: str) -> None:
    """Raise DataError where it is a line taken for units that names the times, and not the header."""
    if units is not None and any(map(names_time, units[1])) and not any(map(names_time, header)):
        line, cells = units
        what = f"the first line, {', '.join(header)[:60]!r}, seems to be no header, but line {line}: {', '.join(cells)[:60]!r}."
        raise DataError(what, where=where, fix=f"Remove what stands above it (tail -n +{line}), or begin those lines with #.")


def _numbers(cells: Sequence[str], columns: Sequence[Column], numbers: Numbers, where: str) -> Sequence[float]:
    values = numbers.row(cells)
    bad = next((index for index, value in enumerate(values) if value is None or value != value), None)
    if bad is None:
        return [value for value in values if value is not None]
    cell, name = cells[bad], columns[bad].name
    fix = f"Fill the cell, or leave the column out with --column-type '{name}=skip'; labels of files are read with --labels."
    if numbers.decimal == "." and COMMA_WITHIN.fullmatch(cell.strip()):
        fix = "Add --decimal , where the comma is the decimal mark."
    elif len(columns) == 1 and len(cell.split()) > 1 and None not in numbers.row(cell.split()):
        fix = "Add --delimiter blanks where blanks are between columns."
    raise DataError(f"the channel {name!r} holds no number, but {shown(cell)}.", where=where, fix=fix)


def _check_count(values: np.ndarray, name: str, where: str) -> None:
    """Raise DataError where a column that is called like one of row numbers, or begins like one, does not count."""
    if not is_counting(values):
        alike = "is called like one of row numbers, but does not count" if counts(name) else "counts in the first rows, but not in all"
        fix = f"Where rows are missing, complete them. {KEEP_OR_SKIP.format(name)}"
        raise DataError(f"the column {name!r} {alike}.", where=where, fix=fix)
