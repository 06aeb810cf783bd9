"""How codes are drawn from a model's scores: temperature, the k most likely, guidance.

Guidance is that of diffusion models without a classifier (Ho and Salimans 2022, arXiv 2207.12598), as it is used for tokens by Gafni et
al. (Make-A-Scene, 2022, arXiv 2203.13131) and Sanchez et al. (2023, arXiv 2306.17806): the model reads everything twice, with what is
given and without it, and what speaks for a code because of what is given counts more than once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmtool.errors import UsageError

ByModality = float | Mapping[str, float]  # of all modalities, or by modality, where OTHERS stands for those not named
OTHERS = "*"


@dataclass(frozen=True)
class Sampling:
    """How one modality is drawn. temperature: 0 takes the most likely code. top_k: draw among the k most likely codes only (None: all).
    guidance: how much further from the scores of a model that is given nothing, 0: none. code_values: (T, codes) what each code is worth
    at each place, NaN for none; with it the expectations are computed as well."""

    temperature: float = 1.0
    top_k: int | None = None
    guidance: float = 0.0
    code_values: np.ndarray | None = None


@dataclass(frozen=True)
class Drawing:
    """How modalities are drawn: what `Sampling` says of one, here of all, or by name."""

    temperature: ByModality = 1.0
    top_k: int | None = None
    guidance: ByModality = 0.0

    def of(self, name: str, code_values: np.ndarray | None = None) -> Sampling:
        """How modality `name` is drawn."""
        return Sampling(_own(self.temperature, name, 1.0), self.top_k, _own(self.guidance, name, 0.0), code_values)

    def check(self, names: Iterable[str]) -> None:
        """Raise UsageError where something is said of a modality that is not among `names`."""
        known = sorted(names)
        for option, asked in (("--temperature", self.temperature), ("--guidance", self.guidance)):
            unknown = sorted(set(asked) - {OTHERS, *known}) if isinstance(asked, Mapping) else []
            if unknown:
                raise UsageError(f"there is no modality {unknown[0]!r}.", where=option, fix=f"There are {', '.join(known)}.")


PLAIN = Drawing()


def _own(asked: ByModality, name: str, usual: float) -> float:
    return asked.get(name, asked.get(OTHERS, usual)) if isinstance(asked, Mapping) else asked


def draw(scores_NW: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """One index per row by the Gumbel trick: no normalisation, no wait for the device."""
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
