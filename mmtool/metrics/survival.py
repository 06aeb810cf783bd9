"""Survival: how well a Cox model, fitted on real data of one modality, orders held-out samples by their risk.

The concordance index is the share of comparable pairs whose order of events is that of their risks; 0.5 is chance. A model fitted on
the real modality predicts the risk of real held-out values (the upper bound) and of imputed ones. Where risk is mostly a matter of
strata, such as the type of cancer, the stratified index compares samples of the same stratum alone, as `concordance` of R's package
survival does with `strata()`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mmtool.common.errors import UsageError
from mmtool.metrics.intervals import Estimate, bootstrap_counts

FOLDS = 5
LASSO_SHARE = 0.05  # of an elastic net that is nearly a ridge
NUM_PENALTIES = 25
TIME, EVENT = 0, 1
TIED = 1e-8  # difference of risks that is none
PAIRS_AT_ONCE = 1 << 20


class CoxModel:
    """A penalised Cox model; the penalty is chosen by cross-validation."""

    def __init__(self, features: np.ndarray, outcomes: np.ndarray, seed: int) -> None:
        """features (N, D) of training samples; outcomes (N, 2): time, and whether the event was observed (1) or not yet (0)."""
        self._mean, self._scale = features.mean(0), np.maximum(features.std(0), 1e-9)
        standard = self._standard(features)
        self._model = _fit(standard, outcomes)
        self.penalty = _choose_penalty(standard, outcomes, self._model.alphas_, seed)

    def risk(self, features: np.ndarray) -> np.ndarray:
        """(N,) log hazards of (N, D) features relative to the training mean: the higher, the earlier."""
        return np.asarray(self._model.predict(self._standard(features), alpha=self.penalty))

    def _standard(self, features: np.ndarray) -> np.ndarray:
        return (features - self._mean) / self._scale


def concordance(risk: np.ndarray, outcomes: np.ndarray, seed: int, strata: np.ndarray | None = None) -> Estimate | None:
    """Harrell's c-index of (N,) risks with a bootstrap interval; None where too few pairs can be compared.

    strata: (N,) numbers; samples of different ones are not compared, and count only where another is of theirs. Resamples weigh pairs by
    how often their samples occur, all resamples at once.
    """
    strata = np.zeros(len(risk), int) if strata is None else strata
    blocks = np.array_split(np.arange(len(risk)), max(1, len(risk) ** 2 // PAIRS_AT_ONCE))

    def statistic(counts: np.ndarray) -> np.ndarray:
        comparable, agreeing = np.zeros(len(counts)), np.zeros(len(counts))
        for rows in blocks:
            for total, pairs in zip((comparable, agreeing), _pairs(risk, outcomes, strata, rows), strict=True):
                total += ((counts @ pairs.T) * counts[:, rows]).sum(1)
        return np.divide(agreeing, comparable, out=np.full(len(counts), np.nan), where=comparable > 0)

    estimate = bootstrap_counts(statistic, len(risk), seed)
    _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
    return replace(estimate, n=int((sizes[stratum] > 1).sum())) if estimate.defined else None


def outcomes_of(labels: Sequence[Mapping[str, Any]], time: str, event: str) -> np.ndarray:
    """(N, 2) time and event of samples from their labels, NaN where one is missing or a time is not above 0.

    Raises UsageError where a label is not a number, or an event not 0 or 1.
    """
    outcomes = np.full((len(labels), 2), np.nan)
    for row, of_sample in enumerate(labels):
        if of_sample.get(time) is None or of_sample.get(event) is None:
            continue
        try:
            outcomes[row] = float(of_sample[time]), float(of_sample[event])
        except (TypeError, ValueError) as error:
            what = f"{time}={of_sample[time]!r}, {event}={of_sample[event]!r} is no time and event."
            raise UsageError(what, where="--survival", fix="Name a label with a time and one with 0 or 1.") from error
        if outcomes[row, EVENT] not in (0, 1):
            raise UsageError(f"{event} is {of_sample[event]!r}.", where="--survival", fix="An event is 1 (observed) or 0 (censored).")
    outcomes[~(outcomes[:, TIME] > 0)] = np.nan
    return outcomes


def _choose_penalty(features: np.ndarray, outcomes: np.ndarray, penalties: np.ndarray, seed: int) -> float:
    """The penalty whose models order left-out folds best."""
    fold = np.random.default_rng(seed).permutation(len(features)) % FOLDS
    scores = np.zeros((FOLDS, len(penalties)))
    for k in range(FOLDS):
        held = fold == k
        model = _fit(features[~held], outcomes[~held], penalties)
        scores[k] = [_c_index(model.predict(features[held], alpha=penalty), outcomes[held]) for penalty in penalties]
    return float(penalties[int(np.argmax(np.nan_to_num(np.nanmean(scores, axis=0))))])


def _fit(features: np.ndarray, outcomes: np.ndarray, penalties: np.ndarray | None = None) -> Any:
    """Models of a whole path of penalties, strongest first."""
    path = {"alphas": penalties} if penalties is not None else {"n_alphas": NUM_PENALTIES, "alpha_min_ratio": 0.003}
    model = _library("linear_model").CoxnetSurvivalAnalysis(l1_ratio=LASSO_SHARE, **path)
    return model.fit(features, _structured(outcomes))


def _pairs(risk: np.ndarray, outcomes: np.ndarray, strata: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(comparable (n, N), agreeing (n, N)) of pairs of one stratum whose first sample, one of the rows, is known to have had its event
    before the second one; equal risks agree by half."""
    times, events = outcomes[:, TIME], outcomes[:, EVENT] > 0
    later = (times > times[rows, None]) | ((times == times[rows, None]) & ~events)
    comparable = (later & events[rows, None] & (strata == strata[rows, None])).astype(np.float32)
    lead = risk[rows, None] - risk
    agreeing = np.where(np.abs(lead) <= TIED, np.float32(0.5), (lead > 0).astype(np.float32)) * comparable
    return comparable, agreeing


def _c_index(risk: np.ndarray, outcomes: np.ndarray) -> float:
    events = outcomes[:, EVENT].astype(bool)
    if not events.any() or not (outcomes[events, TIME].min() < outcomes[:, TIME].max()):
        return float("nan")
    return float(_library("metrics").concordance_index_censored(events, outcomes[:, TIME], risk)[0])


def _structured(outcomes: np.ndarray) -> np.ndarray:
    return _library("util").Surv.from_arrays(outcomes[:, EVENT].astype(bool), outcomes[:, TIME])


def check_installed() -> None:
    """Raise UsageError where scikit-survival is not installed."""
    _library("util")


def _library(module: str) -> Any:
    """A module of scikit-survival, imported when first needed. Raises UsageError where it is not installed."""
    from importlib import import_module

    try:
        return import_module(f"sksurv.{module}")
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[survival]'`."
        raise UsageError("survival analysis needs scikit-survival.", where="--survival", fix=fix) from error
