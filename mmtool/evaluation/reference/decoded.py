"""Samples with their raw values, decoded from tokens when first used."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmtool.data.sample import Sample
from mmtool.tokenizers.base import Tokenizer

DECODE_BATCH = 256


class DecodedSamples:
    """A fixed list of samples; `indices` below count in it.

    Values come from tokens, not from the original files, so that real and imputed data carry the same traces of the tokenizer
    and a classifier cannot tell them apart by these.
    """

    def __init__(self, samples: Sequence[Sample], tokenizers: Mapping[str, Tokenizer]) -> None:
        self.samples = list(samples)
        self._tokenizers = tokenizers
        self._values: dict[str, dict[int, Any]] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def having(self, *names: str) -> np.ndarray:
        """Indices of the samples in which all of `names` are present."""
        return np.array([i for i, sample in enumerate(self.samples) if all(name in sample.tokens for name in names)], dtype=np.int64)

    def values(self, name: str, indices: Sequence[int] | np.ndarray | None = None) -> list[Any]:
        """Raw values of modality `name` of the samples at `indices` (left out: of all that have it)."""
        if name not in self._values:
            rows = self.having(name)
            decoded = decode_all(self._tokenizers[name], [self.samples[i].tokens[name] for i in rows])
            self._values[name] = dict(zip(rows.tolist(), decoded, strict=True))
        known = self._values[name]
        return [known[int(i)] for i in (known if indices is None else indices)]

    def labels(self, label: str, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Classes of the samples at `indices`, as text."""
        return np.array([str(self.samples[i].labels[label]) for i in indices], dtype=object)

    def labelled(self, label: str, indices: np.ndarray) -> np.ndarray:
        """Those of `indices` whose samples carry the label."""
        return np.array([i for i in indices if self.samples[i].labels.get(label) is not None], dtype=np.int64)


def decode_all(tokenizer: Tokenizer, tokens: Sequence[np.ndarray]) -> list[Any]:
    """Decode any number of token arrays in batches; similar lengths together, since a batch is as long as its longest."""
    order = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
    values: list[Any] = [None] * len(tokens)
    for start in range(0, len(order), DECODE_BATCH):
        batch = order[start : start + DECODE_BATCH]
        for i, value in zip(batch, tokenizer.decode([tokens[i] for i in batch]), strict=True):
            values[i] = value
    return values
