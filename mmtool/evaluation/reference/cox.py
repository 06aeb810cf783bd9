"""Imputed data rated by the risk of death (or any event): one Cox model per modality, fitted on real training samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mmtool.common.log import log
from mmtool.evaluation.reference.decoded import DecodedSamples
from mmtool.evaluation.reference.features import Embedding
from mmtool.metrics.intervals import Estimate
from mmtool.metrics.survival import EVENT, CoxModel, concordance, outcomes_of

MIN_EVENTS = 20  # observed events that a model needs to be fitted


class CoxModels:
    """models: modality -> Cox model. upper_bounds: concordance of each on the real values of held-out samples."""

    def __init__(
        self, test: DecodedSamples, train: DecodedSamples, embeddings: Mapping[str, Embedding], survival: tuple[str, str], seed: int
    ) -> None:
        self._seed = seed
        self._test = outcomes_of([sample.labels for sample in test.samples], *survival)
        known = outcomes_of([sample.labels for sample in train.samples], *survival)
        self.models: dict[str, CoxModel] = {}
        self._embeddings = embeddings
        self.upper_bounds: dict[str, Estimate] = {}
        for name, embedding in embeddings.items():
            rows = train.having(name)
            rows = rows[~np.isnan(known[rows]).any(1)]
            if np.sum(known[rows, EVENT]) < MIN_EVENTS:
                log(f"{name}: fewer than {MIN_EVENTS} events among its training samples, so its survival is not evaluated.")
                continue
            self.models[name] = CoxModel(embedding.transform(train.values(name, rows)), known[rows], seed)
            held = test.having(name)
            real = self.concordance_of(name, held, [[value] for value in test.values(name, held)])
            if real:
                self.upper_bounds[name] = real["c_index"]

    def concordance_of(self, name: str, indices: np.ndarray, values: Sequence[Sequence[Any]]) -> dict[str, Estimate]:
        """{"c_index": concordance} of the values imputed for held-out samples, with one or more draws; {} if events are too few."""
        rows = np.flatnonzero(~np.isnan(self._test[indices]).any(1))
        if name not in self.models or not len(rows):
            return {}
        draws = len(values[0])
        features = self._embeddings[name].transform([value for row in rows.tolist() for value in values[row]])
        risk = self.models[name].risk(features).reshape(len(rows), draws).mean(1)
        estimate = concordance(risk, self._test[indices[rows]], self._seed)
        return {} if estimate is None else {"c_index": estimate}
