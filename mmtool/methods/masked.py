"""Masked modelling (BERT): hidden tokens are predicted from all visible ones, before and after them.

Devlin et al. 2019, arXiv 1810.04805. So that the model can generate and not only complete, every segment hides a share of its
tokens, drawn anew between none and all (Ghazvininejad et al. 2019, arXiv 1904.09324), and decoding fixes the most confident tokens
first, over a few passes with a cosine schedule (MaskGIT, Chang et al. 2022, arXiv 2202.04200).

A segment is a canvas `[OPEN, c1 .. cn]` whose positions predict themselves. Where the length varies, it is padded with END to one
more than the longest segment of the data, so that the length is generated like everything else.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmtool.common.bounds import Count, NotNegative, Share
from mmtool.data.documents import Documents
from mmtool.data.randomness import generators
from mmtool.data.sample import Modality, Sample
from mmtool.data.sequence import NO_TARGET, TARGETS, TOKENS, Document, concatenate, segment_table
from mmtool.methods.likelihood import Likelihood
from mmtool.methods.protocols import ImputationRequest
from mmtool.methods.representation import PooledStates
from mmtool.model.confidence import decode_by_confidence
from mmtool.model.decode import Generated, hidden_states, pad_documents, score, trim
from mmtool.model.masks import attention_mask
from mmtool.model.passes import passes, slices, streamed
from mmtool.model.transformer import Transformer


@dataclass(frozen=True)
class MaskedOptions:
    """Settings of masked modelling."""

    mask_ratio: Share = 0.0
    """Share of tokens hidden in every segment (BERT: 0.15); 0 draws it anew for each, uniformly."""
    decode_steps: Count = 8
    """Passes in which a segment is generated."""
    confidence_noise: NotNegative = 1.0
    """Gumbel noise on the confidences of early passes, without which draws resemble each other."""


class Masked(PooledStates, Likelihood):
    name = "masked"
    Options = MaskedOptions
    view = "document"

    def document(self, sample: Sample, random: np.random.Generator) -> Document:
        names = self.present(sample)
        ratios = [self.options.mask_ratio or random.random() for _ in names]
        parts = [self.canvas(name, sample.tokens[name], ratio, random) for name, ratio in zip(names, ratios, strict=True)]
        return concatenate(parts)

    def plain_documents(self, samples: Sequence[Sample], seeds: Sequence[int]) -> Sequence[Document] | Documents:
        """Together, in a fraction of the time; one by one where a subclass makes them in another way."""
        if type(self).document is not Masked.document or not len(samples):
            return super().plain_documents(samples, seeds)
        tables, locals_, masks, sizes = list[np.ndarray](), list[np.ndarray](), list[np.ndarray](), list[int]()
        for sample, random in zip(samples, generators(seeds), strict=True):
            names = self.present(sample)
            ratios = [self.options.mask_ratio or random.random() for _ in names]
            parts = [self.local(name, sample.tokens[name]) for name in names]
            masks += [self._drawn(len(local), ratio, random) for local, ratio in zip(parts, ratios, strict=True)]
            indices = map(self.layout.index, names)
            tables += [segment_table(self.layout, index, 1 + len(local)) for index, local in zip(indices, parts, strict=True)]
            locals_ += parts
            sizes.append(sum(len(local) + 1 for local in parts))
        table, local, hidden = np.concatenate(tables, axis=1), np.concatenate(locals_), np.concatenate(masks)
        codes = np.ones(table.shape[1], bool)
        codes[np.cumsum([0, *(part.shape[1] for part in tables[:-1])])] = False
        table[TOKENS, codes] = np.where(hidden, self.layout.sentinel(0), table[TOKENS, codes] - 1 + local)
        table[TARGETS, codes] = np.where(hidden, local, NO_TARGET)
        return Documents(table, np.array(sizes), {})

    def segment_size(self, modality: Modality, sample: Sample) -> int:
        return 1 + len(self.local(modality.name, sample.tokens[modality.name])) if modality.name in sample.tokens else 0

    def canvas(self, name: str, codes: np.ndarray | None, ratio: float = 0.0, random: np.random.Generator | None = None) -> Document:
        """One segment of which a share is hidden at random, at least one token of it; codes None: everything is."""
        local = self.local(name, codes)
        if ratio and random is not None and codes is not None:
            return self._segment(name, local, self._drawn(len(local), ratio, random))
        return self._segment(name, local, np.full(len(local), codes is None))

    def _drawn(self, size: int, ratio: float, random: np.random.Generator) -> np.ndarray:
        """(size,) which tokens are hidden, at least one of them."""
        hidden = np.zeros(size, bool)
        hidden[random.permutation(size)[: math.ceil(ratio * size)]] = True
        return hidden

    def local(self, name: str, codes: np.ndarray | None) -> np.ndarray:
        """What each position of a canvas holds, in the modality's range: 0 for END, otherwise code + 1."""
        modality = self.layout.modalities[self.layout.index(name)]
        length = 0 if codes is None else len(codes)
        size = modality.max_length if modality.fixed_length else max(modality.max_length, length) + 1
        local = np.zeros(size, np.int64)
        local[:length] = 0 if codes is None else codes.astype(np.int64) + 1
        return local

    def _segment(self, name: str, local: np.ndarray, hidden: np.ndarray, loss: np.ndarray | None = None) -> Document:
        index = self.layout.index(name)
        table = segment_table(self.layout, index, len(local) + 1).copy()
        table[TOKENS, 1:] = np.where(hidden, self.layout.sentinel(0), self.layout.open_id(index) + 1 + local)
        table[TARGETS, 1:] = np.where(hidden if loss is None else loss, local, NO_TARGET)
        return Document(table)

    @torch.no_grad()
    def impute(self, model: Transformer, samples: Sequence[Sample], request: ImputationRequest, generator: torch.Generator) -> Generated:
        """Iterative decoding: in each pass all hidden tokens are drawn, and the most confident ones stay."""
        sampling = request.sampling
        canvas = self._canvas(model, samples, request, shown=True)
        unconditional = self._canvas(model, samples, request, shown=False).scores if sampling.guidance else None
        steps, noise = self.options.decode_steps, self.options.confidence_noise
        decoded = decode_by_confidence(canvas.scores, unconditional, canvas.sizes_N, canvas.size, steps, noise, sampling, generator)
        return trim(decoded.local, decoded.log_p, canvas.modality.fixed_length, decoded.expected)

    def _canvas(self, model: Transformer, samples: Sequence[Sample], request: ImputationRequest, shown: bool) -> "_Canvas":
        """The wanted segment after those given, which are all hidden where they are not to be shown: so training shows nothing."""
        empty = self.canvas(request.want, None)
        given = [[self.canvas(name, sample.tokens[name] if shown else None) for name in request.have] for sample in samples]
        prompts = [concatenate([*parts, empty]) for parts in given for _ in range(request.draws)]
        return _Canvas(model, prompts, self.layout.index(request.want), len(empty) - 1)

    def score(self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], target: str) -> tuple[np.ndarray, np.ndarray]:
        """By the chain rule, from left to right: one pass per token, where the tokens before it are visible and those after it hidden."""
        total, counts = np.zeros(len(samples)), np.zeros(len(samples), np.int64)
        for part in streamed(model, self._chain(samples, have, target), lambda link: len(link[1])):
            owners = [owner for owner, _ in part]
            np.add.at(total, owners, score(model, [document for _, document in part], self.view)[0])
            np.add.at(counts, owners, 1)
        return total, counts

    def score_passes(self, num_tokens: int) -> int:
        return num_tokens

    def _chain(self, samples: Sequence[Sample], have: Sequence[str], target: str) -> Iterator[tuple[int, Document]]:
        """The number of a sample and a document, for each token that is scored; one by one, for there are as many as tokens."""
        variable = not self.layout.modalities[self.layout.index(target)].fixed_length
        for number, sample in enumerate(samples):
            given = [self.canvas(name, sample.tokens[name]) for name in have]
            local = self.local(target, sample.tokens[target])
            indices = np.arange(len(local))
            for scored in range(len(sample.tokens[target]) + variable):
                yield number, concatenate([*given, self._segment(target, local, indices >= scored, indices == scored)])

    def validate(self, model: Transformer, samples: Sequence[Sample]) -> dict[str, float]:
        """As of all methods, on a quarter of the samples: a score takes as many passes as there are tokens."""
        return super().validate(model, samples[: -(-len(samples) // 4)])

    def reading(self, sample: Sample, have: Sequence[str]) -> Document:
        return concatenate([self.canvas(name, sample.tokens[name]) for name in have])

    def hidden(self, sample: Sample, ratio: float | None, random: np.random.Generator) -> dict[str, np.ndarray]:
        sizes = {name: len(sample.tokens[name]) for name in self.present(sample)}
        shares = {name: self.options.mask_ratio or random.random() if ratio is None else ratio for name in sizes}
        return {name: random.permutation(size) < math.ceil(shares[name] * size) for name, size in sizes.items()}

    @torch.no_grad()
    def reconstruct(
        self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], hidden: Sequence[Mapping[str, np.ndarray]]
    ) -> list[dict[str, np.ndarray]]:
        reconstructed = [{name: sample.tokens[name].copy() for name in have} for sample in samples]
        documents = []
        for sample, masks in zip(samples, hidden, strict=True):
            locals_ = {name: self.local(name, sample.tokens[name]) for name in have}
            parts = [self._segment(name, local, _padded(masks[name], len(local))) for name, local in locals_.items()]
            documents.append(concatenate(parts))
        for rows in passes(model, [len(document) for document in documents]):
            states, _ = hidden_states(model, [documents[i] for i in rows], self.view)
            for row, state in zip(rows.tolist(), states, strict=True):
                for name in have:
                    index, masks = self.layout.index(name), hidden[row][name]
                    positions = np.flatnonzero(documents[row].modality == index)[1 : 1 + len(masks)]
                    hidden_ND = state[torch.from_numpy(positions[masks]).to(state.device)]
                    reconstructed[row][name][masks] = model.logits(hidden_ND, index)[:, 1:].argmax(-1).cpu().numpy()
        return reconstructed


class _Canvas:
    """N documents whose last T tokens are being decoded."""

    def __init__(self, model: Transformer, documents: Sequence[Document], index: int, size: int) -> None:
        device = model.head.device
        arrays = pad_documents(documents, max(len(document) for document in documents))
        self.tokens, self.token_modality, self.slot, self.position, lengths = (torch.from_numpy(array).to(device) for array in arrays)
        self.filled = (torch.arange(self.tokens.shape[1], device=device) < lengths[:, None]).long()
        self.target_indices_NT = lengths[:, None] - size + torch.arange(size, device=device)
        self.model, self.index, self.modality, self.size = model, index, model.layout.modalities[index], size
        self.sizes_N = torch.full((len(documents),), size, device=device)

    def scores(self, local_NT: Tensor, masked_NT: Tensor) -> Tensor:
        """(N, T, W) scores of each token, given those that are not masked."""
        first = self.model.layout.open_id(self.index) + 1
        written = torch.where(masked_NT, self.tokens.gather(1, self.target_indices_NT), first + local_NT)
        tokens = self.tokens.scatter(1, self.target_indices_NT, written)
        states = torch.cat([self._states(tokens, rows) for rows in slices(self.model, *tokens.shape)])
        scores = self.model.logits(states.flatten(0, 1), self.index).view(*masked_NT.shape, -1)
        scores[:, slice(None) if self.modality.fixed_length else 0, 0] = -torch.inf
        return scores

    def _states(self, tokens_NL: Tensor, rows: slice) -> Tensor:
        """(R, T, D) states of the tokens to decode, of some of the rows."""
        mask = attention_mask(self.filled[rows], self.token_modality[rows], "document")
        states = self.model(tokens_NL[rows], self.token_modality[rows], self.slot[rows], self.position[rows], mask)
        return states.gather(1, self.target_indices_NT[rows, :, None].expand(-1, -1, states.shape[-1]))


def _padded(hidden: np.ndarray, size: int) -> np.ndarray:
    """(size,): the padding of a segment after its end is visible."""
    return np.concatenate((hidden, np.zeros(size - len(hidden), bool)))
