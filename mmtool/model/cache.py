"""The key-value cache of decoding."""

from copy import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from mmtool.common.errors import UsageError

GROWTH = 16  # places added when all are filled


class KVCache:
    """Keys and values of all layers, (depth, B, H, S, K), and the tokens and slots (B, S) they come from, filled from the left.

    It holds few more places than are filled and is looked at as a whole: a part of it would be copied by every product of matrices.
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
        self.place = torch.zeros(0, dtype=torch.long, device=device)

    @property
    def capacity(self) -> int:
        return self.tokens.shape[1]

    def at(self, start: int, stop: int) -> "KVCache":
        """The same cache, about to be written at the places from `start` to before `stop`, the last that are filled."""
        if stop > self.capacity:
            self._grow(stop + GROWTH - 1 - self.capacity)
        self.place = torch.arange(start, stop, device=self.place.device)
        return self

    def layer(self, depth: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.keys[depth], self.values[depth], self.place

    def noted(self, tokens_BL: Tensor, slot_BL: Tensor) -> tuple[Tensor, Tensor]:
        """All tokens and slots so far, these included, each (B, S)."""
        return self.tokens.index_copy_(1, self.place, tokens_BL), self.slots.index_copy_(1, self.place, slot_BL)

    def part(self, rows: slice) -> "KVCache":
        """A cache of these rows alone, which shares their memory as long as neither grows."""
        found = copy(self)
        found.keys, found.values = self.keys[:, rows], self.values[:, rows]
        found.tokens, found.slots = self.tokens[rows], self.slots[rows]
        return found

    def keep(self, rows: Tensor) -> None:
        """Drop all other rows."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.tokens, self.slots = self.tokens[rows], self.slots[rows]

    def tile(self, times: int) -> "KVCache":
        """The same cache, all rows of which follow each other `times` times (`spread`: every row follows itself)."""
        self.keys, self.values = (each.repeat(1, times, 1, 1, 1) for each in (self.keys, self.values))
        self.tokens, self.slots = (each.repeat(times, 1) for each in (self.tokens, self.slots))
        return self

    def spread(self, draws: int) -> "KVCache":
        """The same cache, in which every row stands `draws` times."""
        self.keys, self.values = (each.repeat_interleave(draws, 1) for each in (self.keys, self.values))
        self.tokens, self.slots = (each.repeat_interleave(draws, 0) for each in (self.tokens, self.slots))
        return self

    def _grow(self, places: int) -> None:
        self.keys, self.values = (F.pad(each, (0, 0, 0, places)) for each in (self.keys, self.values))
        self.tokens, self.slots = (F.pad(each, (0, places)) for each in (self.tokens, self.slots))
