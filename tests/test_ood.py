"""Out-of-distribution detection: samples of every kind are detected, and chance is chance."""

import json
from pathlib import Path

import numpy as np
import pytest
from test_training import CLASSES, TOKENIZER, modality, sample
from toy_study import found, toy_study

from mmtool.common.errors import UsageError
from mmtool.data.shards import write_split
from mmtool.evaluation.tasks import ood


def test_auroc_is_the_chance_that_a_out_of_distribution_sample_scores_higher() -> None:
    scores, positive = np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, False, True, True])
    assert ood.auroc(scores, positive) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert ood.auroc(scores, ~positive) == pytest.approx(1 - ood.auroc(scores, positive))
    assert np.isnan(ood.auroc(scores, np.zeros(4, bool)))


def test_distances_are_to_the_nearest_class_and_know_its_shape() -> None:
    random = np.random.default_rng(0)
    classes = np.repeat(["a", "b"], 300)
    points = random.normal(0, [0.1, 3.0], (600, 2)) + np.where(classes == "a", 0, 10)[:, None]
    near, along, across = ood.distances(points, classes, np.array([[10.0, 10.0], [0.0, 5.0], [1.0, 0.0]]))
    assert near < 0.1 and along < across, "five units where it is wide are less than one where it is narrow"
    again = ood.distances(points * [7, 0.1], classes, np.array([[10.0, 10.0], [0.0, 5.0], [1.0, 0.0]]) * [7, 0.1])
    assert again == pytest.approx([near, along, across], rel=1e-6)


@pytest.mark.thorough
def test_each_class_is_left_out_in_turn() -> None:
    rows = list(ood.measure(toy_study()))
    assert {"".join(row["given"]) for row in rows if row["run"] == "codes"} == {"a", "b", "c", "ab", "bc", "ac", "abc"}
    mean = found(rows, run="codes", given="a", metric="ood auroc")
    single = [found(rows, run="codes", given="a", metric=f"ood auroc of {name}")["value"] for name in range(CLASSES)]
    assert mean["value"] == pytest.approx(np.mean(single)) and mean["value"] > 0.95 and mean["low"] <= mean["value"] <= mean["high"]
    assert found(rows, run="raw values", given="a", metric="ood auroc")["value"] > 0.9
    assert found(rows, run="codes", given="ac", metric="ood auroc")["seen"] is False


def test_named_classes_are_left_out_of_the_fit() -> None:
    study = toy_study()
    ood_samples = ood.read_ood("class=1,2", study.reference, None)
    assert ood_samples.classes == ("1", "2")
    for wrong in ("class=9", "class=", "class=0,1,2,3", "colour=1"):
        with pytest.raises(UsageError, match="names no out-of-distribution samples"):
            ood.read_ood(wrong, study.reference, None)


def test_noise_is_not_detected() -> None:
    random = np.random.default_rng(0)
    train, test = random.normal(size=(200, 8)), random.normal(size=(300, 8))
    points = ood.Points(train, random.integers(0, 3, 200).astype(str), test, random.integers(0, 3, 300).astype(str), test[:0])
    (_, estimate), *_ = ood.aurocs(points, ood.OutOfDistribution("x"), 0)
    assert estimate.low < 0.5 < estimate.high


def test_an_interval_over_classes_of_one_sample_is_not_a_point() -> None:
    random, classes = np.random.default_rng(0), np.arange(15).astype(str)
    centres = random.normal(size=(15, 3))
    train, test = (centres[rows] + random.normal(0, 0.5, (len(rows), 3)) for rows in (np.arange(150) % 15, np.arange(15)))
    (_, estimate), *_ = ood.aurocs(ood.Points(train, classes[np.arange(150) % 15], test, classes, test[:0]), ood.OutOfDistribution("x"), 0)
    assert estimate.low < estimate.value < estimate.high and estimate.high - estimate.low > 0.02


def test_the_command_line_takes_other_shards(mmtool, toy: Path, tmp_path: Path) -> None:
    ood_samples = []
    for i in range(40):
        each = sample(f"s-{i:02d}", 0, "abc", "test")
        each.tokens = {
            name: np.random.default_rng(i).integers(0, CLASSES, len(codes)).astype(codes.dtype) for name, codes in each.tokens.items()
        }
        ood_samples.append(each)
    (tmp_path / "noise/test").mkdir(parents=True)
    write_split(tmp_path / "noise/test", [modality(name) for name in "abc"], dict.fromkeys("abc", TOKENIZER), ood_samples, split="test")
    command = ["evaluate", toy / "commutative", toy / "shards", "--task", "ood", "--label", "class"]
    done = mmtool(*command, "--ood", tmp_path / "noise", "-o", tmp_path / "report")
    assert done.code == 0, done.err
    rows = json.loads((tmp_path / "report/report.json").read_text())["rows"]
    assert {row["target"] for row in rows} == {"noise"} and {row["n"] for row in rows} == {48 + 40}
    assert found(rows, run="raw values", given="ab", metric="ood auroc")["value"] > 0.7
    assert "Out of distribution: noise" in (tmp_path / "report/report.md").read_text()
    refused = mmtool(*command, "--ood", "class=7", "-o", tmp_path / "none")
    assert refused.code == 2 and "names no out-of-distribution samples" in refused.err
    missing = mmtool(*command, "--ood", tmp_path / "nothing", "-o", tmp_path / "none")
    assert missing.code == 1 and "nothing" in missing.err
