"""How far the bounds of imputed tables can be trusted, as drawn and corrected on validation samples, and how good draws are as a whole."""

from typing import Any

import numpy as np

from mmtool.common.log import log
from mmtool.evaluation.config import EvaluationConfig
from mmtool.evaluation.directions import Direction
from mmtool.evaluation.reference.data import Reference
from mmtool.imputation.chain import ChainedImputer
from mmtool.imputation.conformal import Correction
from mmtool.imputation.imputer import Imputer
from mmtool.imputation.tables import QUANTILES, Draws, predictive, quantile_rows
from mmtool.metrics.calibration import coverage, crps, interval_shares, mean_crps, widths
from mmtool.metrics.intervals import Estimate
from mmtool.tokenizers.base import ValueCodes

MIN_DRAWS = 10  # fewer say nothing of an interval
CORRECTED = "_corrected"  # ends the names of metrics of corrected bounds
LEVEL_SHARES = interval_shares()
SHARES = tuple(sorted({*QUANTILES, *LEVEL_SHARES}))  # of which bounds are corrected
AT_LEVELS = [SHARES.index(share) for share in LEVEL_SHARES]


def uncertainty(tokenizer: Any, true: np.ndarray, draws: Draws, seed: int, correction: Correction | None = None) -> dict[str, Estimate]:
    """Coverage and width of the intervals that these draws (per sample, the codes of each) give of (N, F) true values, those of the same
    intervals corrected, and the CRPS; categories are left out, and {} is given where draws are fewer than 10."""
    if len(draws) == 0 or len(draws[0]) < MIN_DRAWS:
        return {}
    true = np.where(tokenizer.one_hot.categorical, np.nan, true)
    bounds = quantile_rows(tokenizer, draws, SHARES)
    estimates = _of_intervals(true, bounds, seed)
    if correction is not None:
        corrected = _of_intervals(true, correction(tokenizer, bounds), seed)
        estimates |= {f"{metric}{CORRECTED}": estimate for metric, estimate in corrected.items()}
    return estimates | mean_crps(true, _crps(tokenizer, true, draws), seed)


def _of_intervals(true: np.ndarray, bounds: np.ndarray, seed: int) -> dict[str, Estimate]:
    return coverage(true, bounds[AT_LEVELS], seed) | widths(true, bounds[AT_LEVELS], seed)


def _crps(tokenizer: Any, true: np.ndarray, draws: Draws) -> np.ndarray:
    """(N, F) scores."""
    parts, start = [], 0
    for values in predictive(tokenizer, draws):
        parts.append(crps(true[start : start + len(values)], values))
        start += len(values)
    return np.concatenate(parts)


def correcting_samples(reference: Reference, direction: Direction, config: EvaluationConfig) -> np.ndarray:
    """Indices of the validation samples by which bounds of a direction are corrected; where there are none, why is said.

    They hold all that is given, and the target really. What they hold of it has to be known as it is: of a tokenizer whose codes do
    not hold everything that takes the raw table.
    """
    name = direction.target
    tokenizer, none = reference.tokenizers[name], np.zeros(0, np.int64)
    if reference.validation is None or not isinstance(tokenizer, ValueCodes) or config.draws < MIN_DRAWS:
        return none
    if name not in reference.raw and tokenizer.residual().any():
        log(f"bounds of {direction} stay as drawn: values are known as codes of {name} decode, without what these lack (--raw {name}=FILE)")
        return none
    indices = reference.validation.having(*direction.given, name)
    if not len(indices):
        log(f"bounds of {direction} stay as drawn: no validation sample holds all of these, to correct them by")
    return indices


def correction_of(
    imputer: Imputer | ChainedImputer, reference: Reference, direction: Direction, indices: np.ndarray, config: EvaluationConfig
) -> Correction | None:
    """Of the bounds that a run gives, by the validation samples at `indices`; None where there are none."""
    if not len(indices):
        return None
    assert reference.validation is not None
    samples = [reference.validation.samples[i] for i in indices]
    drawn = imputer.impute(samples, direction.given, direction.target, seed=config.seed, params=config.params, draws=config.draws)
    true = reference.table(reference.validation, direction.target, indices)
    return Correction.fit(reference.tokenizers[direction.target], true, [answer.tokens for answer in drawn], SHARES)
