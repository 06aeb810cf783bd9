"""Probes read the label from every subset of modalities, and say how they were trained where a subset was never seen."""

import math

import numpy as np
import pytest
from test_training import sample
from toy_study import CodesAsFeatures, found, toy_study

from mmtool.common.errors import DataError
from mmtool.evaluation.evaluate import _defined
from mmtool.evaluation.tasks import probe as probes
from mmtool.metrics.intervals import crossed


def test_what_was_never_seen_is_trained_on_its_largest_parts() -> None:
    pairs = [frozenset("ab"), frozenset("bc")]
    assert probes.views(pairs, "ab") == [("a", "b")]
    assert probes.views(pairs, "ac") == [("a",), ("c",)]
    assert probes.views(pairs, "abc") == [("a", "b"), ("b", "c")]
    assert probes.views([frozenset("ab")], "c") == []


@pytest.mark.thorough
def test_every_subset_is_probed_and_marked() -> None:
    rows = [row for row in probes.measure(toy_study()) if row["metric"] == "probe accuracy"]
    assert [("".join(row["given"]), row["seen"]) for row in rows if row["run"] == "codes"] == [
        ("a", True), ("b", True), ("c", True), ("ab", True), ("ac", False), ("bc", True), ("abc", False),
    ]  # fmt: skip
    assert all(row["value"] > 0.9 and row["target"] == "class" and row["n"] == 60 for row in rows if row["run"] == "codes")
    assert found(rows, run="most frequent class", given="ac")["value"] == 0.25


def test_few_shots_take_k_of_every_class() -> None:
    classes = np.array(["x"] * 6 + ["y"] * 30)
    features = np.where(classes == "x", -1.0, 1.0)[:, None] + np.random.default_rng(0).normal(0, 0.1, (36, 1))
    found_shots = dict(probes.few_shots(features, classes, features, classes, seed=0))
    assert list(found_shots) == [1, 5], "10 of the rarer class do not exist"
    assert found_shots[5].shape == (10, 36) and found_shots[5].mean() == 1


def test_numbers_are_regressed_on() -> None:
    def numbered(each, split):
        amount = float(each.tokens["b"][3]) + 0.25
        return sample(each.key, each.labels["class"], each.present, split), amount

    study = toy_study()
    sides = {"train": study.reference.train.samples, "test": study.reference.test.samples}
    for split, samples in sides.items():
        for each in samples:
            each.labels["amount"] = numbered(each, split)[1]
    again = toy_study(label="amount", train=sides["train"], test=sides["test"])
    rows = list(probes.measure(again))
    assert {row["metric"] for row in rows} == {"probe r2"}
    assert found(rows, given="b")["value"] > 0.9
    assert found(rows, given="a")["value"] < 0.3


def test_numbers_that_do_not_vary_have_no_r2_and_a_text_among_them_is_named() -> None:
    study = toy_study()
    sides = {"train": study.reference.train.samples, "test": study.reference.test.samples}
    for samples in sides.values():
        for place, each in enumerate(samples):
            each.labels["amount"] = 0.5 + (place if samples is sides["train"] else 0)
    rows = list(probes.measure(toy_study(label="amount", train=sides["train"], test=sides["test"])))
    assert rows and all(math.isnan(row["value"]) and math.isnan(row["low"]) for row in rows)
    assert list(_defined([*rows, {**rows[0], "value": 0.5}])) == [{**rows[0], "value": 0.5}]
    sides["train"][3].labels["amount"] = "unknown"
    with pytest.raises(DataError, match=f"{sides['train'][3].key}.*amount is 'unknown'"):
        list(probes.measure(toy_study(label="amount", train=sides["train"], test=sides["test"])))


def test_intervals_of_few_shots_cover_both_draws_and_samples() -> None:
    draws_differ = np.repeat([[0.0], [1.0]] * 5, 50, axis=1)
    assert crossed(draws_differ, 0).high - crossed(draws_differ, 0).low > 0.3
    assert crossed(np.ones((4, 9)), 0).low == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.thorough
def test_every_pooling_is_probed_and_the_usual_one_has_the_plain_name(tmp_path) -> None:
    class TwoPoolings(CodesAsFeatures):
        poolings = ("cls", "mean")

        def features(self, samples, have, pooling=None):
            made = super().features(samples, have)
            return np.zeros_like(made) if pooling == "cls" else made

    rows = list(probes.measure(toy_study(imputer=TwoPoolings)))
    assert found(rows, run="codes", given="a", metric="probe accuracy")["value"] < 0.5
    assert found(rows, run="codes", given="a", metric="probe accuracy (mean pooling)")["value"] > 0.9
    assert found(rows, run="codes", given="ab", metric="probe accuracy (mean pooling), 5 shots")["at"] == 5
    meta = {"label": "class", "runs": [{"name": "codes"}], "classes": list("0123"), "baselines": []}
    text = "\n".join(probes.section(tmp_path, rows, meta))
    assert "subset (mean pooling)" in text and (tmp_path / "few_shots.png").exists()
