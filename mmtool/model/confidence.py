"""Iterative decoding: in each pass all masked tokens are drawn, and the most confident ones stay (MaskGIT, Chang et al. 2022, arXiv
2202.04200; cosine schedule).

N rows, T positions of the longest, W width of the target modality's range.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmtool.model.sampling import Sampling, draw, expectation, flattened

Scores = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Decoded:
    """local: the token of each position, in the modality's range; log_p: its log-probability when it was fixed; each (N, T).
    expected: (N, W) mean code values then, where codes have some."""

    local: Tensor
    log_p: Tensor
    expected: Tensor | None


def decode_by_confidence(
    scores: Scores,
    unconditional: Scores | None,
    sizes_N: Tensor,
    longest: int,
    steps: int,
    noise: float,
    sampling: Sampling,
    generator: torch.Generator,
) -> Decoded:
    """Decode `sizes_N[n]` tokens of each row in `steps` passes.

    scores: takes tokens (N, T) and which of them are masked (N, T), and gives (N, T, W), -inf for what must not be drawn.
    unconditional: the same where nothing is given, for guidance.
    noise: of Gumbel's distribution on the confidences of early passes, without which draws resemble each other.
    """
    device = sizes_N.device
    masked_NT = torch.arange(longest, device=device) < sizes_N[:, None]
    exists_NT = masked_NT.clone()
    local_NT, log_p_NT = torch.zeros_like(masked_NT, dtype=torch.long), torch.zeros(masked_NT.shape, device=device)
    code_values, expected_NTK = sampling.code_values, None
    missing_TC = None if code_values is None or code_values.exist is None else torch.from_numpy(~code_values.exist).to(device)
    for number in range(1, steps + 1):
        progress = number / steps
        conditional_NTW = scores(local_NT, masked_NT)
        if missing_TC is not None:
            conditional_NTW[..., 1:].masked_fill_(missing_TC, -torch.inf)
        unconditional_MW = unconditional(local_NT, masked_NT).flatten(0, 1) if unconditional else None
        drawn = draw(conditional_NTW.flatten(0, 1), sampling, generator, unconditional_MW).view(masked_NT.shape)
        likely = torch.log_softmax(conditional_NTW, -1).gather(2, drawn[..., None])[..., 0]
        confidence = likely + (1 - progress) * noise * _gumbel(likely, generator)
        confidence = confidence.masked_fill(~masked_NT, torch.inf).masked_fill(~exists_NT, -torch.inf)
        wanted_N = ((1 - math.cos(math.pi / 2 * progress)) * sizes_N - 1e-6).ceil().clamp(min=1)
        rank = confidence.argsort(1, descending=True).argsort(1)
        keep = (rank < wanted_N[:, None]) & masked_NT
        local_NT, log_p_NT = torch.where(keep, drawn, local_NT), torch.where(keep, likely, log_p_NT)
        if code_values is not None:
            means = expectation(conditional_NTW[..., 1:], torch.from_numpy(code_values.by_place()).to(device))
            expected_NTK = means if expected_NTK is None else torch.where(keep[..., None], means, expected_NTK)
        masked_NT = masked_NT & ~keep
    expected_NW = None if expected_NTK is None or code_values is None else flattened(expected_NTK, code_values)
    return Decoded(local_NT, log_p_NT, expected_NW)


def _gumbel(like: Tensor, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(like.shape, generator=generator, device=like.device).clamp_(1e-20, 1 - 1e-7)
    return -torch.log(-torch.log(uniform))
