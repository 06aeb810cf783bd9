"""How much a model reads at once outside of training: many samples or long ones take more passes, not more memory.

What a sample gives does not depend on the rest of its batch, up to the rounding of sums.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from mmtool.model.transformer import Transformer

Item = TypeVar("Item")

# Of one pass, padding included. Tokens: as many as a usual step of training has, which fits wherever training does, and is enough to keep
# the cores of a CPU or a GPU busy. Pairs of a token and what it attends to (another token, or a position of the value bridge): masks,
# scores and the bridge hold some numbers for each, 64 MiB in fp32. Logits: 512 MiB in fp32.
PASS_TOKENS, PASS_PAIRS, PASS_LOGITS = 8192, 1 << 24, 1 << 27


# Of the keys and values of rows that are decoded together. A CPU is as busy with dozens of rows, a GPU takes hundreds.
CACHE_BYTES, GPU_CACHE_BYTES = 1 << 30, 1 << 32


def decoded_rows(model: Transformer, length: int) -> int:
    """How many rows are decoded together that have so many tokens in the end; at least one."""
    most = GPU_CACHE_BYTES if model.head.device.type == "cuda" else CACHE_BYTES
    return max(1, most // (2 * model.shape.depth * model.shape.width * max(1, length) * model.compute_dtype.itemsize))


class Limits:
    """What a pass of this model may hold."""

    def __init__(self, model: Transformer) -> None:
        ranges = [model.layout.target_range(index) for index in range(len(model.layout.modalities))]
        self.bridge_positions = 0 if model.ordinal is None else len(model.ordinal.bridge.weights_embedding)
        self.tokens = min(PASS_TOKENS, PASS_LOGITS // max(stop - start for start, stop in ranges))

    def allow(self, rows: int, length: int) -> bool:
        """Whether so many rows of a length fit into one pass; a single row always does."""
        tokens = rows * length
        return rows == 1 or (tokens <= self.tokens and tokens * max(length, self.bridge_positions) <= PASS_PAIRS)


def passes(model: Transformer, lengths: Sequence[int]) -> list[np.ndarray]:
    """Indices of the documents of each pass. Where there are several, documents of similar lengths come together."""
    if not len(lengths):
        return []
    if Limits(model).allow(len(lengths), max(lengths)):
        return [np.arange(len(lengths))]
    order = np.argsort(lengths, kind="stable")
    return [np.array(part) for part in streamed(model, order.tolist(), lambda index: lengths[index])]


def slices(model: Transformer, rows: int, length: int) -> list[slice]:
    """The passes of so many rows of one length."""
    return [slice(part[0], part[-1] + 1) for part in passes(model, [max(1, length)] * rows)]


def streamed(model: Transformer, items: Iterable[Item], length: Callable[[Item], int]) -> Iterator[list[Item]]:
    """The items of each pass in their order, taken one after the other as they are made."""
    limits, part, longest = Limits(model), list[Item](), 0
    for item in items:
        size = length(item)
        if part and not limits.allow(len(part) + 1, max(longest, size)):
            yield part
            part, longest = [], 0
        part.append(item)
        longest = max(longest, size)
    if part:
        yield part
