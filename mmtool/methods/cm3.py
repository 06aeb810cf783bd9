"""Causal masked modelling (CM3): next-token prediction in which some spans are moved to the end and so see both sides.

Aghajanyan et al. 2022, arXiv 2201.07520: the number of spans is Poisson(1) (none in 37 % of documents: plain causal); each is
replaced by a sentinel and appended behind the same sentinel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from mmtool.common.bounds import NotNegative
from mmtool.data.layout import NUM_SENTINELS
from mmtool.data.packing import Most
from mmtool.data.sample import Sample
from mmtool.data.spans import Spans
from mmtool.methods.next_token import NextToken


@dataclass(frozen=True)
class CM3Options:
    """Settings of causal masked modelling."""

    mean_spans: NotNegative = 1.0
    """Mean of the Poisson number of moved spans per document."""
    commutative: bool = False
    """Segments in random order (see `commutative`); off, they keep the order of the data set, as documents do in the paper."""
    across_segments: bool = True
    """Spans may run over the border of two segments; off, a span stays inside one."""


class CM3(NextToken):
    name = "cm3"
    Options = CM3Options

    def order(self, sample: Sample, random: np.random.Generator) -> list[str]:
        names = self.present(sample)
        if self.options.commutative:
            random.shuffle(names)
        return names

    def most(self, samples: Sequence[Sample]) -> Most:
        tokens, targets = super().most(samples)
        return Most(tokens + 2 * NUM_SENTINELS, targets)  # two for each moved span

    def spans(self, sizes: Sequence[int], random: np.random.Generator) -> Spans:
        """Disjoint, sorted spans [start, stop) of the document, none of which holds its first token."""
        size = sum(sizes)
        count = min(random.poisson(self.options.mean_spans), NUM_SENTINELS, (size - 1) // 2)
        if count == 0:
            return ()
        ends = sorted((1 + random.choice(size, 2 * count, replace=False)).tolist())
        spans = list(zip(ends[::2], ends[1::2], strict=True))
        return spans if self.options.across_segments else [(start, min(stop, _end(sizes, start))) for start, stop in spans]


def _end(sizes: Sequence[int], token: int) -> int:
    """Where the segment of a token ends."""
    return next(end for end in accumulate(sizes) if end > token)
