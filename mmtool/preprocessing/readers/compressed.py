"""Compressed files, by their names or by the bytes that they begin with: gzip, bzip2, xz and Zstandard."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from mmtool.common.errors import DataError, UsageError

PIECE_BYTES = 1 << 20
MAGIC_BYTES = 10  # with which a file shows how it is compressed
Opener = Callable[[IO[bytes]], Any]


def _open_zstandard(file: IO[bytes]) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[parquet]'`, or unpack the file."
        raise UsageError("reading .zst needs pyarrow.", fix=fix) from error
    return pyarrow.CompressedInputStream(pyarrow.PythonFile(file, mode="r"), "zstd")


class _InPieces:
    """A stream that would reserve all the memory that a `read` might need."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        """At most `size` bytes, in pieces."""
        pieces = []
        while size > 0 and (piece := self._stream.read(min(PIECE_BYTES, size))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


OPENERS: dict[str, tuple[bytes, Opener]] = {  # suffix -> first bytes, and what reads it
    "gz": (b"\x1f\x8b\x08", lambda file: gzip.GzipFile(fileobj=file)),
    "bz2": (b"BZh", bz2.BZ2File),
    "xz": (b"\xfd7zXZ\0", lzma.LZMAFile),
    "zst": (b"\x28\xb5\x2f\xfd", _open_zstandard),
}
BZIP2_BLOCK = b"1AY&SY"  # stands behind `BZh` and a digit: text may begin with BZh as well


def is_compressed(name: str) -> bool:
    """Whether a file is compressed by its name."""
    return name.lower().rpartition(".")[2] in OPENERS


def decompressed(file: IO[bytes], name: str) -> Any:
    """The stream that a seekable file holds, decompressed where its name says so or its first bytes do."""
    suffix = name.lower().rpartition(".")[2]
    if suffix not in OPENERS:
        head = file.read(MAGIC_BYTES)
        file.seek(0)
        suffix = next((suffix for suffix, (magic, _) in OPENERS.items() if head.startswith(magic)), "")
        if suffix == "bz2" and head[4:] != BZIP2_BLOCK:
            suffix = ""
    return OPENERS[suffix][1](file) if suffix else file


def read_bytes(file: IO[bytes], name: str, where: object, size: int) -> bytes:
    """The first `size` bytes of a seekable file, decompressed. Raises DataError where it is cut or damaged before."""
    with damage_named(where):
        return _InPieces(decompressed(file, name)).read(size)


@contextmanager
def damage_named(where: object) -> Iterator[None]:
    """Whatever the libraries raise at damaged content becomes DataError."""
    try:
        yield
    except UsageError as error:
        raise UsageError(error.what, where=where, fix=error.fix) from error
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, zipfile.BadZipFile, tarfile.ReadError) as error:
        raise DataError(f"the file is damaged or cut ({error}).", where=where, fix="Get it again.") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise DataError(f"the file is damaged or cut ({error}).", where=where, fix="Get it again.") from error  # bzip2 and zstd


class Stream(io.RawIOBase):
    """A seekable file, decompressed, as a stream that need not fit into memory. Reading raises DataError where it is cut or damaged."""

    def __init__(self, file: IO[bytes], name: str, where: object) -> None:
        self._file, self._where = file, where
        with damage_named(where):
            self._content = decompressed(file, name)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with damage_named(self._where):
            piece = self._content.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._file.close()
        super().close()
