"""What something was trained on, item by item: so that none of it is taken for held out, however the data was split again.

An item is the data of one modality of one source. Its identity is 8 bytes of sha256 over the source's key and the item's tokens: the same
raw item under the same tokenizer has the same tokens. Files are renamed, however, and other data has the same file names: contents alone,
and keys alone, are kept besides. A content is that of the raw value, noted when it is tokenized: coarse tokens are alike too often.

A file of training items is one `.safetensors` file: sorted uint64 identities by modality under its name, contents under `.content.NAME`
(repeated as often as items of different sources have them), and keys under `.keys`.
"""

import hashlib
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from mmtool.common.errors import DataError
from mmtool.common.storage import sha256_bytes
from mmtool.data.sample import Sample
from mmtool.data.shards import TokenSet

SOURCES, VARIANT_OF = "sources", "variant_of"  # metadata: modality -> key of the item, where samples were aligned; key of the original
GROUP = "group"  # metadata: what is split as one
MIN_CLUSTERS = 5
PARTIAL = ".partial"  # of the name of an empty tensor: not everything is known
CONTENT_OF = "content"
CONTENT, KEYS = ".content.", ".keys"  # no modality has a name that begins with a dot
EMPTY = np.zeros(0, np.uint64)


def identity(key: str, tokens: np.ndarray) -> int:
    """Of an item: tokens are codes (L,), whatever integers hold them, or patches (L, values) uint8."""
    content = np.ascontiguousarray(tokens, np.uint8 if tokens.ndim > 1 else "<u4")
    return int.from_bytes(hashlib.sha256(key.encode() + b"\0" + content.tobytes()).digest()[:8], "little")


def content_field(name: str) -> str:
    """The metadata field that holds, in hexadecimal, the content of a sample's raw value of modality `name`."""
    return f"{CONTENT_OF}.{name}"


def content_of(value: Any) -> str:
    """Of a raw value (an array, a text, or a mapping of such): 8 bytes of sha256, in hexadecimal."""
    return sha256_bytes(b"".join(_parts(value)))[:16]


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, Mapping):
        for name in sorted(value):
            yield f"{name}\0".encode()
            yield from _parts(value[name])
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype} {value.shape}\0".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], tuple):  # a row, and its columns in any order
        names, order = _in_order(value[1])
        yield names
        yield from _parts(value[0][order])
    elif isinstance(value, list | tuple | np.ndarray):
        for item in value:
            yield from _parts(item)
    elif isinstance(value, str | bytes | int | float | None):
        yield repr(value).encode() + b"\0"
    else:
        yield type(value).__name__.encode()  # of an unknown sort all are alike, which tells nothing


@lru_cache(maxsize=64)
def _in_order(names: tuple[str, ...]) -> tuple[bytes, np.ndarray]:
    """Names of columns sorted, as one text, and the places they had."""
    return "\0".join(sorted(names)).encode(), np.argsort(np.array(names, dtype=object), kind="stable")


def noted_content(sample: Sample, name: str) -> int | None:
    """What tokenizing noted of a sample's content; None where an earlier version made it, and of augmented variants."""
    noted = sample.metadata.get(content_field(name))
    return None if noted is None else int(noted, 16)


def key_id(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")


def original_key(sample: Sample, name: str) -> str:
    """The key that the raw data of a sample's modality had, before it was aligned or varied."""
    sources = sample.metadata.get(SOURCES)
    source = sources[name] if isinstance(sources, Mapping) and name in sources else sample.key
    return str(sample.metadata.get(VARIANT_OF, source))


def original_field(name: str) -> str:
    """The metadata field that holds, in hexadecimal, the identity of the item of modality `name` that a sample's is a variant of."""
    return f"{VARIANT_OF}.{name}"


def source_keys(key: str, metadata: Mapping[str, Any], name: str) -> set[str]:
    """Keys that a sample's item of modality `name` may have had as raw data: an augmented sample takes what was not augmented from its
    original."""
    source = _source(key, metadata, name)
    return {source, str(metadata.get(VARIANT_OF, source))}


def _source(key: str, metadata: Mapping[str, Any], name: str) -> str:
    """The key of the item of modality `name` in a sample: the sample's, or where samples were aligned the one that was dealt."""
    sources = metadata.get(SOURCES)
    return str(sources[name]) if isinstance(sources, Mapping) and name in sources else key


def clusters(samples: Sequence[Sample], names: Sequence[str]) -> np.ndarray:
    """(N,) numbers, equal for samples that share a source: their group (a patient, an episode), or an item of one of the modalities
    `names`, where items were dealt into several samples. Of these the one that makes fewest clusters, but at least 5: how far fewer differ
    from each other, nobody can tell."""
    sources = [[_source(sample.key, sample.metadata, name) for sample in samples] for name in names]
    sources.append([str(sample.metadata.get(GROUP) or sample.key) for sample in samples])
    numbered = [np.unique(keys, return_inverse=True)[1] for keys in sources]
    enough = [numbers for numbers in numbered if numbers.max(initial=-1) + 1 >= MIN_CLUSTERS]
    return min(enough, key=lambda numbers: numbers.max(), default=np.arange(len(samples)))


def identities(sample: Sample, name: str) -> set[int]:
    """Of a sample's item of modality `name`, and of the one that it is an augmented variant of."""
    items = {identity(key, sample.tokens[name]) for key in source_keys(sample.key, sample.metadata, name)}
    original = sample.metadata.get(original_field(name))
    return items if original is None else items | {int(original, 16)}


@dataclass(frozen=True)
class TrainingItems:
    """modality -> sorted identities (N,) uint64 of what something was trained on; complete: whether that is all of it.

    contents: the same of contents, which may repeat; keys: of all items. An earlier version kept neither.
    """

    identities: Mapping[str, np.ndarray] = field(default_factory=dict)
    complete: bool = True
    contents: Mapping[str, np.ndarray] = field(default_factory=dict)
    keys: np.ndarray = field(default_factory=EMPTY.copy)

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "TrainingItems":
        """Every item of the samples."""
        by_modality: dict[str, array[int]] = defaultdict(_numbers)
        contents: dict[str, tuple[array[int], array[int]]] = defaultdict(lambda: (_numbers(), _numbers()))
        keys = _numbers()
        for sample in samples:
            for name in sample.tokens:
                key = key_id(original_key(sample, name))
                keys.append(key)
                by_modality[name].extend(identities(sample, name))
                if (content := noted_content(sample, name)) is not None:
                    contents[name][0].append(key)
                    contents[name][1].append(content)
        return cls(
            {name: _unique(values) for name, values in sorted(by_modality.items())},
            contents={name: _once_a_key(*pairs) for name, pairs in sorted(contents.items())},
            keys=_unique(keys),
        )

    @classmethod
    def among(cls, tokens: TokenSet, keys: Collection[str]) -> "TrainingItems":
        """Those items of a token set that may be items with these source keys; reads the tokens of no others, so contents are not known."""
        wanted, samples = set(keys), []
        for i in range(len(tokens)):
            record, names = tokens.record(i), tokens.present(i)
            if any(
                original_field(name) in record["metadata"] or wanted & source_keys(record["key"], record["metadata"], name)
                for name in names
            ):
                samples.append(tokens[i])
        return cls(cls.of(samples).identities)

    def holds(self, sample: Sample) -> bool:
        """Whether any item of the sample is one of these."""
        return any(_among(self.identities.get(name, EMPTY), identities(sample, name)) for name in sample.tokens)

    def __or__(self, other: "TrainingItems") -> "TrainingItems":
        names = sorted({*self.identities, *other.identities})
        joined = {name: np.union1d(self.identities.get(name, EMPTY), other.identities.get(name, EMPTY)) for name in names}
        contents = {name: _most(self.contents.get(name, EMPTY), other.contents.get(name, EMPTY)) for name in names}
        return TrainingItems(joined, self.complete and other.complete, contents, np.union1d(self.keys, other.keys))

    def to_bytes(self) -> bytes:
        """The file: the same items always give the same bytes."""
        tensors = {**self.identities, **{f"{CONTENT}{name}": values for name, values in self.contents.items()}, KEYS: self.keys}
        return save(dict(sorted((tensors if self.complete else {**tensors, PARTIAL: EMPTY}).items())))

    @classmethod
    def read(cls, path: Path, sha256: str | None) -> "TrainingItems":
        """The file that was recorded with this sha256; None: nothing was recorded. Raises DataError where it is not that file."""
        if sha256 is None:
            return cls(complete=False)
        try:
            data = Path(path).read_bytes()
            tensors = load(data)
        except (OSError, SafetensorError) as error:
            raise DataError(f"the record of training items cannot be read ({error}).", where=path, fix="Restore it from a copy.") from error
        if sha256_bytes(data) != sha256:
            raise DataError("the record of training items is not the one that was written.", where=path, fix="Restore it from a copy.")
        contents = {name.removeprefix(CONTENT): values for name, values in tensors.items() if name.startswith(CONTENT)}
        plain = {name: values for name, values in tensors.items() if not name.startswith(".")}
        return cls(plain, PARTIAL not in tensors, contents, tensors.get(KEYS, EMPTY))


def _among(ordered: np.ndarray, items: Collection[int]) -> bool:
    """Whether any of the items is in the sorted array."""
    wanted = _sorted(items)
    indices = np.searchsorted(ordered, wanted)
    return bool((ordered[indices[indices < len(ordered)]] == wanted[indices < len(ordered)]).any())


def _most(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Every value as often as the one of both has it that has it more often: items that both hold count once."""
    (values, counts), (others, theirs) = (np.unique(part, return_counts=True) for part in (a, b))
    union = np.union1d(values, others)
    most = np.zeros(len(union), np.int64)
    for known, number in ((values, counts), (others, theirs)):
        indices = np.searchsorted(union, known)
        most[indices] = np.maximum(most[indices], number)
    return np.repeat(union, most)


def _sorted(values: Collection[int]) -> np.ndarray:
    return np.sort(np.fromiter(values, np.uint64, len(values)))


def _numbers() -> "array[int]":
    """Of 64 bits each, where objects of Python take ten times the memory."""
    return array("Q")


def _unique(values: "array[int]") -> np.ndarray:
    return np.unique(np.frombuffer(values, np.uint64))


def _once_a_key(keys: "array[int]", contents: "array[int]") -> np.ndarray:
    """The contents in order, each as often as different keys have it."""
    ordered = np.lexsort((keys, contents))
    pairs = np.stack([np.frombuffer(contents, np.uint64)[ordered], np.frombuffer(keys, np.uint64)[ordered]])
    first = np.r_[True, (pairs[:, 1:] != pairs[:, :-1]).any(0)][: len(ordered)]
    return pairs[0][first]
