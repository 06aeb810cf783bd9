"""Writes token shards: the same samples always give the same bytes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO, Any

import numpy as np

from mmtool.common.errors import DataError
from mmtool.data.entries import EntryList
from mmtool.data.sample import SPLITS, Modality, Sample
from mmtool.data.shard_format import (
    ABSENT,
    END,
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
from mmtool.data.spool import Spool, distinct
from mmtool.data.tar import BLOCK, TarWriter


def write_stream(
    file: IO[bytes],
    modalities: Iterable[Modality],
    tokenizers: Mapping[str, bytes],
    samples: Iterable[Sample],
    protocol: Mapping[str, Any] | None = None,
) -> Shard:
    """Write a complete token set to a binary file.

    tokenizers: modality name -> bytes of its tokenizer file, to embed. `max_length` of the modalities is raised to the longest
    segment. samples: held in memory, unless they are a `Spool`. Raises DataError for a duplicate key, codes outside the vocabulary, lengths
    that do not fit the modality, and labels that JSON cannot hold.
    """
    samples = in_order(samples)
    return write_shard(file, measured(modalities, samples), tokenizers, samples, protocol or {})


def measured(modalities: Iterable[Modality], samples: Iterable[Sample]) -> tuple[Modality, ...]:
    """The modalities in order of their names, with `max_length` raised to the longest segment of the samples."""
    longest = {modality.name: modality.max_length for modality in modalities}
    lengths = samples.longest.items() if isinstance(samples, Spool) else _lengths(samples)
    for name, length in lengths:
        longest[name] = max(longest.get(name, 0), length)
    ordered = sorted(modalities, key=lambda modality: modality.name)
    return tuple(replace(modality, max_length=longest[modality.name]) for modality in ordered)


def _lengths(samples: Iterable[Sample]) -> Iterator[tuple[str, int]]:
    return ((name, len(tokens)) for sample in samples for name, tokens in sample.tokens.items())


def in_order(samples: Iterable[Sample]) -> list[Sample] | Spool:
    """The samples in order of their keys, a spool as it is. Raises DataError where two have the same key."""
    return samples if isinstance(samples, Spool) else list(distinct(sorted(samples, key=lambda sample: sample.key)))


def write_shard(
    file: IO[bytes],
    modalities: Sequence[Modality],
    tokenizers: Mapping[str, bytes],
    samples: Iterable[Sample],
    protocol: Mapping[str, Any],
) -> Shard:
    """Write one shard of a set: samples `in_order`; `modalities`, in order of their names, hold for all of the set."""
    check_modalities(modalities)
    writer = TarWriter(file)
    writer.add(MANIFEST, json_bytes(manifest_record(modalities, protocol), MANIFEST))
    for name in sorted(tokenizers):
        writer.add(f"{TOKENIZERS}{name}.safetensors", tokenizers[name])
    listed = EntryList(len(modalities))
    for sample in samples:
        _write_sample(writer, sample, modalities, listed)
    entries, digest = listed.entries(), writer.digest
    writer.add(END, json_bytes(end_record(modalities, entries, digest), END))
    writer.close()
    return Shard(tuple(modalities), dict(tokenizers), dict(protocol), entries, digest, writer.digest)


def _write_sample(writer: TarWriter, sample: Sample, modalities: Sequence[Modality], listed: EntryList) -> None:
    unknown = set(sample.tokens) - {modality.name for modality in modalities}
    if unknown or sample.split not in SPLITS:
        what = f"the sample holds undeclared modalities {sorted(unknown)} or has an unknown split {sample.split!r}."
        raise DataError(what, where=sample.key)
    stem = encode_key(sample.key)
    record = {
        "key": sample.key,
        "present": list(sample.present),
        "labels": sample.labels,
        "metadata": sample.metadata,
        "split": sample.split,
    }
    header, content = writer.position, json_bytes(record, sample.key)
    writer.add(f"{stem}.json", content)
    place = (content_start(writer, len(content)), len(content))
    starts, lengths = [], []
    for modality in modalities:
        if modality.name not in sample.tokens:
            starts.append(ABSENT)
            lengths.append(ABSENT)
            continue
        content = array_bytes(modality, sample.tokens[modality.name], sample.key)
        writer.add(f"{stem}.{modality.name}.npy", content)
        starts.append(content_start(writer, len(content)) + NPY_HEADER_BYTES)
        lengths.append(len(sample.tokens[modality.name]))
    listed.append(sample.key, sample.split, header, place, starts, lengths)


def array_bytes(modality: Modality, tokens: np.ndarray, key: str) -> bytes:
    """The npy file of one segment. Raises DataError for tokens that do not fit the modality."""
    tokens = np.asarray(tokens)
    where, expected, fix = f"{key}: {modality.name}", segment_length(modality), "Tokenize with the tokenizer of this set."
    if tokens.ndim != 1 + modality.continuous or (modality.continuous and tokens.shape[1] != patch_width(modality)):
        raise DataError(f"an array of shape {tokens.shape} is no segment of this modality.", where=where)
    if expected is not None and len(tokens) != expected:
        raise DataError(f"{len(tokens)} tokens, where every segment has {expected}.", where=where, fix=fix)
    limit = modality.vocabulary_size or 256
    if tokens.size and (tokens.dtype.kind not in "ui" or tokens.min() < 0 or tokens.max() >= limit):
        raise DataError(f"codes must be whole numbers from 0 to {limit - 1}.", where=where, fix=fix)
    return array_header(modality, len(tokens)) + tokens.astype(code_dtype(modality)).tobytes()


def content_start(writer: TarWriter, size: int) -> int:
    """First byte of the content of the member just added."""
    return writer.position - -(-size // BLOCK) * BLOCK
