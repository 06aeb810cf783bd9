"""Corrections of bounds from data frames of samples that are not those of the training."""

from collections.abc import Collection, Sequence
from itertools import combinations

import numpy as np

from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.data.sample import Sample
from mmtool.imputation.calibration import Calibration, Key, key_of
from mmtool.imputation.config import ImputeOptions
from mmtool.imputation.conformal import Correction
from mmtool.imputation.imputer import Imputer
from mmtool.imputation.jobs import run_job
from mmtool.preprocessing.frames import Frames, encode_frames, table_rows


def calibrate(
    imputer: Imputer, frames: Frames, directions: Collection[Key], options: ImputeOptions, shares: Sequence[float]
) -> Calibration:
    """The corrections of bounds for these shares, in each direction (given modalities, imputed table) of which some samples hold all, drawn
    as `options` say.

    Samples that the run was trained on are left out, which is said: its errors on them are smaller than on others. Raises UsageError where
    no others are left.
    """
    samples = _not_trained_on(imputer, encode_frames(frames, imputer.tokenizers))
    rows = {want: table_rows(frames[want], imputer.tokenizers[want], want) for _, want in directions if want in frames}
    corrections = {}
    for given, want in sorted(directions):
        holding = [sample for sample in samples if {*given, want} <= set(sample.tokens)]
        if holding:
            drawn = run_job(imputer, holding, given, want, options)
            true = np.stack([rows[want][sample.key] for sample in holding])
            correction = Correction.fit(imputer.tokenizers[want], true, [answer.tokens for answer in drawn], shares)
            corrections[key_of(given, want)] = correction
    return Calibration(imputer.weights, options.draws, options.params, corrections)


def directions_to(imputer: Imputer, names: Sequence[str], want: str) -> list[Key]:
    """Every subset of the other modalities that is linked with the imputed one."""
    others = [name for name in names if name != want]
    subsets = [given for size in range(1, len(others) + 1) for given in combinations(others, size)]
    return [key_of(given, want) for given in subsets if imputer.graph.path(set(given), want) is not None]


def _not_trained_on(imputer: Imputer, samples: Sequence[Sample]) -> list[Sample]:
    known = imputer.training_items
    kept = [sample for sample in samples if not known.holds(sample)]
    if not kept:
        fix = "Give samples that were held out from it."
        raise UsageError(f"all of the {len(samples):,} samples are those of the training.", where="calibration", fix=fix)
    if len(kept) < len(samples):
        log(f"bounds are corrected by {len(kept):,} of {len(samples):,} samples: the others are those of the training")
    return kept
