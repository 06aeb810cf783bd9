"""What stands above the samples of a series in CSV or TSV: comments, of which one may be the header and one may hold units, and lines
that are neither."""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.cell_values import shown
from mmtool.preprocessing.readers.delimited import ASSIGNMENT, BLANKS, WORDS
from mmtool.preprocessing.readers.entries import MISSING, SourceOptions
from mmtool.preprocessing.readers.numbers import Numbers
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.records import SEPARATORS, plain_layout
from mmtool.preprocessing.readers.signal_names import OF_TIME, counts, is_time, words
from mmtool.preprocessing.readers.text_streams import lines_of, open_text

COMMENTS = ("%", "#", "//")
MARK = re.compile(r"\s*(%|#|//)[%#/]*\s*")
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


class Heading(NamedTuple):
    """names: of the columns (none: they are not in a comment). units: of a line of comments, None: there is none."""

    names: tuple[str, ...] = ()
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
        return any(self.cells) and all(UNIT.fullmatch(cell) for cell in self.cells)

    @property
    def names_times(self) -> bool:
        """Whether it names a column of times or of row numbers, and no column twice."""
        return len(set(self.cells)) == len(self.cells) and any(map(names_time, self.cells))


def names_time(cell: str) -> bool:
    """Whether a cell is the name of times or row numbers, and no mere unit."""
    return bool(cell) and ((is_time(cell) and not OF_TIME.isdisjoint(words(cell))) or counts(cell))


def heading_of(file: RawFile, options: SourceOptions) -> Heading:
    """The names and units that stand in comments, of a file whose columns the options do not name. Raises DataError where it is unclear
    which comment is the header, and for lines above the table that are no comments."""
    comments, below = _lines_above(file, options)
    _check_table_begins(below, file.where)
    if options.columns or not comments or not below:
        return Heading()
    numbers = Numbers.of(options.table)
    rows = [_has_number(line.cells, numbers) for line in below[:2]]
    above = [] if rows[0] else below[:1]
    if above and rows[1:] != [True]:
        return Heading()
    lines = [*_as_wide(comments, len(below[0].cells)), *above]
    return _chosen(lines, file.where) if lines else Heading()


def _chosen(lines: Sequence[_Line], where: str) -> Heading:
    """The heading of lines that may be one: comments, and a last one that is none where the table has no numbers in its first line."""
    others = [line for line in lines if not line.are_units]
    naming = [line for line in others if line.names_times]
    usual = next((line for line in lines if not line.is_comment), None)
    header = next((line for some in (naming, others) if len(some) == 1 for line in some), usual)
    if header is None:
        listed = " or ".join(f"line {line.number} ({shown(line.text)})" for line in lines)
        what = f"it is unclear which comment names the columns: {listed}." if others else f"{listed} holds units, and no line holds names."
        raise DataError(what, where=where, fix="Name them with --columns, or write the header without a mark of comments.")
    units = next((line for line in lines if line.is_comment and line.are_units and line is not header), None)
    names = tuple(header.cells) if header.is_comment else ()
    return Heading(names, None if units is None else (units.number, units.cells))


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
    first, table = lines[0], lines[start]
    what = f"the line {shown(first.text)} is no header: the columns begin in line {table.number}, {shown(table.text)}."
    fix = f"Remove what stands above it (tail -n +{table.number}), or begin those lines with #."
    raise DataError(what, where=f"{where}:{first.number}", fix=fix)


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
