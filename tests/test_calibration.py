"""Imputed tables are means, their bounds hold the truth as often as they say, and files say the same."""

import numpy as np
import pytest

from mmtool.evaluation.uncertainty import uncertainty
from mmtool.imputation.tables import mean_rows, quantile_rows, table_layers
from mmtool.metrics.calibration import coverage, interval_shares
from mmtool.tokenizers.table import TableTokenizer
from mmtool.tokenizers.table_codec import TableCodecTokenizer

COUNT, DRAWS, FEATURES = 400, 40, 12


def names() -> list[str]:
    return [f"f{i}" for i in range(FEATURES)]


def drawn_rows(spread: float) -> tuple[np.ndarray, np.ndarray]:
    """True rows (N, F), normal around a known mean, and draws (N, D, F) around the same mean with `spread` times the deviation."""
    random = np.random.default_rng(0)
    mean = random.normal(size=(COUNT, FEATURES))
    true = mean + random.normal(size=mean.shape)
    return true.astype(np.float32), (mean[:, None] + spread * random.normal(size=(COUNT, DRAWS, FEATURES))).astype(np.float32)


def encoded(spread: float) -> tuple[TableTokenizer, np.ndarray, list[list[np.ndarray]]]:
    true, draws = drawn_rows(spread)
    tokenizer = TableTokenizer.fit(list(true), {"features": names(), "n_bins": 64}, 0)
    return tokenizer, true, [tokenizer.encode(list(own)) for own in draws]


def test_draws_from_the_truth_are_calibrated() -> None:
    tokenizer, true, draws = encoded(1.0)
    found = uncertainty(tokenizer, true, draws, seed=0)
    assert list(found) == ["coverage_50", "coverage_80", "coverage_95", "width_50", "width_80", "width_95", "crps"]
    for name, level in (("coverage_50", 0.5), ("coverage_80", 0.8), ("coverage_95", 0.95)):
        assert found[name].value == pytest.approx(level, abs=0.05)
        assert found[name].low < found[name].value < found[name].high


def test_draws_too_narrow_and_too_wide_are_reported() -> None:
    assert uncertainty(*encoded(0.3), seed=0)["coverage_80"].value < 0.5
    assert uncertainty(*encoded(3.0), seed=0)["coverage_50"].value > 0.75


def test_few_draws_say_nothing() -> None:
    tokenizer, true, draws = encoded(1.0)
    assert uncertainty(tokenizer, true, [own[:5] for own in draws], seed=0) == {}


def test_missing_truth_does_not_count() -> None:
    true = np.full((10, 2), np.nan)
    bounds = np.array([np.full((10, 2), value) for value in (-1.0, 1.0) * 3])
    assert coverage(true, bounds, seed=0) == {}
    true[:, 0] = 0
    assert coverage(true, bounds, seed=0)["coverage_95"].value == 1
    assert interval_shares() == pytest.approx([0.25, 0.75, 0.1, 0.9, 0.025, 0.975])


def test_what_codes_do_not_hold_widens_the_bounds() -> None:
    """A codec with one component loses much of independent features: its residual keeps the intervals honest."""
    true, _ = drawn_rows(1.0)
    tokenizer = TableCodecTokenizer.fit(list(true), {"features": names(), "components": 1}, 0)
    draws = [[codes] * 20 for codes in tokenizer.encode(list(true))]
    assert uncertainty(tokenizer, true, draws, seed=0)["coverage_80"].value == pytest.approx(0.8, abs=0.06)


def test_means_are_expected_values_where_known_and_of_draws_otherwise() -> None:
    tokenizer, _, draws = encoded(1.0)
    rows = mean_rows(tokenizer, draws, [None] * COUNT)
    np.testing.assert_allclose(rows[0], np.mean(tokenizer.decode(draws[0]), 0), rtol=1e-4)
    np.testing.assert_allclose(mean_rows(tokenizer, draws[:1], [np.full(FEATURES, 7.0)]), 7)


def test_a_draw_that_says_missing_is_left_out_of_means_and_bounds() -> None:
    tokenizer, _, draws = encoded(1.0)
    draws[0][0] = np.full(FEATURES, 64, np.uint16)
    np.testing.assert_allclose(mean_rows(tokenizer, draws[:1], [None])[0], np.mean(tokenizer.decode(draws[0][1:]), 0), rtol=1e-4)
    assert np.isfinite(quantile_rows(tokenizer, draws[:1])).all()


def test_layers_are_means_and_bounds() -> None:
    tokenizer, _, draws = encoded(1.0)
    layers = table_layers(tokenizer, draws[:2], [None, None])
    assert list(layers) == ["", *(f"q{share}" for share in ("05", "25", "50", "75", "95"))]
    bounds = np.stack([layers[name] for name in layers if name])
    assert bounds.shape == (5, *layers[""].shape) and (np.diff(bounds, axis=0) >= 0).all()
    assert list(table_layers(tokenizer, [draws[0][:1]], [None])) == [""]
