"""The rows of a CSV text with their lines; where one is broken, that row alone is, and reading goes on behind it.

An open quote swallows what follows up to the next quote, or to the end of the file: such a row is given up, and the line behind the one
where it began is read as a row again.
"""

import csv
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from itertools import islice

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.entries import Broken
from mmtool.preprocessing.readers.row_shapes import looks_like_rows

Cells = Iterator[tuple[int, list[str]] | Broken]  # line number and cells of each row
DAMAGE = re.compile("[\0\udc80-\udcff]")  # `decode("utf-8", "surrogateescape")` makes the latter of bytes that are not UTF-8
csv.field_size_limit(1 << 26)  # characters of a cell, for which Python has 131,072: what an open quote swallows is held in memory
ESCAPED = """Quotes inside are doubled in CSV ("") and not escaped (\\"): sed 's/\\\\"/""/g' in.csv > out.csv changes them."""
SEPARATORS_OF_CHANCE = 8  # so many in the lines of one cell, as many in each as in the header, and the lines are taken for rows

NUM_KNOWN = 50  # rows by which others are known
NUM_JUDGED = 1000  # lines of one cell, the first ones, that are held against them


class Lines:
    """Lines of a text that remember those of the current row, and take back all but its first."""

    def __init__(self, lines: Iterator[str], number: int) -> None:
        """number: of the line before the first one."""
        self._source, self._returned = lines, deque[str]()
        self.number, self.row = number, list[str]()

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        line = self._returned.popleft() if self._returned else next(self._source)
        self.number += 1
        self.row.append(line)
        return line

    @property
    def first(self) -> int:
        """The line where the current row begins."""
        return self.number - len(self.row) + 1

    def peek(self) -> str | None:
        """The line that comes next, None at the end."""
        if not self._returned:
            self._returned.extend(islice(self._source, 1))
        return self._returned[0] if self._returned else None

    def take_back(self) -> None:
        self._returned.extendleft(reversed(self.row[1:]))
        self.number -= len(self.row) - 1
        self.row = self.row[:1]


class CsvRows:
    """Rows of a CSV text, blank lines left out. `expect` says what every row must be like; before, the first one is the header."""

    def __init__(self, text: Iterator[str], where: str, delimiter: str = ",", lines: int = 0) -> None:
        """text: its lines with their ends. lines: of the file before the text."""
        self._where, self._delimiter = where, delimiter
        self._lines = Lines(text, lines)
        self._reader = self._read(self._lines)
        self._header: list[str] | None = None
        self._one_line: list[int] = []
        self._last = deque[list[str]](maxlen=NUM_KNOWN)  # rows that were read

    def expect(self, header: list[str], may_break: Collection[str] | None) -> None:
        """All further rows have a cell for each name of the header, with line breaks in those of `may_break` (None: in any)."""
        self._header = header
        self._one_line = [] if may_break is None else [i for i, name in enumerate(header) if name not in may_break]

    def __iter__(self) -> "CsvRows":
        return self

    def __next__(self) -> tuple[int, list[str]] | Broken:
        while True:
            self._lines.row = []
            try:
                cells = next(self._reader)
            except csv.Error as error:
                escaped = any('\\"' in line for line in self._lines.row)
                return self._give_up(f"the CSV is malformed ({error}).", ESCAPED if escaped else "Export it again.", all_lines=False)
            if cells:
                return self._checked(cells)

    def _checked(self, cells: list[str]) -> tuple[int, list[str]] | Broken:
        row, first = self._lines.row, self._lines.first
        if len(row) > 1 and self._swallowed(cells):
            what = "a quote opens in this row, and the lines behind it look like rows."
            fix = "Close the quote, or double it where it is meant; texts of such lines are read from .jsonl."
            return self._give_up(what, fix, all_lines=False)
        broken = damage(row, self._where, first)
        if broken is None and self._header is not None and len(cells) != len(self._header):
            return self._give_up(*ragged(cells, self._header), all_lines=not self._holds_rows())
        if broken is None and self._header is not None:
            self._last.append(cells)
        return broken or (first, cells)

    def _give_up(self, what: str, fix: str, *, all_lines: bool) -> Broken:
        """The current row as a broken one; its further lines are read again unless `all_lines` are part of it."""
        where = f"{self._where}:{self._lines.first}"
        if not all_lines:
            self._lines.take_back()
            self._reader = self._read(self._lines)
        return Broken(where, DataError(what, where=where, fix=fix))

    def _swallowed(self, cells: list[str]) -> bool:
        """Whether a row of several lines holds others: where no line may break, or its further lines have the cells of a row, in such
        numbers or of such a shape that this is no chance."""
        if self._header is None or len(cells) != len(self._header):
            return False
        inside = self._lines.row[1:-1]
        separators = len(inside) * (len(self._header) - 1)
        rows = separators >= SEPARATORS_OF_CHANCE and all(map(self._is_row, inside))
        broken = [index for index, cell in enumerate(cells) if "\n" in cell or "\r" in cell]
        return rows or any(index in broken for index in self._one_line) or self._looks_like_rows(cells, broken)

    def _looks_like_rows(self, cells: list[str], broken: Collection[int]) -> bool:
        """Whether all further lines have the cells of a row, and most of them look like it in the columns where no line breaks."""
        further: list[list[str]] = []
        for line in self._lines.row[1:]:
            if line.strip():
                row = self._cells_of(line)
                if len(row) != len(cells):
                    return False
                further += [row] if len(further) < NUM_JUDGED else []
        if not further:
            return False
        whole = [index for index in range(len(cells)) if index not in broken]
        return looks_like_rows(further, [cells, *self._last], whole)

    def _holds_rows(self) -> bool:
        """Whether most lines behind the first could be rows."""
        further = self._lines.row[1 : 1 + NUM_JUDGED]
        return 2 * sum(map(self._is_row, further)) > len(further)

    def _is_row(self, line: str) -> bool:
        assert self._header is not None
        return len(self._cells_of(line)) == len(self._header)

    def _cells_of(self, line: str) -> list[str]:
        """The cells of a single line, none where its quotes do not fit."""
        try:
            return [cell.rstrip("\r\n") for cell in next(self._read([line]), [])]
        except csv.Error:
            return []

    def _read(self, lines: Iterable[str]) -> Iterator[list[str]]:
        return csv.reader(lines, strict=True, delimiter=self._delimiter)


def damage(lines: Collection[str], where: str, first: int) -> Broken | None:
    """The first of these lines (`first`: its number) that holds bytes that are not UTF-8, or null bytes; None where none does."""
    for number, line in enumerate(lines, first):
        if line.isascii() and "\0" not in line:  # as most are, in a hundredth of the time
            continue
        if damaged := DAMAGE.search(line):
            what, fix = ("the text is not UTF-8.", "Convert it, e.g. with iconv.")
            if damaged[0] == "\0":
                what, fix = "the line holds null bytes.", "Get the file again."
            return Broken(f"{where}:{number}", DataError(what, where=f"{where}:{number}", fix=fix))
    return None


def ragged(cells: list[str], header: list[str]) -> tuple[str, str]:
    """What is wrong with a row of another length than the header, and what to do."""
    fix = "Mend the row; in a file without header, name the columns with --columns."
    return f"{len(cells)} cells where the header has {len(header)}.", fix
