"""Iterative decoding: in each pass all open places are drawn, and the most confident ones stay (MaskGIT, Chang et al. 2022, arXiv
2202.04200; cosine schedule).

N rows, T places of the longest, W width of the target modality's range.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmtool.model.sampling import Sampling, draw, expectation

Scores = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Filling:
    """local: what stands in each place, in the modality's range; log_p: its log-probability when it was fixed; expected: the mean value of
    each place then, where codes have values. Each (N, T)."""

    local: Tensor
    log_p: Tensor
    expected: Tensor | None


def fill_by_confidence(
    scores: Scores,
    alone: Scores | None,
    sizes_N: Tensor,
    longest: int,
    steps: int,
    noise: float,
    sampling: Sampling,
    generator: torch.Generator,
) -> Filling:
    """Fill `sizes_N[n]` places of each row in `steps` passes.

    scores: takes what stands where (N, T) and which places are open (N, T), and gives (N, T, W), -inf for what must not be drawn.
    alone: the same of a reader who is given nothing, for guidance.
    noise: of Gumbel's distribution on the confidences of early passes, without which draws resemble each other.
    """
    device = sizes_N.device
    open_NT = torch.arange(longest, device=device) < sizes_N[:, None]
    exists_NT = open_NT.clone()
    local_NT, log_p_NT = torch.zeros_like(open_NT, dtype=torch.long), torch.zeros(open_NT.shape, device=device)
    expected_NT = None
    for number in range(1, steps + 1):
        progress = number / steps
        said = scores(local_NT, open_NT)
        without = alone(local_NT, open_NT).flatten(0, 1) if alone else None
        drawn = draw(said.flatten(0, 1), sampling, generator, without).view(open_NT.shape)
        likely = torch.log_softmax(said, -1).gather(2, drawn[..., None])[..., 0]
        confidence = likely + (1 - progress) * noise * _gumbel(likely, generator)
        confidence = confidence.masked_fill(~open_NT, torch.inf).masked_fill(~exists_NT, -torch.inf)
        wanted_N = ((1 - math.cos(math.pi / 2 * progress)) * sizes_N - 1e-6).ceil().clamp(min=1)
        rank = confidence.argsort(1, descending=True).argsort(1)
        keep = (rank < wanted_N[:, None]) & open_NT
        local_NT, log_p_NT = torch.where(keep, drawn, local_NT), torch.where(keep, likely, log_p_NT)
        if sampling.code_values is not None:
            means = expectation(said[..., 1:], torch.from_numpy(sampling.code_values).to(device))
            expected_NT = means if expected_NT is None else torch.where(keep, means, expected_NT)
        open_NT = open_NT & ~keep
    return Filling(local_NT, log_p_NT, expected_NT)


def _gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(like.shape, generator=generator, device=like.device).clamp_(1e-20, 1 - 1e-7)
    return -torch.log(-torch.log(uniform))
