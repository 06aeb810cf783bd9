"""What something was trained on, item by item: so that none of it is taken for held out, however the data was split again.

An item is the data of one modality of one source. Its identity is 8 bytes of sha256 over the source's key and the item's tokens: the same
raw item under the same tokenizer has the same tokens, while other data under the same file names, or the same content under other keys,
is another item. A file of training items is one `.safetensors` file: sorted uint64 identities by modality.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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


def identity(key: str, tokens: np.ndarray) -> int:
    """Of an item: tokens are codes (L,), whatever integers hold them, or patches (L, values) uint8."""
    content = np.ascontiguousarray(tokens, np.uint8 if tokens.ndim > 1 else "<u4")
    return int.from_bytes(hashlib.sha256(key.encode() + b"\0" + content.tobytes()).digest()[:8], "little")


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
    """modality -> sorted identities (N,) uint64 of what something was trained on; complete: whether that is all of it."""

    identities: Mapping[str, np.ndarray] = field(default_factory=dict)
    complete: bool = True

    @classmethod
    def of(cls, samples: Iterable[Sample]) -> "TrainingItems":
        """Every item of the samples."""
        by_modality: dict[str, set[int]] = defaultdict(set)
        for sample in samples:
            for name in sample.tokens:
                by_modality[name] |= identities(sample, name)
        return cls({name: _sorted(values) for name, values in sorted(by_modality.items())})

    @classmethod
    def among(cls, tokens: TokenSet, keys: Collection[str]) -> "TrainingItems":
        """Those items of a token set that may be items with these source keys; reads the tokens of no others."""
        wanted, samples = set(keys), []
        for i in range(len(tokens)):
            record, names = tokens.record(i), tokens.present(i)
            if any(
                original_field(name) in record["metadata"] or wanted & source_keys(record["key"], record["metadata"], name)
                for name in names
            ):
                samples.append(tokens[i])
        return cls.of(samples)

    def __or__(self, other: "TrainingItems") -> "TrainingItems":
        names = sorted({*self.identities, *other.identities})
        empty = np.zeros(0, np.uint64)
        joined = {name: np.union1d(self.identities.get(name, empty), other.identities.get(name, empty)) for name in names}
        return TrainingItems(joined, self.complete and other.complete)

    def to_bytes(self) -> bytes:
        """The file: the same items always give the same bytes."""
        tensors = dict(self.identities) if self.complete else {**self.identities, PARTIAL: np.zeros(0, np.uint64)}
        return save(dict(sorted(tensors.items())))

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
        return cls({name: values for name, values in tensors.items() if name != PARTIAL}, PARTIAL not in tensors)


def _sorted(values: Collection[int]) -> np.ndarray:
    return np.sort(np.fromiter(values, np.uint64, len(values)))
