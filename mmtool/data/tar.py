"""A strict subset of tar, written deterministically and read without trust.

Written: USTAR headers with every field fixed (mode 0644, owner 0, time 0), a PAX header before a name that does not fit into
100 bytes, two zero blocks at the end and nothing after them. Read: exactly that. A header that differs by one bit
from the one we would have written is refused, which rules out links, devices, absolute paths and silent damage.
"""

import hashlib
import re
import struct
from typing import IO, NamedTuple

from mmtool.common.errors import DataError

BLOCK = 512
END_OF_ARCHIVE = bytes(2 * BLOCK)
NAME_BYTES = 100
MAX_MEMBER_BYTES = 8**11 - 1  # what eleven octal digits can say: 8 GiB
SAFE_NAME = re.compile(r"[A-Za-z0-9_%-][A-Za-z0-9_%.-]*(/[A-Za-z0-9_%-][A-Za-z0-9_%.-]*)*")
PAX_NAME = b"././@PaxHeader"
FILE, PAX = b"0", b"x"
_HEADER = struct.Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
_TYPES = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"5": "a directory", b"6": "a pipe"}


class CutError(DataError):
    """The archive ends before it is complete."""


class Member(NamedTuple):
    """A file in an archive: its header starts at byte `header`, its `size` bytes of content at `start`."""

    name: str
    header: int
    start: int
    size: int

    def read(self, buffer: memoryview) -> memoryview:
        return buffer[self.start : self.start + self.size]


class TarWriter:
    """Appends members to a binary file and hashes every byte on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.position = 0

    @property
    def digest(self) -> str:
        """sha256 over everything written so far."""
        return self._hash.hexdigest()

    def add(self, name: str, content: bytes) -> None:
        self._write(member_header(name, len(content)) + content + _padding(len(content)))

    def close(self) -> None:
        self._write(END_OF_ARCHIVE)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.position += len(data)


def member_header(name: str, size: int) -> bytes:
    """The header blocks of a plain file. Raises DataError for a name or size that the format does not allow."""
    encoded = name.encode()
    if not SAFE_NAME.fullmatch(name) or size > MAX_MEMBER_BYTES:
        raise DataError("this member name or size cannot be stored in a shard.", where=name)
    if len(encoded) <= NAME_BYTES:
        return _block(encoded, size, FILE)
    record = _pax_record(encoded)
    return _block(PAX_NAME, len(record), PAX) + record + _padding(len(record)) + _block(encoded[:NAME_BYTES], size, FILE)


def read_members(buffer: memoryview, where: object) -> list[Member]:
    """Every member of a whole archive, in order.

    Raises CutError where the archive ends early, DataError for anything that `TarWriter` would not have written.
    """
    members, position = [], 0
    while (block := bytes(buffer[position : position + BLOCK])) != END_OF_ARCHIVE[:BLOCK]:
        member = _read_member(buffer, position, block, where)
        members.append(member)
        position = member.start + _padded(member.size)
    if len(buffer) < position + 2 * BLOCK:
        raise _cut(where)
    if buffer[position:] != END_OF_ARCHIVE:
        raise DataError(
            "something follows the end of the archive.", where=where, fix="Archives cannot be joined by appending: use `mmtool shard`."
        )
    return members


def _read_member(buffer: memoryview, position: int, block: bytes, where: object) -> Member:
    start, long_name = position + BLOCK, b""
    if block[156:157] == PAX:
        record_size = _size(block, where)
        long_name = bytes(buffer[start : start + record_size]).partition(b" path=")[2][:-1]
        start += _padded(record_size) + BLOCK
    header = bytes(buffer[position:start])
    if len(header) < start - position or start > len(buffer):
        raise _cut(where)
    name = (long_name or header[-BLOCK:][:NAME_BYTES].rstrip(b"\0")).decode("utf-8", "replace")
    size = _size(header[-BLOCK:], where)
    _check_header(header, name, size, where)
    if start + _padded(size) > len(buffer):
        raise _cut(where)
    if buffer[start + size : start + _padded(size)] != _padding(size):
        raise _damaged(name, where)
    return Member(name, position, start, size)


def _check_header(header: bytes, name: str, size: int, where: object) -> None:
    kind = header[-BLOCK:][156:157]
    if kind in _TYPES:
        raise DataError(f"the member {name!r} is {_TYPES[kind]}; only plain files are accepted.", where=where)
    if not SAFE_NAME.fullmatch(name):
        raise DataError(f"the member name {name!r} is unsafe or unknown.", where=where, fix="Only shards written by mmtool are read.")
    if header != member_header(name, size):
        raise _damaged(name, where)


def _size(block: bytes, where: object) -> int:
    if len(block) < BLOCK:
        raise _cut(where)
    digits = block[124:135]
    if block[257:262] != b"ustar" or not re.fullmatch(rb"[0-7]{11}", digits):
        raise DataError("this is not a tar archive of mmtool, or it is damaged.", where=where, fix="Restore or rebuild the file.")
    return int(digits, 8)


def _block(name: bytes, size: int, kind: bytes) -> bytes:
    fields = (name, b"0000644", b"0000000", b"0000000", b"%011o" % size, b"00000000000", b" " * 8, kind)
    block = _HEADER.pack(*fields, b"", b"ustar", b"00", b"", b"", b"0000000", b"0000000", b"")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _pax_record(name: bytes) -> bytes:
    body = b" path=" + name + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:  # the number counts its own digits
        length = len(str(length)) + len(body)
    return str(length).encode() + body


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _padding(size: int) -> bytes:
    return bytes(_padded(size) - size)


def _damaged(name: str, where: object) -> DataError:
    return DataError(f"the member {name!r} is damaged or was not written by mmtool.", where=where, fix="Restore or rebuild the file.")


def _cut(where: object) -> CutError:
    return CutError("the archive is cut or incomplete.", where=where, fix="Its writer was interrupted: make it again.")
