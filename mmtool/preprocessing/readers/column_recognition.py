"""Which columns of a table hold categories, truth values or dates instead of numbers: what is declared, else what their cells say.

1. A column with at least as many numbers as other cells holds numbers; what is none is refused cell by cell. Digits behind a zero, as in
   the postal code 02134, are no number but a name, unless numbers of other forms show that it is a habit (`padded_digits.py`).
2. Else one of true and false, or of yes and no, holds truth values.
3. Else one with at least as many dates as ISO 8601 writes them (2021-03-31) as other cells holds dates; what is none is refused.
4. Else it holds categories: at most 50 of them, at least one of which occurs more than once.

Where this would be a guess, as for 02134 beside -9, for names of samples, or for dates such as 1/2/21, the column is refused, with the
options that say what it is.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import islice
from math import isnan
from typing import Any

from mmtool.preprocessing.keys import KeyColumnError
from mmtool.preprocessing.readers.cell_values import NOT_ONE_VALUE, decoded
from mmtool.preprocessing.readers.entries import MISSING, Broken, Note, name_of
from mmtool.preprocessing.readers.numbers import Numbers
from mmtool.preprocessing.readers.padded_digits import Spellings, is_padded
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.tokenizers.column_types import LIKE_A_DATE, NUMBER, TRUTH_VALUES, Boolean, Category, ColumnType, Date, Number, Ordinal, Skip

Rows = Callable[[], Iterator[tuple[int, Sequence[Any]] | Broken]]  # all rows with their numbers, opened anew by each call
LOOKED_AT_CELLS, LEAST_ROWS = 1_000_000, 200  # by which it is seen what columns hold
DASHES = frozenset({"-", "--", "---", "'--", ".", "?"})
ERRORS = frozenset(("#DIV/0!", "#REF!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!", "#SPILL!", "#CALC!"))  # of spreadsheets
MAX_CATEGORIES, MAX_DECLARED = 50, 1000  # of one column, where they are recognised and where they are declared
LEAST_NAMES = 3  # texts that make names of a column where all differ; of fewer nothing is said but that they are no numbers
PLAIN_TRUTH = frozenset(word for pair in TRUTH_VALUES[:2] for word in pair)
SHOWN = 3  # cells or columns in a message
WITH_UNIT = re.compile(r"[-+]?[$€£¥] ?[-+]?\d[\d.,]*|[-+]?\d[\d.,]* ?[%‰$€£¥]")
READ_AS = {
    "category": "read as categories",
    "boolean": "read as truth values",
    "date": "read as dates",
    "ordinal": "read as ordered levels",
    "skip": "left out",
}  # what is said of the columns of a type


@dataclass
class _Cells:
    """The filled cells of a column: how many are numbers, and the others."""

    numbers: int = 0
    words: Counter[str] = field(default_factory=Counter)

    def add(self, cell: Any, numbers: Numbers) -> None:
        if isinstance(cell, str) and not numbers.na and _is_plain(cell):  # most of them, in a tenth of the time
            self.numbers += 1
            return
        number = numbers.number(cell)
        if number is not None and isnan(number):
            return
        if numbers.may_be(cell) or not isinstance(cell, str | bool | date):  # lists, bytes or durations are refused like bad numbers
            self.numbers += 1
        else:
            self.words[name_of(cell)] += 1

    @property
    def guessed(self) -> ColumnType:
        """What the cells are, categories and spellings still to be collected."""
        if self.numbers >= self.words.total():
            return NUMBER
        small = {word.casefold() for word in self.words}
        if small <= PLAIN_TRUTH and any(small <= set(pair) for pair in TRUTH_VALUES):
            return Boolean(())
        days = sum(count for word, count in self.words.items() if Date().read(word) is not None)
        if 2 * days >= self.words.total() + self.numbers:
            return Date()
        return NUMBER if len(self.words) == self.words.total() < LEAST_NAMES else Category()


def column_types(header: Sequence[str], indices: Sequence[int], rows: Rows, options: TableOptions, where: str) -> dict[str, ColumnType]:
    """Name -> type of the columns at `indices` that are no numbers: of a fitted tokenizer its types. Raises KeyColumnError where options
    name a column that there is not, and where a column is neither numbers nor anything that can be imputed."""
    _check_declared(header, options, where)
    if options.known is not None:
        declared_anew = {name: column for name, column in options.declared.items() if isinstance(column, Skip | Date)}
        fitted = {**options.known, **{name: _as_fitted(column, options.known.get(name)) for name, column in declared_anew.items()}}
        return {header[index]: fitted[header[index]] for index in indices if header[index] in fitted}
    declared = {index: _as_cells_are(options.declared[header[index]]) for index in indices if header[index] in options.declared}
    guessed = _guessed(header, [index for index in indices if index not in declared], rows, options, where)
    types = {**guessed, **declared}
    open_indices = sorted(index for index, column in types.items() if _is_open(column))
    words = words_of(open_indices, rows, options)
    for index in open_indices:
        name, texts = header[index], words[index]
        column = types[index]
        if isinstance(column, Boolean):
            types[index] = Boolean(_spelled(texts))
            continue
        if isinstance(column, Date):
            types[index] = replace(column, timed=any((column.read(word) or 0) % 1 for word in texts))
            continue
        _check_categories(name, texts, index in declared, where)
        types[index] = Category(tuple(sorted(texts)))
    return {header[index]: types[index] for index in sorted(types) if not isinstance(types[index], Number)}


def _is_open(column: ColumnType) -> bool:
    """Whether cells are still to say which categories there are, or whether dates have hours."""
    return (isinstance(column, Category) and not column.categories) or (isinstance(column, Date) and column.layout is None)


def _as_fitted(column: ColumnType, fitted: ColumnType | None) -> ColumnType:
    """A declared type with the unit of the tokenizer's: dates in any layout may have hours where those have."""
    if isinstance(column, Date) and column.layout is None and isinstance(fitted, Date):
        return replace(column, timed=fitted.timed)
    return column


def _as_cells_are(column: ColumnType) -> ColumnType:
    """Levels as cells are read: 1.0 as 1."""
    return Ordinal(tuple(map(name_of, column.levels))) if isinstance(column, Ordinal) else column


def _check_declared(header: Sequence[str], options: TableOptions, where: str) -> None:
    """Raise KeyColumnError for types of absent columns, and for types that differ from the tokenizer's. With a tokenizer, a column to skip
    may be absent: it can be one of another of several tables."""
    needed = [name for name, column in options.declared.items() if options.known is None or not isinstance(column, Skip)]
    absent = next((name for name in needed if name not in header), None)
    if absent is not None:
        fix = f"Name one of these with --column-type: {', '.join(map(repr, header[:10]))}."
        raise KeyColumnError(f"there is no column {absent!r}.", where=where, fix=fix)
    if options.known is None:
        return
    for name, column in options.declared.items():
        fitted = options.known.get(name, NUMBER)
        fix = "Leave --column-type out, or fit a new tokenizer with --fit."
        if not isinstance(column, Skip) and column.name != fitted.name:
            what = f"the tokenizer takes the column {name!r} for a {fitted.name}, not for a {column.name}."
            raise KeyColumnError(what, where=where, fix=fix)
        if isinstance(fitted, Ordinal) and _as_cells_are(column) != fitted:
            raise KeyColumnError(f"the tokenizer has the levels {'<'.join(fitted.levels)} for {name!r}.", where=where, fix=fix)


def notes(types: Mapping[str, ColumnType], where: str) -> Iterator[Note]:
    """What was recognised, a line for each type."""
    for kind, words in READ_AS.items():
        names = [name for name, column in types.items() if column.name == kind]
        if names:
            listed = ", ".join(map(repr, names[:20])) + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")
            read = f"columns {listed} are {words}" if len(names) > 1 else f"the column {listed} is {words}"
            yield Note(f"{kind}: {listed}", f"{where}: {read}")


def _guessed(header: Sequence[str], indices: Sequence[int], rows: Rows, options: TableOptions, where: str) -> dict[int, ColumnType]:
    """Place -> type of the columns that are no numbers, by the first rows."""
    numbers, padded = Numbers.of(options), set[int]()
    columns = {index: _Cells() for index in indices}
    for cells in islice(_cells(rows), max(LEAST_ROWS, LOOKED_AT_CELLS // max(1, len(header)))):
        chosen = [cells[index] for index in indices]
        padded.update(index for index, cell in zip(indices, chosen, strict=True) if isinstance(cell, str) and is_padded(cell.strip()))
        if numbers.are_plain(chosen):
            for index in indices:
                columns[index].numbers += 1
            continue
        for index, cell in zip(indices, chosen, strict=True):
            columns[index].add(cell, numbers)
    codes = _codes(header, sorted(padded), rows, options, where)
    guessed = {index: Category() if index in codes else column.guessed for index, column in columns.items()}
    for index in [index for index, column in guessed.items() if isinstance(column, Category) and not isinstance(column, Boolean)]:
        if index not in codes and all(LIKE_A_DATE.fullmatch(word) for word in columns[index].words):
            example = next(iter(columns[index].words))
            what = f"the column {header[index]!r} seems to hold dates such as {example!r}, which may be read in several ways."
            fix = f"Say how they are written, e.g. --column-type '{header[index]}=date:%d/%m/%Y', or write them as 2021-03-31."
            raise KeyColumnError(what, where=where, fix=fix)
    return {index: column for index, column in guessed.items() if not isinstance(column, Number)}


def _codes(header: Sequence[str], indices: Sequence[int], rows: Rows, options: TableOptions, where: str) -> set[int]:
    """Which of the columns with digits behind a zero hold codes. Raises KeyColumnError where it is unclear."""
    spellings = _spellings(indices, rows, options)
    for index in [index for index in indices if spellings[index].verdict == "unclear"]:
        name, column = header[index], spellings[index]
        what = f"the column {name!r} holds {next(iter(column.padded))!r}, as codes do, and {next(iter(column.contrary))!r}, as amounts do."
        fix = f"Say --column-type '{name}=category' or --column-type '{name}=number'"
        fix += f", or {column.options} where that stands for a missing value." if column.options else "."
        raise KeyColumnError(what, where=where, fix=fix)
    return {index for index in indices if spellings[index].verdict == "codes"}


def _spellings(indices: Sequence[int], rows: Rows, options: TableOptions) -> dict[int, Spellings]:
    """Place -> how the numbers of a column are written, and what is meant to be one."""
    numbers = replace(Numbers.of(options), censored=None)
    spellings = {index: Spellings() for index in indices}
    for cells in _cells(rows) if indices else ():
        for index in indices:
            cell = cells[index]
            value = numbers.number(cell)
            if numbers.may_be(cell) and not (value is not None and isnan(value)):
                spellings[index].add(cell.strip() if isinstance(cell, str) else name_of(cell))
    return spellings


def _is_plain(cell: str) -> bool:
    try:
        return not isnan(float(cell))
    except ValueError:
        return False


def words_of(indices: Sequence[int], rows: Rows, options: TableOptions) -> dict[int, Counter[str]]:
    """Place -> how often each filled cell occurs in all rows, errors of spreadsheets apart. A lone `-` is missing, unless the column
    holds `+` as well."""
    words: dict[int, Counter[str]] = {index: Counter() for index in indices}
    for cells in _cells(rows) if indices else ():
        for index in indices:
            if not isinstance(decoded(cells[index]), NOT_ONE_VALUE):
                words[index][name_of(cells[index])] += 1
    for texts in words.values():
        for word in [word for word in texts if word in ERRORS or is_missing(word, options, texts)]:
            del texts[word]
    return words


def is_missing(word: str, options: TableOptions, categories: Iterable[str] = ()) -> bool:
    """Whether a cell of a column that holds no numbers says that a value is missing."""
    return word in MISSING or word in map(name_of, options.na) or (word in DASHES and (word != "-" or "+" not in categories))


def _cells(rows: Rows) -> Iterator[Sequence[Any]]:
    return (row[1] for row in rows() if not isinstance(row, Broken))


def _spelled(words: Mapping[str, int]) -> tuple[str, str]:
    """How a column of truth values writes no and yes; a word that does not occur as the other one does."""
    by_value: dict[float, str] = {}
    for word in words:
        value = Boolean().read(word)
        if value is not None:
            by_value.setdefault(value, word)
    for pair in TRUTH_VALUES:
        if by_value and all(word.casefold() == pair[int(value)] for value, word in by_value.items()):
            style = str.upper if all(word.isupper() for word in by_value.values()) else str.title
            style = str.lower if all(word.islower() for word in by_value.values()) else style
            by_value = {float(value): by_value.get(float(value), style(pair[value])) for value in (0, 1)}
    return by_value.get(0.0, "False"), by_value.get(1.0, "True")


def _check_categories(name: str, words: Counter[str], is_declared: bool, where: str) -> None:
    """Raise KeyColumnError where a column holds names of samples, or too many categories."""
    some = ", ".join(map(repr, sorted(words)[:SHOWN]))
    if not is_declared and words and all(map(WITH_UNIT.fullmatch, words)):
        what = f"the column {name!r} holds texts such as {some}, which seem to be numbers with a unit."
        raise KeyColumnError(what, where=where, fix=f"Write the numbers alone (12 for 12%), or say --column-type '{name}=category'.")
    leave = f"Leave it out with --column-type '{name}=skip', or keep it as a label with --label '{name}'"
    if all(word.isdigit() for word in words):
        leave = f"Where these are numbers, say --column-type '{name}=number'. {leave}"
    if not is_declared and words.total() >= LEAST_NAMES and len(words) == words.total():
        what = f"the column {name!r} holds another text in every row ({some} ...), as names of samples do."
        fix = f"{leave}; where it holds the keys, add --key-column '{name}'."
        raise KeyColumnError(what, where=where, fix=fix)
    if len(words) > (MAX_DECLARED if is_declared else MAX_CATEGORIES):
        what = f"the column {name!r} holds {len(words):,} different texts ({some} ...), too many to be categories."
        more = "" if is_declared or len(words) > MAX_DECLARED else f"; --column-type '{name}=category' takes them all"
        raise KeyColumnError(what, where=where, fix=f"{leave}{more}.")
