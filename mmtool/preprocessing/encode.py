"""Items -> tokens, batch by batch: what the tokenizer cannot take is refused by name or set aside, what its codes cut off is counted.

`ValueEncoder` does the work and may do it in another process; `Encoder` keeps the account.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from mmtool.common.errors import DataError
from mmtool.common.log import log
from mmtool.data.identity import content_of
from mmtool.preprocessing.decoding import Steps, Taken
from mmtool.preprocessing.prepare import preparer_of
from mmtool.preprocessing.sources import Item, Reject
from mmtool.tokenizers.base import RangeLimited, Tokenizer

BATCH = 256  # items encoded at once
NAMED_PARTS = 5  # columns or streams whose clipped numbers are reported one by one


@dataclass(frozen=True)
class Prepared(Taken):
    """A raw value on its way to tokens. content: of the raw value (`identity.content_of`). value: what the tokenizer encodes; None where it
    keeps nothing of it, and where it cannot take it (`error`)."""

    content: str
    value: Any = None
    error: DataError | None = None


@dataclass(frozen=True)
class Encoded(Taken):
    """The tokens of a value; None where it is absent or there is an `error`. content: see `Prepared`. beyond: part of the value -> how many
    numbers of it lie beyond the range of the codes. missing: the features of a row whose missing values have no code of their own."""

    content: str
    tokens: np.ndarray | None = None
    error: DataError | None = None
    beyond: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[int, ...] = ()


class ValueEncoder:
    """Raw values -> tokens by a fitted tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._prepare = preparer_of(tokenizer)
        self._ranged = tokenizer if isinstance(tokenizer, RangeLimited) else None  # a protocol: asking for each value takes long
        self._fills = getattr(tokenizer, "fills_missing", False)

    def prepare(self, value: Any) -> Prepared:
        """A value as the tokenizer takes it, which is often smaller."""
        content = content_of(value)
        try:
            prepared = self._prepare(value)
        except DataError as error:
            return Prepared(content, error=error)
        return Prepared(content, None if self._prepare.is_absent(prepared) else prepared)

    def __call__(self, batch: Sequence[Prepared]) -> list[Encoded]:
        """The tokens of each value, whatever the others are."""
        present = [prepared.value for prepared in batch if prepared.value is not None]
        try:
            codes = iter(self.tokenizer.encode(present) if present else [])
        except DataError:
            return [self._encode_one(prepared) for prepared in batch]  # which shows whose it is
        return [self._encoded(prepared, None if prepared.value is None else next(codes)) for prepared in batch]

    def _encode_one(self, prepared: Prepared) -> Encoded:
        try:
            tokens = None if prepared.value is None else self.tokenizer.encode([prepared.value])[0]
        except DataError as error:
            return Encoded(prepared.content, error=error)
        return self._encoded(prepared, tokens)

    def _encoded(self, prepared: Prepared, tokens: np.ndarray | None) -> Encoded:
        if tokens is None:
            return Encoded(prepared.content, error=prepared.error)
        beyond = self._ranged.beyond(prepared.value) if self._ranged else {}
        missing = tuple(np.flatnonzero(np.isnan(prepared.value)).tolist()) if self._fills else ()
        return Encoded(prepared.content, tokens, beyond=beyond, missing=missing)


class Encoder:
    """Encodes the items of one modality.

    rejects: list of those that are set aside; None raises DataError at the first. absent: keys of table rows without any value of the
    features that the tokenizer keeps. values_clipped, samples_clipped: by part of a value (the stream of a trajectory), how many numbers
    lay beyond the range of the codes, and in how many items. filled: feature -> how many missing values of it have no code of their own;
    rows_filled: in how many rows; filled_in: key -> how many in that row of the last batch.
    """

    def __init__(self, tokenizer: Tokenizer, name: str, rejects: list[Reject] | None = None) -> None:
        self.tokenizer, self.name, self.rejects = tokenizer, name, rejects
        self.absent: list[str] = []
        self.values_clipped, self.samples_clipped = Counter[str](), Counter[str]()
        self.filled, self.rows_filled, self.filled_in = Counter[str](), 0, dict[str, int]()
        self.encode_values = ValueEncoder(tokenizer)

    def steps(self, raw: bool = False) -> Steps:
        """What may be done with values before they are items; raw: nothing."""
        return Steps() if raw else Steps(self.encode_values.prepare, self.encode_values)

    def prepared(self, item: Item) -> Item:
        """The item with its value as it is encoded, without the raw one."""
        if isinstance(item.value, Prepared | Encoded):
            return item
        return replace(item, value=self.encode_values.prepare(item.value), further=())

    def __call__(self, batch: Sequence[Item]) -> list[np.ndarray | None]:
        """The tokens of each item, None where it is absent or set aside. Values are raw, or on their way already."""
        self.filled_in = {}
        values = [self.prepared(item).value for item in batch]
        encoded = iter(self.encode_values([value for value in values if isinstance(value, Prepared)]))
        results = (value if isinstance(value, Encoded) else next(encoded) for value in values)
        return [self._taken(item, result) for item, result in zip(batch, results, strict=True)]

    def stream(self, items: Iterable[Item]) -> Iterator[tuple[Item, np.ndarray]]:
        """Items with their tokens, without those that are absent or set aside."""
        waiting = map(self.prepared, items)
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
                f"warning: {self.filled.total():,} missing values in {self.rows_filled:,} {self.name} samples have no code in this "
                f"scheme; they decode to what the others make likely: {', '.join(columns)}{more}. --scheme bins keeps them missing."
            )

    def _taken(self, item: Item, result: Encoded) -> np.ndarray | None:
        """The tokens, with what became of the item on account."""
        if result.error is not None:
            error = DataError(result.error.what, where=result.error.where or item.key, fix=result.error.fix)
            if self.rejects is None:
                raise error
            self.rejects.append(Reject(item.where, item.key, str(error)))
        elif result.tokens is None:
            self.absent.append(item.key)
        self.values_clipped.update(result.beyond)
        self.samples_clipped.update(dict.fromkeys(result.beyond, 1))
        if result.missing:
            self.filled.update(self.tokenizer.features[feature] for feature in result.missing)  # type: ignore[attr-defined]
            self.filled_in[item.key] = len(result.missing)
            self.rows_filled += 1
        return result.tokens
