"""Items -> tokens, batch by batch: what the tokenizer cannot take is refused by name or set aside, what its codes cut off is counted."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from mmtool.common.errors import DataError
from mmtool.common.log import log
from mmtool.preprocessing.prepare import preparer_of
from mmtool.preprocessing.sources import Item, Reject
from mmtool.tokenizers.base import RangeLimited, Tokenizer

BATCH = 256  # items encoded at once
NAMED_PARTS = 5  # columns or streams whose clipped numbers are reported one by one


class Encoder:
    """Encodes the items of one modality.

    rejects: list of those that are set aside; None raises DataError at the first. absent: keys of table rows without any value of the
    features that the tokenizer keeps. values_clipped, samples_clipped: by part of a value (the stream of a trajectory), how many numbers
    lay beyond the range of the codes, and in how many items. filled: feature -> how many missing values of it have no
    code of their own; filled_in: key -> how many in that row.
    """

    def __init__(self, tokenizer: Tokenizer, name: str, rejects: list[Reject] | None = None) -> None:
        self.tokenizer, self.name, self.rejects = tokenizer, name, rejects
        self.absent: list[str] = []
        self.values_clipped, self.samples_clipped = Counter[str](), Counter[str]()
        self.filled, self.filled_in = Counter[str](), dict[str, int]()
        self._prepare = preparer_of(tokenizer)

    def __call__(self, batch: Sequence[Item]) -> list[np.ndarray | None]:
        """The tokens of each item, None where it is absent or set aside."""
        tokens: list[np.ndarray | None] = [None] * len(batch)
        try:
            values = [self._prepare(item.value, item.key) for item in batch]
            present = [place for place, value in enumerate(values) if not self._prepare.is_absent(value)]
            codes = self.tokenizer.encode([values[place] for place in present]) if present else []
        except DataError:
            return [self._encode_one(item) for item in batch]  # which names the item
        for place, encoded in zip(present, codes, strict=True):
            tokens[place] = encoded
            self._count(batch[place].key, values[place])
        self.absent += [item.key for item, encoded in zip(batch, tokens, strict=True) if encoded is None]
        return tokens

    def stream(self, items: Iterable[Item]) -> Iterator[tuple[Item, np.ndarray]]:
        """Items with their tokens, without those that are absent or set aside."""
        waiting = iter(items)
        while batch := list(islice(waiting, BATCH)):
            for item, tokens in zip(batch, self(batch), strict=True):
                if tokens is not None:
                    yield item, tokens

    @property
    def clipped(self) -> dict[str, dict[str, int]]:
        """Part -> how many `values` of it were clipped, and of how many `samples`."""
        return {part: {"values": count, "samples": self.samples_clipped[part]} for part, count in sorted(self.values_clipped.items())}

    def report(self) -> None:
        """Say how much was clipped or filled, and what is absent because the tokenizer keeps none of its values."""
        if self.absent:
            log(f"rows without any value of the features that the tokenizer keeps, hence absent: {len(self.absent):,}")
        self._report_filled()
        clipped = sorted(self.clipped.items(), key=lambda item: -item[1]["values"])
        for part, count in clipped[:NAMED_PARTS]:
            log(
                f"warning: {count['values']:,} numbers of {part} in {count['samples']:,} {self.name} samples lie beyond the data that the "
                "tokenizer was fitted to; they are clipped to its range."
            )
        if len(clipped) > NAMED_PARTS:
            numbers = sum(count["values"] for _, count in clipped[NAMED_PARTS:])
            log(f"warning: so are {numbers:,} numbers of {len(clipped) - NAMED_PARTS:,} other columns. Is the data on another scale?")

    def _report_filled(self) -> None:
        if self.filled:
            columns = [f"{count:,} of {name}" for name, count in self.filled.most_common(NAMED_PARTS)]
            others = len(self.filled) - len(columns)
            more = f" and others of {others:,} more columns" if others else ""
            log(
                f"warning: {self.filled.total():,} missing values in {len(self.filled_in):,} {self.name} samples have no code in this "
                f"scheme; they decode to what the others make likely: {', '.join(columns)}{more}. --scheme bins keeps them missing."
            )

    def _encode_one(self, item: Item) -> np.ndarray | None:
        try:
            value = self._prepare(item.value, item.key)
            if self._prepare.is_absent(value):
                self.absent.append(item.key)
                return None
            (tokens,) = self.tokenizer.encode([value])
        except DataError as error:
            error = DataError(error.what, where=error.where or item.key, fix=error.fix)
            if self.rejects is None:
                raise error from None
            self.rejects.append(Reject(item.where, item.key, str(error)))
            return None
        self._count(item.key, value)
        return tokens

    def _count(self, key: str, value: Any) -> None:
        if isinstance(self.tokenizer, RangeLimited):
            beyond = self.tokenizer.beyond(value)
            self.values_clipped.update(beyond)
            self.samples_clipped.update(dict.fromkeys(beyond, 1))
        missing = np.flatnonzero(np.isnan(value)) if getattr(self.tokenizer, "fills_missing", False) else ()
        if len(missing):
            self.filled.update(self.tokenizer.features[feature] for feature in missing)  # type: ignore[attr-defined]
            self.filled_in[key] = len(missing)
