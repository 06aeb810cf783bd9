"""Verifies a token shard from its first byte to its last, and says where everything lies in it."""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mmtool.common.errors import DataError
from mmtool.common.seal import reading
from mmtool.common.storage import sha256_bytes
from mmtool.data.entries import Entries, EntryList
from mmtool.data.sample import SPLITS, Modality
from mmtool.data.shard_format import (
    ABSENT,
    END,
    FORMAT,
    MANIFEST,
    NPY_HEADER_BYTES,
    TOKENIZERS,
    Shard,
    array_header,
    check_modalities,
    code_dtype,
    encode_key,
    end_record,
    json_bytes,
    manifest_record,
    patch_width,
    segment_length,
)
from mmtool.data.tar import CutError, Member, read_members

ALLOWED = (".json", ".npy", ".safetensors")
RECORD_TYPES = {"key": str, "present": list, "labels": dict, "metadata": dict, "split": str}
REBUILD = "Restore the file, or make it again."


def read_shard(buffer: memoryview, where: object) -> Shard:
    """Verify a whole shard.

    Raises CutError where it is incomplete, DataError for damage and for anything that the writer would not have written.
    """
    with reading(where, REBUILD):
        return _read(buffer, where)


def _read(buffer: memoryview, where: object) -> Shard:
    members = read_members(buffer, where)
    for member in members:
        if not member.name.endswith(ALLOWED):
            raise DataError(f"the member {member.name!r} is of a type that is not accepted ({', '.join(ALLOWED)}).", where=where)
    if not members or members[0].name != MANIFEST:
        raise DataError("this is not a token set of mmtool: it has no manifest.", where=where, fix="Make one with `mmtool tokenize`.")
    if members[-1].name != END:
        raise CutError("the shard has no end record: it is cut, incomplete or spliced.", where=where, fix=REBUILD)
    end = members[-1]
    hashed = hashlib.sha256(buffer[: end.header])
    digest = hashed.hexdigest()
    if _load(end.read(buffer), END, where).get("digest") != digest:
        raise DataError("the content does not match its digest: the shard is damaged.", where=where, fix=REBUILD)
    modalities, protocol = _read_manifest(members[0].read(buffer), where)
    num_tokenizers = sum(member.name.startswith(TOKENIZERS) for member in members)
    tokenizers = _read_tokenizers(buffer, members[1 : 1 + num_tokenizers], modalities, where)
    entries = _read_samples(buffer, members[1 + num_tokenizers : -1], modalities, where)
    if end.read(buffer) != json_bytes(end_record(modalities, entries, digest), END):
        raise DataError("the end record does not match the samples: the shard is damaged or spliced.", where=where, fix=REBUILD)
    hashed.update(buffer[end.header :])
    return Shard(modalities, tokenizers, protocol, entries, digest, hashed.hexdigest())


def read_record(buffer: memoryview, place: tuple[int, int]) -> dict[str, Any]:
    """The JSON record of a sample of a verified shard."""
    start, size = place
    record: dict[str, Any] = json.loads(bytes(buffer[start : start + size]))
    return record


def token_format(modality: Modality) -> tuple[np.dtype[Any], int]:
    """(type of a value, values in a patch or 0 for codes) of a modality, as `read_tokens` wants them."""
    return code_dtype(modality), patch_width(modality) if modality.continuous else 0


def read_tokens(buffer: memoryview, dtype: np.dtype[Any], width: int, start: int, length: int) -> np.ndarray:
    """The values of one segment of a verified shard, copied out: (L,) codes or (L, values) patches; see `token_format`."""
    if not width:
        return np.frombuffer(buffer, dtype, length, start).copy()
    return np.frombuffer(buffer, dtype, length * width, start).copy().reshape(length, width)


def _load(content: memoryview, name: str, where: object) -> dict[str, Any]:
    try:
        record = json.loads(bytes(content), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the member {name!r} is damaged: not JSON.", where=where, fix=REBUILD) from error
    if not isinstance(record, dict):
        raise DataError(f"the member {name!r} is not a JSON object.", where=where)
    return record


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _read_manifest(content: memoryview, where: object) -> tuple[tuple[Modality, ...], dict[str, Any]]:
    record = _load(content, MANIFEST, where)
    if record.get("format") != FORMAT:
        raise DataError(f"the format {record.get('format')!r} is unknown; this version reads {FORMAT}.", where=where)
    try:
        modalities = tuple(Modality.from_json(modality) for modality in record["modalities"])
        check_modalities(modalities, where)
        expected = json_bytes(manifest_record(modalities, record["protocol"]), MANIFEST)
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError("the manifest is not in order.", where=where, fix=REBUILD) from error
    if content != expected:
        raise DataError("the manifest's vocabulary layout does not follow from its modalities.", where=where, fix=REBUILD)
    return modalities, record["protocol"]


def _read_tokenizers(buffer: memoryview, members: Sequence[Member], modalities: Sequence[Modality], where: object) -> dict[str, bytes]:
    """Tokenizer files by modality. All of them or, in a later shard of a directory, none."""
    names = [member.name for member in members]
    if names and names != [f"{TOKENIZERS}{modality.name}.safetensors" for modality in modalities]:
        raise DataError("the embedded tokenizers do not match the modalities.", where=where, fix=REBUILD)
    tokenizers = {}
    for modality, member in zip(modalities, members, strict=False):
        tokenizers[modality.name] = bytes(member.read(buffer))
        if sha256_bytes(tokenizers[modality.name]) != modality.tokenizer:
            raise DataError(f"the embedded tokenizer of {modality.name!r} is not that of the manifest.", where=where, fix=REBUILD)
    return tokenizers


def _read_samples(buffer: memoryview, members: Sequence[Member], modalities: Sequence[Modality], where: object) -> Entries:
    listed = EntryList(len(modalities))
    position = 0
    while position < len(members):
        member = members[position]
        if not member.name.endswith(".json"):
            raise DataError(f"the member {member.name!r} does not belong to the sample before it.", where=where, fix=REBUILD)
        record = _sample_record(member, buffer, modalities, where)
        arrays = members[position + 1 : position + 1 + len(record["present"])]
        if [array.name for array in arrays] != [f"{member.name[:-5]}.{name}.npy" for name in record["present"]]:
            raise DataError(f"the sample {record['key']!r} does not hold what it declares: {record['present']}.", where=where, fix=REBUILD)
        if listed.last_key is not None and listed.last_key >= record["key"]:
            raise DataError(f"the sample {record['key']!r} is repeated or out of order.", where=where, fix=REBUILD)
        starts, lengths = _places(buffer, record, arrays, modalities, where)
        listed.append(record["key"], record["split"], member.header, (member.start, member.size), starts, lengths)
        position += 1 + len(arrays)
    return listed.entries()


def _sample_record(member: Member, buffer: memoryview, modalities: Sequence[Modality], where: object) -> dict[str, Any]:
    record = _load(member.read(buffer), member.name, where)
    if {name: type(value) for name, value in record.items()} != RECORD_TYPES:
        raise DataError(f"the record {member.name!r} is not that of a sample.", where=where)
    if f"{encode_key(record['key'])}.json" != member.name or record["split"] not in SPLITS:
        raise DataError(f"the record {member.name!r} states the key {record['key']!r} and the split {record['split']!r}.", where=where)
    if any(isinstance(value, float) and not math.isfinite(value) for value in record["labels"].values()):
        raise DataError(f"a label of the sample {record['key']!r} is no finite number.", where=where)
    declared = [modality.name for modality in modalities if modality.name in record["present"]]
    if record["present"] != declared:
        raise DataError(f"the sample {record['key']!r} declares {record['present']}, unknown or not in order.", where=where)
    return record


def _places(
    buffer: memoryview, record: dict[str, Any], arrays: Sequence[Member], modalities: Sequence[Modality], where: object
) -> tuple[list[int], list[int]]:
    """Where the values of each modality begin, and the number of its tokens; see `Entries`."""
    by_name = dict(zip(record["present"], arrays, strict=True))
    starts, lengths = [], []
    for modality in modalities:
        array = by_name.get(modality.name)
        starts.append(array.start + NPY_HEADER_BYTES if array else ABSENT)
        lengths.append(_check_array(buffer, array, modality, where) if array else ABSENT)
    return starts, lengths


def _check_array(buffer: memoryview, array: Member, modality: Modality, where: object) -> int:
    """Number of tokens of a segment, from its size; its header must say the same."""
    dtype, width = code_dtype(modality), patch_width(modality)
    length, rest = divmod(array.size - NPY_HEADER_BYTES, dtype.itemsize * width)
    if length < 0 or rest or buffer[array.start : array.start + NPY_HEADER_BYTES] != array_header(modality, length):
        raise DataError(f"the array {array.name!r} is not {dtype.name} of just the size that its header states.", where=where)
    expected = segment_length(modality)
    if length > modality.max_length or (expected is not None and length != expected):
        limit = expected or f"at most {modality.max_length}"
        raise DataError(f"the array {array.name!r} has {length} tokens; {modality.name} has {limit}.", where=where)
    codes = np.frombuffer(buffer, dtype, length * width, array.start + NPY_HEADER_BYTES)
    if length and not modality.continuous and codes.max() >= modality.vocabulary_size:
        raise DataError(f"the array {array.name!r} holds codes beyond the {modality.vocabulary_size} of its vocabulary.", where=where)
    return length
