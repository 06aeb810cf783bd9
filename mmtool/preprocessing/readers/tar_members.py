"""The members of a tar archive, or of several behind one another; what is damaged between them and behind them is never passed over."""

import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.compressed import OPENERS
from mmtool.preprocessing.readers.entries import Broken

ZSTANDARD = OPENERS["zst"][0]
BLOCK, END_BLOCKS = 512, 2
PIECE_BYTES = 1 << 20
USUAL_RECORD_BYTES = 20 * BLOCK  # to whose multiple archives are filled with zeros
RECORD_BYTES = [BLOCK << power for power in range(5, 12)]  # other sizes that are in use, up to 1 MiB
ONE_BY_ONE = "Get it again, or unpack it and give the folder."


class Member(NamedTuple):
    """info: of a member of an archive; content: of that which holds its content, None where none does. A hard link has that of the member
    before it whose other name it is, as `tar` writes the second one of a file that has several."""

    archive: tarfile.TarFile
    info: tarfile.TarInfo
    content: tarfile.TarInfo | None


def tar_members(path: Path, file: IO[bytes]) -> Iterator[Member | Broken]:
    """Members, one after another, and what is broken: a member whose header is damaged, an archive that is cut, and what follows the last
    one. A whole archive may follow another, as `cat` appends them."""
    begin = file.read(len(ZSTANDARD))
    file.seek(0)
    if begin == ZSTANDARD:
        fix = "Unpack it: `zstd -d x.tar.zst` makes x.tar of it. Read are .tar, and such archives with gzip, bzip2 or xz."
        yield Broken(str(path), DataError("the archive is compressed with Zstandard, which is not read.", where=path, fix=fix))
        return
    try:
        with tarfile.open(fileobj=file, ignore_zeros=True) as archive:  # so a damaged header does not end it: the next whole one is sought
            end, files = 0, dict[str, tarfile.TarInfo]()
            for info in archive:
                if info.offset != end and not _ends_archive(archive, end, info.offset):
                    yield _broken(f"the archive is damaged: byte {end:,} should begin a member.", path)
                end = archive.offset
                content = files.get(posixpath.normpath(info.linkname)) if info.islnk() else info if info.isfile() else None
                if content is not None:
                    files[posixpath.normpath(info.name)] = content
                yield Member(archive, info, content)
            if (what := _wrong_behind(archive, end)) is not None:
                yield _broken(what, path)
    except (tarfile.TarError, EOFError, zlib.error, OSError, lzma.LZMAError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk; those of gzip and bz2 have none
            raise
        yield _broken(f"the archive is damaged or cut ({error}).", path)


def _ends_archive(archive: tarfile.TarFile, offset: int, stop: int) -> bool:
    """Whether there is nothing but zeros between two members, and enough of them to end the first one's archive."""
    held, zeros = _zeros_from(archive, offset, stop)
    return held == zeros >= END_BLOCKS * BLOCK


def _wrong_behind(archive: tarfile.TarFile, end: int) -> str | None:
    """What is wrong with what follows the last member; None for an end mark, and zeros that fill the last record."""
    held, zeros = _zeros_from(archive, end)
    if zeros < BLOCK:
        return "the archive is cut or damaged: it has no end mark."
    if zeros < held:
        return f"the archive is damaged: behind its end mark, something follows at byte {end + zeros:,} that is no archive."
    filling, size = zeros - END_BLOCKS * BLOCK, end + held
    if filling >= USUAL_RECORD_BYTES and not any(filling < record and size % record == 0 for record in RECORD_BYTES):
        return f"the archive seems to be part of a download: from byte {end:,} on there are {zeros:,} zeros, more than end an archive."
    return None


def _zeros_from(archive: tarfile.TarFile, offset: int, stop: int | None = None) -> tuple[int, int]:
    """How many bytes follow a place (up to `stop`), and how many of the first ones are zeros; not counted on behind others."""
    assert archive.fileobj is not None
    archive.fileobj.seek(offset)
    held = 0
    while piece := archive.fileobj.read(PIECE_BYTES if stop is None else min(PIECE_BYTES, stop - offset - held)):
        zeros = len(piece) - len(piece.lstrip(b"\0"))
        if zeros < len(piece):
            return held + len(piece), held + zeros
        held += len(piece)
    return held, held


def _broken(what: str, path: Path) -> Broken:
    return Broken(str(path), DataError(what, where=path, fix=ONE_BY_ONE))
