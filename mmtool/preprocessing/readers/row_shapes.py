"""What the cells of rows look like: whether a line within a quoted cell is text, or a row that a stray quote has swallowed."""

import re
from collections.abc import Sequence

CLASSES = ((re.compile(r"\d+"), "0"), (re.compile(r"[^\W\d_A-Z]+"), "a"), (re.compile(r"[A-Z]+"), "A"))
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


def surely_rows(lines: Sequence[Sequence[str]], known: Sequence[Sequence[str]], columns: Sequence[int]) -> bool:
    """Whether all of some lines look like the known rows in one of these columns, by codes or numbers: words may be parts of any text."""
    of_columns = ([cells[column] for cells in lines] for column in columns)
    known_cells = [[row[column] for row in known] for column in columns]
    return any(
        all(any(map(str.isdigit, cell)) and _fits(cell, of_known) for cell in cells)
        for cells, of_known in zip(of_columns, known_cells, strict=True)
    )


def _fits(cell: str, known: Sequence[str]) -> bool:
    """Whether a cell may be another one of those in its column."""
    lengths = [len(other) for other in known]
    least, most = min(lengths), max(lengths)
    if least == most >= LEAST_CODE and len(cell) == least and " " not in cell:
        return True
    return least - 1 <= len(cell) <= most + 1 and shape(cell) in set(map(shape, known))
