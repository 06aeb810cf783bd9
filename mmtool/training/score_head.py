"""How well a finetuned head predicts the labels of samples.

prediction accuracy    share of samples whose class is predicted right (Wilson's interval)
prediction macro f1    mean over classes of the harmonic mean of precision and recall (bootstrap)
prediction r2          explained share of the variance of a number (bootstrap)
"""

from collections.abc import Sequence

import numpy as np

from mmtool.data.sample import Sample
from mmtool.metrics.classification import macro_f1
from mmtool.metrics.intervals import Estimate, r_squared, share
from mmtool.training.target import Target

ACCURACY, MACRO_F1, R2 = "prediction accuracy", "prediction macro f1", "prediction r2"


def score_head(target: Target, outputs: np.ndarray, samples: Sequence[Sample], seed: int) -> dict[str, Estimate]:
    """Metrics of (N, O) outputs of a head on labelled samples."""
    predicted = target.decode(outputs)
    if target.is_number:
        return {R2: r_squared(np.array([sample.number(target.label) for sample in samples]), predicted, seed)}
    truth = np.array([str(sample.labels[target.label]) for sample in samples])
    return {ACCURACY: share(predicted == truth), MACRO_F1: macro_f1(truth, predicted, seed)}
