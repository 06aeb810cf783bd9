"""Imputed data rated by the risk of death (or any event): one Cox model per modality, fitted on real training samples."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmtool.common.log import log
from mmtool.evaluation.reference.decoded import DecodedSamples
from mmtool.evaluation.reference.features import Embedding
from mmtool.metrics.intervals import Estimate
from mmtool.metrics.survival import EVENT, CoxModel, concordance, outcomes_of

C_INDEX, STRATIFIED = "c_index", "c_index_stratified"
MIN_EVENTS = 20  # observed events that a model needs to be fitted


def alone(strata: str | None) -> str:
    """What the risk of strata is called in a report."""
    return f"{strata} alone"


class CoxModels:
    """models: modality -> Cox model. upper_bounds: concordance of each on the real values of held-out samples, by metric and modality.

    strata: a label, within whose classes concordance is computed as well, and by which alone a further model tells the risk.
    """

    def __init__(
        self,
        test: DecodedSamples,
        train: DecodedSamples,
        embeddings: Mapping[str, Embedding],
        survival: tuple[str, str],
        seed: int,
        strata: str | None = None,
    ) -> None:
        self._seed, self._embeddings = seed, embeddings
        self._test = outcomes_of([sample.labels for sample in test.samples], *survival)
        known = outcomes_of([sample.labels for sample in train.samples], *survival)
        self._strata, self._of_strata = None, None
        if strata:
            self._strata = _numbered([sample.labels.get(strata) for sample in test.samples])
            self._of_strata = self._risk_of_strata(train, test, known, strata)
        self.models: dict[str, CoxModel] = {}
        self.upper_bounds: dict[str, dict[str, Estimate]] = defaultdict(dict)
        for name, embedding in embeddings.items():
            rows = train.having(name)
            rows = rows[~np.isnan(known[rows]).any(1)]
            if np.sum(known[rows, EVENT]) < MIN_EVENTS:
                log(f"{name}: fewer than {MIN_EVENTS} events among its training samples, so its survival is not evaluated.")
                continue
            self.models[name] = CoxModel(embedding.transform(train.values(name, rows)), known[rows], seed)
            held = test.having(name)
            for metric, estimate in self.concordance_of(name, held, [[value] for value in test.values(name, held)]).items():
                self.upper_bounds[metric][name] = estimate

    def concordance_of(self, name: str, indices: np.ndarray, values: Sequence[Sequence[Any]]) -> dict[str, Estimate]:
        """{"c_index": concordance} of the values imputed for held-out samples, with one or more draws, and with strata also
        {"c_index_stratified": concordance within them}; {} if events are too few."""
        known = self._known(indices)
        if name not in self.models or not len(known):
            return {}
        draws = len(values[0])
        features = self._embeddings[name].transform([value for row in known.tolist() for value in values[row]])
        risk = self.models[name].risk(features).reshape(-1, draws).mean(1)
        return self._concordance(risk, indices[known])

    @property
    def rates_strata(self) -> bool:
        """Whether the stratum alone tells a risk."""
        return self._of_strata is not None

    def concordance_of_strata(self, indices: np.ndarray) -> dict[str, Estimate]:
        """{"c_index": concordance} of these held-out samples where nothing but their stratum is known; {} without strata."""
        rows = indices[self._known(indices)]
        if self._of_strata is None or not len(rows):
            return {}
        estimate = concordance(self._of_strata[rows], self._test[rows], self._seed)
        return {} if estimate is None else {C_INDEX: estimate}

    def _known(self, indices: np.ndarray) -> np.ndarray:
        """Positions among `indices` of samples whose outcome is known."""
        return np.flatnonzero(~np.isnan(self._test[indices]).any(1))

    def _concordance(self, risk: np.ndarray, rows: np.ndarray) -> dict[str, Estimate]:
        found = {C_INDEX: concordance(risk, self._test[rows], self._seed)}
        if self._strata is not None:
            found[STRATIFIED] = concordance(risk, self._test[rows], self._seed, self._strata[rows])
        return {metric: estimate for metric, estimate in found.items() if estimate is not None}

    def _risk_of_strata(self, train: DecodedSamples, test: DecodedSamples, known: np.ndarray, strata: str) -> np.ndarray | None:
        """(N,) risks of held-out samples by a Cox model of their stratum alone; None where events are too few for it."""
        held = [sample.labels.get(strata) for sample in train.samples]
        rows = np.flatnonzero(~np.isnan(known).any(1) & np.array([name is not None for name in held]))
        names = sorted({str(held[row]) for row in rows})
        if np.sum(known[rows, EVENT]) < MIN_EVENTS or len(names) < 2:
            return None
        model = CoxModel(_one_hot([str(held[row]) for row in rows], names), known[rows], self._seed)
        return model.risk(_one_hot([str(sample.labels.get(strata)) for sample in test.samples], names))


def _numbered(classes: Sequence[Any]) -> np.ndarray:
    """(N,) a number for each class; samples without one share theirs with no other."""
    numbers = {name: number for number, name in enumerate(sorted({str(name) for name in classes if name is not None}))}
    return np.array([-1 - row if name is None else numbers[str(name)] for row, name in enumerate(classes)])


def _one_hot(classes: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """(N, len(names)) zeros and ones."""
    return (np.array(classes)[:, None] == np.array(names)).astype(np.float64)
