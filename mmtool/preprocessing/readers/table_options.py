"""How tables are read: what separates their columns, which way they lie, and what their cells say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from mmtool.common.errors import UsageError
from mmtool.preprocessing.readers.delimited import DELIMITERS, TAB
from mmtool.tokenizers.column_types import ColumnType, Types, declared


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
    column_types: name of a column -> its type, in the words of `tokenizers.column_types.declared`. Default: what its cells say.
    unseen: categories that a fitted tokenizer does not know are an error, or missing.
    features: names of those that are known; they tell which way a table lies. known: types of those that are no numbers, None where that
        is to be recognised.
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
    column_types: Mapping[str, str] = field(default_factory=dict)
    unseen: Literal["error", "missing"] = "error"
    features: tuple[str, ...] = ()
    known: Types | None = None

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
