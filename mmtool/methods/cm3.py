"""Causal masked modelling (CM3): next-token prediction in which some spans are moved to the end and so see both sides.

Aghajanyan et al. 2022, arXiv 2201.07520: the number of spans is Poisson(1) (none in 37 % of documents: plain causal); each is
replaced by a sentinel and appended behind the same sentinel.
"""

from dataclasses import dataclass

import numpy as np

from mmtool.common.bounds import NotNegative
from mmtool.data.layout import NUM_SENTINELS
from mmtool.data.sample import Sample
from mmtool.data.sequence import Document, move_spans
from mmtool.methods.next_token import NextToken


@dataclass(frozen=True)
class CM3Options:
    """mean_spans: mean of the Poisson number of moved spans per document.
    commutative: segments in random order (see `commutative`); off, they keep the order of the data set, as documents do in the paper.
    across_segments: spans may run over the border of two segments; off, a span stays inside one."""

    mean_spans: NotNegative = 1.0
    commutative: bool = False
    across_segments: bool = True


class CM3(NextToken):
    name = "cm3"
    Options = CM3Options

    def document(self, sample: Sample, random: np.random.Generator) -> Document:
        names = self.present(sample)
        if self.options.commutative:
            random.shuffle(names)
        document = self.segments(sample, names, loss=names)
        return move_spans(document, self.spans(document, random), self.layout)

    def spans(self, document: Document, random: np.random.Generator) -> list[tuple[int, int]]:
        """Disjoint, sorted spans [start, stop) of the document, none of which holds its first token."""
        count = min(random.poisson(self.options.mean_spans), NUM_SENTINELS, (len(document) - 1) // 2)
        if count == 0:
            return []
        ends = sorted((1 + random.choice(len(document), 2 * count, replace=False)).tolist())
        spans = list(zip(ends[::2], ends[1::2], strict=True))
        return spans if self.options.across_segments else [_inside(document, span) for span in spans]


def _inside(document: Document, span: tuple[int, int]) -> tuple[int, int]:
    """The part of a span that lies in the segment of its first token."""
    start, stop = span
    borders = np.flatnonzero(document.modality[start + 1 : stop] != document.modality[start : stop - 1])
    return (start, start + 1 + int(borders[0])) if len(borders) else span
