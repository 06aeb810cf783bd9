"""How tables are read: what separates their columns, which way they lie, and what their cells say."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Literal

from mmtool.common.arguments import assignments
from mmtool.common.errors import UsageError
from mmtool.common.options import Option
from mmtool.preprocessing.readers.delimited import DELIMITERS, TAB
from mmtool.tokenizers.column_types import ColumnType, Types, declared

TABLES = "Tables"  # panel of the help
THOUSANDS = {
    ".": re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?", re.ASCII),
    ",": re.compile(r"[-+]?[1-9]\d{0,2}(\.\d{3})+(,\d*)?", re.ASCII),
}  # by decimal mark
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+([eE][-+]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class TableOptions:
    """What tables are like."""

    delimiter: Annotated[str | None, Option(metavar="CHAR", default="recognised in tables", panel=TABLES)] = None
    """Between columns; or tab, comma, semicolon, bar, blanks.

    A character, or the name of one (`blanks`: runs of them)."""
    sheet: Annotated[str | None, Option(metavar="NAME", default="the only one", panel=TABLES)] = None
    """Of an Excel workbook."""
    transpose: Annotated[bool | None, Option(panel=TABLES)] = None
    """Features are in rows, samples in columns.

    None: samples are in rows; where it looks otherwise, the table is refused and asks."""
    feature_column: Annotated[str | None, Option(metavar="NAME", default="the first column", panel=TABLES)] = None
    """Where features are in rows: their names.

    None: the first column with names."""
    value_column: Annotated[str | None, Option(metavar="NAME", panel=TABLES)] = None
    """Each file is one sample: its values, a row per feature."""
    sample_sheet: Annotated[Path | None, Option(metavar="FILE", panel=TABLES)] = None
    """Names of such files and keys of their samples.

    CSV or TSV, as the GDC writes it."""
    duplicates: Annotated[Literal["error", "first", "mean"], Option(panel=TABLES)] = "error"
    """What becomes of features of one name.

    They are an error, or their first values count, or their mean."""
    na: Annotated[tuple[str, ...], Option(metavar="TEXT", read=tuple, panel=TABLES)] = ()
    """Also means a missing value. Repeatable."""
    censored: Annotated[Literal["missing", "bound"] | None, Option(default="an error", panel=TABLES)] = None
    """What <0.5 and >100 count as."""
    decimal: Annotated[Literal[".", ","], Option(panel=TABLES)] = "."
    """Mark within numbers."""
    thousands: Annotated[bool, Option(panel=TABLES)] = False
    """Numbers are written as 1,234.5 (or 1.234,5)."""
    column_types: Annotated[
        Mapping[str, str],
        Option("--column-type", "NAME=TYPE", panel=TABLES, type=list[str], read=partial(assignments, option="--column-type")),
    ] = field(default_factory=dict)
    """number, category, boolean, date, date:%d/%m/%Y, skip, or levels: low<mid<high. Repeatable.

    Of columns; of others their cells decide (`column_recognition.py`). Of time series: number (a channel) or skip."""
    unseen: Annotated[Literal["error", "missing"], Option(panel=TABLES)] = "error"
    """How categories that the tokenizer does not know are taken."""
    features: tuple[str, ...] = ()
    """Names of those that are known; they show which way a table lies, and which columns of a time series are channels."""
    known: Types | None = None
    """Types of those that are no numbers, of a fitted tokenizer; None: to be recognised."""

    @cached_property
    def declared(self) -> dict[str, ColumnType]:
        """Name -> declared type."""
        return {name: declared(text, "--column-type") for name, text in self.column_types.items()}

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            mark = {**DELIMITERS, "\\t": TAB}.get(self.delimiter)
            if mark is None:
                fix = f"Give one character, or one of {', '.join(DELIMITERS)}."
                raise UsageError(f"{self.delimiter!r} is no delimiter.", where="--delimiter", fix=fix)
            object.__setattr__(self, "delimiter", mark)
        assert self.declared is not None  # what is no type is refused at once
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
