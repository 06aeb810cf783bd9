"""Where samples lie in shards, in columns: 80 bytes a sample of two modalities, where objects took 180, and 700 while they were made."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, overload

import numpy as np

from mmtool.data.sample import SPLITS


class Keys(Sequence[str]):
    """Texts in one array of bytes. ends: (N + 1,) int64, where each begins and ends in `text`."""

    def __init__(self, text: bytes, ends: np.ndarray) -> None:
        self._text, self._ends = text, ends

    @classmethod
    def of(cls, keys: Iterable[str]) -> "Keys":
        encoded = [key.encode() for key in keys]
        return cls(b"".join(encoded), np.cumsum([0, *map(len, encoded)], dtype=np.int64))

    @classmethod
    def joined(cls, parts: Sequence["Keys"]) -> "Keys":
        starts = np.cumsum([0, *(len(part._text) for part in parts)], dtype=np.int64)
        ends = [np.zeros(1, np.int64), *(part._ends[1:] + start for part, start in zip(parts, starts, strict=False))]
        return cls(b"".join(part._text for part in parts), np.concatenate(ends))

    def take(self, rows: np.ndarray) -> "Keys":
        """Those at some places."""
        return Keys.of(self[int(row)] for row in rows)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> list[str]: ...
    def __getitem__(self, i: int | slice) -> str | list[str]:
        if isinstance(i, slice):
            return [self[number] for number in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        i %= len(self)
        return self._text[self._ends[i] : self._ends[i + 1]].decode()

    def __iter__(self) -> Iterator[str]:
        return (self._text[start:end].decode() for start, end in pairwise(self._ends.tolist()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and len(self) == len(other) and list(self) == list(other)

    def __repr__(self) -> str:
        return f"Keys of {len(self):,} samples"


@dataclass(frozen=True)
class Entries:
    """N samples in their order, with M modalities in the order of a manifest.

    splits: (N,) int8, numbers in `SPLITS`. headers: (N,) int64, the byte at which the first header of each stands. records: (N, 2) int64,
    first byte and size of its JSON. starts: (N, M) int64, first byte of the values of a modality; lengths: (N, M) int32, the number of
    tokens; both ABSENT where a sample lacks it.
    """

    keys: Keys
    splits: np.ndarray
    headers: np.ndarray
    records: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def joined(cls, parts: Sequence["Entries"]) -> "Entries":
        """Of several shards, one after the other."""
        columns = ("splits", "headers", "records", "starts", "lengths")
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
        return cls(Keys.joined([part.keys for part in parts]), **joined)

    def take(self, rows: np.ndarray) -> "Entries":
        """Those at some places (a number each, or a mask)."""
        if rows.dtype == bool:
            if rows.all():
                return self
            rows = np.flatnonzero(rows)
        columns = (self.splits, self.headers, self.records, self.starts, self.lengths)
        return Entries(self.keys.take(rows), *(column[rows] for column in columns))


class EntryList:
    """Entries as they are written or read, one sample after the other."""

    def __init__(self, num_modalities: int) -> None:
        self._keys: list[str] = []
        self._splits: list[int] = []
        self._places: list[tuple[int, ...]] = []
        self._num_modalities = num_modalities

    @property
    def last_key(self) -> str | None:
        return self._keys[-1] if self._keys else None

    def append(self, key: str, split: str, header: int, record: tuple[int, int], starts: Sequence[int], lengths: Sequence[int]) -> None:
        """See `Entries` for what they are."""
        self._keys.append(key)
        self._splits.append(SPLITS.index(split))
        self._places.append((header, *record, *starts, *lengths))

    def entries(self) -> Entries:
        """All of them."""
        m = self._num_modalities
        places: np.ndarray[Any, np.dtype[np.int64]] = np.array(self._places, np.int64).reshape(len(self._keys), 3 + 2 * m)
        header, record, starts, lengths = np.split(places, [1, 3, 3 + m], axis=1)
        columns = header[:, 0].copy(), record.copy(), starts.copy(), lengths.astype(np.int32)
        return Entries(Keys.of(self._keys), np.array(self._splits, np.int8), *columns)
