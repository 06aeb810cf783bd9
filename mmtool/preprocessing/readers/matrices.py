"""Tables with features in rows: matrices whose columns are samples, and files of one sample each."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.keys import WITHOUT_EXTENSIONS, KeyColumnError, names_as_keys
from mmtool.preprocessing.readers.cell_values import shown
from mmtool.preprocessing.readers.entries import MISSING, Broken, Entry, Note, SourceOptions, name_of
from mmtool.preprocessing.readers.feature_names import Features, features_of
from mmtool.preprocessing.readers.numbers import Numbers
from mmtool.preprocessing.readers.orientation import FEATURE_HEADERS, SEPARATORS, is_called_like_an_index
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.sample_sheets import key_of_file
from mmtool.preprocessing.readers.table_values import Row, in_single_precision

Rows = Callable[[], Iterator[tuple[int, Sequence[Any]] | Broken]]
STAR, HTSEQ = "N_(unmapped|multimapping|noFeature|ambiguous)", "__(no_feature|ambiguous|too_low_aQual|not_aligned|alignment_not_unique)"
SUMMARY = re.compile(f"{STAR}|{HTSEQ}")  # rows that count what is no feature
DESCRIPTIONS = (
    "description genetype genebiotype biotype type chrom chr chromosome seqnames start end stop strand length width cytoband locus "
    "genomiclocation go entrez hgncid hgnc alias aliases name catalognumber labid setid peptidetarget"
)
ANNOTATIONS = FEATURE_HEADERS | frozenset(DESCRIPTIONS.split())  # columns that describe features, without `_`, `-`, `.` and blanks
LISTED = 5


def matrix_entries(file: RawFile, header: Sequence[str], rows: Rows, index: int, options: SourceOptions) -> Iterator[Entry | Note]:
    """One entry for each column of a table that holds features in rows; `index` is that of the column that names them.

    Columns that describe the features are left out, and rows of summaries. Raises DataError for a row that cannot be read: it is a feature.
    """
    numbers = Numbers.of(options.table)
    first = next((row[1] for row in rows() if not isinstance(row, Broken)), None)
    if first is None:
        raise DataError("the table has no rows.", where=file.where, fix="Give a table with a header and rows.")
    samples, annotations = _columns(header, index, first, numbers, _counting_columns(header, index, rows))
    if not samples:
        raise KeyColumnError("no column holds a sample.", where=file.where, fix="Leave --transpose out where each row is one.")
    matrix = _Matrix(numbers, samples, index)
    for read in rows():
        matrix.add(read)
    features = features_of(matrix.names, options.table.duplicates, file.where)
    left_out = [f"column {header[column]!r}" for column in annotations[:LISTED]]
    left_out += [f"{len(annotations) - LISTED} more columns"] if len(annotations) > LISTED else []
    keys, are_files = names_as_keys([header[column] for column in samples])
    remark = f"samples: {len(samples):,} columns of {file.where}{WITHOUT_EXTENSIONS if are_files else ''}, features: its rows"
    yield _remark(remark, [*left_out, *matrix.left_out()])
    values = features.merged(np.array(matrix.values, np.float64))
    for number, column in enumerate(samples):
        where = f"{file.where}, column {header[column]!r}"
        load = partial(_loaded, values[:, number], features, where, matrix.bad.get(number))
        yield Entry(keys[number], where, load)


def sample_entry(file: RawFile, header: Sequence[str], rows: Rows, index: int, options: SourceOptions) -> Iterator[Entry | Note]:
    """The entry of a file that holds one sample, a row for each feature; its key is the name of the file, or that in the sample sheet."""
    column = options.table.value_column
    if column not in header:
        what = f"there is no column {column!r}; the columns are: {', '.join(map(repr, header))}."
        raise KeyColumnError(what, where=file.where, fix="Name that of the values with --value-column.")
    matrix = _Matrix(Numbers.of(options.table), [header.index(column)], index)
    for read in rows():
        matrix.add(read)
    if not matrix.names:
        raise DataError("the table has no rows.", where=file.where, fix="Get the file again, or leave it out.")
    features = features_of(matrix.names, options.table.duplicates, file.where)
    text = f"samples: files, with the column {column!r} of each; features: the rows, by {header[index]!r}"
    yield _remark(text, matrix.left_out())
    values = features.merged(np.array(matrix.values, np.float64))[:, 0]
    sheet = options.table.sample_sheet
    key = file.stem if sheet is None else key_of_file(sheet, options.key_column, PurePosixPath(file.where).name)
    yield Entry(key, file.where, partial(_loaded, values, features, file.where, matrix.bad.get(0)))


class _Matrix:
    """Gathers rows: their names and values, and for each sample the first cell that is no number."""

    def __init__(self, numbers: Numbers, samples: Sequence[int], index: int) -> None:
        self._numbers, self._samples, self._index = numbers, samples, index
        self.names: list[str] = []
        self.values: list[np.ndarray] = []
        self.bad: dict[int, DataError] = {}  # number of a sample -> what is wrong with it
        self._summaries = self._nameless = 0

    def add(self, read: tuple[int, Sequence[Any]] | Broken) -> None:
        """Take in one row. Raises DataError where it cannot be read."""
        if isinstance(read, Broken):
            raise read.error
        line, cells = read
        name = name_of(cells[self._index])
        if SUMMARY.fullmatch(name):
            self._summaries += 1
        elif name in MISSING:
            self._nameless += 1
        else:
            self.names.append(name)
            self.values.append(self._numbers_of([cells[index] for index in self._samples], name, line))

    def left_out(self) -> list[str]:
        """The rows that are no features, in words."""
        counts = {"rows of summaries": self._summaries, "rows without a name": self._nameless}
        return [f"{count:,} {what}" for what, count in counts.items() if count]

    def _numbers_of(self, cells: Sequence[Any], name: str, line: int) -> np.ndarray:
        values = self._numbers.row(cells)
        for sample, value in enumerate(values) if None in values else ():
            if value is None and sample not in self.bad:
                what, fix = self._numbers.problem(cells[sample])
                self.bad[sample] = DataError(f"the row {name!r} (line {line}) holds {shown(cells[sample])}, {what}", fix=fix)
        return np.array(values, np.float64)


def _loaded(values: np.ndarray, features: Features, where: str, error: DataError | None) -> Row:
    if error is not None:
        raise DataError(error.what, where=where, fix=error.fix)
    return in_single_precision(values, features.names, where)


def _columns(
    header: Sequence[str], index: int, first: Sequence[Any], numbers: Numbers, counting: Collection[int]
) -> tuple[list[int], list[int]]:
    """The places of samples, and of columns that describe the features: by their names, because they hold text before the samples, or
    because they count the rows (`counting`)."""
    others = [column for column in range(len(header)) if column != index]
    known = [column for column in others if _describes(header[column]) or column in counting]
    unknown = [column for column in others if column not in set(known)]
    samples = next((number for number, column in enumerate(unknown) if _may_be_value(first[column], numbers)), 0)
    return unknown[samples:], sorted({*known, *unknown[:samples]})


def _describes(name: str) -> bool:
    return SEPARATORS.sub("", name).casefold() in ANNOTATIONS or not name.strip()


def _counting_columns(header: Sequence[str], index: int, rows: Rows) -> set[int]:
    """The places of columns called like an index that hold a different integer in each row, and of those that count the rows before the
    column that names them."""
    counting = {column: {0, 1} for column in range(index)}
    indices: dict[int, set[str]] = {
        column: set() for column, name in enumerate(header) if column != index and is_called_like_an_index(name)
    }
    for number, read in enumerate(rows() if counting or indices else ()):
        cells = [] if isinstance(read, Broken) else read[1]
        for column, starts in counting.items():
            counting[column] = {start for start in starts if cells and name_of(cells[column]) == str(number + start)}
        for column in list(indices):
            cell = name_of(cells[column]) if cells else ""
            if not cell.isdigit() or cell in indices[column]:
                del indices[column]
            else:
                indices[column].add(cell)
    return {column for column, starts in counting.items() if starts} | indices.keys()


def _may_be_value(cell: Any, numbers: Numbers) -> bool:
    return numbers.number(cell) is not None or not any(character.isalpha() for character in str(cell))


def _remark(text: str, left_out: Sequence[str]) -> Note:
    remark = f"{text}; left out: {', '.join(left_out)}" if left_out else text
    return Note(f"matrix {', '.join(left_out)}", remark)
