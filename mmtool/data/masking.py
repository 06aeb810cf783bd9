"""Batches for autoencoders: one set of rows holds what an encoder sees, another the whole documents that a decoder completes.

Documents open with a CLS token, which is always seen. Their tokens with a target are hidden: they take no space in the encoder's rows.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mmtool.data.documents import Documents
from mmtool.data.packing import Batch, BatchShape, assemble, cheapest_length, flat_indices, in_steps, padding, place
from mmtool.data.sequence import NO_TARGET, Document


@dataclass(frozen=True)
class MaskedShape:
    """visible, whole: of the encoder's and the decoder's rows; documents: at most so many; varying: modalities whose length varies."""

    visible: BatchShape
    whole: BatchShape
    documents: int
    varying: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        parts = {"visible": self.visible, "whole": self.whole}
        sizes = {name: {"rows": part.rows, "length": part.length, "capacity": list(part.capacity)} for name, part in parts.items()}
        return {**sizes, "documents": self.documents}

    @classmethod
    def from_json(cls, record: Mapping[str, Any], widths: tuple[int, ...], varying: tuple[int, ...]) -> "MaskedShape":
        parts = (record["visible"], record["whole"])
        visible, whole = (BatchShape(part["rows"], part["length"], tuple(part["capacity"]), widths) for part in parts)
        return cls(visible, whole, record["documents"], varying)


@dataclass(frozen=True)
class MaskedBatch:
    """visible: the encoder's rows; its target indices and values are those of visible patches. whole: the decoder's rows; its target
    indices, targets and values are those of what is hidden.

    ids_restore: flat index in the encoder's rows of each of the decoder's tokens, -1 where it is hidden or padding; ids_keep: flat index in
    the decoder's rows of each of the encoder's tokens, -1 where padded (names of MAE, He et al. 2021, arXiv 2111.06377). cls: (documents,)
    flat index of CLS in the encoder's rows, 0 where padded; lengths: (documents, V) tokens of each modality whose length varies, hidden
    ones included, NO_TARGET where absent or padded.
    """

    visible: Batch
    whole: Batch
    ids_restore: np.ndarray
    ids_keep: np.ndarray
    cls: np.ndarray
    lengths: np.ndarray

    @property
    def num_documents(self) -> int:
        return self.whole.num_documents

    @property
    def num_targets(self) -> np.ndarray:
        """Valid targets per modality, and behind them lengths to predict per modality of varying length, (M + V,)."""
        return np.concatenate((self.whole.num_targets, (self.lengths != NO_TARGET).sum(0)))

    @property
    def num_tokens(self) -> int:
        return self.whole.num_tokens


AnyBatch = Batch | MaskedBatch


def pack_masked(documents: Sequence[Document] | Documents, shape: MaskedShape) -> MaskedBatch:
    """Pack documents in their order until one does not fit into either set of rows. Raises UsageError where the first does not."""
    joined = Documents.of(documents)
    joined = joined.part(0, min(len(joined), shape.documents))
    seen = joined.without_targets()
    placed = place(seen, shape.visible), place(joined, shape.whole)
    count = min(len(part.starts) for part in placed)
    joined, seen = joined.part(0, count), seen.part(0, count)
    visible = assemble(seen, placed[0].head(count), shape.visible)
    whole = assemble(joined, placed[1].head(count), shape.whole)
    encoder_ids, decoder_ids = (
        flat_indices(seen, placed[0].head(count)),
        flat_indices(joined, placed[1].head(count))[joined.targets == NO_TARGET],
    )
    ids_restore, ids_keep = np.full(whole.tokens.size, -1, np.int64), np.full(visible.tokens.size, -1, np.int64)
    ids_restore[decoder_ids], ids_keep[encoder_ids] = encoder_ids, decoder_ids
    cls, lengths = np.zeros(shape.documents, np.int64), np.full((shape.documents, len(shape.varying)), NO_TARGET, np.int64)
    cls[:count] = visible.starts
    counts = joined.modality_counts(1 + len(shape.whole.capacity))[:, list(shape.varying)]
    lengths[:count] = np.where(counts > 0, counts, NO_TARGET)
    return MaskedBatch(visible, whole, ids_restore, ids_keep, cls, lengths)


def pack_all(documents: Sequence[Document], widths: tuple[int, ...], varying: tuple[int, ...]) -> MaskedBatch:
    """Pack all of these documents, in rows as long as the longest and as many as it takes."""
    joined, shapes = Documents.of(documents), []
    for part in (joined.without_targets(), joined):
        capacity = part.modality_counts(1 + len(widths), targets_only=True)[:, :-1].sum(0)
        shape = BatchShape(len(part), int(part.sizes.max()), tuple(capacity.tolist()), widths)
        shapes.append(replace(shape, rows=1 + int(place(part, shape).starts.max()) // shape.length))
    return pack_masked(joined, MaskedShape(shapes[0], shapes[1], len(joined), varying))


def size_masked_rows(
    documents: Sequence[Document],
    longest: tuple[int, int],
    batch_tokens: int,
    row_length: int,
    most_targets: np.ndarray,
    widths: tuple[int, ...],
    varying: tuple[int, ...],
) -> tuple[MaskedShape, int]:
    """The shape for documents like these, and the window (samples offered to a batch).

    longest: tokens that the encoder and the decoder may have to take of one document; most_targets: (M,) of each modality. batch_tokens
    counts whole documents; row_length is that of the decoder, 0 takes it from the data.
    """
    whole_ones = Documents.of(documents)
    seen = whole_ones.without_targets()
    whole = _rows(whole_ones, longest[1], batch_tokens, row_length)
    share = seen.sizes.sum() / whole_ones.sizes.sum()
    filled = (1 - padding(whole_ones, whole[1])) * whole[0] * whole[1]
    visible = _rows(seen, longest[0], share * filled, 0)
    window = math.ceil(filled / float(whole_ones.sizes.mean())) + 8
    capacities = [_capacity(part, window, most_targets) for part in (seen, whole_ones)]
    shapes = [BatchShape(*size, capacity, widths) for size, capacity in zip((visible, whole), capacities, strict=True)]
    return MaskedShape(shapes[0], shapes[1], 8 * math.ceil(window / 8), varying), window


def _capacity(documents: Documents, number: int, most: np.ndarray) -> tuple[int, ...]:
    """Targets per modality that so many documents have, three deviations above the mean, and at least the most that one has; a fuller batch
    is closed early."""
    counts = documents.modality_counts(1 + len(most), targets_only=True)[:, :-1]
    wanted = np.maximum(number * counts.mean(0) + 3 * math.sqrt(number) * counts.std(0), np.where(counts.any(0), most, 0))
    return tuple(in_steps(wanted).tolist())


def _rows(documents: Documents, longest: int, tokens: float, length: int) -> tuple[int, int]:
    """(rows, length) for so many tokens; where `length` leaves it open, the one that costs least."""
    length = length or cheapest_length([documents], longest)
    return max(1, math.ceil(tokens / (length * (1 - padding(documents, length))))), length
