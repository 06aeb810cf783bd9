"""Columns of tables that hold files, one per sample: their paths, or their content as Hugging Face datasets write it ({bytes, path})."""

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError
from mmtool.kinds import kind_named, load
from mmtool.preprocessing.keys import Keys
from mmtool.preprocessing.readers.conversions import advice
from mmtool.preprocessing.readers.entries import MISSING, Broken, Entry, Note, SourceOptions, require_column, row_entry
from mmtool.preprocessing.readers.raw_files import RawFile, Wanted, a_kind, raw_file, split_name
from mmtool.preprocessing.readers.read_errors import OtherContent
from mmtool.preprocessing.readers.rows import Row, header_of, row_keys, rows_of, together

CONTENT, PATH = "bytes", "path"
DECODED_BY_CONTENT = {"image": "png", "audio": "wav"}  # formats that content without a name is taken for; readers look at the content
ROWS_TRIED, NAMES_TRIED, FOLDERS_TRIED = 100, 20, 200  # to see what a column holds, and where its paths begin
URL = "://"


def read_file_column(kind: str, file: RawFile, options: SourceOptions) -> Iterator[Any]:
    """Entries of one table, whose column `options.file_column` names or holds a file of the kind for each row; an empty cell is an absent
    one. Without a name it is the column that holds content or, where several do, the one called like the kind.

    Keys are those of the rows, by the rule of `keys.py`, else the numbers of the rows.
    """
    file = file.held()
    header = header_of(file, options)
    column = options.file_column or _content_column(kind, file, header, options)
    require_column(column, header, file.where, "--file-column")
    keys = row_keys(file, header, options, [column], numbered=True)
    yield keys
    wanted = [name for name in header if name in {column, keys.column, options.group_column, *options.label_names.values()}]
    root = options.root or _root(file, column, options.table.na)
    if options.root is None and root != _home(file):
        yield Note("root of paths", f"paths in column {column!r} begin in {root}")
    rows = _keyed(rows_of(file, options, wanted), keys)
    for group in together(rows, options):
        if isinstance(group, Broken):
            yield group
        else:
            yield from _entries(kind, group, column, root, keys, options)


def is_missing(cell: Any, na: Sequence[str] = ()) -> bool:
    """Whether a cell names no file, and holds none. na: further spellings of a missing one."""
    if isinstance(cell, Mapping):
        return cell.get(CONTENT) is None and is_missing(cell.get(PATH), na)
    return cell is None or cell != cell or (isinstance(cell, str) and (cell.strip() in MISSING or cell.strip() in na))


def _keyed(rows: Iterator[tuple[str, dict[str, Any]] | Broken], keys: Keys) -> Iterator[Row | Broken]:
    for number, read in enumerate(rows):
        yield read if isinstance(read, Broken) else Row(keys.of(read[1], number), *read)


def _entries(kind: str, group: Sequence[Row], column: str, root: Path, keys: Keys, options: SourceOptions) -> Iterator[Any]:
    """What the reader of the kind gives for the file of a sample, under the key of its row."""
    first = group[0]
    cells = [row.cells[column] for row in group if not is_missing(row.cells[column], options.table.na)]
    entry = row_entry(first.cells, first.key, first.where, partial(_nothing), options, keys.rows)
    if not cells or not first.key:
        yield entry
        return
    try:
        if any(cell != cells[0] for cell in cells):
            raise DataError(f"rows of the key {first.key!r} name different files.", where=first.where, fix="Name one file per key.")
        file = _file_of(kind, cells[0], first, column, root)
    except DataError as error:
        yield Broken(first.where, error, first.key)
        return
    reader: Callable[..., Iterator[Any]] = load(kind_named(kind).reader)
    plain = replace(options, file_column=None, key_column=None, captions=None, label_columns=(), group_column=None)
    plain = replace(plain, labels_path=None, lines=False)
    for part in reader(file, plain):
        yield _part(part, entry) if isinstance(part, Entry) else part


def _part(part: Entry, row: Entry) -> Entry | Broken:
    """A sample of the file of a row: the only one, or one of the clips that it is cut into."""
    if part.key != row.key and part.metadata.get("episode") != row.key:
        fix = "Write one file per sample, or tokenize such files by themselves."
        return Broken(row.where, DataError("the file holds several samples.", where=part.where, fix=fix), row.key)
    return replace(part, labels=row.labels, group=row.group or part.group, rows=row.rows)


def _file_of(kind: str, cell: Any, row: Row, column: str, root: Path) -> RawFile:
    """The file that a cell holds or names. Raises DataError where there is none, or it is none of the kind by its name."""
    content = cell.get(CONTENT) if isinstance(cell, Mapping) else cell
    name = (cell.get(PATH) or "") if isinstance(cell, Mapping) else cell if isinstance(cell, str) else ""
    where = f"{row.where}, column {column!r}"
    if isinstance(content, bytes):
        form = split_name(name)[1] if split_name(name)[1] in kind_named(kind).suffixes else DECODED_BY_CONTENT.get(kind, "")
        return RawFile(where, row.key, form, partial(bytes, content))
    if not name:
        fix = "Write the path of a file into each cell, or leave it empty."
        raise DataError(f"the cell holds {str(cell)[:60]!r}, neither a path nor a file.", where=where, fix=fix)
    if URL in name:
        raise DataError(f"the cell names {name}, which is not on this machine.", where=where, fix="Download it first.")
    path = root / name.strip()
    if not path.is_file():
        raise DataError(f"there is no file {path}.", where=where, fix=_without_file(path.name))
    form = split_name(path.name)[1]
    if form not in kind_named(kind).suffixes:
        fix = f"{advice(form, kind_named(kind).suffixes)} Accepted: {Wanted.of(kind)}.".strip()
        raise DataError(f"{path} is not {a_kind(kind)} file by its name.", where=where, fix=fix.strip())
    return replace(raw_file(path), stem=row.key, where=f"{path} ({row.where})")


def _without_file(name: str) -> str:
    """What to do where a cell names no file."""
    empty = "" if split_name(name)[1] else f", or with --na {shlex.quote(name)} that such a cell is empty"
    return f"Say with --root in which folder the paths begin{empty}."


def _nothing() -> None:
    """The value of an absent modality."""


def _content_column(kind: str, file: RawFile, header: Sequence[str], options: SourceOptions) -> str:
    """The column whose cells hold files. Raises DataError where none or several do."""
    holding: dict[str, None] = {}
    for read in islice(rows_of(file, options), ROWS_TRIED):
        if not isinstance(read, Broken):
            holding |= dict.fromkeys(name for name, cell in read[1].items() if isinstance(cell, bytes) or _is_struct(cell))
    names = [name for name in holding if name == kind] or list(holding)
    if len(names) != 1:
        columns = ", ".join(map(repr, header))
        what = f"{'several columns hold' if names else 'no column holds'} files; the columns are: {columns}."
        kind_of_error = DataError if names else OtherContent
        raise kind_of_error(what, where=file.where, fix="Name the one that holds them, or their paths, with --file-column.")
    return names[0]


def _is_struct(cell: Any) -> bool:
    return isinstance(cell, Mapping) and {CONTENT, PATH} <= cell.keys()


def _home(file: RawFile) -> Path:
    return Path() if file.path is None else file.path.parent


def _root(file: RawFile, column: str, na: Sequence[str]) -> Path:
    """The folder in which paths begin: that of the table or the one above, else the folder beside these in which one of them lies. Raises
    DataError where that are several."""
    rows = (read[1].get(column) for read in rows_of(file, SourceOptions(), [column]) if not isinstance(read, Broken))
    cells = (_path_of(cell) for cell in rows if not is_missing(cell, na))
    names = list(islice((cell.strip() for cell in cells if isinstance(cell, str)), NAMES_TRIED))
    home = _home(file)
    above = Path(os.path.normpath(home / ".."))
    fitting = [folder for folder in (home, above, *_folders(home), *_folders(above)) if any((folder / name).is_file() for name in names)]
    if len(fitting) > 1 and fitting[0] not in (home, above):
        what = f"the paths in column {column!r} may begin in {fitting[0]} or in {fitting[1]}."
        raise DataError(what, where=file.where, fix="Say with --root in which folder they begin.")
    return fitting[0] if fitting else home


def _path_of(cell: Any) -> Any:
    """The path that a cell names; None where it holds the file itself."""
    if isinstance(cell, Mapping):
        return cell.get(PATH) if cell.get(CONTENT) is None else None
    return cell


def _folders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return sorted(Path(entry.path) for entry in entries if entry.is_dir())[:FOLDERS_TRIED]
