"""Records that carry their own digest: a changed byte is found by whoever reads one, and a record is read in no other way.

A sealed record is a JSON object whose field `digest` is the sha256 of everything else in it (and of the tensors that it lies beside).
What an earlier version wrote has none: its `format` says so, and it is accepted as it is.
"""

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mmtool.common.errors import DataError, MmtoolError
from mmtool.common.storage import canonical_json, sha256_bytes, write_json

T = TypeVar("T")
DIGEST = "digest"
FAILING = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # of the machine, not of a file


def digest_of(record: Mapping[str, Any], tensors: Mapping[str, np.ndarray] | None = None) -> str:
    """sha256 of a record without its digest, and of name, type, shape and bytes of tensors in order of their names."""
    parts = [canonical_json({name: value for name, value in record.items() if name != DIGEST}).encode()]
    for name, tensor in sorted((tensors or {}).items()):
        parts += [f"{name} {tensor.dtype} {tensor.shape}".encode(), np.ascontiguousarray(tensor).tobytes()]
    return sha256_bytes(b"".join(sha256_bytes(part).encode() for part in parts))


def sealed(record: Mapping[str, Any], tensors: Mapping[str, np.ndarray] | None = None) -> dict[str, Any]:
    """The record with its digest."""
    return {**record, DIGEST: digest_of(record, tensors)}


def check_seal(
    record: Mapping[str, Any], where: object, fix: str, *, tensors: Mapping[str, np.ndarray] | None = None, unsealed: bool = False
) -> None:
    """Raise DataError where the digest is not that of the record. unsealed: an earlier version wrote it, so it may have none."""
    if DIGEST not in record and unsealed:
        return
    with reading(where, fix):
        if record.get(DIGEST) == digest_of(record, tensors):
            return
    raise DataError("it was changed or damaged: its digest is not the one recorded.", where=where, fix=fix)


def write_sealed(path: Path, record: Mapping[str, Any]) -> None:
    """A record as readable JSON with its digest, written atomically."""
    write_json(path, sealed(json.loads(canonical_json(record))))


def read_json(path: Path, fix: str) -> dict[str, Any]:
    """The JSON object in a file. Raises DataError where it cannot be read or holds anything else."""
    with reading(path, fix):
        record = json.loads(Path(path).read_bytes())
    if not isinstance(record, dict):
        raise DataError("it holds no JSON object.", where=path, fix=fix)
    return record


@contextmanager
def reading(where: object, fix: str) -> Iterator[None]:
    """Around the reading of bytes that anybody may have written: whatever a library raises there becomes DataError.

    Deep nesting exhausts the stack (RecursionError), and a size in a damaged header the memory (MemoryError).
    """
    try:
        yield
    except MmtoolError:
        raise
    except OSError as error:
        raise DataError(f"it cannot be read ({error.strerror or error}).", where=where, fix=fix) from error
    except Exception as error:
        asked_too_much = isinstance(error, MemoryError)
        reason = "it asks for more memory than there is" if asked_too_much else " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"it is damaged ({reason}).", where=where, fix=fix) from error


@contextmanager
def foreign(where: object) -> Iterator[None]:
    """The same for a raw file; a disk or a machine that fails is no fault of the file, and stays the error that it is."""
    try:
        with reading(where, "Get the file again, or leave it out."):
            yield
    except DataError as error:
        if isinstance(error.__cause__, OSError) and error.__cause__.errno in FAILING:
            raise error.__cause__ from None
        raise


def guarded(entries: Iterator[T], where: object) -> Iterator[T]:
    """What a reader of a raw file yields; see `foreign`."""
    while True:
        with foreign(where):
            try:
                entry = next(entries)
            except StopIteration:
                return
        yield entry
