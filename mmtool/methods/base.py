"""What a method is: what it feeds the transformer and how it scores it, nothing else.

A method turns samples into documents (inputs and targets). The loop packs them, the transformer reads them, the loss is the
cross entropy at their targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import VocabularyLayout
from mmtool.data.sample import Sample
from mmtool.data.sequence import Document, concatenate, segment
from mmtool.errors import UsageError
from mmtool.model.transformer import Transformer


@dataclass(frozen=True)
class Step:
    """What a method may know about the step it feeds. progress: 0 at the start of training, 1 at its end. seed: of this step alone."""

    number: int
    progress: float
    seed: int
    model: Transformer


class Method:
    """Base of all methods: one document per sample, made from the sample and its own random generator."""

    name: ClassVar[str]
    Options: ClassVar[type]  # a frozen dataclass: the method's own settings

    def __init__(self, layout: VocabularyLayout, graph: CoOccurrence, options: Any) -> None:
        self.layout, self.graph, self.options = layout, graph, options

    def documents(self, samples: Sequence[Sample], seeds: Sequence[int], step: Step) -> list[Document]:
        """One document per sample; `seeds[i]` is a function of (seed, epoch, sample key) alone."""
        return [self.document(sample, np.random.default_rng(seed)) for sample, seed in zip(samples, seeds, strict=True)]

    def document(self, sample: Sample, random: np.random.Generator) -> Document:
        raise UsageError("this method has no documents of single samples.", where=self.name)

    def typical_documents(self, samples: Sequence[Sample]) -> list[list[Document]]:
        """Documents as training will see them, one list per kind of step: the loop sizes its rows by them."""
        return [[self.document(sample, np.random.default_rng(i)) for i, sample in enumerate(samples)]]

    def segments(self, sample: Sample, names: Sequence[str], loss: Sequence[str]) -> Document:
        """The sample's modalities in this order; only those in `loss` are predicted."""
        parts = [(self.layout.index(name), sample.tokens[name], name in loss) for name in names]
        return concatenate([segment(self.layout, index, codes, loss=wanted) for index, codes, wanted in parts])
