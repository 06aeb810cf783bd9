"""Captions and transcripts as public datasets write them, recognised by their content: COCO, Flickr8k and Flickr30k, LibriSpeech.

Each becomes rows of a key and a text, or a list of texts where a key has several.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.entries import KEY
from mmtool.preprocessing.readers.raw_files import RawFile, split_name
from mmtool.preprocessing.readers.read_errors import OtherContent
from mmtool.preprocessing.readers.records import read_text_file

TEXT = "text"
TOKEN_LINE = re.compile(r"(?P<file>[^\t]+\.\w+)#(?P<number>\d+)\t(?P<text>.*)")  # of Flickr8k.token.txt and results_20130124.token
BAR_HEADER = re.compile(r"image(_name)?\|\s*comment_number\|\s*comment")  # of Flickr30k's results.csv
BAR_LINE = re.compile(r"(?P<file>[^|]+)\|\s*(?P<number>\d+)\s*\|\s*(?P<text>.*)")
PAIR_HEADER = "image,caption"  # of Flickr8k's captions.txt
TRANSCRIPTS, TRANSCRIPT_LINE = ".trans.txt", re.compile(r"(?P<id>\S+)\s+(?P<text>.+)")
LISTS = re.compile(r"(SPEAKERS|CHAPTERS|BOOKS)\.TXT")  # of LibriSpeech, with notes behind `;`
Rows = Iterator[tuple[str, dict[str, Any]]]
JSON_FIX = "Write one JSON object per line (.jsonl)."


def caption_rows(file: RawFile, *, named: bool = False) -> Rows | None:
    """Rows of the file as (where, {key, text}), None where it is in no such layout. named: columns were named, and a
    plain CSV is read by them. Raises OtherContent for lists that stand beside transcripts, and for other JSON."""
    if LISTS.fullmatch(PurePosixPath(file.where).name) and file.read()[:1] == b";":
        raise OtherContent("this is a list of LibriSpeech, no text.", where=file.where, fix="Leave it out.")
    if file.format == "json":
        return _coco_rows(file)
    reader = _line_reader(file, named=named)
    return None if reader is None else reader(file)


def is_transcript(name: str) -> bool:
    """Whether a file is called as LibriSpeech calls its transcripts."""
    return name.endswith(TRANSCRIPTS)


def _line_reader(file: RawFile, *, named: bool) -> Callable[[RawFile], Rows] | None:
    if is_transcript(PurePosixPath(file.where).name):
        return _transcript_rows
    if file.format not in ("txt", "csv", "token"):
        return None
    try:
        first = read_text_file(file).partition("\n")[0].rstrip("\r")
    except DataError:  # it is reported when the file is read
        return None
    if TOKEN_LINE.fullmatch(first):
        return _token_rows
    if first.strip() == PAIR_HEADER:
        return None if named and file.format == "csv" else _pair_rows
    return _bar_rows if file.format == "csv" and BAR_HEADER.fullmatch(first.strip()) else None


def _coco_rows(file: RawFile) -> Rows:
    """One row per image, keyed by its file name; images without a caption have an empty list. Raises OtherContent for other JSON."""
    try:
        data = json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise DataError(f"this is not JSON ({error}).", where=file.where, fix=JSON_FIX) from error
    images, annotations = (data.get(name) if isinstance(data, dict) else None for name in ("images", "annotations"))
    if not (isinstance(images, list) and isinstance(annotations, list) and annotations and "caption" in annotations[0]):
        raise OtherContent("this JSON holds no captions in the layout of COCO.", where=file.where, fix=JSON_FIX)
    _check_once(images, "id", file.where)
    _check_once(images, "file_name", file.where)
    _check_once([annotation for annotation in annotations if "id" in annotation], "id", file.where, "annotations")
    texts: dict[Any, list[Any]] = {image["id"]: [] for image in images}
    for number, annotation in enumerate(annotations):
        if annotation.get("image_id") not in texts:
            what = f"annotation {number} is of the image {annotation.get('image_id')!r}, which is not listed."
            raise DataError(what, where=file.where, fix="Get the file again.")
        texts[annotation["image_id"]].append(annotation.get("caption"))
    for image in images:
        yield f"{file.where}, image {image['id']}", {KEY: _stem(str(image["file_name"])), TEXT: texts[image["id"]]}


def _check_once(records: Sequence[Mapping[str, Any]], field: str, where: str, name: str = "images") -> None:
    """Raise DataError for two records of COCO with the same id, or of the same file."""
    seen: dict[Any, int] = {}
    for number, record in enumerate(records):
        if field not in record:
            raise DataError(f"entry {number} of `{name}` has no `{field}`.", where=where, fix="Get the file again.")
        before = seen.setdefault(record[field], number)
        if before != number:
            what = f"entries {before} and {number} of `{name}` have the same `{field}`, {record[field]!r}"
            files = f" ({records[before].get('file_name')} and {record.get('file_name')})" if name == "images" and field == "id" else ""
            raise DataError(f"{what}{files}.", where=where, fix="Give each its own, or keep one of them.")


def _token_rows(file: RawFile) -> Rows:
    return _grouped(file, TOKEN_LINE, 1)


def _bar_rows(file: RawFile) -> Rows:
    return _grouped(file, BAR_LINE, 2)


def _pair_rows(file: RawFile) -> Rows:
    """One row per picture, with all its captions in their order."""
    captions: dict[str, tuple[str, list[str]]] = {}
    for number, cells in enumerate(csv.reader(read_text_file(file).splitlines()), 1):
        where = f"{file.where}:{number}"
        if len(cells) not in (0, 2):
            raise DataError(f"{len(cells)} cells where the header has 2.", where=where, fix="Mend the line.")
        if number > 1 and cells:
            captions.setdefault(_stem(cells[0].strip()), (where, []))[1].append(cells[1].strip())
    for key, (where, texts) in captions.items():
        yield where, {KEY: key, TEXT: texts}


def _grouped(file: RawFile, line_of: re.Pattern[str], first: int) -> Rows:
    """One row per picture, with all its captions in the order of their numbers."""
    by_image: dict[str, tuple[str, list[tuple[int, str]]]] = {}
    for number, line in enumerate(read_text_file(file).splitlines(), 1):
        if number < first or not line.strip():
            continue
        match, where = line_of.fullmatch(line.rstrip()), f"{file.where}:{number}"
        if match is None:
            raise DataError(f"{line[:60]!r} is no line of captions like the ones before.", where=where, fix="Mend the line.")
        by_image.setdefault(_stem(match["file"].strip()), (where, []))[1].append((int(match["number"]), match["text"].strip()))
    for key, (where, texts) in by_image.items():
        yield where, {KEY: key, TEXT: [text for _, text in sorted(texts)]}


def _transcript_rows(file: RawFile) -> Rows:
    """One row per utterance, keyed like its recording: by the folder of the transcript and the id."""
    folder = file.stem.rpartition("/")[0]
    for number, line in enumerate(read_text_file(file).splitlines(), 1):
        match, where = TRANSCRIPT_LINE.fullmatch(line.strip()), f"{file.where}:{number}"
        if match is None and line.strip():
            raise DataError(f"{line[:60]!r} is no id and its text.", where=where, fix="Mend the line.")
        if match is not None:
            yield where, {KEY: f"{folder}/{match['id']}" if folder else match["id"], TEXT: match["text"]}


def _stem(name: str) -> str:
    return split_name(name)[0]
