"""Texts: one per .txt file (or per line), a column of CSV, TSV, JSON lines, npz, Parquet and Arrow, or captions of public datasets."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mmtool.common.errors import DataError
from mmtool.preprocessing.keys import Keys
from mmtool.preprocessing.readers.captions import TEXT, caption_rows
from mmtool.preprocessing.readers.entries import (
    KEY,
    MISSING,
    Broken,
    Entry,
    Note,
    OtherContent,
    SourceOptions,
    is_unicode,
    key_of,
    require_column,
    row_entry,
    shown,
)
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.records import read_lines, read_text_file
from mmtool.preprocessing.readers.rows import COLUMNAR, Row, header_of, row_keys, rows_of, together


def read_text(file: RawFile, options: SourceOptions) -> Iterator[Entry | Broken | Keys | Note]:
    """Entries of one file; their values are str, None where there is no text. A sample with several texts has one entry."""
    file = _looked_into(file)
    captions = caption_rows(file)
    if captions is not None:
        yield from _caption_entries(captions, options)
    elif file.format != "txt":
        yield from _row_entries(file, options)
    elif options.lines:
        lines = list(read_lines(file))
        for number, line in enumerate(lines):
            if isinstance(line, Broken):
                yield line
            else:
                yield Entry(key_of(file.stem, number), line[0], partial(str, line[1]), rows=len(lines))
    else:
        yield Entry(file.stem, file.where, partial(read_text_file, file))


def _looked_into(file: RawFile) -> RawFile:
    """The file, to be read twice; one that is damaged as it is, for that is told when it is read."""
    try:
        return file.held()
    except DataError:
        return file


def _caption_entries(rows: Iterator[tuple[str, dict[str, Any]]], options: SourceOptions) -> Iterator[Entry | Note]:
    plain = replace(options, text_column=TEXT)
    for number, (where, cells) in enumerate(rows):
        if not number:
            yield Note("captions", "texts with the keys that stand beside them, as COCO, Flickr or LibriSpeech write them")
        yield _entry([Row(cells[KEY], where, cells)], None, plain, frozenset())


def _row_entries(file: RawFile, options: SourceOptions) -> Iterator[Entry | Broken | Keys]:
    if file.format in COLUMNAR and options.text_column is None:
        _check_holds_texts(file, header_of(file, options))
    keys = _keys(file, options)
    if keys is not None:
        yield keys
    says_missing = options.missing_words and file.format in ("csv", "tsv")  # which have no null
    for group in together(_keyed_rows(file, keys, options), options):
        yield group if isinstance(group, Broken) else _entry(group, keys, options, MISSING if says_missing else frozenset())


def _check_holds_texts(file: RawFile, header: Sequence[str]) -> None:
    """Raise OtherContent for a table without a column of texts: the record of a crawl, or numbers."""
    if len(header) > 1 and TEXT not in header:
        what = f"there is no column {TEXT!r}; the columns are: {', '.join(header)}."
        raise OtherContent(what, where=file.where, fix="Name another with --text-column.")


def _keys(file: RawFile, options: SourceOptions) -> Keys | None:
    """Where the keys are, by the first row that has a text; None where no row has one."""
    for read in rows_of(file, options):
        if isinstance(read, Broken):
            continue
        try:
            columns = _text_columns(*read, options)
        except DataError:
            if file.format != "jsonl":
                raise
            continue
        return row_keys(file, list(read[1]), options, columns)
    return None


def _keyed_rows(file: RawFile, keys: Keys | None, options: SourceOptions) -> Iterator[Row | Broken]:
    for number, read in enumerate(rows_of(file, options)):
        if isinstance(read, Broken):
            yield read
            continue
        where, cells = read
        try:
            _text_columns(where, cells, options)
            assert keys is not None  # a row with a text column has shown where the keys are
            if keys.column is not None:
                require_column(keys.column, cells, where, "--key-column")
            yield Row(keys.of(cells, number), where, cells)
        except DataError as error:
            if file.format != "jsonl":  # elsewhere all rows have the same columns
                raise
            yield Broken(where, error)


def _entry(group: Sequence[Row], keys: Keys | None, options: SourceOptions, missing: frozenset[str]) -> Entry:
    """The entry of the rows of one key: its first text, and further ones where it has several. missing: texts that are none."""
    texts: list[tuple[Any, str, str]] = []
    for _, where, cells in group:
        for column in _text_columns(where, cells, options):
            texts += [(None if _is_one_of(text, missing) else text, column, where) for text in _listed(cells[column])]
    written = [text for text in texts if not _is_blank(text[0])] or texts[:1]
    loads = [partial(_text_of, *text) for text in written] or [partial(_text_of, None, "", "")]
    first = group[0]
    entry = row_entry(first.cells, first.key, first.where, loads[0], options, keys.rows if keys else None)
    return entry if options.captions == "first" else replace(entry, further=loads[1:])


def _text_columns(where: str, row: dict[str, Any], options: SourceOptions) -> list[str]:
    name = options.text_column or (next(iter(row)) if len(row) == 1 and KEY not in row else TEXT)
    names = [name] if name in row else name.split(",")
    return [require_column(name, row, where, "--text-column (or name them all with --columns)") for name in names]


def _listed(cell: Any) -> list[Any]:
    return cell if isinstance(cell, list) else [cell]


def _is_one_of(text: Any, words: frozenset[str]) -> bool:
    return isinstance(text, str) and text.strip() in words


def _is_blank(text: Any) -> bool:
    return text is None or (isinstance(text, str) and not text.strip())


def _text_of(value: Any, column: str, where: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise DataError(
            f"the column {column!r} holds {shown(value)}, which is no text.", where=where, fix="Name another with --text-column."
        )
    if value is not None and not is_unicode(value):
        raise DataError(f"the column {column!r} holds half of a character: {value!r}.", where=where, fix="Write it whole, or leave it out.")
    return value
