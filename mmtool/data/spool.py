"""Samples kept on disk until all of them are there, and given back in order of their keys, as often as wanted.

Memory does not grow with their number. What is kept is a nameless temporary SQLite database: nobody else can open it, and it goes with the
process, however that ends. It lies where the environment variable TMPDIR says, else in /var/tmp.
"""

import errno
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from types import TracebackType
from typing import Any, cast

import numpy as np

from mmtool.common.errors import DataError
from mmtool.data.sample import Sample
from mmtool.data.shard_format import json_bytes

CACHE_KIB = 32 << 10
SETTINGS = (f"cache_size = -{CACHE_KIB}", "journal_mode = OFF", "synchronous = OFF", "temp_store = FILE")


class Spool:
    """Samples in order of their keys. longest: tokens of the longest segment of each modality.

    Raises DataError for two samples of one key when it is read, and for what JSON cannot hold when it is added.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        for setting in SETTINGS:
            self._database.execute(f"PRAGMA {setting}")
        self._database.execute("CREATE TABLE samples (key BLOB, split TEXT, record BLOB, tokens BLOB)")
        self._database.execute("BEGIN")
        self._counts, self._split = Counter[str](), cast(str | None, None)
        self.longest: dict[str, int] = {}

    def add(self, sample: Sample) -> None:
        arrays = {name: np.ascontiguousarray(tokens) for name, tokens in sample.tokens.items()}
        forms = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
        record = {"key": sample.key, "labels": sample.labels, "metadata": sample.metadata, "split": sample.split, "tokens": forms}
        content = b"".join(array.tobytes() for array in arrays.values())
        with _room():
            row = sample.key.encode(), sample.split, json_bytes(record, sample.key), content
            self._database.execute("INSERT INTO samples VALUES (?, ?, ?, ?)", row)
        self._counts[sample.split] += 1
        for name, array in arrays.items():
            self.longest[name] = max(self.longest.get(name, 0), len(array))

    def of_split(self, split: str) -> "Spool":
        """The samples of one split, to be read alone; they stay in this spool."""
        part = copy(self)
        part._split = split
        return part

    def __len__(self) -> int:
        return self._counts.total() if self._split is None else self._counts[self._split]

    def __iter__(self) -> Iterator[Sample]:
        """All samples; further ones must not be added meanwhile."""
        with _room():
            self._database.execute("CREATE INDEX IF NOT EXISTS by_key ON samples (key)")  # bytes of UTF-8 are in order of characters
            rows = self._database.execute("SELECT record, tokens FROM samples WHERE ?1 IS NULL OR split = ?1 ORDER BY key", (self._split,))
            return distinct(_sample(*row) for row in rows)

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _sample(record: bytes, tokens: bytes) -> Sample:
    known: dict[str, Any] = json.loads(record)
    arrays, start = {}, 0
    for name, dtype, shape in known["tokens"]:
        values = np.frombuffer(tokens, dtype, int(np.prod(shape, dtype=np.int64)), start).reshape(shape)
        arrays[name], start = values, start + values.nbytes
    return Sample(known["key"], arrays, known["labels"], known["metadata"], known["split"])


def distinct(samples: Iterable[Sample]) -> Iterator[Sample]:
    """The samples, which are in order of their keys. Raises DataError where two have the same one."""
    before: Sample | None = None
    for sample in samples:
        if before is not None and before.key == sample.key:
            raise DataError("two samples have this key.", where=sample.key, fix="Rename one, or choose another key column.")
        before = sample
        yield sample


@contextmanager
def _room() -> Iterator[None]:
    """A disk that is full, or refuses otherwise, is said as the system says it."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise OSError(errno.ENOSPC, "no space left for temporary files; TMPDIR says where they lie") from error
        if "disk I/O" in str(error):
            raise OSError(errno.EIO, "temporary files cannot be written or read; TMPDIR says where they lie") from error
        raise
