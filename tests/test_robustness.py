"""Robustness curves: modalities vanish reproducibly, and the areas are what MultiBench means by them."""

import numpy as np
import pytest
from toy_study import found, toy_study

from mmtool.evaluation.tasks import robustness


def test_what_is_missing_depends_on_seed_rate_and_key_alone() -> None:
    study, again = toy_study(), toy_study(combinations=("bc", "ab"))
    kept = {rate: [robustness.remaining(study, i, rate) for i in range(60)] for rate in robustness.RATES}
    assert kept[0.5] == [robustness.remaining(again, i, 0.5) for i in range(60)]
    assert all(names == ("a", "b", "c") for names in kept[0.0])
    assert np.mean([len(names) for names in kept[0.9]]) == pytest.approx(0.3, abs=0.2)
    assert all(set(more) <= set(less) for more, less in zip(kept[0.6], kept[0.3], strict=True))


def test_areas() -> None:
    flat, falling = np.ones((10, 4)), np.repeat(np.linspace(0.9, 0, 10)[:, None], 4, axis=1)
    assert robustness.areas(flat, None, 0)["relative robustness"].value == 1
    measured = robustness.areas(flat, falling, 0)
    assert measured["relative robustness"].value == 1
    assert measured["effective robustness"].value == pytest.approx(0.45), "both start at the same accuracy after the shift"
    assert robustness.areas(falling, falling, 0)["effective robustness"].value == 0


def test_curves_fall_to_the_most_frequent_class() -> None:
    rows = list(robustness.measure(toy_study()))
    for run in ("codes", "late fusion"):
        curve = [found(rows, run=run, metric=robustness.CURVE, at=rate)["value"] for rate in robustness.RATES]
        assert curve[0] > 0.9 and curve[0] >= curve[-1] and curve[-1] < 0.7
    assert not found(rows, run="codes", metric="effective robustness")["seen"]
    assert not [row for row in rows if row["run"] == "late fusion" and row["metric"] == "effective robustness"]
