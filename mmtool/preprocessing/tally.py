"""What becomes of samples while they are sharded, one after the other: how many hold what, and which a tokenizer knows already."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

from mmtool.common.log import log
from mmtool.data.identity import SOURCES, identities
from mmtool.data.sample import SPLITS, Sample
from mmtool.preprocessing.join import Collection as Inputs
from mmtool.tokenizers.base import read_fitted_on

TRAIN = SPLITS[0]


class Tally:
    """keys: of all samples. unmatched: modality of `names` -> samples that lack it. present: split -> modalities that are kept
    ("image+text") -> samples. left_out: samples of which none is."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.left_out = names, 0
        self.keys: list[str] = []
        self.unmatched = dict.fromkeys(names, 0)
        self.present: dict[str, Counter[str]] = defaultdict(Counter)

    def see(self, sample: Sample, kept: Collection[str]) -> None:
        """Take in a sample, and which of its modalities are kept."""
        self.keys.append(sample.key)
        for name in self.names:
            self.unmatched[name] += name not in sample.tokens
        if kept:
            self.present[sample.split]["+".join(sorted(kept))] += 1
        else:
            self.left_out += 1


class Leaks:
    """Held-out items that a tokenizer was fitted on; of one that does not record on what, those that may have been among it."""

    def __init__(self, inputs: Inputs) -> None:
        self._items = inputs.items
        fitted_on = {name: read_fitted_on(data) for name, data in inputs.tokenizers.items()}
        self._fitted_on = {name: None if known is None else frozenset(known.tolist()) for name, known in fitted_on.items()}
        self._moved: dict[str, set[str]] = {name: set() for name in sorted(inputs.items)}

    def see(self, sample: Sample) -> None:
        for name in sample.tokens if sample.split != TRAIN else ():
            key = sample.metadata[SOURCES][name] if sample.key not in self._items[name] else sample.key
            item, known = self._items[name][key], self._fitted_on[name]
            if item.split == TRAIN if known is None else not known.isdisjoint(identities(item, name)):
                self._moved[name].add(key)

    def warn(self) -> None:
        """Say how many there are."""
        for name, keys in self._moved.items():
            if keys:
                of_fitted = "are among those that their tokenizer was fitted on, which `mmtool evaluate` refuses"
                what = "were training items when tokenized" if self._fitted_on[name] is None else of_fitted
                log(f"warning: {len(keys)} held-out {name} items {what}; split both stages alike (--seed, --fractions, --split-label).")
