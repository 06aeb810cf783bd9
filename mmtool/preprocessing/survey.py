"""All samples of a token set before it is written: as their labels want them, and what is to be known of them first."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mmtool.common.log import log
from mmtool.data.identity import VARIANT_OF, TrainingItems
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
    """What is known of all samples. fitted_on, fitted_contents: identities and contents of those that the tokenizer was fitted to,
    None where it was not. episodes: two of them at most."""

    samples: int = 0
    variants: int = 0
    tokens: int = 0
    max_length: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    episodes: set[Any] = field(default_factory=set)
    fitted_on: np.ndarray | None = None
    fitted_contents: np.ndarray | None = None

    @classmethod
    def of(cls, samples: Iterable[Sample], name: str, fitting_keys: Collection[str]) -> "Survey":
        """Of samples that may be read more than once."""
        survey = cls()
        for sample in samples:
            length = len(sample.tokens[name])
            survey.samples += 1
            survey.variants += VARIANT_OF in sample.metadata
            survey.tokens += length
            survey.max_length = max(survey.max_length, length)
            survey.splits[sample.split] += 1
            if len(survey.episodes) < 2:
                survey.episodes.add(sample.metadata.get(EPISODE))
        if fitting_keys:
            fitted_to = (sample for sample in samples if sample.key in fitting_keys)
            items = TrainingItems.of(fitted_to)
            survey.fitted_on, survey.fitted_contents = items.identities.get(name), items.contents.get(name)
        return survey

    def log_undivided(self, options: SourceOptions) -> None:
        """Say so where all clips are of one episode and hence lie in one split: nothing is held out."""
        if options.clip is not None and len(self.episodes) == 1 and self.samples > 1 and options.split_within is None:
            what = f"all {self.samples:,} clips are of one episode, so all lie in the {next(iter(self.splits))} split"
            log(f"{what}; --split-within divides it between train, validation and test.")
