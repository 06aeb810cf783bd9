"""Texts: one per .txt file (or per line), a column of CSV, TSV, JSON lines, npz, Parquet and Arrow, or captions of public datasets.

A text that is nothing but a spelling of a missing value (NA, nan, null ...; `None` and `-` are words) is none, whatever the format: scripts
write them into cells and files alike. How many there were is said.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import isnan
from typing import Any

from mmtool.common.errors import DataError
from mmtool.preprocessing.keys import Keys
from mmtool.preprocessing.readers.captions import TEXT, caption_rows
from mmtool.preprocessing.readers.cell_values import decoded, shown
from mmtool.preprocessing.readers.entries import (
    KEY,
    MISSING,
    MISSING_TEXTS,
    Broken,
    Entry,
    MissingWord,
    Note,
    SourceOptions,
    Tally,
    is_unicode,
    key_of,
    name_of,
    require_column,
    row_entry,
)
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.read_errors import OtherContent
from mmtool.preprocessing.readers.records import read_lines, read_text_file
from mmtool.preprocessing.readers.rows import COLUMNAR, Row, header_of, row_keys, rows_of, together


def read_text(file: RawFile, options: SourceOptions) -> Iterator[Entry | Broken | Keys | Note | Tally]:
    """Entries of one file; their values are str, None where there is no text. A sample with several texts has one entry."""
    file, missing = _looked_into(file), MissingTexts(options)
    captions = caption_rows(file, named=bool(options.text_column or options.key_column))
    if captions is not None:
        yield from _caption_entries(captions, options, missing)
    elif file.format != "txt":
        yield from _row_entries(file, options, missing)
    elif options.lines:
        yield from _line_entries(file, missing)
    else:
        yield Entry(file.stem, file.where, lambda: missing.or_word(read_text_file(file)))
    yield from missing.tally()


class MissingTexts:
    """Tells the texts that say they are missing, and counts them."""

    def __init__(self, options: SourceOptions) -> None:
        self._words = (frozenset() if options.keep_na else MISSING) | frozenset(map(name_of, options.table.na))
        self._counts: Counter[str] = Counter()

    def or_word(self, text: Any) -> Any:
        """The text, or the word by which it says that it is missing, which is counted by whoever loads it."""
        word = text.strip() if isinstance(text, str) else ""
        return MissingWord(word) if word and word in self._words else text

    def or_text(self, text: Any) -> Any:
        """The text, None where it says that it is missing, as the NaN does that Python's json writes."""
        if isinstance(text, float) and isnan(text):
            return None
        read = self.or_word(text)
        if not isinstance(read, MissingWord):
            return text
        self._counts[str(read)] += 1
        return None

    def tally(self) -> Iterator[Tally]:
        """How many there were of which spelling, once all texts were looked at."""
        if self._counts:
            yield Tally(MISSING_TEXTS, self._counts)


def _looked_into(file: RawFile) -> RawFile:
    """The file, to be read twice; one that is damaged as it is, for that is reported when it is read."""
    try:
        return file.held()
    except DataError:
        return file


def _line_entries(file: RawFile, missing: MissingTexts) -> Iterator[Entry | Broken]:
    count = sum(1 for _ in read_lines(file))
    for number, line in enumerate(read_lines(file)):
        if isinstance(line, Broken):
            yield line
        else:
            yield Entry(key_of(file.stem, number), line[0], partial(missing.or_word, line[1]), rows=count)


def _caption_entries(rows: Iterator[tuple[str, dict[str, Any]]], options: SourceOptions, missing: MissingTexts) -> Iterator[Entry | Note]:
    plain = replace(options, text_column=TEXT)
    for number, (where, cells) in enumerate(rows):
        if not number:
            yield Note("captions", "texts with the keys that stand beside them, as COCO, Flickr or LibriSpeech write them")
        yield _entry([Row(cells[KEY], where, cells)], None, plain, missing)


def _row_entries(file: RawFile, options: SourceOptions, missing: MissingTexts) -> Iterator[Entry | Broken | Keys]:
    if file.format in COLUMNAR and options.text_column is None:
        _check_holds_texts(file, header_of(file, options))
    keys = _keys(file, options)
    if keys is not None:
        yield keys
    for group in together(_keyed_rows(file, keys, options), options):
        yield group if isinstance(group, Broken) else _entry(group, keys, options, missing)


def _check_holds_texts(file: RawFile, header: Sequence[str]) -> None:
    """Raise OtherContent for a table without a column of texts: the record of a crawl, or numbers."""
    if len(header) > 1 and TEXT not in header:
        what = f"there is no column {TEXT!r}; the columns are: {', '.join(header)}."
        raise OtherContent(what, where=file.where, fix="Name another with --text-column.")


def _keys(file: RawFile, options: SourceOptions) -> Keys | None:
    """Where the keys are; None where no row can be read."""
    for read in rows_of(file, options):
        if not isinstance(read, Broken):
            return row_keys(file, list(read[1]), options, _text_columns(*read, options))
    return None


def _keyed_rows(file: RawFile, keys: Keys | None, options: SourceOptions) -> Iterator[Row | Broken]:
    for number, read in enumerate(rows_of(file, options)):
        if isinstance(read, Broken):
            yield read
        else:
            assert keys is not None  # this row has shown where they are
            yield Row(keys.of(read[1], number), *read)


def _entry(group: Sequence[Row], keys: Keys | None, options: SourceOptions, missing: MissingTexts) -> Entry:
    """The entry of the rows of one key: its first text, and further ones where it has several."""
    texts: list[tuple[Any, str, str]] = []
    for _, where, cells in group:
        for column in _text_columns(where, cells, options):
            texts += [(missing.or_text(decoded(text)), column, where) for text in _listed(cells[column])]
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
