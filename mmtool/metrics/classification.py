"""How well classes are predicted."""

import numpy as np
from sklearn.metrics import f1_score

from mmtool.metrics.intervals import Estimate, bootstrap


def macro_f1(truth: np.ndarray, predicted: np.ndarray, seed: int) -> Estimate:
    """Mean over the classes of (n,) true ones of the harmonic mean of precision and recall, with a bootstrap interval."""

    def statistic(rows: np.ndarray) -> float:
        true, given = truth[rows], predicted[rows]
        return float(f1_score(true, given, labels=np.unique(true), average="macro", zero_division=0))

    return bootstrap(statistic, len(truth), seed)
