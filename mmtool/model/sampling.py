"""How codes are drawn from a model's scores: temperature, the k most likely, guidance.

Guidance is that of diffusion models without a classifier (Ho and Salimans 2022, arXiv 2207.12598), which Gafni et al. (2022, arXiv
2203.13131) and Sanchez et al. (2023, arXiv 2306.17806) took to tokens, with a scale that is 1 where this one is 0: the model reads
everything twice, with the condition and without, and the difference that the condition makes to the scores is exaggerated. It takes a
model that has learned the unconditional distribution as well, and a condition that really determines something.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmtool.tokenizers.code_values import CodeValues


@dataclass(frozen=True)
class Sampling:
    """How one modality is drawn. temperature: 0 takes the most likely code. top_k: draw among the k most likely codes only (None: all).
    guidance: how often the difference that the condition makes is added to the scores, 0: the model as it is. code_values: what the codes
    stand for at each position; with it expectations are computed as well, unguided and at temperature 1, and no code is drawn where it
    does not exist."""

    temperature: float = 1.0
    top_k: int | None = None
    guidance: float = 0.0
    code_values: CodeValues | None = None


def draw(scores_NW: Tensor, sampling: Sampling, generator: torch.Generator, unconditional_NW: Tensor | None = None) -> Tensor:
    """One index per row by the Gumbel trick: no normalisation, no wait for the device. unconditional: the scores given nothing, for
    guidance."""
    if unconditional_NW is not None:
        scores_NW = guided(scores_NW, unconditional_NW, sampling.guidance)
    if sampling.temperature == 0:
        return scores_NW.argmax(-1)
    if sampling.top_k is not None and sampling.top_k < scores_NW.shape[1]:
        least = scores_NW.topk(sampling.top_k, dim=-1).values[:, -1:]
        scores_NW = scores_NW.masked_fill(scores_NW < least, -torch.inf)
    uniform = torch.rand(scores_NW.shape, generator=generator, device=scores_NW.device).clamp_(1e-20, 1 - 1e-7)
    return (scores_NW / sampling.temperature - torch.log(-torch.log(uniform))).argmax(-1)


def guided(conditional: Tensor, unconditional: Tensor, guidance: float) -> Tensor:
    """log p(conditional) + guidance (log p(conditional) - log p(unconditional)) of scores (..., W). What must not be drawn stays at
    -inf."""
    conditional, unconditional = torch.log_softmax(conditional, -1), torch.log_softmax(unconditional, -1)
    return torch.where(conditional.isneginf(), conditional, conditional + guidance * (conditional - unconditional))


def flattened(expected_NTK: Tensor, code_values: CodeValues) -> Tensor:
    """(N, W) expected code values, of (N, T, K) by place."""
    return expected_NTK[:, torch.from_numpy(code_values.indices), torch.from_numpy(code_values.ranks)]


def expectation(scores: Tensor, values: Tensor) -> Tensor:
    """(..., K) mean values under (..., C) scores, over the codes that have some (values: (..., K, C), NaN for those that have none)."""
    shares = torch.softmax(scores.masked_fill(values[..., 0, :].isnan(), -torch.inf), -1)
    return torch.einsum("...c,...kc->...k", shares, values.nan_to_num())
