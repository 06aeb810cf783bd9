"""Sheets of Excel workbooks (`.xlsx`) as rows of cells, numbers in full precision, through openpyxl (extra `excel`)."""

import io
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.keys import RowSource, nameless_columns
from mmtool.preprocessing.readers.entries import SourceOptions
from mmtool.preprocessing.readers.raw_files import RawFile, check_archive

FORMAT = "xlsx"
TEXT_OF_FORMULA = "str"  # type of a cell whose formula gave a text, which may be empty
DAMAGE = (  # what openpyxl raises at workbooks that are cut or altered; a SyntaxError of XML
    zipfile.BadZipFile,
    zlib.error,
    SyntaxError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    RuntimeError,
    OSError,
    EOFError,
)
PARTS = re.compile(r'"([^"]*)"|\\(.)|(0)|([- ])')  # of a number format: literal texts, digits, and signs that stand for themselves
LOCALE, UP_TO = re.compile(r"\[\$[^]]*\]"), re.compile(r"\[<=(\d+)\](.*)")
Rows = Callable[[], Iterator[tuple[int, Sequence[Any]]]]


def excel_source(file: RawFile, options: SourceOptions) -> tuple[RowSource, Rows]:
    """Header and rows of a sheet, by their numbers in it; rows without any value are passed over. Integers whose format fills them up with
    zeros are text as it is shown: 2134 in the format 00000 is 02134.

    Raises UsageError without openpyxl and where it is not clear which sheet is meant, DataError for a damaged file, for merged cells, whose
    value stands in one of them alone, and for a formula whose value the file does not hold.
    """
    values, formulas = _sheet(file, options, data_only=True), _sheet(file, options, data_only=False)
    merged = next(iter(values.merged_cells.ranges), None)
    if merged is not None:
        raise DataError(f"the cells {merged} are merged.", where=file.where, fix="Unmerge them, and fill in what each stands for.")
    table: list[tuple[int, list[Any]]] = []
    for number, (cells, written) in enumerate(zip(values.iter_rows(), formulas.iter_rows(values_only=True), strict=True), 1):
        row = [_shown(cell.value, cell.number_format) for cell in cells]
        computed = [cell.data_type == TEXT_OF_FORMULA for cell in cells]  # empty where there is no value
        unknown = next((text for cell, text, is_empty in zip(row, written, computed, strict=True) if _unknown(cell, text, is_empty)), None)
        if unknown is not None:
            fix = "Open and save it in a spreadsheet program, which computes it."
            raise DataError(f"the file does not hold the value of {str(unknown)[:60]}.", where=f"{file.where}:{number}", fix=fix)
        if any(cell is not None for cell in row):
            table.append((number, row))
    if not table:
        raise DataError("the sheet is empty.", where=file.where, fix="Give a sheet with a header and rows.")
    header = list(options.columns) or ["" if name is None else str(name).strip() for name in table.pop(0)[1]]
    if any(len(cells) != len(header) for _, cells in table):
        raise DataError(f"rows do not have the {len(header)} cells of the header.", where=file.where, fix="Name all columns.")

    def picked(names: Sequence[str]) -> Iterator[list[Any]]:
        indices = [header.index(name) for name in names]
        return ([cells[index] for index in indices] for _, cells in table)

    return RowSource(file.where, file.stem, header, picked, nameless_columns(header)), lambda: iter(table)


def _shown(value: Any, number_format: str) -> Any:
    """A cell as a sheet shows it, where its format is of at least two zeros, as in 00000-0000 or "P"000; any other as it is stored."""
    if "00" not in number_format or isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value % 1:
        return value
    section, *others = LOCALE.sub("", number_format).split(";")
    if limited := UP_TO.fullmatch(section):
        section = limited[2] if value <= int(limited[1]) or not others else others[0]
    zeros = [part[3] for part in PARTS.finditer(section) if part[3]]
    if len(zeros) < 2 or PARTS.sub("", section):
        return value
    digits = f"{int(value):0{len(zeros)}d}"
    size = len(digits) - len(zeros) + 1  # of what stands for the first zero
    remaining = iter([digits[:size], *digits[size:]])
    return PARTS.sub(lambda part: next(remaining) if part[3] else part[1] or part[2] or part[4] or "", section)


def _unknown(cell: Any, written: Any, is_empty_text: bool) -> bool:
    """Whether a cell holds a formula and no value of it."""
    return cell is None and written is not None and not is_empty_text


def _sheet(file: RawFile, options: SourceOptions, *, data_only: bool) -> Any:
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[excel]'`, or save the sheet as CSV."
        raise UsageError("reading .xlsx needs openpyxl.", where=file.where, fix=fix) from error
    try:
        with warnings.catch_warnings(action="ignore"):  # of styles and checks of input, which are no values
            data = io.BytesIO(file.read())
            check_archive(data, file.where)
            book = load_workbook(data, data_only=data_only)
    except (InvalidFileException, *DAMAGE) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise DataError(f"the workbook is damaged ({reason}).", where=file.where, fix="Get it again.") from error
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    if not sheets:
        raise DataError("the workbook holds no sheet of cells.", where=file.where, fix="Get it again.")
    name = options.table.sheet or (next(iter(sheets)) if len(sheets) == 1 else None)
    if name is None or name not in sheets:
        what = f"the workbook has the sheets {', '.join(map(repr, sheets))}" + (f", and no {name!r}." if name else ".")
        raise UsageError(what, where=file.where, fix="Say which one with --sheet.")
    return sheets[name]
