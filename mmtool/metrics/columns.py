"""How close imputed tables with columns of several types come to the true ones."""

import numpy as np

from mmtool.metrics.intervals import Estimate, bootstrap_counts
from mmtool.metrics.regression import compare_tables


def compare_columns(categorical: np.ndarray, true: np.ndarray, imputed: np.ndarray, seed: int) -> dict[str, Estimate]:
    """(N, F) true values (NaN where missing: left out) and imputed ones -> {"r2", "spearman"} of quantities and {"category_accuracy"} of
    the columns that are `categorical` (F,); each is a mean over columns, and none where no column has it."""
    estimates = {} if categorical.all() else compare_tables(true[:, ~categorical], imputed[:, ~categorical], seed)
    known = ~np.isnan(true[:, categorical])
    if not known.any():
        return estimates
    right = known & (true[:, categorical] == imputed[:, categorical])

    def accuracy(counts: np.ndarray) -> np.ndarray:
        """(R, N) how often each sample occurs in each resample -> (R,) accuracies."""
        total = counts @ known
        return np.where(total > 0, (counts @ right) / np.maximum(total, 1), 0).sum(1) / np.maximum((total > 0).sum(1), 1)

    return estimates | {"category_accuracy": bootstrap_counts(accuracy, len(true), seed)}
