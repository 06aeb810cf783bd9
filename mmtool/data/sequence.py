"""From a sample to what a transformer reads: segments, documents, rows.

A segment's inputs are `[OPEN, c1 .. cn]` and its targets `[c1 .. cn, END]`: every input at position p predicts position p + 1 of its
segment, so that concatenation and order never leak between segments, and an END is neither fed nor needed where the length
is fixed. A document is one or more segments; documents are packed into rows and kept apart by a mask.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from mmtool.common.errors import DataError
from mmtool.data.layout import MIN_AXES, NUM_SENTINELS, VocabularyLayout
from mmtool.data.sample import Sample

NO_TARGET = -1


@dataclass(frozen=True)
class Document:
    """Flat arrays of length L, one entry per input token.

    tokens: id in the shared vocabulary. targets: local index in the modality's range, or NO_TARGET. modality: index in the layout.
    slot: row of the slot embedding. position: (L, axes) on the tokenizer's grid. values: index of a continuous modality ->
    (n, W) uint8 patches of its n tokens here, in their order.
    """

    tokens: np.ndarray
    targets: np.ndarray
    modality: np.ndarray
    slot: np.ndarray
    position: np.ndarray
    values: Mapping[int, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, order: np.ndarray) -> "Document":
        fields = (self.tokens, self.targets, self.modality, self.slot, self.position)
        values = {}
        for index, rows in self.values.items():
            is_patch = self.modality == index
            number = np.cumsum(is_patch) - 1
            values[index] = rows[number[order][is_patch[order]]]
        tokens, targets, modality, slot, position = (array[order] for array in fields)
        return Document(tokens, targets, modality, slot, position, values)


def segment(layout: VocabularyLayout, index: int, codes: np.ndarray, *, loss: bool = True) -> Document:
    """The document of one modality's codes; without `loss` it only conditions what comes after it."""
    modality = layout.modalities[index]
    if modality.continuous:
        raise DataError(
            "continuous patches cannot be predicted token by token.",
            where=modality.name,
            fix="Tokenize it with a codec, or use `--method m3ae`.",
        )
    size = len(codes) + 1
    tokens = np.empty(size, np.int64)
    tokens[0], tokens[1:] = layout.open_id(index), codes.astype(np.int64) + layout.first_code(index)
    targets = np.full(size, NO_TARGET, np.int64)
    if loss:
        targets[:-1] = codes.astype(np.int64) + 1
        targets[-1] = NO_TARGET if modality.fixed_length else 0
    return Document(tokens, targets, np.full(size, index), *slots_and_positions(layout, index, size))


def conditional_document(layout: VocabularyLayout, sample: Sample, given: Sequence[str], target: str) -> Document:
    """The given modalities as context, then the target with loss: what p(target | given) is scored by."""
    parts = [segment(layout, layout.index(name), sample.tokens[name], loss=name == target) for name in (*given, target)]
    return concatenate(parts)


@lru_cache(maxsize=4096)
def slots_and_positions(layout: VocabularyLayout, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(slot, position) of the first `size` inputs of a segment: OPEN, then its codes.

    A fixed-length segment has a learned embedding per slot; a variable-length one shares row 0. Positions follow the grid, whose last axes
    are the last ones of the layout: images beside videos stand still in time. On a line all axes carry the place, in a set (a table's
    features) only the slot tells tokens apart.
    """
    modality, steps = layout.modalities[index], np.arange(size)
    slot = steps + slot_start(layout, index) if modality.fixed_length else np.zeros(size, np.int64)
    position = np.zeros((size, layout.axes), np.int64)
    if modality.grid:
        rest, cells = steps[1:] - 1, []
        for count in modality.grid[:0:-1]:
            rest, cell = np.divmod(rest, count)
            cells.append(cell)
        position[1:, layout.axes - len(modality.grid) :] = 1 + np.stack([rest, *reversed(cells)], 1)
    elif modality.positions != "set":
        position[:] = steps[:, None]
    return slot, position


def slot_start(layout: VocabularyLayout, index: int) -> int:
    """First row of a fixed-length modality in the slot embedding (row 0 is that of all modalities of varying length)."""
    return 1 + sum(modality.max_length + 1 for modality in layout.modalities[:index] if modality.fixed_length)


def concatenate(documents: Sequence[Document]) -> Document:
    """One behind the other; of none, a document without tokens (whose positions have the fewest axes there may be)."""
    none = np.zeros(0, np.int64)
    filled = [document for document in documents if len(document)] or [Document(none, none, none, none, np.zeros((0, MIN_AXES), np.int64))]
    fields = ("tokens", "targets", "modality", "slot", "position")
    held = sorted({index for document in documents for index in document.values})
    values = {index: np.concatenate([document.values[index] for document in documents if index in document.values]) for index in held}
    joined = [np.concatenate([getattr(document, name) for document in filled]) for name in fields]
    return Document(joined[0], joined[1], joined[2], joined[3], joined[4], values)


def move_spans(document: Document, spans: Sequence[tuple[int, int]], layout: VocabularyLayout) -> Document:
    """Replace each span [start, stop) by a sentinel and move it, behind the same sentinel, to the end (CM3, arXiv 2201.07520).

    A sentinel stands for the input before what it opens: in place for the last token of the span, at the end for the token before
    the span; it takes over that token's position and target. No loss is asked for the sentinels themselves, whose
    positions are noise. Spans are disjoint, sorted and start at 1 or later; at most `NUM_SENTINELS` are moved.
    """
    kept: list[tuple[int, int]] = []
    moved: list[tuple[int, int]] = []
    at = 0
    for number, (start, stop) in enumerate(spans[:NUM_SENTINELS]):
        sentinel = layout.sentinel(number)
        kept += [(i, 0) for i in range(at, start)] + [(stop - 1, sentinel)]
        moved += [(start - 1, sentinel)] + [(i, 0) for i in range(start, stop)]
        at = stop
    kept += [(i, 0) for i in range(at, len(document))]
    order, sentinels = np.array(kept + moved).T
    is_sentinel = sentinels > 0
    followed = np.append((order[1:] == order[:-1] + 1) & ~is_sentinel[1:], False)
    ends_document = (order == len(document) - 1) & (np.arange(len(order)) < len(kept))
    new = document.take(order)
    new.tokens[is_sentinel] = sentinels[is_sentinel]
    new.targets[~(is_sentinel | followed | ends_document)] = NO_TARGET
    return new
