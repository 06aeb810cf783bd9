"""Methods that predict the next token: one pass scores a segment, and generation continues what is given by one."""

from collections.abc import Sequence

import numpy as np
import torch

from mmtool.data.documents import Documents, of_segments
from mmtool.data.randomness import generators
from mmtool.data.sample import Sample
from mmtool.data.sequence import Document, conditional_document
from mmtool.data.spans import Spans, move_all_spans, move_spans
from mmtool.methods.likelihood import Likelihood
from mmtool.methods.protocols import ImputationRequest
from mmtool.methods.representation import PooledStates
from mmtool.model.decode import Generated, generate, score, score_pairs
from mmtool.model.transformer import Transformer


class NextToken(PooledStates, Likelihood):
    """`Imputing`, `Scoring`, `Matching` and `Representing` (see protocols.py); a subclass says in which order a training
    document has the modalities of a sample, and which of its spans are moved, or makes documents in a way of its own."""

    def order(self, sample: Sample, random: np.random.Generator) -> list[str]:
        """The modalities of a sample as its document has them: as the data set does."""
        return self.present(sample)

    def spans(self, sizes: Sequence[int], random: np.random.Generator) -> Spans:
        """What is moved to the end of a document whose segments have these sizes: nothing."""
        return ()

    def document(self, sample: Sample, random: np.random.Generator) -> Document:
        names = self.order(sample, random)
        spans = self.spans([len(sample.tokens[name]) + 1 for name in names], random)
        return move_spans(self.segments(sample, names, loss=names), spans, self.layout)

    def plain_documents(self, samples: Sequence[Sample], seeds: Sequence[int]) -> Sequence[Document] | Documents:
        """Together, in a fraction of the time; one by one where a subclass makes them in another way."""
        if type(self).document is not NextToken.document or any(modality.continuous for modality in self.layout.modalities):
            return super().plain_documents(samples, seeds)
        parts, spans = list[list[tuple[int, np.ndarray]]](), list[Spans]()
        for sample, random in zip(samples, generators(seeds), strict=True):
            names = self.order(sample, random)
            parts.append([(self.layout.index(name), sample.tokens[name]) for name in names])
            spans.append(self.spans([len(codes) + 1 for _, codes in parts[-1]], random))
        documents = of_segments(self.layout, parts)
        return move_all_spans(documents, spans, self.layout) if any(spans) else documents

    def impute(self, model: Transformer, samples: Sequence[Sample], request: ImputationRequest, generator: torch.Generator) -> Generated:
        prompts = [self.reading(sample, request.have) for sample in samples]
        index = self.layout.index(request.want)
        return generate(model, prompts, index, sampling=request.sampling, generator=generator, draws=request.draws)

    def score(self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], target: str) -> tuple[np.ndarray, np.ndarray]:
        return score(model, [conditional_document(self.layout, sample, have, target) for sample in samples])

    def score_passes(self, num_tokens: int) -> int:
        return 1

    def pair_log_p(
        self, model: Transformer, given: Sequence[Sample], have: Sequence[str], targets: Sequence[Sample], name: str
    ) -> np.ndarray:
        """As of every likelihood; each of the given samples is read once, and each target after it."""
        prompts = [self.segments(sample, have, loss=()) for sample in given]
        return score_pairs(model, prompts, [self.segments(target, [name], loss=[name]) for target in targets])
