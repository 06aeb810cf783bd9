"""What stands above the samples of a series in CSV or TSV: comments, of which one may be the header and one may hold units, and lines
that are neither."""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import dropwhile, islice
from typing import NamedTuple

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.cell_values import shown
from mmtool.preprocessing.readers.delimited import ASSIGNMENT, BLANKS, WORDS
from mmtool.preprocessing.readers.entries import MISSING, SourceOptions
from mmtool.preprocessing.readers.numbers import COMMA_WITHIN, NUMBER, Numbers
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.records import SEPARATORS, plain_layout
from mmtool.preprocessing.readers.signal_names import OF_TIME, SECONDS, counts, is_time, is_unit_of_time, may_be_time, unit_of, words
from mmtool.preprocessing.readers.signal_times import is_moment
from mmtool.preprocessing.readers.text_streams import lines_of, open_text

COMMENTS = ("%", "#", "//")
MARK = re.compile(r"\s*(%|#|//)[%#/]*\s*(units?\s*[:=]\s*)?", re.IGNORECASE)
LOOKED_AT = 50  # lines below the comments by which it is seen where the table begins
LEAST_ALIKE = 2  # lines with as many cells each that make a table
PART = (
    r"([munpkMdc\N{MICRO SIGN}\N{GREEK SMALL LETTER MU}]?(s|V|A|g|m|Hz|Pa|N|W|T|S|bar|rad|mol|l|L|ohm|eV)|sec|min|h|deg)"
    r"(\^?-?[1-4\N{SUPERSCRIPT TWO}])?"
)
UNIT = re.compile(
    rf"[\[(]?({PART}([/*. ]{PART})*|1/{PART}|"
    r"seconds|volts?|bpm|rpm|mmHg|%|dps|gauss|lux|dB|counts?|\N{DEGREE SIGN}?[CFK]|\N{DEGREE SIGN}(/s)?|a\.?u\.?|none|-|"
    r"hh:mm:ss(\.m+)?|mm:ss|)[\])]?"
)
NO_UNIT = ("", "-", "none", "None")
ALSO_NAMES = ("min", "d", "h")  # units of time by which channels are called as well


class Heading(NamedTuple):
    """names: of the columns (none: they are not in a comment), and the number of their line. units: of a line of comments, None: there is
    none."""

    names: tuple[str, ...] = ()
    line: int = 0
    units: tuple[int, list[str]] | None = None


class _Line(NamedTuple):
    """A line of a file: its number, what it holds, and its cells without blanks around them. is_comment: it began with a mark, which is
    left out."""

    number: int
    text: str
    cells: list[str]
    is_comment: bool

    @property
    def are_units(self) -> bool:
        """Whether all cells are known units, or one of a comment is a unit of time."""
        are_known = any(self.cells) and all(UNIT.fullmatch(cell) for cell in self.cells)
        return are_known or (self.is_comment and any(map(_is_sure, self.cells)))

    def are_units_of(self, names: Sequence[str]) -> bool:
        """Whether a comment below or above a header of these names holds units, some of which may be unknown."""
        known = any(UNIT.fullmatch(cell) and cell not in NO_UNIT for cell in self.cells)
        times = [cell for cell, name in zip(self.cells, names, strict=True) if is_time(name) or may_be_time(name)]
        return known or self.are_units or any(unit_of(cell) is not None and (is_unit_of_time(cell) or is_time(cell)) for cell in times)

    @property
    def tells_unit(self) -> bool:
        """Whether it is a comment about the unit of times alone: `unit: ms`, `times in ms`."""
        parts = words(self.text)
        about_times = not OF_TIME.isdisjoint(parts) and unit_of(self.text) is not None and parts[-1] in SECONDS
        return len(self.cells) == 1 and len(parts) <= 3 and (_is_sure(self.text) or about_times)

    @property
    def holds_values(self) -> bool:
        """Whether a cell is a number, a date or a time of day, and none names times."""
        return not self.names_times and any(NUMBER.fullmatch(cell) or is_moment(cell, "") for cell in self.cells)

    @property
    def names_times(self) -> bool:
        """Whether it names a column of times or of row numbers, and no column twice."""
        return len(set(self.cells)) == len(self.cells) and any(map(names_time, self.cells))


def names_time(cell: str) -> bool:
    """Whether a cell is the name of times or row numbers, and no mere unit."""
    return bool(cell) and ((is_time(cell) and not OF_TIME.isdisjoint(words(cell))) or counts(cell))


def heading_of(file: RawFile, options: SourceOptions) -> Heading:
    """The names and units that stand in comments; names only where the options give none. Raises DataError where it is unclear which
    comment holds them, and for lines above the table that are no comments."""
    comments, below = _lines_above(file, options)
    if not options.columns:
        below = list(dropwhile(lambda line: not any(line.cells), below))
        _check_single_column(below, file.where)
    _check_table_begins(below, file.where)
    if not comments or not below:
        return Heading()
    if options.columns:
        return Heading(units=_units(comments, options.columns, file.where))
    numbers = Numbers.of(options.table)
    rows = [_has_number(line.cells, numbers) for line in below[:2]]
    above = [] if rows[0] else below[:1]
    if above and rows[1:] != [True]:
        return Heading()
    lines = [line for line in _as_wide(comments, len(below[0].cells)) if not line.holds_values] + above
    if not lines:
        return Heading()
    header = _header(lines, file.where)
    units = _units([line for line in comments if line is not header], header.cells, file.where)
    return Heading(tuple(header.cells), header.number, units) if header.is_comment else Heading(units=units)


def _header(lines: Sequence[_Line], where: str) -> _Line:
    """The header among lines that may be one: comments, and a last one that is none where the table has no numbers in its first line."""
    others = [line for line in lines if not line.are_units]
    naming = [line for line in others if line.names_times]
    usual = next((line for line in lines if not line.is_comment), None)
    header = next((line for some in (naming, others) if len(some) == 1 for line in some), usual)
    if header is None:
        listed = _listed(lines)
        what = f"it is unclear which comment names the columns: {listed}." if others else f"{listed} holds units, and no line holds names."
        raise DataError(what, where=where, fix="Name them with --columns, or write the header without a mark of comments.")
    return header


def _units(comments: Sequence[_Line], names: Sequence[str], where: str) -> tuple[int, list[str]] | None:
    """The number and the cells of the comment that holds the units of columns of these names."""
    lines = [line for line in comments if len(line.cells) == len(names) > 1 and line.are_units_of(names)]
    if any(line.cells != lines[0].cells for line in lines):
        fix = "Remove all but one, or put the units into the names, as in time_ms."
        raise DataError(f"it is unclear which comment holds the units: {_listed(lines)}.", where=where, fix=fix)
    if lines:
        return lines[0].number, lines[0].cells
    told = next((line for line in comments if len(names) > 1 and line.tells_unit), None)
    return told and (told.number, [told.text if is_time(name) or may_be_time(name) else "" for name in names])


def _listed(lines: Sequence[_Line]) -> str:
    return " or ".join(f"line {line.number} ({shown(line.text)})" for line in lines)


def _is_sure(cell: str) -> bool:
    """Whether a cell is a unit of time, and no likely name of a channel."""
    return is_unit_of_time(cell) and words(cell)[0] not in ALSO_NAMES


def _as_wide(comments: Sequence[_Line], width: int) -> list[_Line]:
    """The last comments with so many cells, which must be several."""
    fitting: list[_Line] = []
    for line in reversed(comments):
        if len(line.cells) != width or width < 2 or ASSIGNMENT.search(line.text):
            break
        fitting.insert(0, line)
    return fitting


def _check_table_begins(lines: Sequence[_Line], where: str) -> None:
    """Raise DataError for lines in front of a table that have fewer cells than all of its own."""
    if any(line.text.count('"') % 2 for line in lines):  # cells with line breaks
        return
    width = len(lines[-1].cells) if lines else 0
    above = [len(line.cells) != width or line.cells[0].endswith("=") for line in lines]  # ChannelTitle=, as LabChart writes
    start = next((index for index in range(len(lines), 0, -1) if above[index - 1]), 0)
    if not start or len(lines) - start < LEAST_ALIKE or not all(above[:start]) or any(len(line.cells) > width for line in lines[:start]):
        return
    if any(mark in lines[start - 1].text for mark in SEPARATORS) and len(lines[start - 1].cells) == 1:  # of columns that others separate
        return
    if start == 1 and 1 < len(lines[0].cells) == width - 1 and not ASSIGNMENT.search(lines[0].text):  # rows with names, as R writes them
        return
    plain = Numbers()
    if _has_number(lines[start].cells, plain):  # a line of settings as wide as the table by chance
        start = next((index for index in range(start, len(lines) - 1) if not _has_number(lines[index].cells, plain)), start)
    first, table = lines[0], lines[start]
    what = f"the line {shown(first.text)} is no header: the columns begin in line {table.number}, {shown(table.text)}."
    fix = f"Remove what stands above it (tail -n +{table.number}), or begin those lines with #."
    raise DataError(what, where=f"{where}:{first.number}", fix=fix)


def _check_single_column(lines: Sequence[_Line], where: str) -> None:
    """Raise DataError for numbers with decimal commas below a single name, which commas would part."""
    if len(lines) > 1 and len(lines[0].cells) == 1 and all(len(x.cells) == 2 and COMMA_WITHIN.fullmatch(x.text) for x in lines[1:]):
        what = f"below the single name {shown(lines[0].text)} stands {shown(lines[1].text)}, which commas part in two."
        fix = f"Add --decimal , --delimiter ';' if it is one number, or remove line {lines[0].number} if these are two columns."
        raise DataError(what, where=f"{where}:{lines[1].number}", fix=fix)


def _lines_above(file: RawFile, options: SourceOptions) -> tuple[list[_Line], list[_Line]]:
    """The comments at the start of a file, and the first lines behind them; blank lines are left out."""
    layout = plain_layout(file, options.table.delimiter, COMMENTS)
    with open_text(file) as text:
        comments = text.read(layout.start).splitlines()
        below = list(islice(lines_of(text, file.where), LOOKED_AT))
    marked = [(number, MARK.sub("", line, count=1), True) for number, line in enumerate(comments, 1)]
    plain = [(number, line, False) for number, line in enumerate(below, layout.lines + 1)]
    found = [list(_split(lines, layout.delimiter)) for lines in (marked, plain)]
    return found[0], found[1]


def _split(lines: Sequence[tuple[int, str, bool]], delimiter: str) -> Iterator[_Line]:
    for number, line, is_comment in lines:
        text = line.strip("\r\n").replace("\r", " ")
        cells = WORDS.findall(text) if delimiter == BLANKS else next(csv.reader([text], delimiter=delimiter), [])
        if cells:
            yield _Line(number, text.strip(), [cell.strip() for cell in cells], is_comment)


def _has_number(cells: Sequence[str], numbers: Numbers) -> bool:
    """Whether a cell is a number, so that the line is no header."""
    return any(cell not in MISSING and numbers.number(cell) is not None for cell in cells)
