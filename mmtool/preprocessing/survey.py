"""All samples of a token set before it is written: as their labels want them, and what is to be known of them first."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from mmtool.common.log import log
from mmtool.data.identity import VARIANT_OF
from mmtool.data.sample import Sample
from mmtool.data.spool import Spool
from mmtool.preprocessing.label_columns import LabelColumns
from mmtool.preprocessing.sources import EPISODE, SourceOptions


class Labelled:
    """All samples but those that were withdrawn, their labels as the columns want them; to be read more than once."""

    def __init__(self, samples: Spool, columns: LabelColumns) -> None:
        self._samples, self._columns = samples, columns

    def __iter__(self) -> Iterator[Sample]:
        for sample in self._samples:
            if sample.metadata.get(VARIANT_OF, sample.key) not in self._columns.withdrawn:
                yield replace(sample, labels=self._columns.corrected(sample.labels))


@dataclass
class Survey:
    """What is known of all samples of one modality. episodes: two of them at most."""

    samples: int = 0
    variants: int = 0
    tokens: int = 0
    max_length: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    episodes: set[Any] = field(default_factory=set)

    @classmethod
    def of(cls, samples: Iterable[Sample], name: str) -> "Survey":
        survey = cls()
        for sample in samples:
            survey.add(sample, name)
        return survey

    def add(self, sample: Sample, name: str) -> None:
        length = len(sample.tokens[name])
        self.samples += 1
        self.variants += VARIANT_OF in sample.metadata
        self.tokens += length
        self.max_length = max(self.max_length, length)
        self.splits[sample.split] += 1
        if len(self.episodes) < 2:
            self.episodes.add(sample.metadata.get(EPISODE))

    def log_undivided(self, options: SourceOptions) -> None:
        """Say so where all clips are of one episode and hence lie in one split: nothing is held out."""
        if options.clip is not None and len(self.episodes) == 1 and self.samples > 1 and options.split_within is None:
            what = f"all {self.samples:,} clips are of one episode, so all lie in the {next(iter(self.splits))} split"
            log(f"{what}; --split-within divides it between train, validation and test.")
