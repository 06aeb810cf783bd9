"""Text files as streams of characters, which need not fit into memory: UTF-8, or UTF-16 with its mark."""

import io
from collections.abc import Iterator
from typing import Literal, TextIO

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.delimited import BYTE_ORDER_MARKS
from mmtool.preprocessing.readers.raw_files import RawFile

MAX_LINE = 1 << 28  # characters
HEAD_BYTES = 256  # by which it is seen whether a file is text
ENCODINGS = ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE")
SAVE_AS_TEXT = "Save it as text."
OTHER_FORMATS = {
    b"PK\3\4": ("an Excel workbook or a zip archive", "Call it .xlsx where it is a table, or .zip; or save it as CSV."),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook (.xls)", "Save it as CSV, or as .xlsx."),
    b"PAR1": ("Parquet", "Call it .parquet."),
    b"%PDF-": ("a PDF", SAVE_AS_TEXT),
    b"\x89PNG": ("a picture (PNG)", "Give it as an image."),
    b"\x89HDF": ("HDF5", "Call it .h5, or .h5ad if it is AnnData."),
}
LineEnds = Literal["", "\n"]  # as of `open`: any, left as they are; or line feeds alone


def open_text(file: RawFile, newline: LineEnds = "") -> TextIO:
    """The text of a file from its beginning. Bytes that are not UTF-8 become halves of characters, which `csv_rows.damage` finds.

    Text without a line feed, in UTF-16, or in an archive is held in memory. Raises DataError for what is no text by its first bytes.
    """
    stream = file.open()
    head = stream.peek() if isinstance(stream, io.BufferedReader) else b""
    check_text(head or (stream.getvalue()[:HEAD_BYTES] if isinstance(stream, io.BytesIO) else b""), file.where)
    if b"\n" in head and not head.startswith(tuple(BYTE_ORDER_MARKS)):
        return io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline=newline)
    with stream:
        return io.StringIO(decoded(stream.read()), newline=newline)


def check_text(head: bytes, where: str) -> None:
    """Raise DataError for a file that begins as other formats do, or as text in two or four bytes for each character without a mark."""
    other = next(((name, fix) for mark, (name, fix) in OTHER_FORMATS.items() if head.startswith(mark)), None)
    if other is not None:
        raise DataError(f"this is no text, but seems to be {other[0]}.", where=where, fix=other[1])
    head = head[: len(head[:HEAD_BYTES]) // 4 * 4]
    if head.count(b"\0") < len(head) / 4 or not head or head.startswith(tuple(BYTE_ORDER_MARKS)):
        return
    for encoding in ENCODINGS:
        text = head.decode(encoding, "replace")
        if sum(character.isascii() and character != "\0" for character in text) > len(text) / 2:
            fix = f"Convert it: `iconv -f {encoding} -t UTF-8 in.csv > out.csv`."
            raise DataError(f"the text seems to be {encoding} without a byte order mark.", where=where, fix=fix)


def lines_of(text: TextIO, where: str) -> Iterator[str]:
    """The lines of a text with their ends. Raises DataError for one that is longer than any table has."""
    while line := text.readline(MAX_LINE):
        if len(line) == MAX_LINE and not line.endswith("\n"):
            what = f"a line is longer than {MAX_LINE >> 20} million characters."
            raise DataError(what, where=where, fix="Get the file again, or leave it out.")
        yield line
    text.close()


def decoded(data: bytes) -> str:
    """The text of bytes without their mark, in the encoding that it says; what is not UTF-8 as halves of characters."""
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return data.decode("utf-8-sig", "surrogateescape")
    return text if "\n" in text else text.replace("\r", "\n")  # as old Macs ended lines
