"""Finite Scalar Quantization (Mentzer et al. 2023, https://arxiv.org/abs/2309.15505).

Each of a few channels is squashed into its own small range and rounded; the product of the ranges is the codebook. Nothing is
learned here, so no code can die of neglect and no auxiliary loss is needed.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmtool.common.errors import UsageError

# The paper's table 1, with rows between its own filled in by the same rule (at least 5 levels a channel where the size allows).
LEVELS: dict[int, tuple[int, ...]] = {
    16: (5, 3),
    64: (8, 8),
    128: (5, 5, 5),
    256: (8, 6, 5),
    512: (8, 8, 8),
    1024: (8, 5, 5, 5),
    2048: (8, 8, 6, 5),
    4096: (7, 5, 5, 5, 5),
    16384: (8, 8, 8, 6, 5),
    65536: (8, 8, 8, 5, 5, 5),
}
EDGE = 1e-3  # the paper's epsilon: the outermost levels are reached before tanh saturates


class FSQ(nn.Module):
    """Quantize the channels (dimension 1) of (B, len(levels), ...) latents, with gradients passed straight through.

    All arithmetic is in float32 whatever the input: in bfloat16 a shift of atanh(0.999) would already be infinite.
    """

    half_width: Tensor
    offset: Tensor
    shift: Tensor
    middle: Tensor
    place_values: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = check_levels(levels)
        self.size = prod(self.levels)
        sizes = torch.tensor(self.levels, dtype=torch.float64)
        half_width = (sizes - 1) * (1 + EDGE) / 2
        offset = torch.where(sizes % 2 == 0, 0.5, 0.0)
        self.register_buffer("half_width", half_width.float(), persistent=False)
        self.register_buffer("offset", offset.float(), persistent=False)
        self.register_buffer("shift", torch.atanh(offset / half_width).float(), persistent=False)
        self.register_buffer("middle", (sizes // 2).float(), persistent=False)
        place_values = np.cumprod([1, *self.levels[:-1]])
        self.register_buffer("place_values", torch.from_numpy(place_values), persistent=False)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, C, ...) -> quantized values in [-1, 1] (same shape, float32), codes (B, ...) int64."""
        bounded = self.bound(z)
        digits = bounded.round()
        values = (bounded + (digits - bounded).detach()) / self._channels(self.middle, z)
        return values, self._to_codes(digits)

    def bound(self, z: Tensor) -> Tensor:
        """Squash each channel into the open range whose integers are its levels."""
        half_width, offset, shift = (self._channels(part, z) for part in (self.half_width, self.offset, self.shift))
        return torch.tanh(z.float() + shift) * half_width - offset

    def codes_to_values(self, codes: Tensor) -> Tensor:
        """Codes (B, ...) -> the values (B, C, ...) that `forward` gave with them."""
        digits = torch.stack([codes // place % level for place, level in zip(self.place_values.tolist(), self.levels, strict=True)], 1)
        middle = self._channels(self.middle, digits)
        return (digits - middle) / middle

    def _to_codes(self, digits: Tensor) -> Tensor:
        shifted = (digits + self._channels(self.middle, digits)).long()
        return (shifted * self._channels(self.place_values, digits)).sum(1)

    @staticmethod
    def _channels(part: Tensor, like: Tensor) -> Tensor:
        return part.view(1, -1, *[1] * (like.dim() - 2))


def check_levels(levels: Sequence[int]) -> tuple[int, ...]:
    """The levels as a tuple of integers. Raises UsageError where a channel has fewer than 2, or there is none."""
    levels = tuple(int(level) for level in levels)
    if not levels or min(levels) < 2:
        fix = "Give two levels or more for each channel, e.g. 8,8,8."
        raise UsageError(f"levels {list(levels)} make no codebook.", where="levels", fix=fix)
    return levels


def levels_of(settings: Mapping[str, Any], default: int) -> tuple[int, ...]:
    """FSQ levels from the settings `levels` or `codebook`. Raises UsageError for a codebook size without recommended levels."""
    if settings.get("levels"):
        return check_levels(settings["levels"])
    codebook = int(settings.get("codebook", default))
    if codebook not in LEVELS:
        sizes = ", ".join(map(str, LEVELS))
        fix = f"Sizes: {sizes}; or give levels."
        raise UsageError(f"there are no levels for a codebook of {codebook}.", where="--set codebook", fix=fix)
    return LEVELS[codebook]


def code_usage(codes: np.ndarray, size: int) -> dict[str, float]:
    """How much of a codebook of `size` is in use: share of codes seen, and perplexity of their distribution (at most `size`)."""
    counts = np.bincount(codes.reshape(-1), minlength=size)
    shares = counts[counts > 0] / counts.sum()
    return {"codebook_usage": len(shares) / size, "codebook_perplexity": float(np.exp(-(shares * np.log(shares)).sum()))}
