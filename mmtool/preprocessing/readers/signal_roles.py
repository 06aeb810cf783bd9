"""What each column of a time series holds: a channel, times, numbers of samples, labels, or the name of the series.

Names say so, and what the first rows hold. `--column-type NAME=number` makes a channel of any column, `NAME=skip` leaves it out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.readers import signal_names as named
from mmtool.preprocessing.readers.entries import MISSING, SourceOptions
from mmtool.preprocessing.readers.numbers import TRUTH, Numbers
from mmtool.preprocessing.readers.signal_times import Times, is_day, is_time_of_day, numeric_times, read_times
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.tokenizers.column_types import Number, Skip

LEAST_COUNTED = 10  # rows by which a column under any name is taken for row numbers
MAX_LABELS = 50  # different whole numbers in a column that is called like one of labels
KEEP_OR_SKIP = "Say --column-type '{0}=number' if it is a channel, or --column-type '{0}=skip' to leave it out."


class Role(Enum):
    """What a column holds. SERIES: what the whole file has one of, such as its subject. EMPTY: it has no name and no value."""

    CHANNEL, TIME, COUNT, LABEL, SERIES, EMPTY, SKIPPED = auto(), auto(), auto(), auto(), auto(), auto(), auto()


@dataclass(frozen=True)
class Column:
    """Name, unit (of a line below the header, may be empty) and first cells of a column."""

    name: str
    unit: str
    cells: Sequence[str]
    numbers: Numbers

    @property
    def called(self) -> str:
        """Its name with its unit."""
        return f"{self.name} {self.unit}".strip()

    @property
    def values(self) -> np.ndarray | None:
        """Its cells as numbers; None where any is missing or none."""
        values = self.numbers.row(self.cells)
        return None if None in values or np.isnan(np.array(values, float)).any() else np.array(values, float)

    @property
    def is_constant(self) -> bool:
        return len(self.cells) > 1 and len({cell.strip() for cell in self.cells}) == 1

    @property
    def is_empty(self) -> bool:
        return not any(cell.strip() for cell in self.cells)


def first_filled(column: Column) -> str:
    """The first cell that holds something, else nothing."""
    return next((cell.strip() for cell in column.cells if cell.strip() not in MISSING), "")


def cycle(cells: Sequence[str]) -> tuple[str, ...]:
    """The different cells that come again and again in the same order, as the names of series do whose rows alternate; none of others."""
    length = next((index for index, cell in enumerate(cells) if index and cell == cells[0]), 0)
    first = tuple(cells[:length])
    recurs = 2 * length <= len(cells) and all(cell == first[index % length] for index, cell in enumerate(cells)) if length > 1 else False
    return first if recurs and len(set(first)) == length else ()


def roles_of(columns: Sequence[Column], options: SourceOptions, where: str) -> list[Role]:
    """The role of each column. Raises DataError where it is unclear, UsageError for a type that no column of a series has."""
    _check_declared([column.name for column in columns], options.table, where)
    return [_declared(column.name, options) or _role(column, where) for column in columns]


def wanted_of_series(options: SourceOptions) -> set[str]:
    """Columns that labels and groups are taken from; they hold one value for the whole series."""
    return {name for name in (*options.label_names.values(), options.group_column) if name is not None}


def rate_columns(columns: Sequence[Column], roles: Sequence[Role], where: str) -> list[int]:
    """Places of the column of times that gives the rate: the first that is not constant, and says in which unit its times are, if any
    does. Two where one holds the date and another the time of day."""
    times = [index for index, role in enumerate(roles) if role is Role.TIME]
    moving = [index for index in times if not columns[index].is_constant]
    first = next((index for index in moving if _is_readable(columns[index], where)), next(iter(moving), None))
    if first is None:
        return []
    kinds: list[Callable[[str], bool]] = [is_day, is_time_of_day]
    parts = [next((index for index in times if is_kind(columns[index].cells[0])), None) for is_kind in kinds]
    return [index for index in parts if index is not None] if first in parts else [first]


def _declared(name: str, options: SourceOptions) -> Role | None:
    """By --column-type, as the tokenizer has a channel of this name, or as a label is taken from it."""
    if name in options.table.declared:
        return Role.CHANNEL if isinstance(options.table.declared[name], Number) else Role.SKIPPED
    if name in options.table.features:
        return Role.CHANNEL
    return Role.SERIES if name in wanted_of_series(options) else None


def _role(column: Column, where: str) -> Role:
    name = column.name
    if named.may_be_time(name) or (named.is_unit_of_time(column.unit) and not named.is_time(name)):
        if _holds_times(column, where):
            return Role.TIME
    elif named.is_time(name):
        return Role.TIME
    elif not name.strip() and column.is_empty:
        return Role.EMPTY
    elif named.counts(name):
        return Role.COUNT
    values = column.values
    if values is None and not _is_text(column):
        return Role.CHANNEL
    if values is not None and (values % 1).any():
        return Role.CHANNEL
    if values is not None and _looks_counted(values):
        return Role.COUNT
    if named.is_of_series(name):
        return Role.SERIES
    if not named.is_label(name):
        tells_apart = named.may_be_of_series(name) or (values is None and TRUTH.isdisjoint(column.cells))
        return Role.SERIES if tells_apart and cycle(column.cells) else Role.CHANNEL
    if values is not None and len(set(values.tolist())) > MAX_LABELS:
        what = f"the column {name!r} is called like one of labels, but holds more than {MAX_LABELS} different numbers."
        raise DataError(what, where=where, fix=KEEP_OR_SKIP.format(name))
    return Role.LABEL


def is_counting(values: np.ndarray) -> bool:
    """Whether numbers rise or fall by the same step."""
    steps = np.diff(values)
    return not len(steps) or (steps[0] != 0 and not (steps != steps[0]).any())


def _looks_counted(values: np.ndarray) -> bool:
    """Whether whole numbers count, maybe from the start again and again, as row numbers of several series do: that is asked about later."""
    lowest, highest = values.min(), values.max()
    turns = np.flatnonzero((values[:-1] == highest) & (values[1:] == lowest)) + 1
    runs = [run for run in np.split(values, turns) if len(run) > 1]
    return max(map(len, runs), default=0) >= LEAST_COUNTED and all(map(is_counting, runs))


def _is_text(column: Column) -> bool:
    """Whether a column holds words and no number."""
    return all(column.numbers.number(cell) is None for cell in column.cells if cell.strip() not in MISSING)


def _holds_times(column: Column, where: str) -> bool:
    """Whether a column whose name leaves it open holds times. Raises DataError where its values do so as well: they rise unevenly."""
    if column.values is None:
        return _is_readable(column, where)
    times: Times = numeric_times(column.cells, column.numbers)
    if len(column.cells) < 2 or times.are_even:
        return True
    if times.rise:
        what = f"the column {column.name!r} may hold times or be a channel: its values rise, but not evenly."
        raise DataError(what, where=where, fix=KEEP_OR_SKIP.format(column.name))
    return False


def _is_readable(column: Column, where: str) -> bool:
    """Whether the first cells of a column are times in a known unit."""
    try:
        read_times(column.cells, column.called, column.numbers, where)
    except DataError:
        return False
    return True


def _check_declared(header: Sequence[str], options: TableOptions, where: str) -> None:
    """Raise for types of absent columns, and such as no column of a series has."""
    for name, column in options.declared.items():
        if not isinstance(column, Number | Skip):
            what = f"columns of time series are of the types number and skip, not {column.name}."
            raise UsageError(what, where="--column-type", fix=KEEP_OR_SKIP.format(name))
        if name not in header:
            fix = f"Name one of these with --column-type: {', '.join(map(repr, header[:10]))}."
            raise DataError(f"there is no column {name!r}.", where=where, fix=fix)
