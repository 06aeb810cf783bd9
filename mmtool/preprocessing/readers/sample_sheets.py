"""Sample sheets: which sample each file of one sample belongs to, as the Genomic Data Commons (GDC) writes it."""

from functools import lru_cache
from pathlib import Path

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.readers.entries import Broken, name_of
from mmtool.preprocessing.readers.raw_files import raw_file
from mmtool.preprocessing.readers.records import read_cells
from mmtool.preprocessing.readers.table_options import TableOptions

FILE_COLUMNS = ("filename", "file")
KEY_COLUMNS = ("key", "sampleid", "sample", "caseid", "case", "patientid", "id")


def key_of_file(sheet: Path, key_column: str | None, name: str) -> str:
    """The key of the sample in the file called `name`. Raises DataError where the sheet does not hold it."""
    keys = _read(sheet, key_column)
    if name not in keys:
        raise DataError("the sample sheet has no row for this file.", where=name, fix=f"Add one to {sheet}, or leave the file out.")
    return keys[name]


@lru_cache(maxsize=4)
def _read(sheet: Path, key_column: str | None) -> dict[str, str]:
    """Name of each file -> key."""
    if not sheet.is_file():
        raise UsageError("there is no such sample sheet.", where=sheet, fix="Check --sample-sheet.")
    header, rows = read_cells(raw_file(sheet), (), table=TableOptions())
    plain = [name.replace("_", "").replace(" ", "").casefold() for name in header]
    files = next((plain.index(name) for name in FILE_COLUMNS if name in plain), None)
    keys = next((plain.index(name) for name in KEY_COLUMNS if name in plain), None)
    keys = header.index(key_column) if key_column in header else keys
    if files is None or keys is None:
        what = f"the sample sheet has the columns {', '.join(map(repr, header))}."
        fix = "Call that of the files 'File Name', and that of the keys 'Sample ID' or name it with --key-column."
        raise UsageError(what, where=sheet, fix=fix)
    keys_by_file: dict[str, str] = {}
    for row in rows:
        if isinstance(row, Broken):
            raise row.error
        name, key = name_of(row[1][files]), name_of(row[1][keys])
        if keys_by_file.setdefault(name, key) != key:
            what = f"the sample sheet gives {name} to {keys_by_file[name]!r} and to {key!r}."
            raise DataError(what, where=f"{sheet}:{row[0]}", fix="Keep one of the rows.")
    return keys_by_file
