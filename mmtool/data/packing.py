"""Documents -> fixed rows: every batch has the same shapes, no modality is ever cropped, no token is padding unless it must be."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mmtool.common.errors import UsageError
from mmtool.data.documents import Documents
from mmtool.data.sequence import MODALITY, NO_TARGET, POSITION, SLOT, TARGETS, TOKENS, Document

LONG_ROW = 256  # tokens in a row whose attention costs about as much as its matrix products


@dataclass(frozen=True)
class BatchShape:
    """rows x length tokens, and at most `capacity[m]` targets of each modality. widths[m]: values of a patch of a continuous modality,
    0 for codes (left out: there are only codes)."""

    rows: int
    length: int
    capacity: tuple[int, ...]
    widths: tuple[int, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Packed rows (B, L): tokens, modality, slot, position (B, L, axes), document (0 is padding, otherwise 1-based within the row).

    target_indices[m]: flat index (b * L + l) of the targets of modality m, padded with 0 up to the capacity; targets[m]: their local
    index in the modality's range, NO_TARGET where padded. num_documents: how many of the documents offered were packed.
    values[m]: (capacity, W) uint8 patches at the target indices of a continuous modality, 0 where padded.
    starts: flat index of the first token of each document.
    """

    tokens: np.ndarray
    modality: np.ndarray
    slot: np.ndarray
    position: np.ndarray
    document: np.ndarray
    target_indices: tuple[np.ndarray, ...]
    targets: tuple[np.ndarray, ...]
    num_documents: int
    values: Mapping[int, np.ndarray]
    starts: np.ndarray

    @property
    def num_targets(self) -> np.ndarray:
        """Valid targets per modality, (M,)."""
        return np.array([(targets != NO_TARGET).sum() for targets in self.targets])

    @property
    def num_tokens(self) -> int:
        return int((self.document > 0).sum())


def pack(documents: Sequence[Document] | Documents, shape: BatchShape) -> Batch:
    """Pack documents in their order, first fit, until one does not fit; it and the rest are left for the next batch.

    Raises UsageError when the first document alone is longer than a row or has more targets than the capacity.
    """
    joined = Documents.of(documents)
    placed = place(joined, shape)
    return assemble(joined.part(0, len(placed.starts)), placed, shape)


class Placed(NamedTuple):
    """Of each document the flat index of its first token, and which of its row's documents it is, from 1 on."""

    starts: np.ndarray
    numbers: np.ndarray

    def head(self, count: int) -> "Placed":
        """Those of the first documents."""
        return Placed(self.starts[:count], self.numbers[:count])


def place(documents: Documents, shape: BatchShape) -> Placed:
    """Where `pack` puts as many documents as it packs. Those of the first n do not depend on the documents behind them."""
    counts = documents.modality_counts(1 + len(shape.capacity), targets_only=True)[:, :-1]  # the last is of no modality: CLS
    overflowing = (counts.cumsum(0) > np.array(shape.capacity)).any(1)
    limit = int(overflowing.argmax()) if overflowing.any() else len(documents)
    used, held = np.zeros(shape.rows, np.int64), [0] * shape.rows
    starts, numbers = list[int](), list[int]()
    for size in documents.sizes[:limit].tolist():
        row = int((used <= shape.length - size).argmax())
        if used[row] > shape.length - size:
            break
        starts.append(row * shape.length + int(used[row]))
        used[row] += size
        held[row] += 1
        numbers.append(held[row])
    if len(documents) and not starts and limit:
        what = f"a sample of {documents.sizes[0]} tokens does not fit into rows of {shape.length}."
        raise UsageError(what, where="--row-length", fix="Raise it.")
    if len(documents) and not starts:
        what = f"a sample has {counts[0].tolist()} tokens to predict of the modalities, and a batch has room for {list(shape.capacity)}."
        raise UsageError(what, where="--batch-tokens", fix="Raise it.")
    return Placed(np.array(starts, np.int64), np.array(numbers, np.int64))


def flat_indices(documents: Documents, placed: Placed) -> np.ndarray:
    """(T,) flat index of each token of the documents."""
    return np.repeat(placed.starts - (documents.ends - documents.sizes), documents.sizes) + np.arange(documents.table.shape[1])


def assemble(documents: Documents, placed: Placed, shape: BatchShape) -> Batch:
    """The batch of these documents, each at its place."""
    size, indices = shape.rows * shape.length, flat_indices(documents, placed)
    table = np.zeros((len(documents.table), size), np.int64)
    table[TARGETS] = NO_TARGET
    for row, properties in zip(table, documents.table, strict=True):
        row[indices] = properties
    number = np.zeros(size, np.int64)
    number[indices] = np.repeat(placed.numbers, documents.sizes)
    targets, modality = table[TARGETS], table[MODALITY]
    target_indices = [np.flatnonzero((targets != NO_TARGET) & (modality == index)) for index in range(len(shape.capacity))]
    values = {}
    for index in (index for index, width in enumerate(shape.widths) if width):
        carried = np.zeros((size, shape.widths[index]), np.uint8)
        if index in documents.values:
            carried[indices[documents.modality == index]] = documents.values[index]
        values[index] = _pad(carried[target_indices[index]], shape.capacity[index], 0)
    grid = (shape.rows, shape.length)
    return Batch(
        table[TOKENS].reshape(grid),
        modality.reshape(grid),
        table[SLOT].reshape(grid),
        np.ascontiguousarray(table[POSITION:].T).reshape(*grid, -1),
        number.reshape(grid),
        tuple(_pad(indices, capacity, 0) for indices, capacity in zip(target_indices, shape.capacity, strict=True)),
        tuple(_pad(targets[indices], capacity, NO_TARGET) for indices, capacity in zip(target_indices, shape.capacity, strict=True)),
        len(documents),
        values,
        placed.starts,
    )


def _pad(values: np.ndarray, size: int, filler: int) -> np.ndarray:
    return np.concatenate((values, np.full((size - len(values), *values.shape[1:]), filler, values.dtype)))


class Most(NamedTuple):
    """What a document may have: tokens, and (M,) targets of each modality."""

    tokens: int
    targets: np.ndarray


def size_rows(kinds: Sequence[Sequence[Document]], batch_tokens: int, row_length: int, num_modalities: int, most: Most) -> dict[str, Any]:
    """Rows, row length, capacity for targets and window (samples offered to a batch) for documents as each kind of step will see them.

    row_length: 0 takes the length that costs least.
    """
    joined = [Documents.of(kind) for kind in kinds if kind]
    length = row_length or cheapest_length(joined, most.tokens)
    rows = max(1, round(batch_tokens / length))
    capacity = np.max([capacity_for(kind, rows, length, num_modalities) for kind in joined], axis=0)
    capacity = np.maximum(capacity, np.minimum(in_steps(most.targets), rows * length))
    mean = min(float(kind.sizes.mean()) for kind in joined)
    return {"rows": rows, "length": length, "capacity": capacity.tolist(), "window": math.ceil(rows * length / mean)}


def in_steps(wanted: np.ndarray) -> np.ndarray:
    """The next multiples of 64."""
    return 64 * np.ceil(wanted / 64).astype(np.int64)


def cheapest_length(kinds: Sequence[Documents], longest: int) -> int:
    """Of the lengths of rows that hold any document the one that costs least: a long row costs more attention, a short one more
    padding."""
    shortest = 8 * math.ceil(longest / 8)

    def cost(length: int) -> float:
        return (1 + length / LONG_ROW) * float(np.mean([1 / (1 - padding(kind, length)) for kind in kinds]))

    return min(range(shortest, max(shortest, LONG_ROW) + 1, 8), key=cost)


def padding(documents: Documents, length: int) -> float:
    """Share of rows of `length` that these documents leave empty, packed first fit."""
    used = np.zeros(len(documents), np.int64)
    for size in documents.sizes.tolist():
        used[(used <= length - size).argmax()] += size
    return 1 - float(used.sum()) / (np.count_nonzero(used) * length)


def capacity_for(
    documents: Sequence[Document] | Documents, rows: int, length: int, num_modalities: int, margin: float = 1.3
) -> tuple[int, ...]:
    """Capacity for targets per modality: their share in typical documents times the batch, with a margin, a multiple of 64.

    A batch that would overflow is closed early, so the margin trades padding in the loss against a little packing.
    """
    joined = Documents.of(documents)
    targets = joined.modality_counts(num_modalities, targets_only=True)
    wanted = np.maximum(targets.sum(0) / max(1, joined.sizes.sum()) * margin * rows * length, targets.max(0, initial=0))
    return tuple(np.minimum(in_steps(wanted), rows * length).tolist())
