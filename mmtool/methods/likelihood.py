"""What a likelihood of one modality given others is good for: validation, the consistency of draws, the choice of donors."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from itertools import permutations

import numpy as np

from mmtool.common.errors import UsageError
from mmtool.data.sample import Sample
from mmtool.methods.base import Method
from mmtool.methods.matching import mutual_information
from mmtool.model.transformer import Transformer


class Likelihood(Method):
    """`Scoring` and `Matching` (see protocols.py) for a method that says what `score` and `score_passes` are."""

    @abstractmethod
    def score(self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], target: str) -> tuple[np.ndarray, np.ndarray]:
        """(negative log-likelihood in nats, number of tokens) of `target` given `have`, each (N,)."""

    @abstractmethod
    def score_passes(self, num_tokens: int) -> int:
        """Documents that `score` reads for a target of so many tokens."""

    def can_score(self, name: str) -> bool:
        return not self.layout.modalities[self.layout.index(name)].continuous

    def validate(self, model: Transformer, samples: Sequence[Sample]) -> dict[str, float]:
        """Perplexity of every modality given every other one that held-out samples have beside it: `{"text->speech": 26.1}`."""
        perplexities = {}
        for given, target in permutations(self.layout.names, 2):
            pairs = [sample for sample in samples if given in sample.tokens and target in sample.tokens]
            if self.can_score(target) and pairs:
                nll, counts = self.score(model, pairs, [given], target)
                perplexities[f"{given}->{target}"] = float(np.exp(min(700.0, nll.sum() / counts.sum())))
        return perplexities

    def consistency(
        self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], want: str, draws: Sequence[Sequence[np.ndarray]]
    ) -> np.ndarray:
        pairs = [(sample, draw) for sample, its_draws in zip(samples, draws, strict=True) for draw in its_draws]
        joined = [Sample(sample.key, {**sample.tokens, want: draw}) for sample, draw in pairs]
        scored = [self.score(model, joined, [want], name) for name in have]
        log_p, counts = -np.sum([nll for nll, _ in scored], 0), np.sum([count for _, count in scored], 0)
        return (log_p / counts).reshape(len(samples), -1)

    def can_match(self, have: Sequence[str]) -> bool:
        return all(self.can_score(name) for name in have)

    def match(
        self,
        model: Transformer,
        samples: Sequence[Sample],
        have: Sequence[str],
        want: str,
        donors: Sequence[np.ndarray],
        references: Sequence[Sample] = (),
    ) -> np.ndarray:
        """(N, M) mutual information in nats of what is given of each sample and each of M donors of `want`, up to a constant per sample.

        references: samples that show how likely a donor is anyway (see `matching`). Raises UsageError for given modalities without
        likelihood.
        """
        if not self.can_match(have):
            what = f"how probable {' and '.join(have)} is given a donor is not known: it has no likelihood."
            raise UsageError(what, where=self.name, fix="Give other modalities, or ask another run.")
        log_p = partial(self.pair_log_p, model)
        return mutual_information(log_p, samples, have, want, donors, references, both_ways=self.can_score(want))

    def match_passes(self, num_pairs: int, lengths: Sequence[int]) -> int:
        return num_pairs * sum(map(self.score_passes, lengths))

    def pair_log_p(
        self, model: Transformer, given: Sequence[Sample], have: Sequence[str], targets: Sequence[Sample], name: str
    ) -> np.ndarray:
        """(N, M) log p in nats of modality `name` of each of M targets given the modalities `have` of each of N samples."""
        joined = [[Sample("", {**sample.tokens, name: target.tokens[name]}) for target in targets] for sample in given]
        return -np.stack([self.score(model, row, have, name)[0] for row in joined])
