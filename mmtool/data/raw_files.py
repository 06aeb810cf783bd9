"""Tells raw files, which are to be tokenized first, from token tars that are whole, cut or damaged."""

import shlex
import tarfile
from pathlib import Path

from mmtool.common.errors import DataError
from mmtool.data.shard_format import MANIFEST
from mmtool.data.tar import BLOCK

OURS = MANIFEST.partition("/")[0].encode() + b"/"


def check_no_raw_file(buffer: memoryview, where: object) -> None:
    """Raise DataError where bytes that are read as a token tar are a raw file or an archive of such. where: its path, or a name."""
    head = bytes(buffer[:BLOCK])
    if head.startswith(OURS) or OURS.startswith(head):
        return
    is_tar, name = _is_tar(head), str(where) if isinstance(where, Path) else "FILE"
    if is_tar or not (name.endswith(".tar") or head[257:262] == b"ustar"):  # else it is a tar with a damaged header
        what = f"this is {'an archive of raw files' if is_tar else 'a raw file'}, not a token set."
        fix = (
            f"Tokenize it first: `mmtool tokenize KIND {shlex.quote(name)} --fit -o tokens.tar` (KIND is what it holds: image, table ...)."
        )
        raise DataError(what, where=where, fix=fix)


def _is_tar(head: bytes) -> bool:
    """Whether the first bytes of a file are the header of a member, its checksum right."""
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "replace")
    except tarfile.HeaderError:
        return False
    return True
