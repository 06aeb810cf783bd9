"""How well classes are predicted, each with a bootstrap interval."""

import numpy as np
from sklearn.metrics import f1_score, roc_auc_score

from mmtool.metrics.intervals import Estimate, bootstrap


def macro_f1(truth: np.ndarray, predicted: np.ndarray, seed: int) -> Estimate:
    """Mean over the classes of (n,) true ones of the harmonic mean of precision and recall."""

    def statistic(rows: np.ndarray) -> float:
        true, given = truth[rows], predicted[rows]
        return float(f1_score(true, given, labels=np.unique(true), average="macro", zero_division=0))

    return bootstrap(statistic, len(truth), seed)


def macro_f1_of_sets(truth: np.ndarray, predicted: np.ndarray, seed: int) -> Estimate:
    """The same of (n, K) booleans: which of K classes a sample is of, any number of them."""
    return bootstrap(lambda rows: float(f1_score(truth[rows], predicted[rows], average="macro", zero_division=0)), len(truth), seed)


def auroc(truth: np.ndarray, scores: np.ndarray, seed: int) -> Estimate:
    """Area under the ROC curve of (n,) scores for (n,) truth, which is 0 or 1; undefined where there is one class only."""

    def statistic(rows: np.ndarray) -> float:
        return float(roc_auc_score(truth[rows], scores[rows])) if len(np.unique(truth[rows])) == 2 else float("nan")

    return bootstrap(statistic, len(truth), seed)
