"""What readers of raw files are told, and what they give: one entry for each sample, decoded only when it is asked for."""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.readers.table_options import TableOptions

INTEGER, NUMBER, WHOLE = (re.compile(r"-?(0|[1-9]\d*)" + rest, re.A) for rest in ("", r"\.\d+", r"\.0"))
MAX_DIGITS = 300  # Python refuses to read integers of more than 4,300, and no label is one
SCIENTIFIC = re.compile(r"-?(((0|[1-9]\d*)(\.\d+)?|\.\d+)[eE][+-]\d+|\.\d+)", re.A)  # 1e-05 as of pandas; 3e7 without a sign is a name
AS_USUAL = TableOptions()
SHOWN = 60  # characters of a cell in a message
KEY, NUMBERED = "key", "none"
SPLIT_WITHIN = "split_within"  # metadata: the split of a clip of an episode that is divided
SPELLINGS = "|NA|N/A|n/a|<NA>|#N/A|#N/A N/A|#NA|NaN|nan|NAN|-NaN|-nan|1.#IND|-1.#IND|1.#QNAN|-1.#QNAN|NULL|null"  # pandas, R, Excel
CBIOPORTAL = "[Not Available]|[Not Applicable]|[Not Evaluated]|[Unknown]|[Pending]|[Discrepancy]"
MISSING = frozenset(f"{SPELLINGS}|{CBIOPORTAL}".split("|"))  # `none` and `-` may be names or classes: they are missing in numbers alone


class OtherContent(DataError):
    """A file whose format could hold samples of the kind and does not: an error where it was given itself, else a file left out."""


class DeepImageError(DataError):
    """An image with more than 8 bits per value, whose range was not declared. low, high: the range of its values."""

    def __init__(self, where: str, dtype: str, low: float, high: float) -> None:
        self.dtype, self.low, self.high = dtype, low, high
        fix = "Declare what is black and white with --value-range LOW HIGH."
        super().__init__(f"the image has {dtype} values from {low} to {high}.", where=where, fix=fix)

    @staticmethod
    def of_all(errors: Sequence["DeepImageError"]) -> DataError:
        """What to say of several, whose common range matters."""
        if len(errors) == 1:
            return errors[0]
        low, high = min(error.low for error in errors), max(error.high for error in errors)
        dtypes = " or ".join(sorted({error.dtype for error in errors}))
        what = f"{len(errors):,} images have {dtypes} values, from {low} to {high} over all of them."
        return DataError(what, where=errors[0].where, fix=errors[0].fix)


@dataclass(frozen=True)
class SourceOptions:
    """How to read raw files: where keys, labels and texts are, and what is too large or too broken.

    key_column: column (or array) holding the sample keys, also in `labels_path`; `none` (unless a column is called so) makes keys of
        the file's stem and row numbers. Default: the rule of `keys.py`. For files the key is their path without extension.
    text_column: column holding the text, or several, separated by commas. Default: `text`, or the only column.
    file_column: column of a table that holds files, one per sample: their paths, or their content. Default: paths given are files.
    root: folder in which paths in `file_column` begin. Default: the folder of the table, or one near it in which the files lie.
    member: name of the files that are read, such as `{key}.left.jpg`, of which `{key}` becomes the key. Default: all of the kind.
    captions: rows that repeat a key are `all` texts of one sample, or only the `first` counts. Default: they are refused.
    label_columns: columns kept as labels; `NAME=COLUMN` renames one.
    label_pattern: regular expression searched in the key; its named groups become labels, except `key` (replaces the key, so
        that files of several modalities can meet) and `group` (see `group_column`).
    label_from_folder: name of a label that takes the name of the folder a file lies in.
    labels_path: CSV or TSV with a key column and label columns, or the idx1 file beside MNIST images.
    group_column: column or label whose value decides the split; samples of one group never part. Default: every sample for itself.
    missing_words: texts in CSV and TSV that say they are missing (NA, null ...) are.
    columns: names of the columns of a file without header.
    lines: a .txt file holds one sample per line instead of one in all.
    keep_empty: a text without anything but white space is a text like any other instead of an absent one.
    skip_other: files of formats that are not read are left out, though they may be samples.
    on_error: `raise` at the first bad sample, or `skip` it.
    channel: of recordings that has to be taken, or `mean` of all. Default: the mean, where they do not cancel each other.
    value_range: (low, high) of images with more than 8 bits per value: low becomes 0, high 255, outside is clipped.
    clip: steps of the clips of a trajectory or a time series; episodes are cut from their start, and what is shorter than a clip is left
        out. Default: whole episodes.
    split_within: fractions of train, validation and test; the clips of each episode are dealt to them one behind the other, with a clip
        left out in between. Default: an episode lies in one split.
    ends: arrays that mark the ends of episodes where a file holds all steps one after another. Default: those of the usual names.
    layer: of an AnnData file (or of a modality of MuData), `raw` for its `.raw`. Default: X.
    mod: modality to read of a MuData file. Default: the one called `name`, or the only one.
    name: of the modality that is read.
    source_rate_hz: sample rate of time series whose files state none.
    table: how tables are read.
    max_pixels, max_duration_s: larger images and longer recordings are refused before they are decoded.
    """

    key_column: str | None = None
    text_column: str | None = None
    file_column: str | None = None
    root: Path | None = None
    member: str | None = None
    captions: Literal["first", "all"] | None = None
    label_columns: tuple[str, ...] = ()
    label_pattern: str | None = None
    label_from_folder: str | None = None
    labels_path: Path | None = None
    group_column: str | None = None
    missing_words: bool = False
    columns: tuple[str, ...] = ()
    lines: bool = False
    keep_empty: bool = False
    skip_other: bool = False
    on_error: Literal["raise", "skip"] = "raise"
    channel: Literal["left", "right", "mean"] | None = None
    value_range: tuple[float, float] | None = None
    clip: int | None = None
    split_within: tuple[float, float, float] | None = None
    ends: tuple[str, ...] = ()
    layer: str | None = None
    mod: str | None = None
    name: str | None = None
    source_rate_hz: float | None = None
    table: TableOptions = AS_USUAL
    max_pixels: int = 64_000_000
    max_duration_s: float = 600.0

    def __post_init__(self) -> None:
        low, high = self.value_range or (0, 1)
        if not -math.inf < low < high < math.inf:
            raise UsageError(f"{low} to {high} is no range.", where="--value-range", fix="Give LOW and HIGH, LOW the smaller one.")
        if self.captions == "all" and self.key_column is None:
            fix = "Name it with --key-column."
            raise UsageError("which column says which rows are of one sample?", where="--captions", fix=fix)
        if self.source_rate_hz is not None and not 0 < self.source_rate_hz < math.inf:
            raise UsageError(f"{self.source_rate_hz} Hz is no sample rate.", where="--source-rate-hz", fix="Give a number above 0.")
        if self.split_within is not None and self.clip is None:
            raise UsageError("episodes are divided between clips.", where="--split-within", fix="Say how long these are, e.g. --clip 32.")
        if self.split_within is not None and self.group_column is not None:
            fix = "Leave one of --split-within and --group-column out."
            raise UsageError("samples of one group share a split.", where="--split-within", fix=fix)

    @property
    def label_names(self) -> dict[str, str]:
        """Name of each wanted label -> its column."""
        pairs = (text.partition("=") for text in self.label_columns)
        return {name: column or name for name, _, column in pairs}


@dataclass(frozen=True)
class Entry:
    """One sample as a reader found it; `load` decodes its value or raises DataError. A label that is None is missing.

    group: None where the reader knows none, "" where the sample belongs to no group. metadata: where in its source it comes from,
    anything JSON. rows: where the key is a row number, how many rows the file has. further: what loads other values of the same sample,
    such as more captions.
    """

    key: str
    where: str
    load: Callable[[], Any]
    labels: dict[str, Any] = field(default_factory=dict)
    group: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    rows: int | None = None
    further: Sequence[Callable[[], Any]] = ()


@dataclass(frozen=True)
class Broken:
    """A row, episode or file that cannot be read. It is an entry like others, so that the ones behind it are read all the same."""

    where: str
    error: DataError
    key: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """Steps of an episode that no clip holds: not an error, but counted and reported. why: what is said of all such steps."""

    steps: int
    why: str = "steps at the ends of episodes are left out: they are shorter than a clip."


@dataclass(frozen=True)
class Note:
    """Something that was decided for the user, and is said once for all files of one `kind`."""

    kind: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class UnreadArrays:
    """Arrays and groups of a file that are no part of its samples: not an error, but reported. known: the names that are read."""

    where: str
    names: Sequence[str]
    known: Sequence[str]


def row_entry(
    row: Mapping[str, Any], key: str, where: str, load: Callable[[], Any], options: SourceOptions, rows: int | None = None
) -> Entry:
    """The entry of one row of a table: labels and group taken from its columns, where it has them."""
    columns = {name: row[column] for name, column in options.label_names.items() if column in row}
    labels = {name: None if name_of(cell) in options.table.na else label_value(cell) for name, cell in columns.items()}
    column = options.group_column
    group = name_of(row[column]) if column is not None and column in row else None
    return Entry(key, where, load, labels, "" if group in MISSING else group, rows=rows)


def key_of(stem: str, number: int) -> str:
    """The key of a row that has no other."""
    return f"{stem}-{number:06d}"


def shown(cell: Any) -> str:
    """A cell for a message: its beginning."""
    text = repr(cell[:SHOWN] if isinstance(cell, str | bytes) else cell)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def name_of(value: Any) -> str:
    """A cell as a name (a key or a group), without blanks around it, empty where there is none.

    Whole numbers are written as integers, so that 10001.0, as pandas writes it beside missing values, is 10001; leading zeros stay.
    Characters are in Unicode's normal form, whatever the system composed them by.
    """
    value = value.item() if hasattr(value, "item") else value
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = normal_form(str(value).strip())
    return text.removesuffix(".0") if WHOLE.fullmatch(text) else text


def normal_form(text: str) -> str:
    """The text with composed characters (NFC): macOS takes those of file names apart."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def label_value(value: Any) -> Any:
    """A cell as a label: numbers as numbers (007 stays text), None where it is missing, text otherwise."""
    value = value.item() if hasattr(value, "item") else value
    if value is None or value != value:
        return None
    if not isinstance(value, str):
        plain = isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
        return value if plain else str(value)
    text = value.strip()
    if text in MISSING:
        return None
    if INTEGER.fullmatch(text) and len(text) <= MAX_DIGITS:
        return int(text)
    number = float(text) if NUMBER.fullmatch(text) or SCIENTIFIC.fullmatch(text) else math.inf
    return number if math.isfinite(number) else text


def is_unicode(text: str) -> bool:
    """False for text with halves of characters: `\\ud83d` alone in JSON, and file names in another encoding than UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_column(name: str, header: Mapping[str, Any] | list[str], where: object, option: str) -> str:
    """`name`, if the header holds it. Raises DataError naming the columns there are and the option to use."""
    if name in header:
        return name
    names = ", ".join(list(header)[:20])
    raise DataError(f"there is no column {name!r}; the columns are: {names}.", where=where, fix=f"Name another with {option}.")
