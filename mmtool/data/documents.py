"""Many documents in one array: what is done to all documents of a batch is done in a few operations, whatever their number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mmtool.data.layout import VocabularyLayout
from mmtool.data.sequence import MODALITY, NO_TARGET, TARGETS, TOKENS, Document, TokenTable, joined_table, joined_values, segment_table


@dataclass(frozen=True)
class Documents(TokenTable):
    """N documents of T tokens in all, one behind the other; sizes: tokens of each, (N,)."""

    table: np.ndarray
    sizes: np.ndarray
    values: Mapping[int, np.ndarray]

    @classmethod
    def of(cls, documents: "Sequence[Document] | Documents") -> "Documents":
        """These documents joined."""
        if isinstance(documents, Documents):
            return documents
        sizes = np.array([document.table.shape[1] for document in documents], np.int64)
        return cls(joined_table(documents), sizes, joined_values(documents))

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def ends(self) -> np.ndarray:
        """(N,) where the next document begins in the table."""
        return np.cumsum(self.sizes)

    @cached_property
    def owner(self) -> np.ndarray:
        """(T,) number of the document of each token."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def part(self, start: int, stop: int) -> "Documents":
        """Those from number `start` on, before `stop`."""
        first, last = (int(self.ends[number - 1]) if number else 0 for number in (start, stop))
        values = {}
        for index, rows in self.values.items():
            is_patch = self.modality == index
            skipped, taken = int(is_patch[:first].sum()), int(is_patch[first:last].sum())
            values[index] = rows[skipped : skipped + taken]
        return Documents(self.table[:, first:last], self.sizes[start:stop], values)

    def modality_counts(self, num_modalities: int, targets_only: bool = False) -> np.ndarray:
        """(N, M) tokens of each modality in each document; targets_only: those with a target."""
        counted = self.targets != NO_TARGET if targets_only else slice(None)
        cells = self.owner[counted] * num_modalities + self.modality[counted]
        return np.bincount(cells, minlength=len(self) * num_modalities).reshape(len(self), num_modalities)

    def without_targets(self) -> "Documents":
        """The tokens that have no target. Patches among them are marked with a target of 0, so that packing lists their indices."""
        kept = self.targets == NO_TARGET
        table = self.table[:, kept]
        table[TARGETS] = np.where(np.isin(table[MODALITY], list(self.values)), 0, NO_TARGET)
        values = {index: rows[kept[self.modality == index]] for index, rows in self.values.items()}
        return Documents(table, np.bincount(self.owner[kept], minlength=len(self)), values)


def of_segments(layout: VocabularyLayout, parts: Sequence[Sequence[tuple[int, np.ndarray]]]) -> Documents:
    """Documents of segments of codes, all of them with loss; parts: of each document (index of the modality, codes) of its segments."""
    segments = [part for document in parts for part in document]
    table = np.concatenate([segment_table(layout, index, len(codes) + 1, True) for index, codes in segments], axis=1)
    codes = np.concatenate([codes for _, codes in segments]).astype(np.int64)
    sizes = np.array([len(codes) + 1 for _, codes in segments])
    ends = sizes.cumsum()
    opens, closes = np.zeros(ends[-1], bool), np.zeros(ends[-1], bool)
    opens[ends - sizes], closes[ends - 1] = True, True
    table[TOKENS, ~opens] += codes
    table[TARGETS, ~closes] += codes
    return Documents(table, np.diff(ends[np.cumsum([len(document) for document in parts]) - 1], prepend=0), {})


def join(parts: Sequence[Documents]) -> Documents:
    """The documents of all parts, of which there is at least one."""
    if len(parts) == 1:
        return parts[0]
    return Documents(joined_table(parts), np.concatenate([part.sizes for part in parts]), joined_values(parts))
