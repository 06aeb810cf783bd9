"""M3AE: one masked autoencoder for all modalities, paired and unpaired samples alike.

Geng, Liu, Lee, Schuurmans, Levine, Abbeel 2022, arXiv 2205.14204. Most tokens of every modality are hidden; the encoder sees the rest,
after a CLS token, and a lighter decoder predicts the hidden ones: patches by their squared error, codes by cross entropy. A modality that a
sample lacks is not in its sequence.

Unlike the authors' code, masks are drawn per sample and over real tokens only, and each loss is divided once by the number of its valid
targets in the whole batch. How many tokens a modality of varying length has is predicted from CLS.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmtool.common.errors import UsageError
from mmtool.data.masking import MaskedBatch, MaskedShape, pack_all, pack_masked, size_masked_rows
from mmtool.data.packing import Most
from mmtool.data.sample import Sample
from mmtool.data.sequence import NO_TARGET, SLOT, TARGETS, TOKENS, Document, concatenate, segment_table
from mmtool.methods.base import Pack
from mmtool.methods.likelihood import Likelihood
from mmtool.methods.m3ae_options import M3AEOptions
from mmtool.methods.protocols import ImputationRequest
from mmtool.methods.representation import PooledStates
from mmtool.model.autoencoder import MaskedAutoencoder, cross_entropies
from mmtool.model.confidence import decode_by_confidence
from mmtool.model.decode import Generated, trim
from mmtool.model.embedding import take_targets
from mmtool.model.inputs import MaskedInputs, Targets, document_means, masked_inputs, to_device
from mmtool.model.masks import MakeMask, attention_mask
from mmtool.model.passes import streamed
from mmtool.model.sampling import draw
from mmtool.model.transformer import Shape, Transformer

CLS_TOKEN = 1  # its row of the embedding: a sentinel, which this method has no other use for
PAPER_WIDTH, PAPER_DECODER = 384, (8, 512, 32)  # encoders from this width on have the paper's decoder: depth, width, head width


class M3AE(PooledStates, Likelihood):
    name = "m3ae"
    Options = M3AEOptions
    view = "document"
    shape_defaults = {"bias": True, "positions": "both"}  # noqa: RUF012
    poolings = ("cls", "mean")

    def __init__(self, layout: Any, graph: Any, options: M3AEOptions) -> None:
        super().__init__(layout, graph, options)
        self.ratios = [options.mask_ratios.get(name, options.mask_ratio) for name in layout.names]
        usual = [options.continuous_weight if modality.continuous else options.discrete_weight for modality in layout.modalities]
        self.weights = [options.weights.get(name, weight) for name, weight in zip(layout.names, usual, strict=True)]
        self.widths = tuple(modality.patch_width for modality in layout.modalities)
        self.varying = tuple(index for index, modality in enumerate(layout.modalities) if not modality.fixed_length)
        self._check()

    def _check(self) -> None:
        for by_name in (self.options.mask_ratios, self.options.weights):
            for name in by_name:
                self.layout.index(name)
        if not any(ratio * weight for ratio, weight in zip(self.ratios, self.weights, strict=True)):
            raise UsageError("nothing is hidden, so nothing is learned.", where="method.mask_ratio", fix="Hide some tokens, e.g. 0.75.")

    # what is fed

    def document(self, sample: Sample, random: np.random.Generator) -> Document:
        names = self.present(sample)
        sizes = {name: len(sample.tokens[name]) for name in names}
        hidden = {name: self.hide(self.ratios[self.layout.index(name)], sizes[name], random) for name in names}
        if len(names) > 1 and random.random() < self.options.hide_share:
            hidden[names[random.integers(len(names))]][:] = True
        if sum(sizes.values()) == 1 and any(self.ratios[self.layout.index(name)] for name in names):
            hidden[names[0]][:] = True  # a single token alone can only be predicted from nothing
        return self.joined(sample, names, hidden)

    def hide(self, ratio: float, size: int, random: np.random.Generator) -> np.ndarray:
        """(size,) which tokens are hidden: the ratio in the mean, at least one and not all unless it is 0 or 1."""
        count = int(ratio * size + random.random())
        if 0 < ratio < 1 and size > 1:
            count = min(max(count, 1), size - 1)
        hidden = np.zeros(size, bool)
        hidden[random.permutation(size)[:count]] = True
        return hidden

    def joined(self, sample: Sample, names: Sequence[str], hidden: Mapping[str, np.ndarray]) -> Document:
        """CLS and the modalities of these names; hidden: name -> (L,) bool, none where left out."""
        parts = [self._segment(name, sample.tokens[name], hidden.get(name)) for name in names]
        return concatenate([self._cls(), *parts])

    def _cls(self) -> Document:
        number = len(self.layout.names)
        one = np.zeros(1, np.int64)
        return Document.of(one + CLS_TOKEN, one + NO_TARGET, one + number, one, np.zeros((1, self.layout.axes), np.int64))

    def _segment(self, name: str, tokens: np.ndarray, hidden: np.ndarray | None) -> Document:
        index = self.layout.index(name)
        modality = self.layout.modalities[index]
        table = segment_table(self.layout, index, len(tokens) + 1)[:, 1:].copy()
        if modality.positions != "set":
            table[SLOT] = 0  # fixed positions tell tokens apart
        if hidden is None:
            hidden = np.zeros(len(tokens), bool)
        if modality.continuous:
            table[TOKENS], table[TARGETS] = self.layout.patch_id(index), np.where(hidden, 0, NO_TARGET)
            return Document(table, {index: tokens})
        table[TOKENS] += tokens
        table[TARGETS] = np.where(hidden, tokens.astype(np.int64) + 1, NO_TARGET)
        return Document(table)

    def size_batches(self, samples: Sequence[Sample], batch_tokens: int, row_length: int, longest: Sequence[Sample] = ()) -> dict[str, Any]:
        sizes = max(self._most(names, seen=True) for names in self.graph.combinations), self.most(samples).tokens
        documents, targets = self.typical_documents(samples)[0], self.most(samples).targets
        shape, window = size_masked_rows(documents, sizes, batch_tokens, row_length, targets, self.widths, self.varying)
        return {**shape.to_json(), "window": window}

    def most(self, samples: Sequence[Sample]) -> Most:
        """As the longest of the data set would have it."""
        tokens = max(self._most(names, seen=False) for names in self.graph.combinations)
        return Most(tokens, np.array([modality.max_length for modality in self.layout.modalities]))

    def _most(self, names: frozenset[str], seen: bool) -> int:
        """Tokens that a document of these modalities can have, all or only those that may be visible."""
        modalities = [(self.layout.modalities[self.layout.index(name)], self.ratios[self.layout.index(name)]) for name in names]
        return 1 + sum(modality.max_length - (int(ratio * modality.max_length) if seen else 0) for modality, ratio in modalities)

    def packer(self, record: Mapping[str, Any]) -> Pack:
        return partial(pack_masked, shape=MaskedShape.from_json(record, self.widths, self.varying))

    # how it is scored

    def model(self, shape: Shape) -> MaskedAutoencoder:
        depth, width, head_width = PAPER_DECODER
        if shape.width < PAPER_WIDTH:
            depth, width, head_width = max(1, shape.depth // 2), 32 * round(shape.width * 2 / 3 / 32) or 32, min(32, shape.head_width)
        depth, width = self.options.decoder_depth or depth, self.options.decoder_width or width
        if width % head_width:
            raise UsageError(f"a decoder {width} wide has no heads of {head_width}.", where="method.decoder_width", fix="Use a multiple.")
        decoder = replace(shape, depth=depth, width=width, head_width=head_width, hidden=0)
        return MaskedAutoencoder(shape, self.layout, decoder, self.options.norm_pix)

    def prepare(self, model: Transformer, samples: Sequence[Sample]) -> None:
        """Means and deviations of patches."""
        for index, name in enumerate(self.layout.names):
            values = [sample.tokens[name] for sample in samples if name in sample.tokens]
            if model.patches is not None and self.widths[index] and values:
                model.patches.fit(index, torch.from_numpy(np.concatenate(values)))

    def inputs(self, batch: MaskedBatch, device: torch.device, make_mask: MakeMask = attention_mask) -> MaskedInputs:
        return masked_inputs(batch, device, make_mask)

    def forward(self, model: Transformer, *inputs: Any) -> Tensor:
        """Sums of losses of each modality, and after them of predicted lengths (see `loss_names`)."""
        assert isinstance(model, MaskedAutoencoder)
        given = MaskedInputs(*inputs)
        hidden, states = model.states(given)
        sums = [self._sum(model, states, index, targets) for index, targets in enumerate(given.targets)]
        cls = hidden.flatten(0, 1)[given.cls]
        lengths = [cross_entropies(model.length_logits(cls, index), given.lengths[:, row]) for row, index in enumerate(self.varying)]
        return torch.stack([*sums, *lengths])

    @property
    def loss_names(self) -> tuple[str, ...]:
        return (*self.layout.names, *(f"{self.layout.names[index]} length" for index in self.varying))

    def mean_loss(self, sums: Tensor, counts: np.ndarray) -> Tensor:
        """Each sum divided once by its number of valid targets in the batch, times its weight."""
        weights = np.array([*self.weights, *[self.options.length_weight] * len(self.varying)]) / np.maximum(counts, 1)
        return (sums * to_device(weights, sums.device).to(sums.dtype)).sum()

    def _sum(self, model: MaskedAutoencoder, states: Tensor, index: int, targets: Targets) -> Tensor:
        if not len(targets.indices):
            return states.new_zeros((), dtype=torch.float32)
        wanted = take_targets(states, targets.indices, targets.codes)
        if targets.values is None:
            return cross_entropies(model.logits(wanted, index), targets.codes)
        return (model.patch_errors(wanted, index, targets.values) * (targets.codes >= 0)).sum()

    # how it is used

    @torch.no_grad()
    def validate(self, model: Transformer, samples: Sequence[Sample]) -> dict[str, float]:
        """Losses of held-out samples, each hidden in the same way every time."""
        known = [sample for sample in samples if sample.tokens]
        documents = [self.document(sample, np.random.default_rng(i)) for i, sample in enumerate(known)]
        sums, counts = np.zeros(len(self.loss_names)), np.zeros(len(self.loss_names))
        for batch in self._packed(model, documents):
            sums += self.forward(model, *self.inputs(batch, model.head.device)).cpu().numpy()
            counts += batch.num_targets
        return {name: float(total / count) for name, total, count in zip(self.loss_names, sums, counts, strict=True) if count}

    def reading(self, sample: Sample, have: Sequence[str]) -> Document:
        return self.joined(sample, have, {})

    def represent(self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], pooling: str) -> Tensor:
        """(N, D) states of CLS, or their mean over all visible tokens, in fp32 and with gradients."""
        assert isinstance(model, MaskedAutoencoder)
        pooled = []
        for batch in self._packed(model, [self.reading(sample, have) for sample in samples]):
            given = masked_inputs(batch, model.head.device)
            hidden = model.encode(given.visible, given.patches).flatten(0, 1).float()
            pooled.append(hidden[given.cls] if pooling == "cls" else document_means(hidden, batch.visible, CLS_TOKEN))
        return torch.cat(pooled)

    def pooled(self, hidden_NLD: Tensor, tokens_NL: Tensor, valid_NL: Tensor) -> Tensor:
        return hidden_NLD[:, 0].float()

    def hidden(self, sample: Sample, ratio: float | None, random: np.random.Generator) -> dict[str, np.ndarray]:
        shares = {name: self.ratios[self.layout.index(name)] if ratio is None else ratio for name in self.present(sample)}
        return {name: self.hide(share, len(sample.tokens[name]), random) for name, share in shares.items()}

    @torch.no_grad()
    def reconstruct(
        self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], hidden: Sequence[Mapping[str, np.ndarray]]
    ) -> list[dict[str, np.ndarray]]:
        assert isinstance(model, MaskedAutoencoder)
        reconstructed = [{name: sample.tokens[name].copy() for name in have} for sample in samples]
        documents, done = [self.joined(sample, have, masks) for sample, masks in zip(samples, hidden, strict=True)], 0
        for batch in self._packed(model, documents):
            states = model.states(masked_inputs(batch, model.head.device))[1]
            for start in batch.whole.starts:
                first = start + 1
                for name in have:
                    masks, index = hidden[done][name], self.layout.index(name)
                    hidden_NE = states[to_device(first + np.flatnonzero(masks), states.device)]
                    is_patch = bool(self.widths[index])
                    predicted = model.patch_values(hidden_NE, index) if is_patch else model.logits(hidden_NE, index)[:, 1:].argmax(-1)
                    reconstructed[done][name][masks] = predicted.cpu().numpy()
                    first += len(masks)
                done += 1
        return reconstructed

    @torch.no_grad()
    def impute(self, model: Transformer, samples: Sequence[Sample], request: ImputationRequest, generator: torch.Generator) -> Generated:
        """The wanted modality all hidden: patches are predicted at once, codes by iterative decoding. A varying length is drawn first."""
        assert isinstance(model, MaskedAutoencoder)
        have, want, sampling = request.have, request.want, request.sampling
        index, given = self.layout.index(want), [sample for sample in samples for _ in range(request.draws)]
        scores = self._length_scores(model, given, have, index)
        sizes = draw(scores, sampling, generator)
        length_p = torch.log_softmax(scores, -1).gather(1, sizes[:, None])[:, 0]
        contexts = [self.joined(sample, have, {}) for sample in given]
        longest = int(sizes.max())
        if self.widths[index]:
            return self._patches(model, contexts, want, sizes.tolist(), length_p)

        def scores_given(contexts: Sequence[Document], local_NT: Tensor, masked_NT: Tensor) -> Tensor:
            rows = zip(contexts, local_NT.cpu().numpy(), masked_NT.cpu().numpy(), sizes.tolist(), strict=True)
            parts = [(context, np.maximum(local[:size] - 1, 0), hidden[:size]) for context, local, hidden, size in rows]
            documents = [concatenate([context, self._segment(want, codes, hidden)]) for context, codes, hidden in parts]
            starts = np.array([len(context) for context in contexts])[:, None]
            offsets = np.minimum(starts + np.arange(longest), starts + sizes.cpu().numpy()[:, None] - 1)
            return self._scores(model, documents, offsets, index)

        options = self.options
        empty = [self.joined(sample, (), {}) for sample in given] if sampling.guidance else []
        unconditional = partial(scores_given, empty) if empty else None
        steps, noise = options.decode_steps, options.confidence_noise
        decoded = decode_by_confidence(partial(scores_given, contexts), unconditional, sizes, longest, steps, noise, sampling, generator)
        if index not in self.varying:
            return trim(decoded.local, decoded.log_p, True, decoded.expected)
        end = torch.arange(longest + 1, device=sizes.device) == sizes[:, None]
        log_p = torch.where(end, length_p[:, None], F.pad(decoded.log_p, (0, 1)))
        return trim(F.pad(decoded.local, (0, 1)), log_p, False)

    def _patches(
        self, model: MaskedAutoencoder, contexts: Sequence[Document], want: str, sizes: Sequence[int], length_p: Tensor
    ) -> Generated:
        index, patches = self.layout.index(want), list[np.ndarray]()
        blanks = [np.zeros((size, self.widths[index]), np.uint8) for size in sizes]
        parts = [self._segment(want, blank, np.ones(len(blank), bool)) for blank in blanks]
        documents = [concatenate(pair) for pair in zip(contexts, parts, strict=True)]
        for batch in self._packed(model, documents):
            states = model.states(masked_inputs(batch, model.head.device))[1]
            for start in batch.whole.starts:
                first, size = start + len(contexts[len(patches)]), len(parts[len(patches)])
                patches.append(model.patch_values(states[first : first + size], index).cpu().numpy())
        return Generated(patches, length_p.cpu().numpy(), np.ones(len(patches), np.int64))

    @torch.no_grad()
    def score(self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], target: str) -> tuple[np.ndarray, np.ndarray]:
        """By the chain rule: a length that varies, then the codes from left to right, one pass each."""
        assert isinstance(model, MaskedAutoencoder)
        if not self.can_score(target):
            raise UsageError("patches have no likelihood.", where=target, fix="Compare them as decoded, or tokenize with a codec.")
        index, varies = self.layout.index(target), self.layout.index(target) in self.varying
        sizes = np.array([len(sample.tokens[target]) for sample in samples])
        lengths = torch.log_softmax(self._length_scores(model, samples, have, index), -1).cpu().numpy()
        total = -lengths[np.arange(len(samples)), np.minimum(sizes, lengths.shape[1] - 1)].astype(np.float64)
        for part in streamed(model, self._chain(samples, have, target), lambda link: len(link[1])):
            owners, documents, offsets, codes = zip(*part, strict=True)
            log_p = torch.log_softmax(self._scores(model, documents, np.array(offsets)[:, None], index)[:, 0], -1)
            np.subtract.at(total, list(owners), log_p[np.arange(len(codes)), list(codes)].cpu().numpy())
        return total, sizes + varies

    def score_passes(self, num_tokens: int) -> int:
        return num_tokens

    def _chain(self, samples: Sequence[Sample], have: Sequence[str], target: str) -> Iterator[tuple[int, Document, int, int]]:
        """Number of the sample, document, index and local target of each code that is scored, one by one."""
        for number, sample in enumerate(samples):
            context, codes = self.joined(sample, have, {}), sample.tokens[target]
            for i, code in enumerate(codes.tolist()):
                document = concatenate([context, self._segment(target, codes, np.arange(len(codes)) >= i)])
                yield number, document, len(context) + i, code + 1

    def _length_scores(self, model: MaskedAutoencoder, samples: Sequence[Sample], have: Sequence[str], index: int) -> Tensor:
        """(N, longest + 1): log-probabilities of the number of tokens, which is not 0."""
        modality = self.layout.modalities[index]
        if index in self.varying:
            scores = model.length_logits(self.represent(model, samples, have, "cls").to(model.compute_dtype), index)
            return scores.index_fill(1, torch.zeros(1, dtype=torch.long, device=scores.device), -torch.inf)
        scores = torch.full((len(samples), modality.max_length + 1), -torch.inf, device=model.head.device)
        scores[:, -1] = 0
        return scores

    def _scores(self, model: MaskedAutoencoder, documents: Sequence[Document], offsets_NT: np.ndarray, index: int) -> Tensor:
        """(N, T, W) scores of the codes of a modality at these tokens of each document; END is none of them."""
        parts, done = list[Tensor](), 0
        for batch in self._packed(model, documents):
            states = model.states(masked_inputs(batch, model.head.device))[1]
            indices = batch.whole.starts[:, None] + offsets_NT[done : done + batch.num_documents]
            parts.append(model.logits(states[to_device(indices, states.device)].flatten(0, 1), index).view(*indices.shape, -1))
            done += batch.num_documents
        scores = torch.cat(parts)
        scores[..., 0] = -torch.inf
        return scores

    def _packed(self, model: Transformer, documents: Sequence[Document]) -> Iterator[MaskedBatch]:
        """All documents in their order, as many in a batch as one pass holds, in rows just long enough."""
        return (pack_all(part, self.widths, self.varying) for part in streamed(model, documents, len))
