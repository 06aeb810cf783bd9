"""Sheets of Excel workbooks (`.xlsx`) as rows of cells, numbers in full precision, through openpyxl (extra `excel`)."""

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.keys import RowSource, nameless_columns
from mmtool.preprocessing.readers.entries import SourceOptions
from mmtool.preprocessing.readers.raw_files import RawFile

FORMAT = "xlsx"
Rows = Callable[[], Iterator[tuple[int, Sequence[Any]]]]


def excel_source(file: RawFile, options: SourceOptions) -> tuple[RowSource, Rows]:
    """Header and rows of a sheet, by their numbers in it; rows without any value are passed over.

    Raises UsageError without openpyxl and where it is not clear which sheet is meant, DataError for a damaged file and for a formula whose
    value the file does not hold.
    """
    values, formulas = _sheet(file, options, data_only=True), _sheet(file, options, data_only=False)
    table: list[tuple[int, list[Any]]] = []
    for number, (cells, written) in enumerate(zip(values, formulas, strict=True), 1):
        unknown = next((text for cell, text in zip(cells, written, strict=True) if cell is None and text is not None), None)
        if unknown is not None:
            fix = "Open and save it in a spreadsheet program, which computes it."
            raise DataError(f"the file does not hold the value of {str(unknown)[:60]}.", where=f"{file.where}:{number}", fix=fix)
        if any(cell is not None for cell in cells):
            table.append((number, list(cells)))
    if not table:
        raise DataError("the sheet is empty.", where=file.where, fix="Give a sheet with a header and rows.")
    header = list(options.columns) or ["" if name is None else str(name).strip() for name in table.pop(0)[1]]
    if any(len(cells) != len(header) for _, cells in table):
        raise DataError(f"rows do not have the {len(header)} cells of the header.", where=file.where, fix="Name all columns.")

    def picked(names: Sequence[str]) -> Iterator[list[Any]]:
        places = [header.index(name) for name in names]
        return ([cells[place] for place in places] for _, cells in table)

    return RowSource(file.where, file.stem, header, picked, nameless_columns(header)), lambda: iter(table)


def _sheet(file: RawFile, options: SourceOptions, *, data_only: bool) -> Iterator[tuple[Any, ...]]:
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[excel]'`, or save the sheet as CSV."
        raise UsageError("reading .xlsx needs openpyxl.", where=file.where, fix=fix) from error
    try:
        book = load_workbook(io.BytesIO(file.read()), data_only=data_only)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, ValueError, OSError) as error:
        raise DataError(f"the workbook is damaged ({error}).", where=file.where, fix="Get it again.") from error
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    name = options.table.sheet or (next(iter(sheets)) if len(sheets) == 1 else None)
    if name is None or name not in sheets:
        what = f"the workbook has the sheets {', '.join(map(repr, sheets))}" + (f", and no {name!r}." if name else ".")
        raise UsageError(what, where=file.where, fix="Say which one with --sheet.")
    rows: Iterator[tuple[Any, ...]] = sheets[name].iter_rows(values_only=True)
    return rows
