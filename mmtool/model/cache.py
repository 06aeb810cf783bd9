"""The static key-value cache of decoding."""

import torch
from torch import Tensor

from mmtool.errors import UsageError


class KVCache:
    """Keys and values of all layers, (depth, B, H, S, K), filled from the left; the fill level is a tensor.

    All shapes are static: one compiled step serves every position.
    """

    def __init__(
        self, depth: int, batch: int, heads: int, capacity: int, head_width: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        if capacity < 1:
            raise UsageError("a cache must hold at least one token.")
        self.keys = torch.zeros(depth, batch, heads, capacity, head_width, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.place = torch.zeros(0, dtype=torch.long, device=device)

    def at(self, place: Tensor) -> "KVCache":
        """The same cache, about to be written at these places (1-D, one per new token)."""
        self.place = place
        return self

    def layer(self, depth: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.keys[depth], self.values[depth], self.place
