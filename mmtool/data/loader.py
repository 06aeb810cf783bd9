"""Batches whose order and randomness are functions of (seed, epoch, sample key): the state of the loader is one number."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from mmtool.data.documents import Documents
from mmtool.data.masking import AnyBatch
from mmtool.data.sample import Sample
from mmtool.data.sequence import Document
from mmtool.data.shards import TokenSet

MakeDocuments = Callable[[Sequence[Sample], Sequence[int]], Sequence[Document] | Documents]
Pack = Callable[[Sequence[Document] | Documents], AnyBatch]


@dataclass
class Loader:
    """An endless stream of packed batches over the samples `members` of a token set, of which some may occur several times.

    pack: puts as many documents as fit into rows. consumed: samples used so far, over all epochs; set it to resume.
    window: samples offered to each batch, a little more than fit; those that do not fit open the next batch.
    part, parts: of the samples drawn, those whose number leaves the remainder `part` by `parts` are this loader's.
    """

    data: TokenSet
    members: np.ndarray
    pack: Pack
    window: int
    seed: int
    consumed: int = 0
    part: int = 0
    parts: int = 1

    def next(self, make_documents: MakeDocuments) -> tuple[AnyBatch, list[str]]:
        """The next batch, of documents made now, and the keys of its samples."""
        samples, seeds = self.offered(self.consumed, self.window)
        batch = self.pack(make_documents(samples, seeds))
        self.consumed += batch.num_documents
        return batch, [sample.key for sample in samples[: batch.num_documents]]

    def offered(self, start: int, count: int) -> tuple[list[Sample], list[int]]:
        """`count` samples from number `start` on, without their labels, and the seed of each."""
        samples, seeds = [], []
        for epoch, member in drawn(start, count, len(self.members), self.seed, self.part, self.parts):
            sample = self.data.tokens_of(int(self.members[member]))
            turn = self._turns[member]
            samples.append(sample)
            seeds.append(sample_seed(self.seed, epoch, f"{sample.key}/{turn}" if turn else sample.key))
        return samples, seeds

    def key(self, number: int) -> str:
        """Of the sample that is drawn as number so-and-so."""
        ((_, member),) = drawn(number, 1, len(self.members), self.seed, self.part, self.parts)
        return self.data.keys[int(self.members[member])]

    @cached_property
    def _turns(self) -> np.ndarray:
        """How often each member has occurred before in `members`, whose repetitions stand together."""
        first = np.r_[True, self.members[1:] != self.members[:-1]]
        if first.all():
            return np.zeros(len(first), np.int8)
        return np.arange(len(self.members)) - np.maximum.accumulate(np.where(first, np.arange(len(self.members)), 0))


def mixture(paired: np.ndarray, share: float) -> np.ndarray:
    """Indices of samples, some of them several times, among which the `paired` ones (N,) make up `share`; each once if all are alike."""
    count, unpaired = int(paired.sum()), int((~paired).sum())
    if not count or not unpaired:
        return np.arange(len(paired))
    more = share / (1 - share) * unpaired / count  # repetitions of paired samples for one of each other
    times = np.empty(len(paired), np.int64)
    for kind, often in ((paired, max(1.0, more)), (~paired, max(1.0, 1 / more))):
        times[kind] = np.diff(np.floor(np.arange(kind.sum() + 1) * often + 1e-9))
    return np.repeat(np.arange(len(paired)), times)


@dataclass
class SampleLoader:
    """An endless stream of batches of `size` samples among `members` of a token set; see `Loader`."""

    data: TokenSet
    members: np.ndarray
    size: int
    seed: int
    consumed: int = 0

    def next(self) -> list[Sample]:
        samples = [self.data[int(self.members[i])] for _, i in drawn(self.consumed, self.size, len(self.members), self.seed)]
        self.consumed += self.size
        return samples


def drawn(consumed: int, number: int, count: int, seed: int, part: int = 0, parts: int = 1) -> Iterator[tuple[int, int]]:
    """(epoch, which of `count`) of the next `number` draws of an endless stream in which every epoch has an order of its own; `consumed`
    counts those of one of its parts."""
    for position in range(part + parts * consumed, part + parts * (consumed + number), parts):
        epoch, place = divmod(position, count)
        yield epoch, int(_permutation(seed, epoch, count)[place])


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    numbers = np.arange(size, dtype=np.int32 if size < 2**31 else np.int64)  # their order is the same
    return np.random.default_rng([seed, epoch]).permutation(numbers)


def sample_seed(seed: int, epoch: int, key: str) -> int:
    """A 64-bit seed for one sample in one epoch."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{epoch}/{key}".encode(), digest_size=8).digest(), "little")
