"""The rows of a text of which every line is one: columns between tabs, or between runs of blanks.

Text collections in TSV hold stray quotes, so only a cell that is quoted as a whole is unquoted. But spreadsheets and pandas quote cells
with line breaks. Where a quote opens in a row and a later line closes it, the lines may be one row or several: they are refused together,
unless the keys of the lines tell that they are rows.
"""

import csv
import re
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from itertools import chain, islice

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.csv_rows import NUM_JUDGED, NUM_KNOWN, Lines, damage, ragged
from mmtool.preprocessing.readers.delimited import BLANKS, WORDS
from mmtool.preprocessing.readers.entries import Broken
from mmtool.preprocessing.readers.row_shapes import surely_rows

OPEN = re.compile(r'"(?:[^"]|"")*')  # a cell that begins with a quote and does not close it
WHOLE = re.compile(r'"(?:[^"]|"")*"')  # a cell in quotes
AS_TEXT = "sep='\\t', dtype=str, keep_default_na=False"
LINE_BREAKS = f"write a CSV, where cells may hold them: pandas.read_csv(file, {AS_TEXT}).to_csv('out.csv', index=False)"
STRAY = f"if each line is a row, pandas.read_csv(file, {AS_TEXT}, quoting=3).to_csv('out.csv', index=False)"
OPEN_BEFORE = f"The row before opens a quote: if cells hold line breaks, {LINE_BREAKS}."
ONE_OR_SEVERAL = f"If cells hold line breaks, {LINE_BREAKS}; {STRAY}."


class LineRows:
    """Rows of a text, empty lines left out. `expect` says how many cells each must have; before, the first one is the header."""

    def __init__(self, text: Iterator[str], where: str, delimiter: str, lines: int = 0) -> None:
        """text: its lines with their ends. delimiter: one character, a blank for runs of them. lines: of the file before the text."""
        self._where, self._delimiter = where, delimiter
        self._lines = Lines(text, lines)
        self._header: list[str] | None = None
        self._last = deque[list[str]](maxlen=NUM_KNOWN)  # rows that were read
        self._is_open = False  # a quote, since an earlier row
        self._split: Callable[[str], list[str]] = WORDS.findall if delimiter == BLANKS else partial(str.split, sep=delimiter)

    def expect(self, header: list[str], may_break: Collection[str] | None) -> None:
        """All further rows have a cell for each name of the header. may_break: has no meaning here, where no cell may."""
        self._header = header

    def __iter__(self) -> "LineRows":
        return self

    def __next__(self) -> tuple[int, list[str]] | Broken:
        while True:
            self._lines.row = []
            line = _without_end(next(self._lines))
            if not self._is_blank(line):
                return damage([line], self._where, self._lines.number) or self._checked(line)

    def _is_blank(self, line: str) -> bool:
        return not (line.strip() if self._delimiter == BLANKS else line)

    def _checked(self, line: str) -> tuple[int, list[str]] | Broken:
        number, cells = self._lines.number, self._split(line)
        if self._header is None:
            return number, list(map(_unquoted, cells))
        opens = '"' in line and any(cell.startswith('"') and not WHOLE.fullmatch(cell) for cell in cells)
        broken = self._broken_quote(cells) if opens else None
        if broken is None and len(cells) != len(self._header):
            what, fix = ragged(cells, self._header)
            broken = self._broken(what, OPEN_BEFORE if self._is_open else fix)
        self._is_open = (opens and len(self._lines.row) == 1) or (self._is_open and '"' not in line)
        if broken is not None:
            return broken
        self._last.append(cells)
        return number, list(map(_unquoted, cells))

    def _broken_quote(self, cells: list[str]) -> Broken | None:
        """This row with all lines up to the one that closes its quote, or this row alone where the next line is no row; None for a stray
        quote."""
        whole = self._quoted_row()
        lines = self._lines.row
        if whole and not self._are_rows(lines, whole):
            what = f"a quote opens in this row and closes in line {self._lines.number}: this is one row or several."
            return self._broken(what, ONE_OR_SEVERAL)
        self._lines.take_back()
        if self._header is None or len(cells) != len(self._header) or not self._goes_on(cells):
            return None
        return self._broken("a quote opens in this row, and the next line has another number of cells.", ONE_OR_SEVERAL)

    def _broken(self, what: str, fix: str) -> Broken:
        where = f"{self._where}:{self._lines.first}"
        return Broken(where, DataError(what, where=where, fix=fix))

    def _quoted_row(self) -> list[str]:
        """The cells of this and further lines, read with their quotes as in CSV; none where they make no row of as many cells."""
        if self._delimiter == BLANKS:
            return []
        lines = chain(self._lines.row[:1], islice(self._lines, NUM_JUDGED))
        try:
            cells = next(csv.reader(lines, strict=True, delimiter=self._delimiter), [])
        except csv.Error:
            return []
        return cells if self._header is not None and len(cells) == len(self._header) and len(self._lines.row) > 1 else []

    def _are_rows(self, lines: Sequence[str], whole: Sequence[str]) -> bool:
        """Whether lines have the cells of rows, and those of a column where `whole`, the row that they may be, has no line break go on
        from the row before to the one behind."""
        rows = [self._split(_without_end(line)) for line in lines if line.strip()]
        behind = self._lines.peek()
        around = [*islice(reversed(self._last), 1), *rows, *([self._split(_without_end(behind))] if behind and behind.strip() else [])]
        if any(len(row) != len(whole) for row in around):
            return False
        known = self._last or rows[:1]
        columns = (place for place, cell in enumerate(whole) if "\n" not in cell)
        return any(surely_rows([row[place] for row in around], [row[place] for row in known]) for place in columns)

    def _goes_on(self, cells: Sequence[str]) -> bool:
        """Whether the next line has another number of cells than a row, and may be the rest of a cell that begins with a quote."""
        line = self._lines.peek()
        further = self._split(_without_end(line)) if line is not None and line.strip() else cells
        return len(further) != len(cells) and (any(map(OPEN.fullmatch, cells)) or any(cell.endswith('"') for cell in further))


def _without_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _unquoted(cell: str) -> str:
    inner = cell[1:-1].replace('""', "")
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner
    return cell[1:-1].replace('""', '"') if quoted else cell
