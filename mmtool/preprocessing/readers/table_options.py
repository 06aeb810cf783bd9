"""How tables are read: what separates their columns, which way they lie, and what their cells say."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmtool.common.errors import UsageError
from mmtool.preprocessing.readers.delimited import DELIMITERS, TAB

THOUSANDS = {
    ".": re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?"),
    ",": re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+(,\d*)?"),
}  # by decimal mark
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?")


@dataclass(frozen=True)
class TableOptions:
    """delimiter: a character, or the name of one (`tab`, `comma`, `semicolon`, `bar`, `blanks` for runs of them). Default: recognised.
    transpose: whether a table holds features in rows and samples in columns. Default: samples in rows; where it looks otherwise, the
        table is refused and asks.
    feature_column: column with the names of the features where they are in rows. Default: the first one with names.
    value_column: column with the values, where each file holds one sample and a row for each feature.
    sample_sheet: CSV or TSV with the names of such files and the keys of their samples, as the GDC writes it.
    duplicates: features of one name are an error, or their first values count, or their mean.
    na: further spellings of a missing value.
    censored: values such as `<0.5` are an error, or missing, or count as their bound.
    decimal: the character between the digits of a number. thousands: numbers have separators between thousands (`1,234.5`).
    features: names of those that are known; they tell which way a table lies.
    """

    delimiter: str | None = None
    transpose: bool | None = None
    feature_column: str | None = None
    value_column: str | None = None
    sample_sheet: Path | None = None
    duplicates: Literal["error", "first", "mean"] = "error"
    na: tuple[str, ...] = ()
    censored: Literal["missing", "bound"] | None = None
    decimal: Literal[".", ","] = "."
    thousands: bool = False
    features: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            mark = {**DELIMITERS, "\\t": TAB}.get(self.delimiter)
            if mark is None:
                fix = f"Give one character, or one of {', '.join(DELIMITERS)}."
                raise UsageError(f"{self.delimiter!r} is no delimiter.", where="--delimiter", fix=fix)
            object.__setattr__(self, "delimiter", mark)
        if self.sample_sheet is not None and self.value_column is None:
            fix = "Name it with --value-column, or leave the sheet out."
            raise UsageError("a sheet names files of one sample; which column holds their values?", where="--sample-sheet", fix=fix)
        if self.value_column is not None and self.transpose is False:
            fix = "Leave one of --value-column and --no-transpose out."
            raise UsageError("files of one sample hold a row for each feature.", where="--value-column", fix=fix)

    def plain(self, text: str) -> str:
        """A number in these marks as 1234.5, any other text as it is."""
        if self.thousands and THOUSANDS[self.decimal].fullmatch(text):
            text = text.replace("," if self.decimal == "." else ".", "")
        return text.replace(",", ".") if self.decimal == "," and DECIMAL_COMMA.fullmatch(text) else text
