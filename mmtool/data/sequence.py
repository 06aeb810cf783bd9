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
from mmtool.data.layout import MIN_AXES, VocabularyLayout
from mmtool.data.sample import Sample

NO_TARGET = -1
TOKENS, TARGETS, MODALITY, SLOT, POSITION = range(5)  # rows of a document's table


class TokenTable:
    """L input tokens, all that is known of them in one array, for what is done to tokens is done to all of it.

    table: (4 + axes, L), of which the properties are views. values: index of a continuous modality -> (n, W) uint8 patches of its n tokens
    here, in their order.
    """

    table: np.ndarray
    values: Mapping[int, np.ndarray]

    @property
    def tokens(self) -> np.ndarray:
        """Ids in the shared vocabulary."""
        return self.table[TOKENS]

    @property
    def targets(self) -> np.ndarray:
        """Local index in the range of the modality, or NO_TARGET."""
        return self.table[TARGETS]

    @property
    def modality(self) -> np.ndarray:
        """Index in the layout."""
        return self.table[MODALITY]

    @property
    def slot(self) -> np.ndarray:
        """Row of the slot embedding."""
        return self.table[SLOT]

    @property
    def position(self) -> np.ndarray:
        """(L, axes) on the tokenizer's grid."""
        return self.table[POSITION:].T


@dataclass(frozen=True)
class Document(TokenTable):
    """The tokens of one document."""

    table: np.ndarray
    values: Mapping[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, tokens: np.ndarray, targets: np.ndarray, modality: np.ndarray, slot: np.ndarray, position: np.ndarray) -> "Document":
        """The document of these properties, each an array of length L, position (L, axes)."""
        return cls(np.vstack((tokens, targets, modality, slot, position.T)))

    def __len__(self) -> int:
        return self.table.shape[1]

    def take(self, order: np.ndarray) -> "Document":
        values = {}
        for index, rows in self.values.items():
            is_patch = self.modality == index
            number = np.cumsum(is_patch) - 1
            values[index] = rows[number[order][is_patch[order]]]
        return Document(self.table[:, order], values)


def segment(layout: VocabularyLayout, index: int, codes: np.ndarray, *, loss: bool = True) -> Document:
    """The document of one modality's codes; without `loss` it only conditions what comes after it."""
    modality = layout.modalities[index]
    if modality.continuous:
        raise DataError(
            "continuous patches cannot be predicted token by token.",
            where=modality.name,
            fix="Tokenize it with a codec, or use `--method m3ae`.",
        )
    table, wide = segment_table(layout, index, len(codes) + 1, loss).copy(), codes.astype(np.int64)
    table[TOKENS, 1:] += wide
    if loss:
        table[TARGETS, :-1] += wide
    return Document(table)


@lru_cache(maxsize=4096)
def segment_table(layout: VocabularyLayout, index: int, size: int, loss: bool = False) -> np.ndarray:
    """The table, not to be changed, of a segment of `size` inputs whose codes are all 0; without `loss` it has no targets."""
    tokens, targets = np.full(size, layout.first_code(index)), np.full(size, int(loss) or NO_TARGET)
    tokens[:1] = layout.open_id(index)
    targets[-1:] = 0 if loss and not layout.modalities[index].fixed_length else NO_TARGET
    slot, position = slots_and_positions(layout, index, size)
    table = Document.of(tokens, targets, np.full(size, index), slot, position).table
    table.setflags(write=False)
    return table


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
    return Document(joined_table(documents), joined_values(documents))


def joined_table(parts: Sequence[TokenTable]) -> np.ndarray:
    """The tables of all parts, one behind the other."""
    tables = [part.table for part in parts if part.table.shape[1]] or [part.table for part in parts[:1]]
    return np.concatenate(tables, axis=1) if tables else np.zeros((POSITION + MIN_AXES, 0), np.int64)


def joined_values(parts: Sequence[TokenTable]) -> dict[int, np.ndarray]:
    """The patches of all parts, one behind the other, by modality."""
    continuous = sorted({index for part in parts for index in part.values})
    return {index: np.concatenate([part.values[index] for part in parts if index in part.values]) for index in continuous}
