"""Labels as columns: one that is mostly numbers is a number, and cells of it that are none are named instead of becoming classes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmtool.common.errors import DataError

SHOWN = 3  # cells named in a message
FIX = "Leave the cell empty where the value is missing, correct it, or write all of them as text (n61 for 61)."


@dataclass(frozen=True)
class Cell:
    """One label of one sample, and where it stands."""

    key: str
    where: str
    value: Any


@dataclass
class Column:
    """All filled cells of one label: how many are numbers, and the ones that are not."""

    numbers: int = 0
    not_numbers: list[Cell] = field(default_factory=list)
    widths: set[int] = field(default_factory=set)  # of cells in digits, 0 for one that is not of digits alone

    def add(self, cell: Cell) -> None:
        if isinstance(cell.value, int | float) and not isinstance(cell.value, bool):
            self.numbers += 1
        else:
            self.not_numbers.append(cell)
        text = str(cell.value)
        self.widths.add(len(text) if text.isascii() and text.isdigit() else 0)

    @property
    def is_code(self) -> bool:
        """Digits of one width, some with zeros in front: 007 and 123 are names."""
        return self.numbers > 0 and len(self.not_numbers) > 0 and len(self.widths) == 1 and 0 not in self.widths

    @property
    def odd(self) -> list[Cell]:
        """Cells that are no numbers in a column that is mostly numbers."""
        return self.not_numbers if self.numbers > len(self.not_numbers) and not self.is_code else []


class LabelColumns:
    """The labels of all samples, judged when all have been seen.

    withdrawn: keys of samples that were read before a look at their column showed that a label of theirs is wrong.
    """

    def __init__(self) -> None:
        self._columns: dict[str, Column] = {}
        self.withdrawn: set[str] = set()

    def add(self, key: str, where: str, labels: Mapping[str, Any]) -> None:
        """Take in the labels of one sample; None is a missing one."""
        for name, value in labels.items():
            if value is not None:
                self._columns.setdefault(name, Column()).add(Cell(key, where, value))

    def check(self) -> None:
        """Raise DataError for the first label with cells that do not fit."""
        for name, column in self._columns.items():
            if column.odd:
                raise _error(name, column, column.odd)

    def wrong(self) -> dict[str, tuple[str, DataError]]:
        """Key of each sample with a label that does not fit -> where it stands, and what is wrong."""
        errors: dict[str, tuple[str, DataError]] = {}
        for name, column in self._columns.items():
            for cell in column.odd:
                errors.setdefault(cell.key, (cell.where, _error(name, column, [cell])))
        return errors

    def corrected(self, labels: Mapping[str, Any]) -> dict[str, Any]:
        """The labels of a sample, codes in digits as text throughout."""
        codes = {name for name, column in self._columns.items() if column.is_code}
        return {name: str(value) if name in codes and value is not None else value for name, value in labels.items()}


def _error(name: str, column: Column, cells: list[Cell]) -> DataError:
    """What is wrong with these cells of a label."""
    listed = ", ".join(f"{cell.value!r} for {cell.key!r} ({cell.where})" for cell in cells[:SHOWN])
    more = f" and {len(cells) - SHOWN:,} more" if len(cells) > SHOWN else ""
    filled = column.numbers + len(column.not_numbers)
    what = f"the label {name!r} is a number in {column.numbers:,} of {filled:,} filled cells, but {listed}{more}."
    return DataError(what, where=cells[0].where, fix=FIX)
