"""What the cells of rows look like: whether a line within a quoted cell is text, or a row that a stray quote has swallowed."""

import re
from collections.abc import Sequence

CLASSES = ((re.compile(r"\d+"), "0"), (re.compile(r"[^\W\d_A-Z]+"), "a"), (re.compile(r"[A-Z]+"), "A"))
NUMBERED = re.compile(r"(.*?)(\d{1,18})(\D*)", re.ASCII)  # a cell with its last number apart
LEAST_CODE = 8  # characters from which on keys of one length are taken for codes (UUIDs), whatever their digits and letters


def shape(cell: str) -> str:
    """A cell with its runs of digits, small and capital letters as one character each: `TCGA-12ab` is `A-0a`."""
    for pattern, character in CLASSES:
        cell = pattern.sub(character, cell)
    return cell


def looks_like_rows(lines: Sequence[Sequence[str]], known: Sequence[Sequence[str]], columns: Sequence[int]) -> bool:
    """Whether most of some lines (the cells of each) look like the known rows, in most of these columns."""
    if not columns:
        return True
    fitting = sum(2 * sum(_fits(cells[column], [row[column] for row in known]) for column in columns) > len(columns) for cells in lines)
    return 2 * fitting > len(lines)


def surely_rows(cells: Sequence[str], known: Sequence[str]) -> bool:
    """Whether the cells of one column are surely those of rows: codes of one length as in the known rows, or names that count from row to
    row (`img_7`, `img_8`). Words and other numbers may be parts of any text."""
    return all(_is_code(cell) and _fits(cell, known) for cell in cells) or _count(cells)


def _is_code(cell: str) -> bool:
    return len(cell) >= LEAST_CODE and any(map(str.isdigit, cell)) and any(map(str.isalpha, cell)) and " " not in cell


def _count(cells: Sequence[str]) -> bool:
    """Whether these are equal but for a number, which grows by one from cell to cell."""
    parts = [NUMBERED.fullmatch(cell) for cell in cells]
    around = {(part[1], part[3]) for part in parts if part}
    numbers = [int(part[2]) for part in parts if part]
    return len(numbers) == len(cells) and len(around) == 1 and numbers == [*range(numbers[0], numbers[0] + len(cells))]


def _fits(cell: str, known: Sequence[str]) -> bool:
    """Whether a cell may be another one of those in its column."""
    lengths = [len(other) for other in known]
    least, most = min(lengths), max(lengths)
    if least == most >= LEAST_CODE and len(cell) == least and " " not in cell:
        return True
    return least - 1 <= len(cell) <= most + 1 and shape(cell) in set(map(shape, known))
