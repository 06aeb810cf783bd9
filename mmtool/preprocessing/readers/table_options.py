"""How tables are read: what separates their columns, which way they lie, and what their cells say."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from mmtool.common.errors import UsageError
from mmtool.common.options import Option
from mmtool.preprocessing.readers.delimited import DELIMITERS, TAB

TABLES = "Tables"  # panel of the help


@dataclass(frozen=True)
class TableOptions:
    """What tables are like."""

    delimiter: Annotated[str | None, Option(metavar="CHAR", default="recognised in tables", panel=TABLES)] = None
    """Between columns; or tab, comma, semicolon, bar, blanks.

    A character, or the name of one (`blanks`: runs of them)."""
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
    features: tuple[str, ...] = ()
    """Names of those that are known; they tell which way a table lies."""

    def __post_init__(self) -> None:
        if self.delimiter is not None and len(self.delimiter) != 1:
            mark = {**DELIMITERS, "\\t": TAB}.get(self.delimiter)
            if mark is None:
                fix = f"Give one character, or one of {', '.join(DELIMITERS)}."
                raise UsageError(f"{self.delimiter!r} is no delimiter.", where="--delimiter", fix=fix)
            object.__setattr__(self, "delimiter", mark)
