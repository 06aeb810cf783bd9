"""The static key-value cache of decoding."""

import torch
from torch import Tensor

from mmtool.errors import UsageError


class KVCache:
    """Keys and values of all layers, (depth, B, H, S, K), and the tokens and slots (B, S) they come from, filled from the left; only
    the places that are filled are looked at.
    """

    def __init__(
        self, depth: int, batch: int, heads: int, capacity: int, head_width: int, *, dtype: torch.dtype, device: torch.device
    ) -> None:
        if capacity < 1:
            raise UsageError("a cache must hold at least one token.")
        self.keys = torch.zeros(depth, batch, heads, capacity, head_width, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.tokens = torch.zeros(batch, capacity, dtype=torch.long, device=device)
        self.slots = torch.zeros_like(self.tokens)
        self.place, self.filled = torch.zeros(0, dtype=torch.long, device=device), capacity

    def at(self, start: int, stop: int) -> "KVCache":
        """The same cache, about to be written at the places from `start` to before `stop`, the last that are filled."""
        self.place, self.filled = torch.arange(start, stop, device=self.place.device), stop
        return self

    def layer(self, depth: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.keys[depth, :, :, : self.filled], self.values[depth, :, :, : self.filled], self.place

    def noted(self, tokens_BL: Tensor, slot_BL: Tensor) -> tuple[Tensor, Tensor]:
        """All tokens and slots so far, these included, each (B, S)."""
        tokens, slots = self.tokens[:, : self.filled], self.slots[:, : self.filled]
        return tokens.index_copy_(1, self.place, tokens_BL), slots.index_copy_(1, self.place, slot_BL)

    def keep(self, rows: Tensor) -> None:
        """Drop all other rows."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.tokens, self.slots = self.tokens[rows], self.slots[rows]

    def spread(self, draws: int, filled: int, room: int) -> "KVCache":
        """A cache in which the first `filled` places of every row stand `draws` times, with room for so many more tokens."""
        depth, batch, heads, _, head_width = self.keys.shape
        wide = KVCache(depth, batch * draws, heads, filled + room, head_width, dtype=self.keys.dtype, device=self.keys.device)
        wide.keys[..., :filled, :] = self.keys[..., :filled, :].repeat_interleave(draws, 1)
        wide.values[..., :filled, :] = self.values[..., :filled, :].repeat_interleave(draws, 1)
        wide.tokens[:, :filled] = self.tokens[:, :filled].repeat_interleave(draws, 0)
        wide.slots[:, :filled] = self.slots[:, :filled].repeat_interleave(draws, 0)
        return wide
