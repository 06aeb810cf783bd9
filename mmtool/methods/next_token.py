"""Methods that predict the next token: one pass scores a segment, and generation continues what is given by one."""

from collections.abc import Sequence

import numpy as np
import torch

from mmtool.data.sample import Sample
from mmtool.data.sequence import conditional_document
from mmtool.methods.likelihood import Likelihood
from mmtool.methods.protocols import ImputationRequest
from mmtool.methods.representation import PooledStates
from mmtool.model.decode import Generated, generate, score, score_pairs
from mmtool.model.transformer import Transformer


class NextToken(PooledStates, Likelihood):
    """`Imputing`, `Scoring`, `Matching` and `Representing` (see protocols.py); a subclass says what a training document is."""

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
