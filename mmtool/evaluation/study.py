"""What every task of an evaluation shares: the real data, the runs, the config, and features and draws that are computed only once."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np

from mmtool.data.sample import Sample
from mmtool.evaluation.baselines.tables import Answered
from mmtool.evaluation.config import EvaluationConfig
from mmtool.evaluation.outcomes import Outcome, all_outcomes
from mmtool.evaluation.reference.data import Reference
from mmtool.evaluation.reference.decoded import DecodedSamples
from mmtool.imputation.calibration import Calibration, Curves, Key
from mmtool.imputation.conformal import Correction
from mmtool.imputation.imputer import Imputer
from mmtool.metrics.intervals import Estimate

Row = dict[str, Any]
Side = Literal["train", "test"]


class Trained(Protocol):
    """What a row names of a run or an adapter: by which method it was trained, and from which seed."""

    @property
    def method(self) -> str: ...

    @property
    def seed(self) -> int: ...


class Study:
    """The reference data, the runs by name, and how they are evaluated. ood_samples: of other data, for the task `ood`. answered: see
    `TabularBaselines`.

    corrections, curves: what tasks fitted on validation samples while they measured, by run (see `Calibration`).
    """

    def __init__(
        self,
        reference: Reference,
        imputers: Mapping[str, Imputer],
        config: EvaluationConfig,
        ood_samples: Sequence[Sample] | None = None,
        answered: Answered | None = None,
    ) -> None:
        self.reference, self.imputers, self.config, self.ood_samples = reference, imputers, config, ood_samples
        self._answered: Answered = {} if answered is None else answered
        self.names: list[str] = list(reference.tokenizers)
        self.corrections: dict[str, dict[Key, Correction]] = {name: {} for name in imputers}
        self.curves: dict[str, dict[Key, Curves]] = {name: {} for name in imputers}
        self._features: dict[tuple[str, Side, tuple[str, ...], str | None], tuple[np.ndarray, np.ndarray]] = {}

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """Every run and baseline on every direction of imputation."""
        return list(all_outcomes(self.reference, self.imputers, self.config, self._answered))

    def calibrations(self) -> dict[str, Calibration]:
        """What tasks fitted on validation samples, of the runs that they fitted anything for."""
        drawn = self.config.draws, self.config.params
        return {
            name: Calibration(imputer.weights, *drawn, self.corrections[name], self.curves[name])
            for name, imputer in self.imputers.items()
            if self.corrections[name] or self.curves[name]
        }

    def side(self, side: Side) -> DecodedSamples:
        return self.reference.train if side == "train" else self.reference.test

    def samples(self, side: Side, indices: np.ndarray) -> list[Sample]:
        return [self.side(side).samples[i] for i in indices]

    def features(self, run: str, side: Side, subset: Sequence[str], pooling: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(indices (N,), features (N, D)) of the labelled samples of a side that hold all of `subset`, seen through these alone.

        Of training samples there are at most `config.train_limit`, chosen by the seed. pooling: None for the run's usual one.
        """
        key = (run, side, tuple(subset), pooling)
        if key not in self._features:
            rows = self.side(side).having(*subset)
            if self.reference.label:
                rows = self.side(side).labelled(self.reference.label, rows)
            if side == "train" and len(rows) > self.config.train_limit:
                rows = np.sort(np.random.default_rng(self.config.seed).choice(rows, self.config.train_limit, replace=False))
            samples = self.samples(side, rows)
            matrix = self.imputers[run].features(samples, subset, pooling) if samples else np.zeros((0, 1), np.float32)
            self._features[key] = rows, matrix
        return self._features[key]

    def targets(self, side: Side, indices: np.ndarray) -> np.ndarray:
        """The label of the samples at `indices`: classes as text, or numbers where it is one to regress on."""
        assert self.reference.label is not None
        if self.reference.regression:
            return np.array([sample.number(self.reference.label) for sample in self.samples(side, indices)])
        return self.side(side).labels(self.reference.label, indices).astype(str)


def make_row(
    run: str,
    trained: Trained | None,
    given: Sequence[str],
    target: str,
    seen: bool,
    metric: str,
    estimate: Estimate,
    at: float | None = None,
) -> Row:
    """One row of report.json; trained: None for a baseline. at: the place on the x-axis, where the metric is a curve."""
    method = {"method": trained.method, "seed": trained.seed} if trained else {"method": run, "seed": None}
    where = {"run": run, "given": list(given), "target": target, "seen": seen, "metric": metric}
    return {**method, **where, **asdict(estimate), **({} if at is None else {"at": at})}
