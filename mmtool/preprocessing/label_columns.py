"""Labels as columns: one that is mostly numbers is a number, and cells of it that are none are named instead of becoming classes.

Digits behind a zero make all numbers of a column text, or leave unclear what it holds, by the rule that tables have (`padded_digits.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.padded_digits import Spellings, is_padded

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
    spellings: Spellings = field(default_factory=Spellings)

    def add(self, cell: Cell) -> None:
        text = str(cell.value)
        is_number = isinstance(cell.value, int | float) and not isinstance(cell.value, bool)
        if is_number:
            self.numbers += 1
        else:
            self.not_numbers.append(cell)
        if is_number or is_padded(text):
            self.spellings.add(text, cell)

    @property
    def is_code(self) -> bool:
        """Whether numbers are text as well: beside 007, 123 is a name."""
        return self.spellings.verdict == "codes"

    @property
    def odd(self) -> list[Cell]:
        """Cells that are no numbers in a column that is mostly numbers."""
        words = [cell for cell in self.not_numbers if not is_padded(str(cell.value))]
        return self.not_numbers if self.numbers > len(words) and not self.is_code else []


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
        """Raise DataError for the first label with cells that do not fit, or where it is unclear whether a label holds codes."""
        self._check_codes()
        for name, column in self._columns.items():
            if column.odd:
                raise _error(name, column, column.odd)

    def wrong(self) -> dict[str, tuple[str, DataError]]:
        """Key of each sample with a label that does not fit -> where it stands, and what is wrong. Raises DataError where it is unclear
        whether a label holds codes."""
        self._check_codes()
        errors: dict[str, tuple[str, DataError]] = {}
        for name, column in self._columns.items():
            for cell in column.odd:
                errors.setdefault(cell.key, (cell.where, _error(name, column, [cell])))
        return errors

    def _check_codes(self) -> None:
        for name, column in self._columns.items():
            if column.spellings.verdict == "unclear":
                raise _unclear(name, column.spellings)

    @cached_property
    def _codes(self) -> set[str]:
        """Names of labels that hold codes, once all samples have been seen."""
        return {name for name, column in self._columns.items() if column.is_code}

    @property
    def is_mixed(self) -> bool:
        """Whether a label that holds codes has some of them as numbers, which `corrected` makes text."""
        return any(self._columns[name].numbers for name in self._codes)

    def corrected(self, labels: Mapping[str, Any]) -> dict[str, Any]:
        """The labels of a sample, codes in digits as text throughout."""
        codes = self._codes
        return {name: str(value) if name in codes and value is not None else value for name, value in labels.items()}


def _unclear(name: str, spellings: Spellings) -> DataError:
    """That the label may hold codes or numbers."""
    code, number = next(iter(spellings.padded.values())), next(iter(spellings.contrary.values()))
    cells = [f"{cell.value!r} for {cell.key!r} ({cell.where})" for cell in (code, number)]
    fix = "Write all of them with their zeros or none, or all as text (n61 for 61)."
    if spellings.options:
        fix = f"Add {spellings.options} where that stands for a missing value. {fix.replace('Write', 'Else write')}"
    return DataError(f"the label {name!r} holds {cells[0]}, as codes do, and {cells[1]}, as amounts do.", where=number.where, fix=fix)


def _error(name: str, column: Column, cells: list[Cell]) -> DataError:
    """What is wrong with these cells of a label."""
    listed = ", ".join(f"{cell.value!r} for {cell.key!r} ({cell.where})" for cell in cells[:SHOWN])
    more = f" and {len(cells) - SHOWN:,} more" if len(cells) > SHOWN else ""
    filled = column.numbers + len(column.not_numbers)
    what = f"the label {name!r} is a number in {column.numbers:,} of {filled:,} filled cells, but {listed}{more}."
    return DataError(what, where=cells[0].where, fix=FIX)
