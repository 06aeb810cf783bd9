"""The key-value cache of decoding."""

import math
from copy import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from mmtool.common.errors import UsageError

GROWTH, GPU_GROWTH = 16, 64  # positions added when all are filled; a GPU records a step anew each time


class KVCache:
    """Keys and values of all layers, (depth, B, H, S, K), and the tokens and slots (B, S) they come from, filled from the left.

    cache_position: where the next tokens are written. The cache holds few more positions than are filled and is read as a whole: a slice of
    it would be copied by every matrix product.
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
        self.cache_position = torch.zeros(0, dtype=torch.long, device=device)
        self.most = capacity  # positions that it may grow to: so many are asked of the system at once
        self._forget_memory()
        self.growth, self.alignment = (GPU_GROWTH, GPU_GROWTH) if device.type == "cuda" else (GROWTH, 1)

    @property
    def capacity(self) -> int:
        return self.tokens.shape[1]

    def at(self, start: int, stop: int) -> "KVCache":
        """The same cache, about to be written at the positions from `start` to before `stop`, the last that are filled."""
        self.reserve(stop)
        self.cache_position = torch.arange(start, stop, device=self.cache_position.device)
        return self

    def reserve(self, stop: int) -> bool:
        """Make room for positions before `stop`; whether that took other memory."""
        grows = stop > self.capacity
        if grows:
            wanted = stop + self.growth - 1
            self._grow(wanted - wanted % self.alignment - self.capacity)
        return grows

    def layer(self, depth: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.keys[depth], self.values[depth], self.cache_position

    def noted(self, tokens_BL: Tensor, slot_BL: Tensor) -> tuple[Tensor, Tensor]:
        """All tokens and slots so far, these included, each (B, S)."""
        return self.tokens.index_copy_(1, self.cache_position, tokens_BL), self.slots.index_copy_(1, self.cache_position, slot_BL)

    def part(self, rows: slice) -> "KVCache":
        """A cache of these rows alone, which shares their memory as long as neither grows."""
        shared = copy(self)
        shared.keys, shared.values = self.keys[:, rows], self.values[:, rows]
        shared.tokens, shared.slots = self.tokens[rows], self.slots[rows]
        shared._forget_memory()
        return shared

    def keep(self, rows: Tensor) -> None:
        """Drop all other rows."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.tokens, self.slots = self.tokens[rows], self.slots[rows]
        self._forget_memory()

    def tile(self, times: int) -> "KVCache":
        """The same cache, all rows of which follow each other `times` times (`spread`: every row follows itself)."""
        self.keys, self.values = (part.repeat(1, times, 1, 1, 1) for part in (self.keys, self.values))
        self.tokens, self.slots = (part.repeat(times, 1) for part in (self.tokens, self.slots))
        self._forget_memory()
        return self

    def spread(self, draws: int) -> "KVCache":
        """The same cache, in which every row is repeated `draws` times."""
        self.keys, self.values = (part.repeat_interleave(draws, 1) for part in (self.keys, self.values))
        self.tokens, self.slots = (part.repeat_interleave(draws, 0) for part in (self.tokens, self.slots))
        self._forget_memory()
        return self

    def _forget_memory(self) -> None:
        """Nothing that keys or values lie in is written again."""
        self._memory = {"keys": self.keys.new_empty(0), "values": self.keys.new_empty(0), "spare": self.keys.new_empty(0)}

    def _grow(self, count: int) -> None:
        self.keys, self.values = self._longer("keys", self.keys, count), self._longer("values", self.values, count)
        self.tokens, self.slots = (F.pad(part, (0, count)) for part in (self.tokens, self.slots))

    def _longer(self, name: str, part: Tensor, count: int) -> Tensor:
        """(depth, B, H, S, K) with `count` empty positions behind, in what is spare: to touch new memory takes several times as long as to
        copy. What the part lay in is spare then."""
        *rows, length, width = part.shape
        shape = (*rows, length + count, width)
        spare, size = self._memory["spare"], math.prod(shape)
        if spare.numel() < size:
            spare = part.new_empty(math.prod(rows) * max(self.most, length + count) * width)
        longer = spare[:size].view(shape)
        longer[..., :length, :] = part
        longer[..., length:, :] = 0
        self._memory["spare"], self._memory[name] = self._memory[name], spare
        return longer
