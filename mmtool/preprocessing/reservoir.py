"""The samples that a tokenizer is fitted to: a part of them that depends on nothing but the data, however the files are ordered."""

import hashlib
from heapq import heappop, heappush
from math import inf

from mmtool.preprocessing.sources import Item
from mmtool.preprocessing.value_size import num_bytes


class Reservoir:
    """The items whose keys have the lowest hashes: all, or as many as `max_items` and `max_bytes` of values allow.

    That is the longest run of them, in order of their hashes, that fits: whoever comes behind the first one that does not is left out too.
    num_seen: items that were offered.
    """

    def __init__(self, max_items: int, max_bytes: float = inf) -> None:
        self._max_items, self._max_bytes = max_items, max_bytes
        self._held: list[tuple[int, str, Item]] = []  # a heap, the highest hash first
        self._bytes, self._bound, self.num_seen = 0, -inf, 0  # bound: the (negative) hash of the lowest one that was left out

    def __len__(self) -> int:
        return len(self._held)

    def add(self, item: Item) -> None:
        self.num_seen += 1
        rank = -int.from_bytes(hashlib.sha256(item.key.encode()).digest()[:8], "big")
        if rank <= self._bound:
            return
        heappush(self._held, (rank, item.key, item))
        self._bytes += _num_bytes(item)
        while len(self._held) > self._max_items or (self._bytes > self._max_bytes and len(self._held) > 1):
            self._bound, _, dropped = heappop(self._held)
            self._bytes -= _num_bytes(dropped)

    def items(self) -> list[Item]:
        """Those that were kept, in order of their keys."""
        return sorted((item for _, _, item in self._held), key=lambda item: item.key)


def _num_bytes(item: Item) -> int:
    return sum(map(num_bytes, (item.value, *item.further)))
