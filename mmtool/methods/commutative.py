"""Commutative modelling: causal masked modelling with the segments in random order.

One model so learns both directions of every pair it sees. This is LoReTTa (arXiv 2305.14243) without its transitive steps: the
ablation that shows what transitivity adds.
"""

from dataclasses import dataclass

from mmtool.methods.cm3 import CM3, CM3Options


@dataclass(frozen=True)
class CommutativeOptions(CM3Options):
    """Settings of commutative modelling."""

    commutative: bool = True
    """Segments in random order; off, they keep the order of the data set."""


class Commutative(CM3):
    name = "commutative"
    Options = CommutativeOptions
