"""Corrected bounds hold the truth as often as they say, column by column and side by side, whatever the draws were worth."""

import numpy as np
import pytest
from test_calibration import COUNT, encoded, names
from test_mixed_tables import FEATURES as MIXED
from test_mixed_tables import TYPES, rows

from mmtool.evaluation.uncertainty import SHARES, uncertainty
from mmtool.imputation.conformal import Correction, offsets, shifted
from mmtool.imputation.tables import quantile_rows
from mmtool.metrics.calibration import crps, mean_crps, widths
from mmtool.tokenizers.table import TableTokenizer

HALF = COUNT // 2


def offset(errors: list[float], share: float) -> float:
    """Of one column, whose bound is 0."""
    true = np.array(errors)[:, None]
    return float(offsets(true, np.zeros((1, *true.shape)), [share])[0, 0])


@pytest.mark.parametrize(
    ("count", "share", "rank"),
    [(9, 0.9, 9), (19, 0.95, 19), (20, 0.95, 20), (39, 0.95, 38), (100, 0.9, 91), (10, 0.5, 6), (99, 0.8, 80)],
)
def test_the_error_that_moves_a_bound_is_of_the_exact_rank(count: int, share: float, rank: int) -> None:
    """ceil((n + 1) share) of n, from below for upper bounds and from above for lower ones."""
    errors = np.random.default_rng(0).permutation(np.arange(1, count + 1)).astype(float)
    assert offset(errors.tolist(), share) == rank
    if share != 0.5:
        assert offset(errors.tolist(), round(1 - share, 9)) == count + 1 - rank


@pytest.mark.parametrize(("enough", "share"), [(9, 0.9), (9, 0.1), (19, 0.05), (39, 0.975), (39, 0.025), (1, 0.5)])
def test_one_value_fewer_is_too_few(enough: int, share: float) -> None:
    errors = list(np.linspace(-1, 1, enough))
    assert np.isfinite(offset(errors, share)) and np.isnan(offset(errors[1:], share))
    assert np.isnan(offset([*errors[1:], np.nan], share))  # a missing truth does not count


@pytest.mark.parametrize("share", [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])
def test_the_next_value_lies_below_as_often_as_the_share_says(share: float) -> None:
    """With 19 values, of thousands of columns: one rank more or less would be 5 % off."""
    random = np.random.default_rng(1)
    errors = random.gamma(1, size=(20, 20_000)) - 7  # biased, skewed
    moves = offsets(errors[:19], np.zeros((1, *errors[:19].shape)), [share])
    assert (errors[19] <= moves[0]).mean() == pytest.approx(share, abs=0.01)


def test_every_bound_of_every_column_is_corrected_by_itself() -> None:
    """Skewed errors, of another size and bias in each column: one margin for both sides, or for all columns, would not hold in each."""
    random = np.random.default_rng(2)
    scale, bias = np.array([0.1, 1, 30]), np.array([0, -2, 5])
    errors = random.gamma(1, size=(12_000, 3)) * scale + bias
    shares = [0.1, 0.9]
    moves = offsets(errors[:4000], np.zeros((2, 4000, 3)), shares)
    below = (errors[4000:] <= shifted(np.zeros((2, 8000, 3)), moves, shares)).mean(1)
    np.testing.assert_allclose(below, [[0.1] * 3, [0.9] * 3], atol=0.02)


def test_bounds_that_cross_are_moved_outwards() -> None:
    shares = [0.5, 0.05, 0.95, 0.25, 0.75]
    bounds = np.array([0, -2, 2, -1, 1.0])[:, None, None]
    moves = np.array([0, 1.5, -1.5, 1.2, np.nan])[:, None]
    moved = shifted(bounds, moves, shares)[:, 0, 0]
    assert moved.tolist() == [0, -0.5, 1, 0, 1]  # q25 would lie above the median, q95 below q75
    assert bounds[:, 0, 0].tolist() == [0, -2, 2, -1, 1]


@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_draws_too_narrow_and_too_wide_are_corrected(spread: float) -> None:
    tokenizer, true, draws = encoded(spread)
    correction = Correction.fit(tokenizer, true[:HALF], draws[:HALF], SHARES)
    assert correction.samples == HALF and correction.columns == true.shape[1]
    found = uncertainty(tokenizer, true[HALF:], draws[HALF:], 0, correction)
    for level in (50, 80, 95):
        drawn, corrected = found[f"coverage_{level}"].value, found[f"coverage_{level}_corrected"].value
        assert corrected == pytest.approx(level / 100, abs=0.04) and abs(drawn - level / 100) > 0.03
        wider = found[f"width_{level}_corrected"].value > found[f"width_{level}"].value
        assert wider is (spread < 1)


def test_few_validation_samples_leave_bounds_as_drawn() -> None:
    """Of eight, not even 0.1 and 0.9 can be told; what is told of quartiles moves no bound to infinity."""
    tokenizer, true, draws = encoded(0.3)
    outer = Correction.fit(tokenizer, true[:8], draws[:8], (0.05, 0.95))
    drawn = quantile_rows(tokenizer, draws[HALF:], (0.05, 0.95))
    np.testing.assert_allclose(outer.quantile_rows(tokenizer, draws[HALF:], (0.05, 0.95)), drawn, rtol=1e-5)
    assert outer.columns == 0
    bounds = Correction.fit(tokenizer, true[:8], draws[:8], SHARES).quantile_rows(tokenizer, draws[HALF:], SHARES)
    assert np.isfinite(bounds).all() and (np.diff(bounds, axis=0) >= 0).all()
    quartiles = bounds[[SHARES.index(0.25), SHARES.index(0.75)]]
    assert (quartiles[1] - quartiles[0]).mean() > 0.5


def test_a_column_without_values_stays_and_the_others_are_corrected() -> None:
    tokenizer, true, draws = encoded(0.3)
    known = true[:HALF].copy()
    known[5:, 3] = np.nan
    correction = Correction.fit(tokenizer, known, draws[:HALF], (0.1, 0.9))
    assert np.isnan(correction.offsets).tolist() == [[place == 3 for place in range(len(names()))]] * 2
    assert correction.columns == len(names()) - 1


def test_categories_stay_and_dates_are_corrected() -> None:
    table = rows(400)
    tokenizer = TableTokenizer.fit(list(table), {"features": MIXED, "types": TYPES, "n_bins": 64}, 0)
    middling = np.where(np.isnan(table), np.nan, np.array([60, 1, 1, 18000, 1], np.float32))
    draws = [[codes] * 10 for codes in tokenizer.encode(list(middling.astype(np.float32)))]
    correction = Correction.fit(tokenizer, table[:200], draws[:200], (0.1, 0.9))
    categorical = np.array([name in ("stage", "smoker") for name in MIXED])
    assert np.isnan(correction.offsets[:, categorical]).all() and np.isfinite(correction.offsets[:, ~categorical]).all()
    bounds = correction.quantile_rows(tokenizer, draws[200:], (0.1, 0.9))
    assert np.isnan(bounds[..., categorical]).all()
    visits, true = bounds[..., MIXED.index("visit")], table[200:, MIXED.index("visit")]
    held = (true >= visits[0]) & (true <= visits[1])
    assert held[~np.isnan(true)].mean() == pytest.approx(0.8, abs=0.06)


def test_counts_are_corrected_on_their_scale_and_never_negative() -> None:
    random = np.random.default_rng(3)
    rate = random.gamma(1, 20, size=(600, 6))
    table = random.poisson(rate).astype(np.float32)
    tokenizer = TableTokenizer.fit(list(table), {"features": [f"g{i}" for i in range(6)], "scale": "log1p", "n_bins": 128}, 0)
    draws = [tokenizer.encode([row] * 10) for row in np.floor(rate).astype(np.float32)]  # without the spread of counts
    correction = Correction.fit(tokenizer, table[:300], draws[:300], (0.1, 0.9))
    bounds = correction.quantile_rows(tokenizer, draws[300:], (0.1, 0.9))
    assert (bounds >= 0).all()
    assert ((table[300:] >= bounds[0]) & (table[300:] <= bounds[1])).mean() == pytest.approx(0.8, abs=0.06)


def test_crps_is_that_of_the_definition() -> None:
    random = np.random.default_rng(4)
    true, values = random.normal(size=(5, 3)), random.normal(size=(5, 7, 3))
    values[0, 2, 1] = np.nan
    for sample in range(5):
        for column in range(3):
            draws = values[sample, :, column]
            draws = draws[~np.isnan(draws)]
            expected = np.abs(draws - true[sample, column]).mean() - np.abs(draws[:, None] - draws).mean() / 2
            assert crps(true, values)[sample, column] == pytest.approx(expected)
    np.testing.assert_allclose(crps(true, values[:, :1] * 0 + 3), np.abs(3 - true))
    assert np.isnan(crps(true, np.full((5, 4, 3), np.nan))).all()


def test_crps_of_many_draws_is_that_of_their_distribution() -> None:
    """Of a standard normal forecast and the truth y it is y (2 Phi(y) - 1) + 2 phi(y) - 1 / sqrt(pi); 0.2337 at 0."""
    draws = np.random.default_rng(5).normal(size=(1, 40_000, 1))
    assert crps(np.zeros((1, 1)), draws)[0, 0] == pytest.approx(0.2337, abs=0.005)


def test_crps_is_best_of_draws_from_the_truth() -> None:
    scores = {spread: uncertainty(*encoded(spread), 0)["crps"].value for spread in (0.3, 1.0, 3.0)}
    assert scores[1.0] < scores[0.3] and scores[1.0] < scores[3.0]


def test_widths_and_scores_count_in_deviations_of_their_column() -> None:
    true = np.random.default_rng(6).normal(size=(50, 3)) * np.array([1, 1000, 0]) + 7  # the last one does not vary
    deviations = true.std(0)
    bounds = np.stack([side * np.where(deviations > 1e-9, deviations, 1e6) + 0 * true for side in (-1, 1)] * 3)
    assert {name: round(width.value, 9) for name, width in widths(true, bounds, 0).items()} == {"width_50": 2, "width_80": 2, "width_95": 2}
    assert mean_crps(true, np.abs(bounds[0]) / 4, 0)["crps"].value == pytest.approx(0.25)
    assert mean_crps(np.full((4, 2), np.nan), np.ones((4, 2)), 0) == {} == widths(np.ones((4, 2)), np.ones((6, 4, 2)), 0)
