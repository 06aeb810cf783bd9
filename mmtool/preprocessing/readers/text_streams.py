"""Text files as streams of characters, which need not fit into memory: UTF-8, or UTF-16 with its mark."""

import io
from collections.abc import Iterator
from typing import Literal, TextIO

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.delimited import BYTE_ORDER_MARKS
from mmtool.preprocessing.readers.raw_files import RawFile

MAX_LINE = 1 << 28  # characters
LineEnds = Literal["", "\n"]  # as of `open`: any, left as they are; or line feeds alone


def open_text(file: RawFile, newline: LineEnds = "") -> TextIO:
    """The text of a file from its beginning. Bytes that are not UTF-8 become halves of characters, which `csv_rows.damage` finds.

    Text without a line feed, in UTF-16, or in an archive is held in memory.
    """
    stream = file.open()
    head = stream.peek() if isinstance(stream, io.BufferedReader) else b""
    if b"\n" in head and not head.startswith(tuple(BYTE_ORDER_MARKS)):
        return io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline=newline)
    with stream:
        return io.StringIO(decoded(stream.read()), newline=newline)


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
