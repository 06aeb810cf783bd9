"""Options that have no effect on the files they are given for: refused by name, as none may be passed over in silence."""

from collections.abc import Callable
from dataclasses import dataclass

from mmtool.common.errors import UsageError
from mmtool.preprocessing.readers.entries import AS_USUAL, SourceOptions
from mmtool.preprocessing.readers.raw_files import RawFile

ANNOTATED = frozenset(("h5ad", "h5mu", "zarr", "mtx"))  # tables of numbers and names, without cells that are written
WITHOUT_DELIMITER = {
    "table": ANNOTATED | {"parquet", "xlsx"},
    "text": frozenset(("txt", "token", "json", "jsonl", "npz", "parquet", "arrow")),
    "signal": frozenset(("npz", "npy", "wav", "edf")),
}
WITHOUT_COLUMNS = {"text": frozenset(("txt", "token", "json"))}
WITHOUT_LINES = {"text": frozenset(("csv", "tsv", "jsonl", "json", "token", "npz", "parquet", "arrow"))}
WITHOUT_CELLS = {"table": ANNOTATED}
WITHOUT_NUMBERS = {**WITHOUT_CELLS, "signal": WITHOUT_DELIMITER["signal"]}
WITHOUT_HEADER_OF_TEXT = {**WITHOUT_DELIMITER, "table": ANNOTATED | {"parquet"}}
WITHOUT_SHEETS = {"table": ANNOTATED | {"parquet", "csv", "tsv", "tab", "txt", ""}}


@dataclass(frozen=True)
class Option:
    """given: whether it was. unread_in: kind -> formats in which it has no effect. of_labels: it has one on labels of any format."""

    flag: str
    given: Callable[[SourceOptions], bool]
    unread_in: dict[str, frozenset[str]]
    of_labels: bool = False

    def is_unread(self, kind: str, file: RawFile, options: SourceOptions) -> bool:
        """Whether it was given and does nothing for a file."""
        if not self.given(options) or (self.of_labels and options.label_columns):
            return False
        return file.format in self.unread_in.get(kind, ())


OPTIONS = (
    Option("--delimiter", lambda options: options.table.delimiter is not None, WITHOUT_DELIMITER),
    Option("--columns", lambda options: bool(options.columns), WITHOUT_HEADER_OF_TEXT),
    Option("--text-column", lambda options: options.text_column is not None, WITHOUT_COLUMNS),
    Option("--captions", lambda options: options.captions == "all", WITHOUT_COLUMNS),
    Option("--lines", lambda options: options.lines, WITHOUT_LINES),
    Option("--sheet", lambda options: options.table.sheet is not None, WITHOUT_SHEETS),
    Option("--transpose", lambda options: options.table.transpose is not None, WITHOUT_CELLS),
    Option("--feature-column", lambda options: options.table.feature_column is not None, WITHOUT_CELLS),
    Option("--value-column", lambda options: options.table.value_column is not None, WITHOUT_CELLS),
    Option("--sample-sheet", lambda options: options.table.sample_sheet is not None, WITHOUT_CELLS),
    Option("--duplicates", lambda options: options.table.duplicates != AS_USUAL.duplicates, WITHOUT_CELLS),
    Option("--column-type", lambda options: bool(options.table.column_types), {"signal": WITHOUT_DELIMITER["signal"]}),
    Option("--censored", lambda options: options.table.censored is not None, WITHOUT_CELLS),
    Option("--na", lambda options: bool(options.table.na), WITHOUT_CELLS, of_labels=True),
    Option("--decimal", lambda options: options.table.decimal != AS_USUAL.decimal, WITHOUT_NUMBERS, of_labels=True),
    Option("--thousands", lambda options: options.table.thousands, WITHOUT_NUMBERS, of_labels=True),
)


class UnusedOptions:
    """Gathers which options have an effect on none of the files. alone: a single file was given, which is judged at once."""

    def __init__(self, kind: str, options: SourceOptions, *, alone: bool) -> None:
        self._kind, self._options, self._alone = kind, options, alone
        self._unread = [option for option in OPTIONS if option.given(options)]
        self._before = self._unread
        self._where = ""

    def see(self, file: RawFile) -> None:
        """Take in a file that is read. Raises UsageError where it is the only one and an option does nothing for it."""
        self._before = self._unread
        self._unread = [option for option in self._unread if option.is_unread(self._kind, file, self._options)]
        self._where = self._where or file.where
        if self._alone:
            self.check()

    def take_back(self) -> None:
        """Forget the file that was seen last, for it holds no samples."""
        self._unread = self._before

    def check(self) -> None:
        """Raise UsageError where an option had no effect on any file."""
        flags = [option.flag for option in self._unread]
        if flags and self._where:
            subject = f"{', '.join(flags[:-1])} and {flags[-1]} have" if len(flags) > 1 else f"{flags[0]} has"
            fix = "Leave them out." if len(flags) > 1 else "Leave it out."
            raise UsageError(f"{subject} no effect on files of this format.", where=self._where, fix=fix)
