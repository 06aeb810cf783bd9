"""What a method is: what it feeds the transformer and how it scores it, nothing else.

A method turns samples into documents (inputs and targets) and says who sees whom in them. The loop packs documents, the
transformer reads them, and the method's loss is asked at their targets. After training the method fills holes, scores and gives
features; what is written here holds for every method that predicts the next token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import VocabularyLayout
from mmtool.data.sample import Sample
from mmtool.data.sequence import Document, concatenate, conditional_document, segment
from mmtool.errors import UsageError
from mmtool.model.decode import Generated, Sampling, generate, pooled_states, score
from mmtool.model.losses import loss_sums
from mmtool.model.masks import View
from mmtool.model.transformer import Transformer

READ_TOGETHER = 512  # samples whose hidden states are held at once


@dataclass(frozen=True)
class Step:
    """What a method may know about the step it feeds. progress: 0 at the start of training, 1 at its end. seed: of this step alone."""

    number: int
    progress: float
    seed: int
    model: Transformer


@dataclass(frozen=True)
class Route:
    """What a sample can teach: predict its real `target` given the ends of `paths`, each generated link by link from a real start."""

    target: str
    paths: tuple[tuple[str, ...], ...]

    @property
    def pseudo(self) -> list[str]:
        return [path[-1] for path in self.paths]

    @property
    def links(self) -> list[tuple[str, str]]:
        """(from, to) in the order they are walked, each once."""
        return list(dict.fromkeys(link for path in self.paths for link in pairwise(path)))


class Method:
    """Base of all methods: one document per sample, made from the sample and its own random generator.

    view: who sees whom. has_likelihood: whether `score` is defined; scores_by_token: whether it takes one pass per token. has_gallery:
    whether it imputes by choosing among training samples, which the run then keeps (`gallery`).
    """

    name: ClassVar[str]
    Options: ClassVar[type]  # a frozen dataclass: the method's own settings
    view: ClassVar[View] = "past"
    has_likelihood: ClassVar[bool] = True
    scores_by_token: ClassVar[bool] = False
    has_gallery: ClassVar[bool] = False
    gallery: Sequence[Sample] = ()

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

    def loss_sums(self, model: Transformer, hidden_BLD: Tensor, places: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Sum of losses of each modality, (M,), in fp32; the loop divides by the number of targets."""
        return loss_sums(model, hidden_BLD, places, targets)

    def routes(self, present: frozenset[str]) -> list[Route]:
        """What samples holding `present` can teach of pairs that never met; nothing, unless the method is transitive."""
        return []

    def forget(self) -> None:
        """Drop whatever is kept between steps: called at every checkpoint, so that a resumed run goes on as an uninterrupted one."""

    def impute(
        self,
        model: Transformer,
        samples: Sequence[Sample],
        have: Sequence[str],
        want: str,
        sampling: Sampling,
        generator: torch.Generator,
        draws: int = 1,
    ) -> Generated:
        """Draw modality `want` of each sample given its modalities `have`; all draws of the first sample come first."""
        prompts = [self.segments(sample, have, loss=()) for sample in samples]
        return generate(model, prompts, self.layout.index(want), sampling=sampling, generator=generator, draws=draws)

    def score(self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], target: str) -> tuple[np.ndarray, np.ndarray]:
        """(negative log-likelihood in nats, number of tokens) of `target` given `have`, each (N,)."""
        return score(model, [conditional_document(self.layout, sample, have, target) for sample in samples])

    def features(self, model: Transformer, samples: Sequence[Sample], have: Sequence[str]) -> np.ndarray:
        """(N, D) representations of the samples from their modalities `have` alone."""
        return pooled_states(model, [self.segments(sample, have, loss=()) for sample in samples], self.view)

    def states(self, model: Transformer, have: Sequence[str], samples: Sequence[Sample]) -> np.ndarray:
        """(N, D) float32 features of any number of samples, in batches; `have` counts as a set."""
        parts = [samples[at : at + READ_TOGETHER] for at in range(0, len(samples), READ_TOGETHER)]
        return np.concatenate([self.features(model, part, sorted(have)) for part in parts]).astype(np.float32)

    def segments(self, sample: Sample, names: Sequence[str], loss: Sequence[str]) -> Document:
        """The sample's modalities in this order; only those in `loss` are predicted."""
        parts = [(self.layout.index(name), sample.tokens[name], name in loss) for name in names]
        return concatenate([segment(self.layout, index, codes, loss=wanted) for index, codes, wanted in parts])

    def present(self, sample: Sample) -> list[str]:
        """The sample's modalities in the order of the data set."""
        return [name for name in self.layout.names if name in sample.tokens]
