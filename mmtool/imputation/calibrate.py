"""Calibration in Python, by samples that are not those of the training: bounds of data frames, and the probability that draws are right."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.data.sample import Sample
from mmtool.imputation.calibration import Calibration, Key, key_of
from mmtool.imputation.config import ImputeOptions
from mmtool.imputation.conformal import Correction, samples_needed
from mmtool.imputation.imputer import Imputer
from mmtool.imputation.jobs import run_job
from mmtool.imputation.probability import MIN_SAMPLES, curves_of
from mmtool.preprocessing.frames import Frames, encode_frames, keys_by_frame, table_rows
from mmtool.tokenizers.base import ValueCodes

Right = Callable[[Sample, Any], bool]  # whether a draw, decoded, is right for a sample


def calibrate(
    imputer: Imputer, frames: Frames, directions: Collection[Key], options: ImputeOptions, shares: Sequence[float]
) -> Calibration:
    """The corrections of bounds for these shares, in each direction (given modalities, imputed table) of which some samples hold all, drawn
    as `options` say.

    Samples that the run was trained on are left out, which is said: its errors on them are smaller than on others. Bounds that too few are
    left for stay as drawn, which is warned of. Raises UsageError where none are left, and where no bound is corrected.
    """
    keys = keys_by_frame(frames)
    samples = _not_trained_on(imputer, encode_frames(frames, imputer.tokenizers, keys), "bounds are corrected")
    wanted = {want for _, want in directions if want in frames}
    rows = {want: table_rows(frames[want], keys[want], imputer.tokenizers[want], want) for want in wanted}
    corrections = {}
    for given, want in sorted(directions):
        holding = [sample for sample in samples if {*given, want} <= set(sample.tokens)]
        if holding:
            drawn = run_job(imputer, holding, given, want, options)
            true = np.stack([rows[want][sample.key] for sample in holding])
            correction = Correction.fit(imputer.tokenizers[want], true, [answer.tokens for answer in drawn], shares)
            corrections[key_of(given, want)] = correction
    _tell_of_few(imputer, corrections, sorted(directions), shares)
    return Calibration(imputer.weights, options.draws, options.params, corrections)


def _tell_of_few(imputer: Imputer, corrections: Mapping[Key, Correction], directions: Sequence[Key], shares: Sequence[float]) -> None:
    """Warn of bounds that too few samples are left to correct. Raises UsageError where these are all that there are."""
    few = []
    for given, want in directions:
        numbers, correction = ~imputer.tokenizers[want].one_hot.categorical, corrections.get((given, want))  # type: ignore[attr-defined]
        short = [share for row, share in enumerate(shares) if correction is None or np.isnan(correction.offsets[row, numbers]).any()]
        if short and numbers.any():
            bounds = f"{want} from {' and '.join(given)} ({', '.join(f'{share:g}' for share in short)})"
            held = f"{correction.samples if correction else 0:,} samples that the run was not trained on hold all of them"
            few.append(f"bounds of {bounds}: {held}, and it takes {max(map(samples_needed, short)):,} with a value in each column")
    if few and not any((~np.isnan(correction.offsets)).any() for correction in corrections.values()):
        fix = "Give more samples that were held out, hold out more of them in the training, or ask for bounds nearer to the middle."
        raise UsageError(f"too few samples for the {few[0]}.", where="calibration", fix=fix)
    for words in few:
        log(f"warning: some stay as drawn, as there are too few samples for the {words}")


def calibrate_draws(
    imputer: Imputer,
    samples: Sequence[Sample],
    given: Sequence[str],
    want: str,
    options: ImputeOptions,
    right: Callable[[Sample, Any], bool],
) -> Calibration:
    """The curves of one direction that tell how probable a draw is right, drawn as `options` say.

    Samples that the run was trained on are left out, which is said. Raises UsageError for tables, where no others are left, and where
    these tell nothing.
    """
    tokenizer = imputer.tokenizers[want]
    if isinstance(tokenizer, ValueCodes):
        raise UsageError(f"{want} is a table, whose draws are averaged.", where="right", fix="Give data frames: its bounds are corrected.")
    held_out = _not_trained_on(imputer, samples, "the probability of being right is fitted")
    answers = run_job(imputer, held_out, given, want, options)
    drawn = [tokenizer.decode(answer.tokens) for answer in answers]
    judged = [[bool(right(sample, value)) for value in values] for sample, values in zip(held_out, drawn, strict=True)]
    curves = curves_of(answers, np.array(judged))
    if not curves:
        what = f"{len(held_out):,} samples tell no probability, of whose draws {np.mean(judged):.0%} are right."
        raise UsageError(
            what, where="calibration", fix=f"Give {MIN_SAMPLES} samples or more, of which some draws are right and some wrong."
        )
    return Calibration(imputer.weights, options.draws, options.params, curves={key_of(given, want): curves})


def directions_to(imputer: Imputer, names: Sequence[str], want: str) -> list[Key]:
    """Every subset of the other modalities that is linked with the imputed one."""
    others = [name for name in names if name != want]
    subsets = [given for size in range(1, len(others) + 1) for given in combinations(others, size)]
    return [key_of(given, want) for given in subsets if imputer.graph.path(set(given), want) is not None]


def _not_trained_on(imputer: Imputer, samples: Sequence[Sample], what: str) -> list[Sample]:
    known = imputer.training_items
    kept = [sample for sample in samples if not known.holds(sample)]
    if not kept:
        fix = "Give samples that were held out from it."
        raise UsageError(f"all of the {len(samples):,} samples are those of the training.", where="calibration", fix=fix)
    if len(kept) < len(samples):
        log(f"{what} by {len(kept):,} of {len(samples):,} samples: the others are those of the training")
    return kept
