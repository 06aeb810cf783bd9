"""Documents -> fixed rows: every batch has the same shapes, no modality is ever cropped, no token is padding unless it must be."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmtool.common.errors import UsageError
from mmtool.data.layout import MIN_AXES
from mmtool.data.sequence import NO_TARGET, Document


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


def pack(documents: Sequence[Document], shape: BatchShape) -> Batch:
    """Pack documents in their order, first fit, until one does not fit; it and the rest are left for the next batch.

    Raises UsageError when the first document alone is longer than a row or has more targets than the capacity.
    """
    placed = place(documents, shape)
    return assemble(documents[: len(placed)], placed, shape)


def place(documents: Sequence[Document], shape: BatchShape) -> list[tuple[int, int]]:
    """(row, first column) of as many documents as `pack` packs. Those of the first n do not depend on the documents behind them."""
    used = np.zeros(shape.rows, np.int64)
    free = np.array(shape.capacity)
    placed: list[tuple[int, int]] = []
    for document in documents:
        counts = np.bincount(document.modality[document.targets != NO_TARGET], minlength=len(free))
        fitting = np.flatnonzero(used + len(document) <= shape.length)
        if not len(fitting) or (counts > free).any():
            break
        row = int(fitting[0])
        placed.append((row, int(used[row])))
        used[row] += len(document)
        free -= counts
    if documents and not placed:
        raise UsageError(
            f"a sample of {len(documents[0])} tokens does not fit into rows of {shape.length}.",
            where="row_length",
            fix="Raise --row-length.",
        )
    return placed


def assemble(documents: Sequence[Document], placed: Sequence[tuple[int, int]], shape: BatchShape) -> Batch:
    """The batch of these documents, each at its (row, first column)."""
    size = shape.rows * shape.length
    tokens, modality, slot, number = (np.zeros(size, np.int64) for _ in range(4))
    position = np.zeros((size, max((document.position.shape[1] for document in documents if len(document)), default=MIN_AXES)), np.int64)
    targets = np.full(size, NO_TARGET, np.int64)
    in_row = np.zeros(shape.rows, np.int64)
    carried = {index: np.zeros((size, width), np.uint8) for index, width in enumerate(shape.widths) if width}
    for document, (row, start) in zip(documents, placed, strict=True):
        here = slice(row * shape.length + start, row * shape.length + start + len(document))
        in_row[row] += 1
        tokens[here], modality[here], slot[here], position[here] = document.tokens, document.modality, document.slot, document.position
        targets[here], number[here] = document.targets, in_row[row]
        for index in carried.keys() & document.values.keys():
            carried[index][here][document.modality == index] = document.values[index]
    target_indices = [np.flatnonzero((targets != NO_TARGET) & (modality == index)) for index in range(len(shape.capacity))]
    grid = (shape.rows, shape.length)
    return Batch(
        tokens.reshape(grid),
        modality.reshape(grid),
        slot.reshape(grid),
        position.reshape(*grid, -1),
        number.reshape(grid),
        tuple(_pad(indices, capacity, 0) for indices, capacity in zip(target_indices, shape.capacity, strict=True)),
        tuple(_pad(targets[indices], capacity, NO_TARGET) for indices, capacity in zip(target_indices, shape.capacity, strict=True)),
        len(documents),
        {index: _pad(numbers[target_indices[index]], shape.capacity[index], 0) for index, numbers in carried.items()},
        np.array([row * shape.length + start for row, start in placed], np.int64),
    )


def _pad(values: np.ndarray, size: int, filler: int) -> np.ndarray:
    return np.concatenate((values, np.full((size - len(values), *values.shape[1:]), filler, values.dtype)))


def size_rows(kinds: Sequence[Sequence[Document]], batch_tokens: int, row_length: int, num_modalities: int) -> dict[str, Any]:
    """Rows, row length, capacity for targets and window (samples offered to a batch) for documents as each kind of step will see them.

    row_length: 0 takes it from the data, a quarter longer than the longest document.
    """
    kinds = [kind for kind in kinds if kind]
    longest = max(len(document) for kind in kinds for document in kind)
    length = row_length or 32 * math.ceil(max(128, 1.25 * longest) / 32)
    rows = max(1, round(batch_tokens / length))
    capacity = np.max([capacity_for(kind, rows, length, num_modalities) for kind in kinds], axis=0)
    mean = min(float(np.mean([len(document) for document in kind])) for kind in kinds)
    return {"rows": rows, "length": length, "capacity": capacity.tolist(), "window": math.ceil(rows * length / mean)}


def capacity_for(documents: Sequence[Document], rows: int, length: int, num_modalities: int, margin: float = 1.3) -> tuple[int, ...]:
    """Capacity for targets per modality: their share in typical documents times the batch, with a margin, a multiple of 64.

    A batch that would overflow is closed early, so the margin trades padding in the loss against a little packing.
    """
    total = max(1, sum(len(document) for document in documents))
    longest = np.zeros(num_modalities)
    counts = np.zeros(num_modalities)
    for document in documents:
        targets = np.bincount(document.modality[document.targets != NO_TARGET], minlength=num_modalities)
        counts, longest = counts + targets, np.maximum(longest, targets)
    wanted = np.maximum(counts / total * margin * rows * length, longest)
    return tuple(int(min(rows * length, 64 * np.ceil(want / 64))) for want in wanted)
