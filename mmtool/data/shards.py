"""Token sets: one shard in a file or a stream, or a directory of them per split; verified on open, read at random.

    shards/train/00000.tar 00001.tar ... index.json        shards/validation/...        shards/test/...

The first shard of a split carries the tokenizers, so a directory, a file and a stream are each self-contained.
"""

import json
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from itertools import combinations, islice, pairwise
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.common.errors import DataError, UsageError
from mmtool.common.seal import reading
from mmtool.common.storage import atomic_file, canonical_json, sha256_bytes, write_bytes
from mmtool.data.entries import Entries
from mmtool.data.raw_files import check_no_raw_file
from mmtool.data.sample import SPLITS, Modality, Sample
from mmtool.data.shard_files import load, open_shards
from mmtool.data.shard_format import ABSENT, PART, Shard
from mmtool.data.shard_reader import REBUILD, read_record, read_shard, read_tokens, token_format
from mmtool.data.shard_writer import in_order, measured, write_shard, write_stream
from mmtool.data.tar import CutError

__all__ = ["TokenSet", "fingerprint_of", "measured", "open_token_set", "split_directories", "write_split", "write_stream"]

INDEX = "index.json"
INDEX_FORMAT, INDEX_FORMAT_1 = "mmtool-index/2", "mmtool-index/1"  # the first one held the offset of every sample


class TokenSet:
    """Samples of a verified token set, by number (order of keys).

    modalities: in order of their names; tokenizers: modality name -> bytes of its tokenizer file; protocol: how modalities were
    removed; split: the one that was opened, None for all of a file; keys: of the samples; lengths: (N, M) tokens per sample
    and modality, -1 where absent; fingerprint: sha256 over content, wherever it lies.
    """

    def __init__(self, shards: Sequence[tuple[memoryview, Shard]], split: str | None, where: object) -> None:
        first = shards[0][1]
        self.modalities, self.protocol, self.split = first.modalities, first.protocol, split
        self.tokenizers = first.tokenizers
        self._formats = [(modality.name, *token_format(modality)) for modality in self.modalities]
        self._buffers = [buffer for buffer, _ in shards]
        entries = Entries.joined([shard.entries for _, shard in shards])
        numbers = np.repeat(np.arange(len(shards), dtype=np.int32), [len(shard.entries) for _, shard in shards])
        wanted = np.ones(len(entries), bool) if split is None else entries.splits == SPLITS.index(split)
        self._entries, self._shard = entries.take(wanted), numbers[wanted]
        may_be_empty = split is None and PART in first.protocol
        if not len(self._entries) and not may_be_empty:
            raise DataError("there are no samples here." if split is None else f"there are no samples of the split {split!r}.", where=where)
        self.fingerprint = fingerprint_of(self.modalities, split, [shard.digest for _, shard in shards])

    @property
    def keys(self) -> Sequence[str]:
        return self._entries.keys

    @property
    def splits(self) -> list[str]:
        """Of each sample."""
        return [SPLITS[number] for number in self._entries.splits.tolist()]

    @property
    def lengths(self) -> np.ndarray:
        return self._entries.lengths

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Sample]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Sample:
        sample, record = self.tokens_of(i), self.record(i)
        return Sample(sample.key, sample.tokens, record["labels"], record["metadata"], record["split"])

    def tokens_of(self, i: int) -> Sample:
        """The sample with its tokens alone, without labels and metadata: in a fifth of the time."""
        if not -len(self) <= i < len(self):  # negative ones count from the end
            raise IndexError(f"there is no sample {i} of {len(self):,}")
        buffer, tokens, entries = self._buffers[self._shard[i]], {}, self._entries
        for (name, dtype, width), start, length in zip(self._formats, entries.starts[i].tolist(), entries.lengths[i].tolist(), strict=True):
            if length != ABSENT:
                tokens[name] = read_tokens(buffer, dtype, width, start, length)
        return Sample(entries.keys[i], tokens, split=SPLITS[entries.splits[i]])

    def record(self, i: int) -> dict[str, Any]:
        """The JSON record of a sample (key, present, labels, metadata, split) without its tokens."""
        start, size = self._entries.records[i].tolist()
        return read_record(self._buffers[self._shard[i]], (start, size))

    def num_tokens(self, members: Sequence[int] | np.ndarray | None = None) -> int:
        """How many tokens samples hold together (None: all of them)."""
        lengths = self.lengths if members is None else self.lengths[members]
        return int(lengths[lengths != ABSENT].sum())

    def present(self, i: int) -> tuple[str, ...]:
        """Names of the modalities that a sample holds; reads no tokens."""
        lengths = self.lengths[i].tolist()
        return tuple(modality.name for modality, length in zip(self.modalities, lengths, strict=True) if length != ABSENT)

    def only(self, names: Collection[str] = (), least: int = 1) -> "TokenSet":
        """The samples that hold at least `least` of the modalities `names` (none: all), which lack all others; the fingerprint stays.

        Raises UsageError for a modality that the set does not know, DataError where no sample is left.
        """
        known = [modality.name for modality in self.modalities]
        for name in names:
            if name not in known:
                raise UsageError(f"there is no modality {name!r} here.", where="modalities", fix=f"Choose from: {', '.join(known)}.")
        lengths = np.where([not names or name in names for name in known], self.lengths, ABSENT)
        rows = np.flatnonzero((lengths != ABSENT).sum(axis=1) >= least)
        if not len(rows):
            raise DataError(f"no sample holds {least} of {', '.join(names or known)}.", fix="Train on other modalities.")
        part = copy(self)
        part._entries, part._shard = replace(self._entries, lengths=lengths).take(rows), self._shard[rows]
        return part

    def counts(self) -> dict[str, int]:
        """Samples per modality."""
        held = (self.lengths != ABSENT).sum(axis=0).tolist()
        return {modality.name: count for modality, count in zip(self.modalities, held, strict=True)}

    def co_occurrence(self) -> dict[tuple[str, str], int]:
        """Samples that hold both modalities of a pair (a, b), a < b; pairs that never occur are left out."""
        held = (self.lengths != ABSENT).astype(np.int64)
        together = held.T @ held
        pairs = {
            (self.modalities[a].name, self.modalities[b].name): int(together[a, b]) for a, b in combinations(range(len(self.modalities)), 2)
        }
        return {pair: count for pair, count in pairs.items() if count}


def open_token_set(path: Path | None, split: str | None = None) -> TokenSet:
    """Open and verify a token set: a directory, a tar file, or standard input (None).

    split: of a directory of splits, the one to open ("train" when left out); of a file or stream, only the samples of that
    split. Raises DataError for anything missing, cut, damaged or spliced, and names the shard.
    """
    if split is not None and split not in SPLITS:
        raise UsageError(f"there is no split {split!r}.", fix=f"Choose from: {', '.join(SPLITS)}.")
    if path is None:
        return _open_stream(split)
    path = Path(path)
    if path.is_dir():
        return _open_directory(path, split)
    if not path.is_file():
        raise DataError("there is no such file or directory.", where=path, fix="Give a token tar or a shards directory.")
    buffer = load(path, path.stat().st_size)
    check_no_raw_file(buffer, path)
    return _single((buffer, read_shard(buffer, path)), split, path)


def split_directories(path: Path) -> list[str | None]:
    """The splits of a shards directory, in order; [None] for anything that is opened as a whole."""
    return [name for name in SPLITS if (path / name / INDEX).is_file()] or [None]


def fingerprint_of(modalities: Sequence[Modality], split: str | None, digests: Sequence[str]) -> str:
    """sha256 over what a token set holds: its modalities, its split and the digests of its shards."""
    content = {"modalities": [modality.to_json() for modality in modalities], "split": split, "digests": list(digests)}
    return sha256_bytes(canonical_json(content).encode())


def write_split(
    directory: Path,
    modalities: Iterable[Modality],
    tokenizers: Mapping[str, bytes],
    samples: Iterable[Sample],
    protocol: Mapping[str, Any] | None = None,
    *,
    split: str,
    samples_per_shard: int = 10_000,
) -> dict[str, Any]:
    """Write samples as numbered shards of `split`, and their index; gives the index.

    To show a whole set at once, write into `storage.atomic_directory`. Raises as `write_stream` does.
    """
    ordered = in_order(samples)
    modalities = measured(modalities, ordered)
    shards: dict[str, Shard] = {}
    of_split = (replace(sample, split=split) for sample in ordered)
    for number in range(max(1, ceil(len(ordered) / samples_per_shard))):
        name, embedded = f"{number:05d}.tar", tokenizers if number == 0 else {}
        with atomic_file(directory / name, force=True) as file:
            shards[name] = write_shard(file, modalities, embedded, islice(of_split, samples_per_shard), protocol or {})
    empty = memoryview(b"")
    index = _index(shards, TokenSet([(empty, shard) for shard in shards.values()], split, directory))
    write_bytes(directory / INDEX, _index_bytes(index))
    return index


def _open_stream(split: str | None) -> TokenSet:
    where = "standard input"
    buffer = memoryview(sys.stdin.buffer.read())
    check_no_raw_file(buffer, where)
    try:
        shard = read_shard(buffer, where)
    except CutError as error:
        message = "the stream ended before its end record."
        raise DataError(message, where=where, fix="The command upstream probably failed: see what it said.") from error
    return _single((buffer, shard), split, where)


def _single(opened: tuple[memoryview, Shard], split: str | None, where: object) -> TokenSet:
    _check_tokenizers(opened[1], where)
    return TokenSet([opened], split, where)


def _open_directory(path: Path, split: str | None) -> TokenSet:
    if (path / INDEX).is_file():
        return _open_split(path, split)
    available = [name for name in split_directories(path) if name]
    if not available:
        fix = "Give a directory that `mmtool shard` wrote."
        if any(path.glob("*.tar")):
            fix = f"Where token sets lie in it, give these, e.g. {path}/*.tar; otherwise a directory that `mmtool shard` wrote."
        raise DataError("there are no shards in this directory.", where=path, fix=fix)
    wanted = split or "train"
    if wanted not in available:
        raise DataError(f"there is no split {wanted!r} here.", where=path, fix=f"Choose from: {', '.join(available)}.")
    return _open_split(path / wanted, wanted)


def _open_split(path: Path, split: str | None) -> TokenSet:
    with reading(path / INDEX, REBUILD):
        stored = (path / INDEX).read_bytes()
        index = json.loads(stored)
        names = {str(shard["name"]): shard["sha256"] for shard in index["shards"]}
        indexed_split, form = index["split"], index["format"]
    if split not in (None, indexed_split):
        raise DataError(f"this directory holds the split {indexed_split!r}, not {split!r}.", where=path)
    on_disk = sorted(file.name for file in path.glob("*.tar"))
    if on_disk != sorted(names) or not names:
        raise DataError(f"the index lists {sorted(names)}, the directory holds {on_disk}.", where=path, fix="Restore what is missing.")
    opened = dict(zip(names, open_shards(path, names), strict=True))
    shards = list(opened.values())
    _check_tokenizers(shards[0][1], path)
    _check_same_set([shard for _, shard in shards], indexed_split, path)
    token_set = TokenSet(shards, indexed_split, path)
    if stored != _index_bytes(_index({name: shard for name, (_, shard) in opened.items()}, token_set, form)):
        raise DataError("the index does not match its shards.", where=path / INDEX, fix=REBUILD)
    return token_set


def _check_same_set(shards: Sequence[Shard], split: str, where: object) -> None:
    """The shards of a split agree on modalities and protocol, hold that split only, and their keys go on where others end."""
    first = shards[0]
    same = split in SPLITS and all((shard.modalities, shard.protocol) == (first.modalities, first.protocol) for shard in shards)
    keys = [shard.entries.keys for shard in shards if len(shard.entries)]
    ordered = all(before[-1] < after[0] for before, after in pairwise(keys))  # as they are within each
    if not same or not ordered or any((shard.entries.splits != SPLITS.index(split)).any() for shard in shards):
        raise DataError("these shards do not belong together.", where=where, fix=REBUILD)


def _check_tokenizers(shard: Shard, where: object) -> None:
    if not shard.tokenizers:
        raise DataError("the shard carries no tokenizers: it is one of several.", where=where, fix="Open the directory that it lies in.")


def _index(shards: Mapping[str, Shard], token_set: TokenSet, form: str = INDEX_FORMAT) -> dict[str, Any]:
    """What the index of a split holds. Of a form that is unknown: another one."""
    listed = [{"name": name, "sha256": shard.sha256, "samples": len(shard.entries)} for name, shard in shards.items()]
    if form == INDEX_FORMAT_1:
        headers = [shard.entries.headers.tolist() for shard in shards.values()]
        listed = [{**of_shard, "offsets": offsets} for of_shard, offsets in zip(listed, headers, strict=True)]
    return {
        "format": form if form == INDEX_FORMAT_1 else INDEX_FORMAT,
        "split": token_set.split,
        "shards": listed,
        "samples": len(token_set),
        "counts": token_set.counts(),
        "co_occurrence": [[a, b, count] for (a, b), count in sorted(token_set.co_occurrence().items())],
        "modalities": [modality.to_json() for modality in token_set.modalities],
        "protocol": token_set.protocol,
        "fingerprint": token_set.fingerprint,
    }


def _index_bytes(index: Mapping[str, Any]) -> bytes:
    return (canonical_json(index) + "\n").encode()
