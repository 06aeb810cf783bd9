"""Cells of tables as numbers, as people and programs write them: missing and censored values, decimal commas, thousands, truth values."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mmtool.preprocessing.readers.entries import MISSING, name_of
from mmtool.preprocessing.readers.table_options import THOUSANDS, TableOptions

MISSING_NUMBERS = MISSING | {"None", "none", "NONE", "na", "n.a.", "N.A.", "nil", "-", "--", "'--", "---", ".", "?"}
TRUTH = frozenset(("TRUE", "True", "true", "FALSE", "False", "false"))
LIMITS = r"LLO[DQ]|ULO[DQ]|LO[DQ]|MDL|DL|BDL|BLO?[DQ]|ALQ"  # of detection and quantification
CENSORED = re.compile(
    rf"(?:(?:<=?|>=?|≤|≥|&[lg]t;)\s*(?P<bound>[-+]?[\d.,]+(?:[eE][-+]?\d+)?|{LIMITS})|{LIMITS})", re.IGNORECASE | re.ASCII
)
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)  # digits of other scripts are none of a program, and may be text
STRANGE = re.compile(r"[-+]?(inf(inity)?|0x[0-9a-f]+|\d+(_\d+)+)", re.IGNORECASE | re.ASCII)  # as programs write numbers
COMMA_WITHIN = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Numbers:
    """Reads cells as numbers. na: further spellings of a missing value; for the others see `TableOptions`."""

    na: frozenset[str] = frozenset()
    censored: Literal["missing", "bound"] | None = None
    decimal: Literal[".", ","] = "."
    thousands: bool = False

    @classmethod
    def of(cls, options: TableOptions) -> "Numbers":
        return cls(frozenset(map(name_of, options.na)), options.censored, options.decimal, options.thousands)

    def row(self, cells: Sequence[Any]) -> Sequence[float | None]:
        """Cells as numbers, NaN where they are missing, None where they are something else."""
        return self._plain(cells) or [self.number(cell) for cell in cells]

    def number(self, cell: Any) -> float | None:
        """One cell, as in `row`."""
        if self.na and name_of(cell) in self.na:
            return math.nan
        if not isinstance(cell, str):
            return _finite(cell)
        text = cell.strip()
        if text in MISSING_NUMBERS:
            return math.nan
        if text in TRUTH:  # of a column of truth values, not of numbers
            return None
        censored = CENSORED.fullmatch(text)
        if censored is not None and self.censored is not None:
            return math.nan if self.censored == "missing" else self._written(censored["bound"] or "")
        return self._written(text)

    def are_plain(self, cells: Sequence[Any]) -> bool:
        """Whether all of them are numbers that need no second look."""
        return self._plain(cells) is not None

    def may_be(self, cell: Any) -> bool:
        """Whether a filled cell is a number, or is meant to be one: censored, infinite, or written in a way that options explain."""
        if isinstance(cell, bool) or (isinstance(cell, str) and cell.strip() in TRUTH):
            return False
        if self.number(cell) is not None or isinstance(cell, float):
            return True
        text = str(cell).strip()
        return any(pattern.fullmatch(text) for pattern in (NUMBER, CENSORED, STRANGE, COMMA_WITHIN, *THOUSANDS.values()))

    def problem(self, cell: Any) -> tuple[str, str]:
        """What is wrong with a cell that is no number, and what to do."""
        text = str(cell).strip()
        if CENSORED.fullmatch(text):
            bound = " It names no number to take as its bound." if self.censored == "bound" else ""
            return f"a censored value.{bound}", "Add --censored missing, or --censored bound where the cells name one."
        if self.decimal == "," and NUMBER.fullmatch(text):
            fix = "Add --thousands where 1.234 is more than a thousand, or leave --decimal out."
            return "which has a point where the decimal mark is a comma.", fix
        if any(pattern.fullmatch(text) for pattern in (*THOUSANDS.values(), COMMA_WITHIN)):
            fix = "Add --thousands where 1,234 is more than a thousand, or --decimal , where it is between one and two."
            return "which may be read in two ways.", fix
        fix = "Correct it, say with --na that it is a missing value, or what the column holds with --column-type, --label or --key-column."
        return "which is no finite number.", fix

    def _plain(self, cells: Sequence[Any]) -> list[float] | None:
        """The fast way for rows that hold nothing but numbers (7 million cells: 0.9 s instead of 2.1), None for all others."""
        if self.na or self.decimal != ".":
            return None
        try:
            text = ",".join(cells)
            values = list(map(float, cells)) if "_" not in text and text.isascii() else None
        except (ValueError, TypeError):
            return None
        return values if values is not None and math.inf not in values and -math.inf not in values else None

    def _written(self, text: str) -> float | None:
        """A number in the digits of these options, None for anything else."""
        mark = "," if self.decimal == "." else "."
        if self.thousands and THOUSANDS[self.decimal].fullmatch(text):
            text = text.replace(mark, "")
        if self.decimal == ",":
            if "." in text:
                return None
            text = text.replace(",", ".")
        return _finite(text) if NUMBER.fullmatch(text) else None


def _finite(value: Any) -> float | None:
    """A value as a number, NaN where it is none, None where it is infinite or something else."""
    if value is None:
        return math.nan
    if isinstance(value, bytes):
        return None
    try:
        number = float(value)
    except (ValueError, TypeError):
        return None
    return None if math.isinf(number) else number
