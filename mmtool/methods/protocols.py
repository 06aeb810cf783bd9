"""What a method can do once it is trained, one protocol for each ability. `Method` (base.py) is the objective that all share.

A method has an ability by having its functions. Whoever can do without asks `isinstance`, or `issubclass` before a method is built (all
but `Representing` hold functions only); whoever needs it calls `imputing`, `scoring` ..., which raise UsageError where it is missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from mmtool.common.errors import UsageError
from mmtool.data.sample import Sample
from mmtool.data.sequence import Document
from mmtool.methods.base import Method
from mmtool.model.decode import Generated
from mmtool.model.sampling import Sampling
from mmtool.model.transformer import Transformer


@dataclass(frozen=True)
class ImputationRequest:
    """So many draws of modality `want` of each sample, given its modalities `have`. sampling: how they are drawn."""

    have: Sequence[str]
    want: str
    sampling: Sampling = field(default_factory=Sampling)
    draws: int = 1


@runtime_checkable
class Imputing(Protocol):
    """Draws absent modalities from present ones."""

    def impute(self, model: Transformer, samples: Sequence[Sample], request: ImputationRequest, generator: torch.Generator) -> Generated:
        """What is requested of each sample; all draws of the first sample come first."""


@runtime_checkable
class Retrieving(Imputing, Protocol):
    """Imputes by choosing among training samples, which the run keeps: it draws no codes of its own."""

    def use_gallery(self, samples: Sequence[Sample]) -> None:
        """The training samples to choose among."""


@runtime_checkable
class Scoring(Protocol):
    """Has a likelihood."""

    def can_score(self, name: str) -> bool:
        """Whether `score` is defined for a modality: patches have no likelihood."""

    def score(self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], target: str) -> tuple[np.ndarray, np.ndarray]:
        """(negative log-likelihood in nats, number of tokens) of `target` given `have`, each (N,)."""

    def score_passes(self, num_tokens: int) -> int:
        """Documents that `score` reads for a target of so many tokens: one, or one per token."""

    def consistency(
        self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], want: str, draws: Sequence[Sequence[np.ndarray]]
    ) -> np.ndarray:
        """(N, draws) mean log p per token of the modalities `have` of each sample given each draw of `want` alone: the consistency of
        LoReTTa as a score."""


@runtime_checkable
class Matching(Protocol):
    """Says how well real data of an absent modality fits what is present."""

    def can_match(self, have: Sequence[str]) -> bool:
        """Whether `match` is defined where these modalities are given."""

    def match(
        self,
        model: Transformer,
        samples: Sequence[Sample],
        have: Sequence[str],
        want: str,
        donors: Sequence[np.ndarray],
        references: Sequence[Sample] = (),
    ) -> np.ndarray:
        """(N, M) log of how probable each of M donors of `want` is for each sample, with the same prior for all, up to a constant per
        sample. references: samples that show how likely a donor is anyway. Raises UsageError where `can_match` is False."""

    def match_passes(self, num_pairs: int, lengths: Sequence[int]) -> int:
        """Documents that `match` reads for so many pairs of a sample and a donor; lengths: tokens of the donors, and of each modality
        that is given."""


@runtime_checkable
class Representing(Protocol):
    """Gives features of samples. poolings: how hidden states become the features of a sample, the usual way first."""

    @property
    def poolings(self) -> tuple[str, ...]: ...

    def reading(self, sample: Sample, have: Sequence[str]) -> Document:
        """What the transformer reads when it is given these modalities of a sample and asked for nothing; what encoders read, too."""

    def represent(self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], pooling: str) -> Tensor:
        """(N, D) features, in fp32 and with gradients: what a head is finetuned on."""

    def pooled(self, hidden_NLD: Tensor, tokens_NL: Tensor, valid_NL: Tensor) -> Tensor:
        """(N, D) features, pooled in the usual way from the last hidden states of documents in padded rows, their tokens, and which of
        them are no padding."""

    def features(self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], pooling: str | None = None) -> np.ndarray:
        """(N, D) representations of the samples from their modalities `have` alone; pooling None: the first of `poolings`. Raises
        UsageError where nothing is given."""

    def states(self, model: Transformer, have: Sequence[str], samples: Sequence[Sample]) -> np.ndarray:
        """(N, D) float32 features of any number of samples, in batches; `have` counts as a set."""


@runtime_checkable
class Reconstructing(Protocol):
    """Predicts hidden tokens from visible ones."""

    def hidden(self, sample: Sample, ratio: float | None, random: np.random.Generator) -> dict[str, np.ndarray]:
        """(L,) bool of each modality of the sample: the tokens to hide, as many as in training or a share of `ratio`."""

    def reconstruct(
        self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], hidden: Sequence[Mapping[str, np.ndarray]]
    ) -> list[dict[str, np.ndarray]]:
        """The tokens of the modalities `have` of each sample, the hidden ones as predicted from all visible ones in one pass."""


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


@runtime_checkable
class Transitive(Imputing, Protocol):
    """Learns pairs of modalities that never occur together through those that link them."""

    def routes(self, present: frozenset[str]) -> list[Route]:
        """What samples holding `present` can teach of such pairs."""


def imputing(method: Method) -> Imputing:
    """The method as one that imputes. Raises UsageError for one that does not."""
    if isinstance(method, Imputing):
        return method
    raise UsageError("the method imputes nothing.", where=method.name, fix="Ask a run of another method.")


def scoring(method: Method) -> Scoring:
    """The method as one with a likelihood. Raises UsageError for one without."""
    if isinstance(method, Scoring):
        return method
    raise UsageError("the method has no likelihood.", where=method.name, fix="Compare it by accuracy or retrieval.")


def matching(method: Method) -> Matching:
    """The method as one that matches donors. Raises UsageError for one that does not."""
    if isinstance(method, Matching):
        return method
    raise UsageError("the method cannot choose donors.", where=method.name, fix="Ask a run of another method.")


def representing(method: Method) -> Representing:
    """The method as one that gives features. Raises UsageError for one that does not."""
    if isinstance(method, Representing):
        return method
    raise UsageError("the method gives no features.", where=method.name, fix="Ask a run of another method.")


def reconstructing(method: Method) -> Reconstructing:
    """The method as one that predicts hidden tokens. Raises UsageError for one that does not."""
    if isinstance(method, Reconstructing):
        return method
    raise UsageError("the method hides no tokens.", where=method.name, fix="Ask a run of masked or m3ae.")
