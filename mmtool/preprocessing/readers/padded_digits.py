"""Digits behind a zero, as in the postal code 02134: whether they make a column one of codes. One rule for tables and labels.

Spellings are counted, and each of them once: a code of missing values such as -9 may stand in more cells than all others together.

1. Where no cell speaks for numbers, all are codes. Numbers with fractions, negative ones, and digits fewer than those behind a zero do.
2. Where there are more numbers of other forms than digits of the padded width, a zero in front is a habit of writing numbers.
3. Else it is unclear. Negative integers never count as numbers here: they often stand for missing values.
"""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

NEGATIVE = re.compile(r"-\d+([.,]0*)?", re.ASCII)
MAX_SPELLINGS = 10_000  # of unpadded numbers that are kept
MAX_MISSING = 3  # numbers that may stand for missing values


def is_padded(text: str) -> bool:
    """Whether a text is digits behind a zero."""
    return len(text) > 1 and text[0] == "0" and _is_digits(text)


@dataclass
class Spellings:
    """How the numbers of a column are written: each spelling, with an example of whoever gathers them."""

    digits: dict[str, Any] = field(default_factory=dict)
    negatives: dict[str, Any] = field(default_factory=dict)
    amounts: dict[str, Any] = field(default_factory=dict)

    def add(self, number: str, example: Any = None) -> None:
        """Take in a number as it is written."""
        kind = self.digits if _is_digits(number) else self.negatives if NEGATIVE.fullmatch(number) else self.amounts
        if len(kind) < MAX_SPELLINGS or is_padded(number):
            kind.setdefault(number, example)

    @property
    def padded(self) -> dict[str, Any]:
        """Digits behind a zero."""
        return _those(self.digits, filter(is_padded, self.digits))

    @property
    def contrary(self) -> dict[str, Any]:
        """What no column of codes holds: numbers of more than digits, and digits that should have zeros in front."""
        return {**self.amounts, **self.negatives, **self._shorter}

    @property
    def options(self) -> str:
        """What would say that the numbers which may stand for missing values do; empty where there are none, or many."""
        texts = {**self.negatives, **self._shorter}
        return " ".join(f"--na {shlex.quote(text)}" for text in texts) if len(texts) <= MAX_MISSING else ""

    @property
    def verdict(self) -> Literal["numbers", "codes", "unclear"]:
        """What the column holds."""
        if not self.padded:
            return "numbers"
        if not self.contrary:
            return "codes"
        widths = set(map(len, self.padded))
        num_codes = sum(len(text) in widths for text in self.digits)
        num_numbers = len(self.amounts) + len(self.digits) - num_codes
        return "unclear" if num_codes >= num_numbers else "numbers"

    @property
    def _shorter(self) -> dict[str, Any]:
        """Digits fewer than all behind a zero."""
        shortest = min(map(len, self.padded), default=0)
        return _those(self.digits, (text for text in self.digits if len(text) < shortest))


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _those(spellings: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: spellings[name] for name in names}
