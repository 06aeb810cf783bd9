"""How codes are drawn from a model's scores: temperature, the k most likely, guidance.

Guidance is that of diffusion models without a classifier (Ho and Salimans 2022, arXiv 2207.12598), which Gafni et al. (2022, arXiv
2203.13131) and Sanchez et al. (2023, arXiv 2306.17806) took to tokens, with a scale that is 1 where this one is 0: the model reads
everything twice, with what is given and without, and what speaks for a code because of what is given counts more than once. It takes a
model that has learned what is likely when nothing is given, and that what is given really speaks for what it says.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How one modality is drawn. temperature: 0 takes the most likely code. top_k: draw among the k most likely codes only (None: all).
    guidance: how often what the given speaks for counts in addition, 0: as the model says. code_values: (T, codes) what each code is
    worth at each place, NaN for none; with it the expectations are computed as well: the model's own, whatever codes are drawn by."""

    temperature: float = 1.0
    top_k: int | None = None
    guidance: float = 0.0
    code_values: np.ndarray | None = None


def draw(scores_NW: Tensor, sampling: Sampling, generator: torch.Generator, alone_NW: Tensor | None = None) -> Tensor:
    """One index per row by the Gumbel trick: no normalisation, no wait for the device. alone: the scores given nothing, for guidance."""
    if alone_NW is not None:
        scores_NW = guided(scores_NW, alone_NW, sampling.guidance)
    if sampling.temperature == 0:
        return scores_NW.argmax(-1)
    if sampling.top_k is not None and sampling.top_k < scores_NW.shape[1]:
        least = scores_NW.topk(sampling.top_k, dim=-1).values[:, -1:]
        scores_NW = scores_NW.masked_fill(scores_NW < least, -torch.inf)
    uniform = torch.rand(scores_NW.shape, generator=generator, device=scores_NW.device).clamp_(1e-20, 1 - 1e-7)
    return (scores_NW / sampling.temperature - torch.log(-torch.log(uniform))).argmax(-1)


def guided(told: Tensor, alone: Tensor, guidance: float) -> Tensor:
    """log p(told) + guidance (log p(told) - log p(alone)) of scores (..., W): told knows what is given, alone does not. What must not be
    drawn stays at -inf."""
    told, alone = torch.log_softmax(told, -1), torch.log_softmax(alone, -1)
    return torch.where(told.isneginf(), told, told + guidance * (told - alone))


def expectation(scores: Tensor, values: Tensor) -> Tensor:
    """(...) mean value under (..., C) scores, over the codes that have one (values: NaN for those that have none)."""
    shares = torch.softmax(scores.masked_fill(values.isnan(), -torch.inf), -1)
    return (shares * values.nan_to_num()).sum(-1)
