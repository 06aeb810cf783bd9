"""What a column of a table holds besides numbers: categories, truth values, ordered levels and dates.

Rows are numbers throughout: a category counts in the list of categories, of truth values no is 0 and yes 1, a level counts in the order
of levels, and a date is days since 1970. Each type turns what a cell says into such a number and back.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar

from mmtool.common.errors import UsageError

TRUTH_VALUES = (("false", "true"), ("no", "yes"), ("f", "t"), ("n", "y"), ("0", "1"))  # no and yes, in small letters
ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?")
LIKE_A_DATE = re.compile(r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}([T ].*)?|\d{1,2}[ -]?[A-Za-z]{3}[ -]?\d{2,4}")
EPOCH = datetime(1970, 1, 1)
DAY = timedelta(days=1)
FIRST_DAY, LAST_DAY = (datetime.min - EPOCH) / DAY, (datetime(9999, 12, 31) - EPOCH) / DAY
AN_AFTERNOON = datetime(1970, 1, 1, 13, 47, tzinfo=UTC)


class ColumnType:
    """categories: names without order, each with a code; () for quantities: numbers that have a mean."""

    name: ClassVar[str]
    categories: tuple[str, ...] = ()

    def read(self, cell: str) -> float | None:
        """What a filled cell says as a number; None where it says nothing of the type."""
        raise AssertionError("every type has its own")

    def write(self, number: float) -> str:
        """The cell for a number, or for a mean of such numbers."""
        raise AssertionError("every type has its own")

    def to_json(self) -> dict[str, Any]:
        """All that `from_json` needs."""
        return {"type": self.name}


@dataclass(frozen=True)
class Number(ColumnType):
    """The usual type: cells are read by the options of tables."""

    name: ClassVar[str] = "number"

    def write(self, number: float) -> str:
        from numpy import float32  # which the help of the command line need not load

        return str(float32(number))


@dataclass(frozen=True)
class Category(ColumnType):
    """One of several names."""

    name: ClassVar[str] = "category"
    categories: tuple[str, ...] = ()

    @cached_property
    def _indices(self) -> dict[str, float]:
        return {category: float(index) for index, category in enumerate(self.categories)}

    def read(self, cell: str) -> float | None:
        return self._indices.get(cell)

    def write(self, number: float) -> str:
        return self.categories[int(number)]

    def to_json(self) -> dict[str, Any]:
        return {"type": self.name, "categories": list(self.categories)}


@dataclass(frozen=True)
class Boolean(Category):
    """No or yes, in any spelling; categories: how the table spells them."""

    name: ClassVar[str] = "boolean"
    categories: tuple[str, ...] = ("False", "True")

    def read(self, cell: str) -> float | None:
        word = cell.casefold()
        return next((float(pair.index(word)) for pair in TRUTH_VALUES if word in pair), None)


@dataclass(frozen=True)
class Ordinal(ColumnType):
    """One of several levels in ascending order: a quantity that counts them."""

    levels: tuple[str, ...]
    name: ClassVar[str] = "ordinal"

    def read(self, cell: str) -> float | None:
        return float(self.levels.index(cell)) if cell in self.levels else None

    def write(self, number: float) -> str:
        return self.levels[min(max(round(number), 0), len(self.levels) - 1)]

    def to_json(self) -> dict[str, Any]:
        return {"type": self.name, "levels": list(self.levels)}


@dataclass(frozen=True)
class Date(ColumnType):
    """A day of ISO 8601, or whatever `layout` says in the words of `strptime`; written in ISO 8601. timed: with hours and minutes, which
    are kept to about three minutes."""

    name: ClassVar[str] = "date"
    layout: str | None = None
    timed: bool = False

    def read(self, cell: str) -> float | None:
        if self.layout is None and not ISO_DATE.fullmatch(cell):
            return None
        try:
            moment = datetime.fromisoformat(cell) if self.layout is None else datetime.strptime(cell, self.layout)
            if moment.tzinfo is not None:
                moment = moment.astimezone(UTC).replace(tzinfo=None)
        except (ValueError, OverflowError):  # no such day, or none between the years 1 and 9999 in UTC
            return None
        return (moment - EPOCH) / DAY

    def write(self, number: float) -> str:
        days = min(max(float(number), FIRST_DAY), LAST_DAY)  # means under a model may lie beyond
        moment = EPOCH + (days if self.timed else round(days)) * DAY
        return moment.isoformat(timespec="minutes") if self.timed else moment.date().isoformat()

    def to_json(self) -> dict[str, Any]:
        return {"type": self.name, "layout": self.layout, "timed": self.timed}


@dataclass(frozen=True)
class Skip(ColumnType):
    """A column that is left out."""

    name: ClassVar[str] = "skip"


NUMBER = Number()
Types = Mapping[str, ColumnType]  # of the columns that are no numbers
TYPES: dict[str, type[ColumnType]] = {cls.name: cls for cls in (Number, Category, Boolean, Ordinal, Date, Skip)}


class Header(tuple[str, ...]):
    """Names of the columns of a table, with the types of those that are no numbers."""

    types: Types

    def __new__(cls, names: tuple[str, ...], types: Types | None = None) -> "Header":
        header = super().__new__(cls, names)
        header.types = types or {}
        return header

    def __reduce__(self) -> Any:
        return Header, (tuple(self), self.types)


def types_of(header: tuple[str, ...]) -> Types:
    """The types of the columns that are no numbers; none where names are all that is known."""
    return header.types if isinstance(header, Header) else {}


def declared(text: str, where: str) -> ColumnType:
    """The type in the words of an option: `number`, `category`, `boolean`, `date`, `date:LAYOUT`, `skip`, or levels such as
    `low<mid<high`. Categories, and how truth values are spelled, follow from the cells. Raises UsageError for anything else."""
    if not isinstance(text, str):  # of a file of settings
        raise UsageError(
            f"{text!r} is no type of a column.", where=where, fix="Write number, category, boolean, date, skip or levels in quotes."
        )
    levels = tuple(level.strip() for level in text.split("<"))
    if len(levels) > 1 and all(levels) and len(set(levels)) == len(levels):
        return Ordinal(levels)
    word, colon, layout = text.partition(":")
    if word == Date.name and layout:
        return _date_written_as(layout, where)
    simple: dict[str, ColumnType] = {"number": NUMBER, "category": Category(), "boolean": Boolean(()), "date": Date(), "skip": Skip()}
    if colon or word not in simple:
        fix = "Write number, category, boolean, date, date:%d/%m/%Y, skip, or levels in ascending order: low<mid<high."
        raise UsageError(f"{text!r} is no type of a column.", where=where, fix=fix)
    return simple[word]


def _date_written_as(layout: str, where: str) -> Date:
    """Dates in a layout of `strptime`, timed where it holds hours. Raises UsageError for a layout that names no day."""
    try:
        moment = datetime.strptime(AN_AFTERNOON.strftime(layout), layout) if "%" in layout else None
    except (ValueError, re.error):  # the latter for a directive that stands twice
        moment = None
    if moment is None:
        fix = "Write e.g. date:%d/%m/%Y, each part once: %d day, %m month, %b its name, %Y year, %H:%M hours and minutes."
        raise UsageError(f"{layout!r} is no layout of dates.", where=where, fix=fix)
    return Date(layout, timed=bool(moment.hour or moment.minute))


def from_json(record: Mapping[str, Any]) -> ColumnType:
    """The type that `to_json` wrote."""
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items() if name != "type"}
    return TYPES[record["type"]](**fields)
