"""How the text of a table is laid out: where it begins, and what separates its columns. The content decides, not the name of the file."""

import codecs
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mmtool.common.errors import DataError

TAB, COMMA, SEMICOLON, BAR, BLANKS = "\t", ",", ";", "|", " "
DELIMITERS = {"tab": TAB, "comma": COMMA, "semicolon": SEMICOLON, "bar": BAR, "blanks": BLANKS}  # in order of preference
USUAL = {"tsv": TAB, "tab": TAB, "csv": COMMA}  # by format
WORDS = re.compile(r'"(?:[^"]|"")*"|\S+')  # cells between runs of blanks
LOOKED_AT = 20  # lines by which the delimiter is chosen
SERIES_BEGIN = re.compile(r"^![a-z_]*table_begin.*\n", re.MULTILINE | re.IGNORECASE)  # of GEO
SERIES_END = re.compile(r"^![a-z_]*table_end", re.MULTILINE | re.IGNORECASE)
DECLARATION = re.compile(r"sep=([^\r\n])\r?\n", re.IGNORECASE)  # first line of a file by which Excel is told the delimiter
GCT = re.compile(r"#1\.[23]\s*\n[^\n]*\n")  # its version, and a line with the numbers of rows and columns
BYTE_ORDER_MARKS = {  # that of UTF-32 begins with one of UTF-16
    **dict.fromkeys((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE), "utf-32"),
    **dict.fromkeys((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE), "utf-16"),
}
ASSIGNMENT = re.compile(r"=|: ")  # of a comment such as `Rate = 250 Hz, 8 bits`, which is no header
CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")


def is_gct(data: bytes) -> bool:
    """Whether a file is a GCT, by whose definition features lie in rows."""
    return data.startswith((b"#1.2", b"#1.3"))


@dataclass(frozen=True)
class Layout:
    """delimiter: one character, a blank for runs of them. start, stop: of the text that holds header and rows. lines: before it."""

    delimiter: str
    start: int = 0
    stop: int | None = None
    lines: int = 0

    def body(self, text: str) -> str:
        """Header and rows."""
        return text if self.start == 0 and self.stop is None else text[self.start : self.stop]


def declared_layout(text: str) -> Layout | None:
    """The layout of a text whose first line declares its delimiter (`sep=;`), as Excel reads it; None of any other text."""
    declared = DECLARATION.match(text)
    return Layout(declared[1], declared.end(), lines=1) if declared else None


def layout_of(text: str, file_format: str, delimiter: str | None = None, *, decimal: str = ".") -> Layout:
    """The layout of a table with a header.

    Lines in front that begin with `#` are passed over, unless the last of them is the header; of a GEO series matrix or GCT file all that
    is no table. delimiter: the one that is known to be right. decimal: the character between the digits of numbers, which separates none.
    """
    declared = declared_layout(text)
    if declared is not None:
        return replace(declared, delimiter=delimiter or declared.delimiter)
    start, stop = _table_within(text)
    start = behind_comments(text, start, file_format, delimiter, decimal)
    lines = _first_lines(text[start : stop if stop is not None else len(text)] if start or stop else text)
    chosen = delimiter or choose_delimiter(lines, file_format, decimal)
    return Layout(chosen, start, stop, text.count("\n", 0, start))


def choose_delimiter(lines: Sequence[str], file_format: str, decimal: str = ".") -> str:
    """What separates the columns of these first lines: the usual delimiter of the format if they have equally many cells by it, else the
    one by which they have most."""
    candidates = [mark for mark in DELIMITERS.values() if mark != decimal]
    widths = {mark: row_widths(lines, mark) for mark in candidates}
    several = {mark: counts for mark, counts in widths.items() if counts and counts[0] > 1 and (mark != BLANKS or _is_even(counts))}
    even = {mark: counts for mark, counts in several.items() if _is_even(counts)}
    usual = USUAL.get(file_format)
    for fitting in (even, several):
        if usual in fitting:
            return usual
        if marks := [mark for mark in fitting if mark != BLANKS] or list(fitting):
            return max(marks, key=lambda mark: fitting[mark][0])
    return usual or COMMA


def row_widths(lines: Sequence[str], delimiter: str) -> list[int]:
    """Numbers of cells of these lines, blank ones left out."""
    if delimiter == BLANKS:
        rows = [WORDS.findall(line) for line in lines]
    elif delimiter == TAB:
        rows = [line.split(TAB) if line.strip() else [] for line in lines]
    else:
        rows = _quoted(lines, delimiter)
    return [len(row) for row in rows if row]


def _quoted(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """All rows but a last one that is cut within quotes."""
    rows = list(csv.reader([f"{line}\n" for line in lines], delimiter=delimiter))
    return rows[:-1] if len(rows) > 1 and "\n" in "".join(rows[-1]) else rows


def looks_delimited(head: bytes, named: bool) -> bool:
    """Whether the first bytes of a file are text in columns. named: the file was given by its name, so any text will do."""
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if head.startswith(mark)), None)
    if encoding is None and CONTROL.search(head):
        return False
    text = head.decode(encoding or "utf-8-sig", "replace")
    if named or SERIES_BEGIN.search(text):
        return True
    lines = _first_lines(text[layout_of(text, "").start :])
    even = [mark for mark in DELIMITERS.values() if _is_even(row_widths(lines, mark))]
    return bool(even) and (even != [BLANKS] or _has_number(lines[1], BLANKS))


def _is_even(widths: Sequence[int]) -> bool:
    """Whether a header of several cells and at least one row have equally many; all rows may have one more, as R writes row names."""
    return len(widths) > 1 and widths[0] > 1 and len(set(widths[1:])) == 1 and widths[1] - widths[0] in (0, 1)


def _table_within(text: str) -> tuple[int, int | None]:
    """Where the table of a GEO series matrix or GCT file starts and stops; all of any other text."""
    if text.startswith(("!", "^")) and (begin := SERIES_BEGIN.search(text)):
        end = SERIES_END.search(text, begin.end())
        return begin.end(), end.start() if end else None
    gct = GCT.match(text)
    return gct.end() if gct else 0, None


def end_of_comments(text: str, start: int, marks: tuple[str, ...]) -> tuple[int, int]:
    """Where the last line begins that a mark of comments begins, of those at the start, and where the text behind them does. Blank lines
    between comments are passed over."""
    last, place = start, start
    comment = re.compile(rf"(?:[^\S\n]*\n)*(?={'|'.join(marks)})")
    while found := comment.match(text, place):
        end = text.find("\n", found.end())
        if end < 0:
            return start, start
        last, place = found.end(), end + 1
    return last, place


def behind_comments(text: str, start: int, file_format: str, delimiter: str | None, decimal: str) -> int:
    """Where the header starts: behind lines that begin with `#`, or behind that mark in the last one where it names the columns. Raises
    DataError where that is another one, or where several may."""
    last, place = end_of_comments(text, start, ("#",))
    if place == start:
        return start
    comments = [line.lstrip()[1:] for line in text[start:place].splitlines() if line.strip()]
    row = next(iter(_first_lines(text[place : text.find("\n", place) + 1 or len(text)])), "")
    mark = delimiter or choose_delimiter([comments[-1], row], file_format, decimal)
    (width,) = row_widths([row], mark) or [1]
    if width == 1 or not _has_number(row, mark):
        return place
    headers = [
        line for line in comments if not ASSIGNMENT.search(line) and row_widths([line], mark) == [width] and not _has_number(line, mark)
    ]
    if not headers:
        return place
    if headers != comments[-1:]:
        named = " and ".join(repr(f"#{line}") for line in headers[:2])
        what = f"it is unclear which line names the columns: {named} {'may' if len(headers) > 1 else 'may, but other comments follow'}."
        raise DataError(what, fix="Delete the # of the line that does, and leave it the last one above the rows.")
    return last + 1


def _has_number(line: str, delimiter: str) -> bool:
    """Whether a cell behind the first one is a number, so that the line is no header."""
    cells = line.split(None if delimiter == BLANKS else delimiter)[1:]
    return any(re.fullmatch(r'\s*"?-?[\d.,]+([eE][+-]?\d+)?"?\s*', cell) for cell in cells)


def _first_lines(text: str) -> list[str]:
    """The first lines that hold something."""
    lines: list[str] = []
    offset = 0
    while len(lines) < LOOKED_AT and offset < len(text):
        end = text.find("\n", offset)
        end = len(text) if end < 0 else end
        line = text[offset:end].removesuffix("\r")
        lines += [line] if line.strip() else []
        offset = end + 1
    return lines
