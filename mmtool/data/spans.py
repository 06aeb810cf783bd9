"""Spans of documents moved to their ends (CM3, Aghajanyan et al. 2022, arXiv 2201.07520)."""

from collections.abc import Sequence

import numpy as np

from mmtool.data.documents import Documents
from mmtool.data.layout import NUM_SENTINELS, VocabularyLayout
from mmtool.data.sequence import NO_TARGET, TARGETS, TOKENS, Document

Spans = Sequence[tuple[int, int]]


def move_spans(document: Document, spans: Spans, layout: VocabularyLayout) -> Document:
    """Replace each span [start, stop) by a sentinel and move it, behind the same sentinel, to the end.

    A sentinel stands for the input before what it opens: in place for the last token of the span, at the end for the token before
    the span; it takes over that token's position and target. No loss is asked for the sentinels themselves, whose
    positions are noise. Spans are disjoint, sorted and start at 1 or later; at most `NUM_SENTINELS` are moved.
    """
    return Document(move_all_spans(Documents.of([document]), [spans], layout).table) if spans else document


def move_all_spans(documents: Documents, spans: Sequence[Spans], layout: VocabularyLayout) -> Documents:
    """The same for the spans of each of several documents of codes."""
    pieces, sentinels, sizes, last_kept = list[tuple[int, int]](), list[int](), list[int](), list[int]()
    first = 0
    for size, moved in zip(documents.sizes.tolist(), spans, strict=True):
        kept, opened = _pieces(first, first + size, moved[:NUM_SENTINELS])
        last_kept.append(len(pieces) + len(kept) - 1)
        pieces += kept
        pieces += opened
        numbers = [layout.sentinel(number) for number in range(len(opened))]
        sentinels += [0 if i % 2 == 0 else numbers[i // 2] for i in range(len(kept))]
        sentinels += numbers
        sizes.append(size + 2 * len(opened))
        first += size
    return _rearranged(documents, np.array(pieces).reshape(-1, 2), np.array(sentinels), np.array(sizes), np.array(last_kept))


def _pieces(first: int, last: int, spans: Spans) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """What a document whose tokens have the numbers [first, last) is put together from, as ranges: what is kept, of which every second is
    a token that a sentinel stands for, and what is moved, each piece opened by a token that a sentinel stands for."""
    kept, moved, at = list[tuple[int, int]](), list[tuple[int, int]](), first
    for start, stop in spans:
        kept += [(at, first + start), (first + stop - 1, first + stop)]
        moved.append((first + start - 1, first + stop))
        at = first + stop
    kept.append((at, last))
    return kept, moved


def _rearranged(documents: Documents, pieces: np.ndarray, sentinels: np.ndarray, sizes: np.ndarray, last_kept: np.ndarray) -> Documents:
    """pieces: (P, 2) ranges of tokens; sentinels: (P,) that stand for the first token of a piece, or 0; sizes: of the new documents, (N,);
    last_kept: (N,) piece that ends where the document ended."""
    lengths = pieces[:, 1] - pieces[:, 0]
    ends = lengths.cumsum()
    starts = ends - lengths
    order = np.repeat(pieces[:, 0] - starts, lengths) + np.arange(ends[-1])
    table, opened = documents.table[:, order], starts[sentinels > 0]
    predicting = np.append(order[1:] == order[:-1] + 1, False)  # of the token behind it in the document
    predicting[opened[opened > 0] - 1] = False
    predicting[sizes.cumsum() - 1] = False
    predicting[ends[last_kept[lengths[last_kept] > 0]] - 1] = True
    predicting[opened] = True
    table[TOKENS, opened] = sentinels[sentinels > 0]
    table[TARGETS, ~predicting] = NO_TARGET
    return Documents(table, sizes, documents.values)
