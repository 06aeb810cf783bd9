"""The options of readers of raw files, and what they give: one entry for each sample, decoded only when it is asked for."""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from mmtool.common.errors import DataError, UsageError
from mmtool.common.options import Option, assemble, settings_of
from mmtool.preprocessing.parts import Part
from mmtool.preprocessing.readers.cell_values import decoded, one_value
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.splits import SPLITTING

INTEGER, NUMBER, WHOLE = (re.compile(r"-?(0|[1-9]\d*)" + rest, re.A) for rest in ("", r"\.\d+", r"\.0"))
MAX_DIGITS = 300  # Python refuses to read integers of more than 4,300, and no label is one
SCIENTIFIC = re.compile(r"-?(((0|[1-9]\d*)(\.\d+)?|\.\d+)[eE][+-]\d+|\.\d+)", re.A)  # 1e-05 as of pandas; 3e7 without a sign is a name
AS_USUAL = TableOptions()
READING, LABELS = "Reading raw files", "Keys and labels"  # panels of the help
KEY, NUMBERED = "key", "none"
MISSING_TEXTS = "texts taken as missing: {}; --keep-na keeps them"  # a tally
SPLIT_WITHIN = "split_within"  # metadata: the split of a clip of an episode that is divided
SPELLINGS = (
    r"|NA|N/A|n/a|<NA>|#N/A|#N/A N/A|#NA|NaN|nan|NAN|-NaN|-nan|1.#IND|-1.#IND|1.#QNAN|-1.#QNAN|NULL|null|\N"  # pandas, R, Excel, SQL
)
CBIOPORTAL = "[Not Available]|[Not Applicable]|[Not Evaluated]|[Unknown]|[Pending]|[Discrepancy]"
MISSING = frozenset(f"{SPELLINGS}|{CBIOPORTAL}".split("|"))  # `none` and `-` may be names or classes: they are missing in numbers alone


@dataclass(frozen=True)
class SourceOptions:
    """How to read raw files: where keys, labels and texts are, and what is too large or too broken."""

    text_column: Annotated[str | None, Option(panel=READING)] = None
    """Column that holds the text.

    Or several, separated by commas. None: `text`, or the only column."""
    file_column: Annotated[str | None, Option(panel=READING)] = None
    """Column of a table that holds files, or their paths.

    One file per sample. None: paths given are files."""
    root: Annotated[Path | None, Option(metavar="DIR", default="the table's folder, or one near it", panel=READING)] = None
    """Where the paths in a column begin.

    None: in the folder of the table, or one near it in which the files lie."""
    member: Annotated[str | None, Option(metavar="PATTERN", panel=READING)] = None
    """Read only files of this name, e.g. '{key}.left.jpg'.

    What stands for `{key}` becomes the key, and holds no dot; what stands for `{stem}` may. None: all of the kind."""
    captions: Annotated[Literal["first", "all"] | None, Option(default="an error", panel=READING)] = None
    """Rows that repeat a key are texts of one sample.

    Of `all` of them, or only the `first` counts. None: they are refused."""
    lines: Annotated[bool, Option(panel=READING)] = False
    """A .txt file holds one sample per line."""
    frames: Annotated[bool, Option(panel=READING)] = False
    """The pictures of a folder are the frames of one video.

    In the order of their names, at `source_rate_hz`."""
    keep_empty: Annotated[bool, Option(panel=READING)] = False
    """Empty texts are texts; else such samples have none.

    Empty: without anything but white space."""
    keep_na: Annotated[bool, Option(panel=READING)] = False
    """NA, nan, null ... are texts; else such samples have none."""
    skip_other: Annotated[bool, Option(panel=READING)] = False
    """Leave out files of formats that are not read.

    They may be samples."""
    part: Annotated[str | None, Option(metavar="I/N", default="all samples", panel=READING)] = None
    """Read one of N parts of the samples, e.g. 2/8.

    For batch systems: by the hash of keys, in whatever files samples lie; `shard` puts the parts together. What has no key, such as a file
    that cannot be read, is reported by each part."""
    columns: Annotated[tuple[str, ...], Option(metavar="NAME,...", panel=READING)] = ()
    """Names of the columns of a file without header."""
    clip: Annotated[int | None, Option(default="whole episodes", panel=READING)] = None
    """Steps of the clips that episodes are cut into.

    Trajectories and time series are cut from their start, and what is shorter than a clip is left out."""
    ends: Annotated[tuple[str, ...], Option(metavar="NAME,...", default="usual names", panel=READING)] = ()
    """Arrays that mark the ends of episodes.

    For files that hold all steps one after another."""
    layer: Annotated[str | None, Option(default="X", panel=READING)] = None
    """Of AnnData (raw: its .raw).

    Or of a modality of MuData."""
    mod: Annotated[str | None, Option(default="the one named alike, or the only one", panel=READING)] = None
    """Modality to read of a MuData file."""
    source_rate_hz: Annotated[float | None, Option(panel=READING)] = None
    """Sample rate of time series whose files state none."""
    channel: Annotated[Literal["left", "right", "mean"] | None, Option(default="the mean, unless they cancel out", panel=READING)] = None
    """Channel to read of recordings that have several."""
    value_range: Annotated[tuple[float, float] | None, Option(metavar="LOW HIGH", panel=READING)] = None
    """Lowest and highest value of 16-bit images, DICOM and scans.

    Low becomes black, high white, and what is outside counts as these. Of DICOM and scans in their units: Hounsfield units, say."""
    max_pixels: Annotated[int, Option(panel=READING)] = 64_000_000
    """Larger images are refused.

    Before they are decoded."""
    max_duration_s: Annotated[float | None, Option(default="600, or 10,000 steps of slow series", panel=READING)] = None
    """Longer recordings are refused.

    Before they are decoded."""
    on_error: Annotated[Literal["raise", "skip"], Option(panel=READING)] = "raise"
    """At a bad sample: stop, or list it in OUTPUT.rejects.jsonl."""
    table: TableOptions = AS_USUAL
    """How tables are read."""
    key_column: Annotated[
        str | None, Option(metavar="NAME|none", default="found by its name: key, id, sample, patient_id ...", panel=LABELS)
    ] = None
    """Column that holds the sample keys; none: number the rows.

    Or the array; also in `labels_path`. `none` (unless a column is called so) makes keys of the file's stem and row numbers. None: by the
    rule of `keys.py`. For files the key is their path without extension."""
    label_columns: Annotated[tuple[str, ...], Option("--label", "[NAME=]COLUMN", panel=LABELS)] = ()
    """Column kept as a label. Repeatable, or a,b,c."""
    label_pattern: Annotated[str | None, Option(metavar="REGEX", panel=LABELS)] = None
    """Searched in the key; its named groups become labels (key, group: that).

    `key` replaces the key, so that files of several modalities can meet; `group`: see `group_column`."""
    label_from_folder: Annotated[str | None, Option(metavar="NAME", panel=LABELS)] = None
    """This label is the name of a file's folder."""
    labels_path: Annotated[Path | None, Option("--labels", "FILE", panel=LABELS)] = None
    """CSV or TSV with a key column, or MNIST's idx1 file."""
    group_column: Annotated[str | None, Option(panel=SPLITTING)] = None
    """Column or label: samples of one group share a split.

    None: every sample is a group."""
    split_within: tuple[float, float, float] | None = None
    """Fractions of train, validation and test, to which the clips of each episode are dealt one behind the other, with a clip left out in
    between. None: an episode lies in one split."""
    name: str | None = None
    """Of the modality that is read."""

    def __post_init__(self) -> None:
        if self.part is not None:
            Part.parse(self.part)
        if self.clip is not None and self.clip < 1:
            raise UsageError(f"a clip of {self.clip} steps cannot be.", where="--clip", fix="Give a number above 0.")
        low, high = self.value_range or (0, 1)
        if not -math.inf < low < high < math.inf:
            raise UsageError(f"{low} to {high} is no range.", where="--value-range", fix="Give LOW and HIGH, LOW the smaller one.")
        if self.frames and (self.member or self.file_column):
            what = "folders of frames are neither members of archives nor cells of a table."
            raise UsageError(what, where="--frames", fix="Leave --member and --file-column out, and give the folders.")
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

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "SourceOptions":
        """Options from the names of their fields, those of `TableOptions` beside the others. Raises UsageError for a name that there is
        not."""
        keys = {setting.name: setting.key for setting in settings_of(cls)}
        further = {name: fields[name] for name in ("table", "name", "split_within") if name in fields}
        options = assemble(cls, {keys.get(name, name): value for name, value in fields.items() if name not in further})
        return replace(options, **further)

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
    """Something that was decided for the user, and is said once for all files of one `kind`; always: also where files are read again."""

    kind: str
    text: str
    always: bool = False

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Tally:
    """Something that is counted over all files, and said in the end: `text`, with a `{}` for how often it was which of `counts`."""

    text: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class MissingWord:
    """The value of a text that says by a word (NA, null ...) that it is missing: none, but it is counted how often it was which."""

    word: str

    def __str__(self) -> str:
        return f"'{self.word}'"


@dataclass(frozen=True)
class UnreadArrays:
    """Arrays and groups of a file that are no part of its samples: not an error, but reported. known: the names that are read."""

    where: str
    names: Sequence[str]
    known: Sequence[str]


def row_entry(
    row: Mapping[str, Any], key: str, where: str, load: Callable[[], Any], options: SourceOptions, rows: int | None = None
) -> Entry:
    """The entry of one row of a table: labels and group taken from its columns, where it has them. One without value where these hold
    several, or bytes that are no text."""
    wanted = {column for column in (*options.label_names.values(), options.group_column) if column in row}
    try:
        cells = {column: one_value(row[column], column, where) for column in wanted if column is not None}
    except DataError as error:
        return Entry(key, where, partial(_raise, error), dict.fromkeys(options.label_names), "")
    labels = {name: label_value(cells[column], options.table) for name, column in options.label_names.items() if column in cells}
    group = name_of(cells[options.group_column]) if options.group_column in cells else None
    return Entry(key, where, load, labels, "" if group in MISSING else group, rows=rows)


def _raise(error: DataError) -> None:
    raise error


def key_of(stem: str, number: int) -> str:
    """The key of a row that has no other."""
    return f"{stem}-{number:06d}"


def name_of(value: Any) -> str:
    """A cell as a name (a key or a group), without blanks around it, empty where there is none.

    Whole numbers are written as integers, so that 10001.0, as pandas writes it beside missing values, is 10001; leading zeros stay.
    Characters are in Unicode's normal form, whatever the system composed them by.
    """
    value = decoded(value.item() if hasattr(value, "item") else value)
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = normal_form(str(value).strip())
    return text.removesuffix(".0") if WHOLE.fullmatch(text) else text


def normal_form(text: str) -> str:
    """The text with composed characters (NFC): macOS takes those of file names apart."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def label_value(value: Any, table: TableOptions = AS_USUAL) -> Any:
    """A cell as a label: numbers as numbers (007 stays text), None where it is missing, text otherwise. table: how cells are written."""
    value = decoded(value.item() if hasattr(value, "item") else value)
    if value is None or value != value or (table.na and name_of(value) in table.na):
        return None
    if not isinstance(value, str):
        plain = isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
        return value if plain else str(value)
    text = table.plain(value.strip())
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
