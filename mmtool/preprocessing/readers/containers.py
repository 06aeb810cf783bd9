"""Whether a file of video or sound is whole, by what the containers MPEG-4 and QuickTime, Matroska and WebM, AVI and GIF say of their size.

FFmpeg reads a cut file up to its end, and searches on behind what is damaged, without an error; so does Pillow. The formats: ISO/IEC
14496-12, https://www.rfc-editor.org/rfc/rfc9559, https://learn.microsoft.com/windows/win32/directshow/avi-riff-file-reference and
https://www.w3.org/Graphics/GIF/spec-gif89a.txt
"""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from mmtool.common.errors import DataError

FIRST_BOXES = (b"ftyp", b"styp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
LARGE, TO_THE_END = 1, 0  # sizes of a box that say something else
PADDING_BYTES = 4096  # of zeros behind the last box, to the end of a sector
EBML, SEGMENT, CLUSTER, CRC_32 = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xBF
TOP_LEVEL = (0x114D9B74, 0x1549A966, 0x1654AE6B, CLUSTER, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367)  # of a segment
CRC_BYTES, MAX_ID_BYTES, MAX_SIZE_BYTES = 6, 4, 8
CHUNK_NAME = re.compile(rb"[ -~]{4}")
UNKNOWN_RIFF_SIZES = (0, 0xFFFFFFFF)  # of a file that a program did not close
GIF_HEADER_BYTES, IMAGE_BYTES, EXTENSION_BYTES = 13, 10, 2
IMAGE, EXTENSION, TRAILER = 0x2C, 0x21, 0x3B
RIFF_SLACK = 8  # some programs count the header of the file as well
KEEP_THE_REST = "Get it again; what is there may be kept with FFmpeg: `ffmpeg -i in.{form} out.mp4`."


class _Element(NamedTuple):
    """An element of Matroska: its content lies from `start` to `stop`, which is None where its size is unknown."""

    name: int
    start: int
    stop: int | None


def check_whole(data: bytes, form: str, where: str) -> None:
    """Raise DataError where a file is shorter than its container says, or its parts do not follow one upon the other. form: its extension,
    for a person."""
    try:
        if data[4:8] in FIRST_BOXES:
            _check_boxes(data)
        elif int.from_bytes(data[:4], "big") == EBML:
            _check_matroska(data)
        elif data[:4] == b"RIFF" and data[8:12] == b"AVI ":
            _check_avi(data)
        elif data[:4] == b"GIF8":
            _check_gif(data)
    except _CutError as error:
        raise DataError(f"the file is cut or damaged: {error}.", where=where, fix=KEEP_THE_REST.format(form=form)) from error


class _CutError(Exception):
    """What is wrong."""


def _check_boxes(data: bytes) -> None:
    """The boxes at the top of MPEG-4 and QuickTime files fill the file."""
    offset = 0
    while offset + 8 <= len(data):
        size = struct.unpack_from(">I", data, offset)[0]
        if not any(data[offset : offset + 8]):
            if any(data[offset:]) or len(data) - offset > PADDING_BYTES:
                raise _CutError(f"at byte {offset:,} there are zeros where a part should begin")
            return
        if size == TO_THE_END:
            return
        if size == LARGE and offset + 16 <= len(data):
            size = struct.unpack_from(">Q", data, offset + 8)[0]
        if size < 8:
            raise _CutError(f"no part begins at byte {offset:,}")
        _require(offset + size, len(data))
        offset += size


def _check_avi(data: bytes) -> None:
    """The RIFF lists of an AVI file, of which large ones have several, lie within the file, and the chunks of pictures and sound fill
    theirs."""
    offset = 0
    while data[offset : offset + 4] == b"RIFF" and offset + 12 <= len(data):
        size = struct.unpack_from("<I", data, offset + 4)[0]
        if size in UNKNOWN_RIFF_SIZES:
            return
        _require(offset + size, len(data))
        stop = min(offset + 8 + size, len(data))
        for name, start, end in _chunks(data, offset + 12, stop):
            if name == b"LIST" and data[start : start + 4] == b"movi":
                for _ in _chunks(data, start + 4, end):
                    pass
        offset = stop + stop % 2


def _chunks(data: bytes, offset: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of the chunks in a list."""
    while offset + 8 <= stop:
        name, size = struct.unpack_from("<4sI", data, offset)
        if not CHUNK_NAME.fullmatch(name):
            raise _CutError(f"no part begins at byte {offset:,}")
        end = offset + 8 + size
        _require(end, stop + RIFF_SLACK)
        yield name, offset + 8, min(end, stop)
        is_padded = size % 2 and not (CHUNK_NAME.fullmatch(data[end : end + 4]) and data[end : end + 1] != b"\0")
        offset = end + bool(is_padded)


def _check_gif(data: bytes) -> None:
    """The blocks of a GIF follow one another up to its trailer."""
    offset = GIF_HEADER_BYTES + _colours_bytes(data, GIF_HEADER_BYTES - 3)
    while offset < len(data) and data[offset] != TRAILER:
        if data[offset] == IMAGE:
            offset += IMAGE_BYTES + _colours_bytes(data, offset + IMAGE_BYTES - 1) + 1
        elif data[offset] == EXTENSION:
            offset += EXTENSION_BYTES
        else:
            raise _CutError(f"no part begins at byte {offset:,}")
        while offset < len(data) and data[offset]:
            offset += 1 + data[offset]
        offset += 1
    _require(offset + 1, len(data))


def _colours_bytes(data: bytes, offset: int) -> int:
    """The size of the table of colours that the flags at a place announce."""
    flags = data[offset] if offset < len(data) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _check_matroska(data: bytes) -> None:
    """The elements of Matroska and WebM files fill the file, and have the checksums that they state."""
    head = _element(data, 0, len(data))
    segment = _element(data, head.stop or 0, len(data))
    if segment.name != SEGMENT:
        raise _CutError("there is no segment")
    offset, stop = segment.start, len(data) if segment.stop is None else segment.stop
    while offset < stop:
        element = _element(data, offset, stop)
        end = element.stop
        if end is not None:
            _check_crc(data, element.start, end)
        if element.name == CLUSTER:
            end = _end_of_cluster(data, element.start, stop if end is None else end, open_end=end is None)
        offset = stop if end is None else end


def _end_of_cluster(data: bytes, offset: int, stop: int, *, open_end: bool) -> int:
    """Where the blocks of a cluster end; open_end: at the next element of the segment."""
    while offset < stop:
        element = _element(data, offset, stop)
        if open_end and element.name in TOP_LEVEL:
            break
        offset = stop if element.stop is None else element.stop
    return offset


def _element(data: bytes, offset: int, stop: int) -> _Element:
    """The element at a place. Raises _CutError where there is none, or it ends behind `stop`."""
    id_bytes = 9 - data[offset].bit_length() if offset < stop else 0
    size_place = offset + id_bytes
    size_bytes = 9 - data[size_place].bit_length() if size_place < stop else 0
    start = size_place + size_bytes
    if not (1 <= id_bytes <= MAX_ID_BYTES and 1 <= size_bytes <= MAX_SIZE_BYTES):
        raise _CutError(f"no part begins at byte {offset:,}")
    _require(start, stop)
    largest = (1 << 7 * size_bytes) - 1
    size = int.from_bytes(data[size_place:start], "big") & largest
    if size == largest:
        return _Element(int.from_bytes(data[offset:size_place], "big"), start, None)
    _require(start + size, stop)
    return _Element(int.from_bytes(data[offset:size_place], "big"), start, start + size)


def _check_crc(data: bytes, start: int, stop: int) -> None:
    """The checksum that stands first in an element is that of the rest."""
    if stop - start >= CRC_BYTES and data[start] == CRC_32 and data[start + 1] == 0x84:
        stated = int.from_bytes(data[start + 2 : start + CRC_BYTES], "little")
        if stated != zlib.crc32(memoryview(data)[start + CRC_BYTES : stop]):
            raise _CutError(f"the bytes from {start:,} to {stop:,} do not have their checksum")


def _require(end: int, held: int) -> None:
    """Raise _CutError for a part that ends behind what is there."""
    if end > held:
        raise _CutError(f"a part of it should end at byte {end:,}, and what holds it ends at {held:,}")
