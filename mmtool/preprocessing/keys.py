"""Which column of a file of rows holds the sample keys: one rule for tables, texts, arrays of images and labels files.

1. The column named with `--key-column`; `none`, where no column is called so, numbers the rows.
2. Else a column with a key's name: `key`, then `id`, then names such as `sample`, `patient_id`, `barcode` or `file_name`, whatever their
   case, `_`, `-`, `.` and blanks. It holds text or integers, one in each row and no two the same. Several of them that this order does
   not rank are an error; an `id` that merely counts the rows ranks with the others.
3. Else the index that pandas or R wrote, unless it merely counts the rows.
4. Else, in tables, the first column where it is not numeric, and in labels files the first one.
5. Else an error; images in arrays, which nothing else names, are numbered.

Keys that are all names of files with an extension of data (`cat.png`) lose it, as the keys of the files themselves do.

In tables, an index and a column with the name of an id that holds text or integers are no features, whether they are keys or not.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmtool.common.errors import DataError
from mmtool.kinds import KINDS
from mmtool.preprocessing.readers.cell_values import one_value
from mmtool.preprocessing.readers.entries import MISSING, NUMBERED, SourceOptions, key_of, name_of, require_column
from mmtool.preprocessing.readers.raw_files import split_name

FILLING = re.compile(r"[_\-. ]")
ID_ENDING = re.compile(r".*([_\-. ][iI][dD]|[a-z]I[dD])", re.DOTALL)
NAMELESS = re.compile(r"\s*|Unnamed: \d+(\.\d+)*")  # the latter where pandas wrote what it had read with an index
FIRST_NAMES = ("key", "id")
ENTITIES = ("sample", "patient", "subject", "participant", "case", "cell", "image", "file")
ID_NAMES = frozenset(
    [*ENTITIES[:4], "barcode", "accession", "filepath", "uid", "uuid", "eid", "mrn"]
    + [f"{entity}{ending}" for entity in ENTITIES for ending in ("id", "name")]
)
EXAMPLE_COLUMNS = 20
WITHOUT_EXTENSIONS = ", without the extensions of file names"
COUNTS_ROWS = "counts the rows"
FILE_FORMATS = frozenset(suffix for kind in KINDS.values() for suffix in kind.suffixes if suffix) | {"txt"}


class KeyColumnError(DataError):
    """The keys of a whole file are unclear: never skipped like a bad sample."""


@dataclass(frozen=True)
class RowSource:
    """Rows to choose keys for. cells: the values of named columns, row by row, None for a row that cannot be read. index: columns that are
    the index of a data frame."""

    where: str
    stem: str
    header: Sequence[str]
    cells: Callable[[Sequence[str]], Iterable[Sequence[Any] | None]]
    index: tuple[str, ...] = ()


@dataclass(frozen=True)
class Keys:
    """What was chosen. column: None where rows are numbered, of which the file has `rows`. ids: other columns that hold ids or an index,
    and why they are no keys. are_files: the keys are names of files, whose extensions are dropped. missing: cells that are no key."""

    where: str
    stem: str
    column: str | None
    rows: int | None = None
    ids: Mapping[str, str] = field(default_factory=dict)
    are_files: bool = False
    missing: frozenset[str] = MISSING

    def of(self, row: Mapping[str, Any], number: int) -> str:
        """The key of a row, empty where its cell is, or says that it is missing (NA): no two such rows are one sample. Raises DataError
        for a cell of several values, or of bytes that are no text."""
        if self.column is None:
            return key_of(self.stem, number)
        name = name_of(one_value(row[self.column], self.column, f"{self.where}, row {number + 1}"))
        return "" if name in self.missing else split_name(name)[0] if self.are_files else name

    @property
    def kind(self) -> str:
        """The choice without the file: what need not be said again of the next file."""
        return " ".join(("row numbers" if self.column is None else _called(self.column), *self.ids))

    def __str__(self) -> str:
        files = WITHOUT_EXTENSIONS if self.are_files else ""
        others = f"; left out: {_listed(self.ids)}" if self.ids else ""
        return f"keys: {'row numbers' if self.column is None else _called(self.column)} of {self.where}{files}{others}"


def nameless_columns(header: Sequence[str]) -> tuple[str, ...]:
    """The leading columns without a name: an index, as pandas and R write it."""
    first = next((place for place, name in enumerate(header) if not NAMELESS.fullmatch(name)), len(header))
    return tuple(header[:first])


def choose_keys(
    source: RowSource,
    options: SourceOptions,
    *,
    apart: Collection[str | None] = (),
    fallback: str | None = None,
    numbered: bool = False,
) -> Keys:
    """The keys by the rule above. apart: columns with another use. fallback: the column of point 4. numbered: number the rows instead of
    raising DataError."""
    by_number = numbers_rows(options, source.header)
    named = None if by_number else options.key_column
    if named is not None:
        require_column(named, list(source.header), source.where, "--key-column")
    taken = {named, options.group_column, *options.label_names.values(), *apart}
    ranks = {name: _rank(name) for name in source.header}
    wanted = [name for name in source.header if name not in taken and (ranks[name] is not None or name in source.index)]
    missing = MISSING | frozenset(map(name_of, options.table.na))
    facts = _look_at(source, wanted, missing)
    column = named if named is not None or by_number else _chosen(source, ranks, facts, fallback)
    ids = {name: fact.reason for name, fact in facts.items() if name != column and (name in source.index or fact.holds_names)}
    if column is None and not (by_number or numbered):
        columns = ", ".join(map(repr, list(source.header)[:EXAMPLE_COLUMNS]))
        why = f"; {_listed(ids)}" if ids else ""
        what = f"no column is known to hold the keys; the columns are: {columns}{why}."
        fix = "Name the one that does with --key-column NAME, or number the rows with --key-column none."
        raise KeyColumnError(what, where=source.where, fix=fix)
    if column is None:
        return Keys(source.where, source.stem, None, sum(1 for _ in source.cells(())), ids)
    fact = facts[column] if column in facts else _look_at(source, [column], missing)[column]
    return Keys(source.where, source.stem, column, None, ids, fact.are_files, missing)


def names_as_keys(names: Iterable[Any]) -> tuple[list[str], bool]:
    """Names of samples as keys, without their extensions where all are names of files of data; and whether they are."""
    facts = _Facts()
    keys = list(map(name_of, names))
    for number, name in enumerate(keys):
        facts.add(number, name)
    return [split_name(key)[0] for key in keys] if facts.are_files else keys, facts.are_files


def has_row_names(header: Sequence[str], cells: Sequence[str]) -> bool:
    """Whether the first row begins with a name that the header lacks (R's write.table), and is not merely one cell too long."""
    if len(cells) != len(header) + 1 or any(map(NAMELESS.fullmatch, header)) or _rank(header[0]) is not None:
        return False
    return bool(cells[-1].strip()) and (cells[0].strip() == "1" or not _is_number(cells[0].strip()))


def numbers_rows(options: SourceOptions, header: Collection[str]) -> bool:
    """Whether the rows are to be numbered: `--key-column none`, unless that is a column's name."""
    return options.key_column == NUMBERED and NUMBERED not in header


class _Facts:
    """What the cells of a column show."""

    def __init__(self, missing: frozenset[str] = MISSING) -> None:
        self.missing = missing
        self.seen: set[str] = set()
        self.repeated: str | None = None
        self.empty: int | None = None  # the first row without a cell
        self.all_numbers = self.all_integers = True
        self.starts: tuple[int, ...] = (0, 1)  # of the counting that the column may be
        self.stems: set[str] | None = set()  # of file names; None where not all cells are some, or two differ in the extension alone

    def add(self, number: int, value: Any) -> None:
        name = name_of(value)
        self.starts = tuple(start for start in self.starts if name == str(number + start))
        if name in self.missing:
            self.empty = number + 1 if self.empty is None else self.empty
            return
        if self.repeated is None and name in self.seen:
            self.repeated = name
            self.seen.clear()
        elif self.repeated is None:
            self.seen.add(name)
        self._add_stem(name)
        if self.all_integers and not name.lstrip("-").isdigit():
            self.all_integers = False
        if self.all_numbers and not self.all_integers:
            self.all_numbers = _is_number(name)

    def _add_stem(self, name: str) -> None:
        if self.stems is not None:
            stem, file_format = split_name(name)
            if file_format in FILE_FORMATS and stem not in self.stems:
                self.stems.add(stem)
            else:
                self.stems = None

    @property
    def are_files(self) -> bool:
        """Whether the cells are names of different files of data."""
        return bool(self.stems)

    @property
    def counts_rows(self) -> bool:
        return bool(self.starts)

    @property
    def holds_names(self) -> bool:
        """Text or integers, not measured values."""
        return self.all_integers or not self.all_numbers

    @property
    def identifies(self) -> bool:
        """Whether its cells can be keys."""
        return self.holds_names and self.repeated is None and self.empty is None

    @property
    def reason(self) -> str:
        """Why it was not chosen."""
        if self.repeated is not None:
            return f"repeats {self.repeated!r}"
        if self.empty is not None:
            return f"has empty cells, the first in row {self.empty}"
        return COUNTS_ROWS if self.counts_rows else "is another id"


def _look_at(source: RowSource, names: Sequence[str], missing: frozenset[str]) -> dict[str, _Facts]:
    facts = {name: _Facts(missing) for name in names}  # in which a name that stands twice does once
    if facts:
        for number, cells in enumerate(source.cells(list(facts))):
            for fact, value in zip(facts.values(), cells or (), strict=cells is not None):
                fact.add(number, value)
    return facts


def _chosen(source: RowSource, ranks: Mapping[str, int | None], facts: Mapping[str, _Facts], fallback: str | None) -> str | None:
    """The column of points 2 to 4. Raises KeyColumnError where several could be meant."""
    named = {name: rank for name in facts if facts[name].identifies and (rank := ranks[name]) is not None}
    lowest = len(FIRST_NAMES)
    ranked = {name: lowest if facts[name].counts_rows and rank == 1 else rank for name, rank in named.items()}
    best = [name for name, rank in ranked.items() if rank == min(ranked.values())]
    if len(best) > 1:
        what = f"several columns may hold the keys: {', '.join(map(_called, best))}."
        raise KeyColumnError(what, where=source.where, fix="Say which one does with --key-column NAME.")
    if best:
        return best[0]
    index = next((name for name in source.index if name in facts and facts[name].identifies and not facts[name].counts_rows), None)
    return fallback if index is None else index


def _rank(name: str) -> int | None:
    """Place of a column's name among those of keys, 0 the first; None where it is none."""
    plain = FILLING.sub("", name).casefold()
    if plain in FIRST_NAMES:
        return FIRST_NAMES.index(plain)
    return len(FIRST_NAMES) if plain in ID_NAMES or ID_ENDING.fullmatch(name) else None


def is_first_name(name: str) -> bool:
    """Whether a column is called `key` or `id`, with whatever signs around."""
    rank = _rank(name)
    return rank is not None and rank < len(FIRST_NAMES)


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return "_" not in name


def _called(name: str) -> str:
    return f"column {name!r}" if name.strip() else "the nameless first column"


def _listed(ids: Mapping[str, str]) -> str:
    return ", ".join(f"{_called(name)} ({reason})" for name, reason in ids.items())
