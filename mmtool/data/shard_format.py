"""What one token shard holds: a tar that plain `webdataset` reads, in which absence is declared and damage shows.

    __mmtool__/manifest.json            format, modalities, vocabulary layout, protocol
    __mmtool__/tokenizers/NAME.safetensors
    KEY.json                            {"key", "present", "labels", "metadata", "split"}, samples in order of their keys
    KEY.MODALITY.npy                    uint16 or uint32 codes (L,), or uint8 patches (L, values)
    __mmtool__/end.json                 counts, longest segments, sha256 over every byte before it

KEY is percent-encoded, so that neither dots nor slashes of a key can be taken for something else. `shard_writer` and
`shard_reader` build on these definitions: a reader accepts what the writer would have written, byte for byte.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args
from urllib.parse import quote

import numpy as np

from mmtool.common.errors import DataError
from mmtool.common.storage import canonical_json, sha256_bytes
from mmtool.data.entries import Entries
from mmtool.data.layout import layout_of
from mmtool.data.sample import Modality
from mmtool.kinds import KINDS
from mmtool.tokenizers.base import Positions

FORMAT = "mmtool-shards/1"
MANIFEST, END, TOKENIZERS = "__mmtool__/manifest.json", "__mmtool__/end.json", "__mmtool__/tokenizers/"
PART = "part"  # in the protocol: which part of the samples was tokenized, as 2/8
SAMPLES = "samples"  # the count of all samples stands beside those of the modalities, so no modality may be called so
LONGEST_STEM = 200  # of a file name's 255 bytes; suffixes, and the mark of what is half written, need the others
MODALITY_NAME = re.compile(r"[a-z][a-z0-9_-]*")  # webdataset folds suffixes to lower case
NPY_HEADER_BYTES = 128
ABSENT = -1


@dataclass(frozen=True)
class Shard:
    """A shard as written or verified.

    digest: of everything before the end record; sha256: of the file.
    """

    modalities: tuple[Modality, ...]
    tokenizers: dict[str, bytes]
    protocol: dict[str, Any]
    entries: Entries
    digest: str
    sha256: str


def encode_key(key: str) -> str:
    """The key as it stands in member names: letters, digits, `_`, `-`, and `%XX` for every other byte."""
    if not key:
        raise DataError("a sample has an empty key.", fix="Give every sample a key.")
    try:
        return quote(key, safe="").replace(".", "%2E").replace("~", "%7E")
    except UnicodeEncodeError as error:
        raise DataError("this sample key is not valid text.", where=repr(key), fix="Rename the file, or give a key column.") from error


def file_stem(key: str) -> str:
    """The encoded key as it stands in names of files, which may have 255 bytes: of a long one the head, `~` and its hash."""
    encoded = encode_key(key)
    if len(encoded) <= LONGEST_STEM:
        return encoded
    end = f"~{sha256_bytes(key.encode())[:16]}"
    return re.sub("%.?$", "", encoded[: LONGEST_STEM - len(end)]) + end


def code_dtype(modality: Modality) -> np.dtype[Any]:
    """uint8 for continuous patches; otherwise uint16 where every code fits, else uint32."""
    if modality.continuous:
        return np.dtype("u1")
    return np.dtype("<u2" if modality.vocabulary_size <= 1 << 16 else "<u4")


def patch_width(modality: Modality) -> int:
    """Values per token: 1 for codes."""
    return max(1, modality.patch_width)


def segment_length(modality: Modality) -> int | None:
    """Tokens in every segment of the modality; None where it varies."""
    if modality.shape is None:
        return None
    return math.prod(modality.shape) // patch_width(modality)


@lru_cache(maxsize=1 << 14)
def npy_header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """Version 1.0 of the npy header, padded to 128 bytes whatever the shape (numpy's own padding depends on its version)."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    size = NPY_HEADER_BYTES - 10
    return b"\x93NUMPY\x01\x00" + size.to_bytes(2, "little") + text.ljust(size - 1).encode() + b"\n"


def array_header(modality: Modality, length: int) -> bytes:
    """The npy header of a segment of `length` tokens."""
    shape = (length, patch_width(modality)) if modality.continuous else (length,)
    return npy_header(code_dtype(modality).str, shape)


def manifest_record(modalities: Sequence[Modality], protocol: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "modalities": [modality.to_json() for modality in modalities],
        "layout": layout_of(modalities).to_json(),
        "protocol": dict(protocol),
    }


def end_record(modalities: Sequence[Modality], entries: Entries, digest: str) -> dict[str, Any]:
    """Counts and longest segments per modality, and the digest of all that stands before the record."""
    lengths = entries.lengths
    counts = {modality.name: int((lengths[:, m] != ABSENT).sum()) for m, modality in enumerate(modalities)}
    longest = {modality.name: int(lengths[:, m].max(initial=0)) for m, modality in enumerate(modalities)}
    return {"counts": {SAMPLES: len(entries), **counts}, "max_length": longest, "digest": digest}


def json_bytes(value: Any, where: object) -> bytes:
    """Canonical JSON. Raises DataError for what JSON cannot hold (NaN, arrays, bytes)."""
    try:
        return canonical_json(value).encode()
    except (TypeError, ValueError) as error:
        raise DataError(f"this cannot be stored as JSON ({error}).", where=where, fix="Use text, finite numbers or null.") from error


def check_modalities(modalities: Sequence[Modality], where: object = None) -> None:
    """Raise DataError unless the modalities are sound: distinct lower-case names, known kinds, possible shapes."""
    names = [modality.name for modality in modalities]
    if len(set(names)) < len(names):
        raise DataError(f"two modalities have the same name: {', '.join(names)}.", where=where, fix="Give each its own name with --name.")
    for modality in modalities:
        reason = _unsound(modality)
        if reason:
            raise DataError(f"the modality {modality.name!r} {reason}.", where=where)


def _unsound(modality: Modality) -> str | None:
    if not MODALITY_NAME.fullmatch(modality.name) or modality.name == SAMPLES:
        return f"needs another name: lower-case letters, digits, `_`, `-`, a letter first, and not {SAMPLES!r}"
    if modality.kind not in KINDS or modality.positions not in get_args(Positions):
        return f"is of an unknown kind ({modality.kind!r}) or has unknown positions ({modality.positions!r})"
    if not 0 <= modality.vocabulary_size <= 1 << 32:
        return f"has an impossible vocabulary of {modality.vocabulary_size} codes"
    if modality.shape is not None and min(modality.shape, default=0) < 1:
        return f"has an impossible shape {modality.shape}"
    if modality.continuous and (len(modality.shape) < 2 if modality.shape else modality.values < 1):
        return "is continuous, so its shape must end in the number of values per patch"
    if modality.values and (modality.shape or not modality.continuous):
        return f"cannot have patches of {modality.values} values: only a continuous modality of varying length states them apart"
    return None
