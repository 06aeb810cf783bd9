"""Contrastive modelling (CLIP) over whatever pairs exist: modalities of one sample are pulled together, those of several pushed apart.

Radford et al. 2021, arXiv 2103.00020; with more than two modalities all pairs present share one space, and modalities that never occur
together are aligned through the one they have in common (ImageBind, Girdhar et al. 2023, arXiv 2305.05665). Every segment is encoded
separately by the one transformer; its embedding is the normalised last state of its opening token. It has no likelihood and generates
nothing: it imputes by retrieval from a gallery of training samples, which the run keeps.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmtool.common.bounds import Positive
from mmtool.common.errors import UsageError
from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import VocabularyLayout
from mmtool.data.sample import Sample
from mmtool.data.sequence import Document
from mmtool.methods.protocols import ImputationRequest
from mmtool.methods.representation import PooledStates
from mmtool.model.decode import Generated, pooled_states
from mmtool.model.sampling import draw
from mmtool.model.transformer import Transformer
from mmtool.tokenizers.code_values import CodeValues


@dataclass(frozen=True)
class ContrastiveOptions:
    """Settings of contrastive modelling."""

    scale: Positive = 0.07
    """Similarities are divided by it before the softmax, in training and in retrieval (CLIP learns it and ends near 0.01)."""


class Contrastive(PooledStates):
    name = "contrastive"
    Options = ContrastiveOptions
    view = "segment"

    def __init__(self, layout: VocabularyLayout, graph: CoOccurrence, options: ContrastiveOptions) -> None:
        super().__init__(layout, graph, options)
        self._gallery: Sequence[Sample] = ()
        self._encoded: dict[str, np.ndarray] = {}
        self._encoded_with: tuple[int, ...] = ()

    def document(self, sample: Sample, random: np.random.Generator) -> Document:
        """All segments; the target at each opening token is the identity of the sample."""
        document = self.segments(sample, self.present(sample), loss=())
        opens = np.isin(document.tokens, [self.layout.open_id(index) for index in range(len(self.layout.names))])
        document.targets[opens] = _identity(sample.key)
        return document

    def loss_sums(self, model: Transformer, hidden_BLD: Tensor, target_indices: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """InfoNCE of each modality against every other one its samples have, averaged over those."""
        states = hidden_BLD.flatten(0, 1)
        embeddings = [F.normalize(states[indices].float(), dim=-1) for indices in target_indices]
        sums = []
        for index, (queries, query_ids) in enumerate(zip(embeddings, targets, strict=True)):
            terms = [
                self._term(queries, query_ids, keys, key_ids)
                for i, (keys, key_ids) in enumerate(zip(embeddings, targets, strict=True))
                if i != index
            ]
            losses, paired = (torch.stack(part) for part in zip(*terms, strict=True))
            sums.append((losses.sum(0) / paired.sum(0).clamp(min=1)).sum())
        return torch.stack(sums)

    def _term(self, queries: Tensor, query_ids: Tensor, keys: Tensor, key_ids: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, whether there is a positive) of each query among the keys; ids are negative where padded."""
        positive = (query_ids[:, None] == key_ids) & (query_ids >= 0)[:, None]
        paired = positive.any(1)
        scores = (queries @ keys.T / self.options.scale).masked_fill((key_ids < 0)[None], -1e9)
        loss = -torch.log_softmax(scores, 1).masked_fill(~positive, 0).sum(1) / positive.sum(1).clamp(min=1)
        return loss * paired, paired.float()

    def use_gallery(self, samples: Sequence[Sample]) -> None:
        self._gallery, self._encoded = samples, {}

    def impute(self, model: Transformer, samples: Sequence[Sample], request: ImputationRequest, generator: torch.Generator) -> Generated:
        """Gallery entries by the softmax of their similarity; temperature 0 takes the nearest. Guidance has no effect."""
        want, sampling = request.want, request.sampling
        pool = [sample for sample in self._gallery if want in sample.tokens]
        if not pool:
            raise UsageError(f"the gallery of the run holds no {want}.", where=self.name, fix="Train on data that has it.")
        queries, answers = self.features(model, samples, request.have), self._encode_gallery(model, pool, want)
        scores = torch.from_numpy(queries @ answers.T / self.options.scale).to(generator.device).repeat_interleave(request.draws, 0)
        chosen = draw(scores, sampling, generator)
        log_p = torch.log_softmax(scores, 1).gather(1, chosen[:, None])[:, 0]
        codes = [pool[i].tokens[want] for i in chosen.tolist()]
        means = _mean_values(scores, [sample.tokens[want] for sample in pool], sampling.code_values)
        return Generated(codes, log_p.cpu().numpy(), np.ones(len(codes), np.int64), means)

    def can_match(self, have: Sequence[str]) -> bool:
        return True

    def match(
        self,
        model: Transformer,
        samples: Sequence[Sample],
        have: Sequence[str],
        want: str,
        donors: Sequence[np.ndarray],
        references: Sequence[Sample] = (),
    ) -> np.ndarray:
        """(N, M) similarities, as they stand in the softmax of training."""
        answers = self.features(model, [Sample("", {want: codes}) for codes in donors], [want])
        return self.features(model, samples, have) @ answers.T / self.options.scale

    def match_passes(self, num_pairs: int, lengths: Sequence[int]) -> int:
        """None: it compares features."""
        return 0

    def _encode_gallery(self, model: Transformer, pool: Sequence[Sample], want: str) -> np.ndarray:
        """Features of the gallery's entries: encoded once, and again where the weights have changed."""
        state = id(model), *(parameter._version for parameter in model.parameters())
        if state != self._encoded_with:
            self._encoded, self._encoded_with = {}, state
        if want not in self._encoded:
            self._encoded[want] = self.features(model, pool, [want])
        return self._encoded[want]

    def represent(self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], pooling: str) -> Tensor:
        """(N, D) unit vectors: the mean of the embeddings of the given modalities."""
        return F.normalize(torch.stack([self._embed(model, samples, name) for name in have]).sum(0), dim=-1)

    def pooled(self, hidden_NLD: Tensor, tokens_NL: Tensor, valid_NL: Tensor) -> Tensor:
        opens = torch.tensor([self.layout.open_id(index) for index in range(len(self.layout.names))], device=tokens_NL.device)
        is_open_NL = (tokens_NL[..., None] == opens).any(-1) & valid_NL
        return F.normalize((F.normalize(hidden_NLD.float(), dim=-1) * is_open_NL[..., None]).sum(1), dim=-1)

    def _embed(self, model: Transformer, samples: Sequence[Sample], name: str) -> Tensor:
        documents = [self.segments(sample, [name], loss=()) for sample in samples]
        return F.normalize(pooled_states(model, documents, self.view, lambda hidden_NLD, _: hidden_NLD[:, 0].float()), dim=-1)


def _mean_values(scores: Tensor, rows: Sequence[np.ndarray], code_values: CodeValues | None) -> np.ndarray | None:
    """(N, W) mean code values of the gallery's rows under the softmax of the (N, G) scores; None where codes have no values."""
    if code_values is None:
        return None
    values = code_values.of(np.stack(rows))
    shares, known = torch.softmax(scores, 1).cpu().numpy(), ~np.isnan(values)
    return shares @ np.where(known, values, 0) / np.maximum(shares @ known, 1e-12)


def _identity(key: str) -> int:
    """A number that only this sample has, as a target."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=7).digest(), "little")
