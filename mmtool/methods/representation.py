"""Features of samples, for the methods whose transformer reads whole samples: hidden states, pooled."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from mmtool.common.errors import UsageError
from mmtool.data.sample import Sample
from mmtool.data.sequence import Document
from mmtool.methods.base import Method
from mmtool.model.decode import mean_states
from mmtool.model.transformer import Transformer

READ_TOGETHER = 512  # samples whose hidden states are held at once


class PooledStates(Method):
    """`Representing` (see protocols.py) by the mean of the last hidden states; a method that pools otherwise overrides `represent`."""

    poolings: ClassVar[tuple[str, ...]] = ("mean",)

    def reading(self, sample: Sample, have: Sequence[str]) -> Document:
        return self.segments(sample, have, loss=())

    def represent(self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], pooling: str) -> Tensor:
        return mean_states(model, [self.reading(sample, have) for sample in samples], self.view)

    def pooled(self, hidden_NLD: Tensor, tokens_NL: Tensor, valid_NL: Tensor) -> Tensor:
        return (hidden_NLD.float() * valid_NL[..., None]).sum(1) / valid_NL.sum(1, keepdim=True).clamp(min=1)

    @torch.no_grad()
    def features(self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], pooling: str | None = None) -> np.ndarray:
        if not have:
            raise UsageError("nothing is given to make features of.", where=self.name, fix="Name a modality that the samples hold.")
        return self.represent(model, samples, have, pooling or self.poolings[0]).cpu().numpy()

    def states(self, model: Transformer, have: Sequence[str], samples: Sequence[Sample]) -> np.ndarray:
        parts = [samples[start : start + READ_TOGETHER] for start in range(0, len(samples), READ_TOGETHER)]
        return np.concatenate([self.features(model, part, sorted(have)) for part in parts]).astype(np.float32)
