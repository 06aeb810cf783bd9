"""Probabilities that draws are right: fitted by `evaluate` on validation samples, written by `impute`, and the same in Python."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Result
from PIL import Image

import mmtool as package
from mmtool.common.errors import DataError, UsageError
from mmtool.common.seal import sealed
from mmtool.imputation import calibration as module
from mmtool.imputation.calibration import FILE, Calibration, key_of, read_calibrations, write_calibrations
from mmtool.imputation.imputer import Imputation
from mmtool.imputation.probability import MIN_SAMPLES, ProbabilityCurve, curves_of
from mmtool.imputation.sampling_params import PLAIN
from mmtool.metrics.calibration import brier_score, expected_calibration_error

Mmtool = Callable[..., Result]
COUNT, COLOURS = 200, ("red", "green")
FRACTIONS = (0.4, 0.3, 0.3)
SMALL = {"preset": "tiny", "shape": {"depth": 1, "width": 32}, "batch_tokens": 256, "compile": "off", "method": "commutative"}
DRAWN = ("--draws", 3, "--temperature", 0.7)
TO_IMAGE = ("--have", "text", "--want", "image", "--split", "test")


def scored(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, 4) scores in nats, and draws that are right more often the higher theirs is, though far less often than e to the score."""
    random = np.random.default_rng(seed)
    scores = -random.gamma(2.0, 0.2, size=(count, 4))
    return scores, random.random(scores.shape) < 1 / (1 + np.exp(-(4 * scores + 0.5)))


def test_a_curve_is_monotone_and_calibrates_draws_that_it_was_not_fitted_to() -> None:
    curve = ProbabilityCurve.fit(*scored(300, seed=0))
    assert curve is not None and curve.samples == 300
    told = curve(np.linspace(-3, 0, 50))
    assert (np.diff(told) > 0).all() and told[0] > 0 and told[-1] < 1
    scores, right = (values.ravel() for values in scored(300, seed=1))
    before, after = np.exp(scores), curve(scores)
    assert expected_calibration_error(after, right) < 0.06 < expected_calibration_error(before, right)
    assert brier_score(after, right) < brier_score(before, right)
    assert after.mean() == pytest.approx(right.mean(), abs=0.05)


def test_the_curve_does_not_depend_on_the_unit_of_the_score() -> None:
    scores, right = scored(100, seed=0)
    curve, scaled = ProbabilityCurve.fit(scores, right), ProbabilityCurve.fit(1000 * scores + 7, right)
    assert curve and scaled
    np.testing.assert_allclose(curve(scores), scaled(1000 * scores + 7), rtol=1e-4)


def test_too_few_samples_and_draws_all_alike_tell_nothing() -> None:
    scores, right = scored(MIN_SAMPLES, seed=0)
    assert ProbabilityCurve.fit(scores, right) and ProbabilityCurve.fit(scores[1:], right[1:]) is None
    assert ProbabilityCurve.fit(scores, np.ones_like(right)) is None and ProbabilityCurve.fit(scores, np.zeros_like(right)) is None
    flat = ProbabilityCurve.fit(np.zeros_like(scores), right)
    assert flat and flat(0.0) == pytest.approx(right.mean(), abs=0.01)


def test_errors_of_probabilities_by_hand() -> None:
    probability, right = np.array([0.05, 0.0, 1.0, 0.95]), np.array([0, 1, 1, 1])
    assert expected_calibration_error(probability, right) == pytest.approx((0.95 + 0.05) / 4)
    assert brier_score(probability, right) == pytest.approx((0.05**2 + 1 + 0 + 0.05**2) / 4)


def test_each_score_has_its_curve() -> None:
    scores, right = scored(60, seed=0)
    both = [Imputation([], row.tolist(), (-row).tolist()) for row in scores]
    curves = curves_of(both, right)
    assert curves["log_likelihood"].slope > 0 > curves["consistency"].slope
    assert list(curves_of([replace(answer, consistency=None) for answer in both], right)) == ["log_likelihood"]
    calibration = Calibration("w", 1, PLAIN, curves={key_of(["b", "a"], "c"): curves})
    assert calibration.curve(["a", "b"], "c", both[0]) == curves["consistency"]
    assert calibration.curve(["a", "b"], "c", Imputation([], [0.0])) == curves["log_likelihood"]
    assert calibration.curve(["a"], "c", both[0]) is None


def test_curves_come_back_from_the_file_and_earlier_files_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curve = ProbabilityCurve(1 / 3, -0.1, 77)
    written = Calibration("w", 1, PLAIN, curves={key_of(["a"], "c"): {"consistency": curve, "log_likelihood": curve}})
    write_calibrations(tmp_path, {"run": written})
    assert read_calibrations(tmp_path) == [written]
    with monkeypatch.context() as earlier:
        earlier.setattr(module, "FORMAT", "mmtool-calibration/1")
        earlier.setattr(
            module, "sealed", lambda record, tensors: sealed({**record, "runs": [without_curves(run) for run in record["runs"]]}, tensors)
        )
        write_calibrations(tmp_path, {"run": written})
    assert read_calibrations(tmp_path) == [replace(written, curves={})]
    monkeypatch.setattr(module, "FORMAT", "mmtool-calibration/9")
    write_calibrations(tmp_path, {"run": written})
    monkeypatch.undo()
    with pytest.raises(DataError, match="calibration/9' is unknown"):
        read_calibrations(tmp_path)


def without_curves(run: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name != "curves"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny images and notes of two colours, shards of both, a run that has learned next to nothing, and a report on its confidence."""
    folder, random = tmp_path_factory.mktemp("probability"), np.random.default_rng(0)
    (folder / "images").mkdir()
    rows = []
    for i in range(COUNT):
        pixels = random.integers(0, 60, (4, 4, 3), np.uint8)
        pixels[..., i % 2] += 190
        Image.fromarray(pixels).save(folder / f"images/case{i:03d}.png")
        rows.append([f"case{i:03d}", f"a {COLOURS[i % 2]} thing", COLOURS[i % 2]])
    with open(folder / "notes.csv", "w", newline="") as file:
        csv.writer(file).writerows([["key", "text", "colour"], *rows])
    settings = {"patch": 2, "codebook": 16, "depth": 1, "width": 16, "steps": 10, "fractions": FRACTIONS}
    package.tokenize("image", folder / "images", folder / "image.tar", name="image", **settings)
    source = {"label_columns": ("colour",)}
    package.tokenize("text", folder / "notes.csv", folder / "text.tar", source=source, fractions=FRACTIONS)
    package.shard([folder / "image.tar", folder / "text.tar"], folder / "shards", fractions=FRACTIONS)
    package.pretrain(folder / "shards", folder / "run", steps=4, **SMALL)
    package.evaluate(folder / "run", folder / "shards", folder / "report", tasks=("confidence",), temperature=0.7)
    return folder


def test_a_report_judges_probabilities_on_samples_that_they_were_not_fitted_to(world: Path, mmtool: Mmtool) -> None:
    content = json.loads((world / "report/report.json").read_text())
    rows = [row for row in content["rows"] if row["target"] == "image"]
    found = {row["metric"]: row for row in rows if "at" not in row}
    for metric in ("mean probability", "expected calibration error", "brier score"):
        for how in ("uncalibrated", "calibrated"):
            assert 0 <= found[f"{metric}, {how}"]["value"] <= 1
            assert found[f"{metric}, {how}"]["validation_samples"] == content["meta"]["samples"]["validation"]
    accuracy = found["accuracy, best of 8 by chance"]["value"]
    assert found["mean probability, calibrated"]["value"] == pytest.approx(accuracy, abs=0.15)
    assert found["brier score, calibrated"]["value"] <= found["brier score, uncalibrated"]["value"]
    assert {row["at"] for row in rows if row["metric"] == "accuracy by probability, calibrated"} <= {n / 20 for n in range(1, 20, 2)}
    text = (world / "report/report.md").read_text()
    assert "Probability of being right" in text and (world / "report/probability.svg").exists()
    assert mmtool("lint", world / "report").code == 0


def test_imputed_files_say_how_probable_each_draw_is_right(world: Path, mmtool: Mmtool) -> None:
    (calibration,) = read_calibrations(world / "report")
    curves = calibration.curves[key_of(["text"], "image")]
    for name, options, score in (("ranked", (), "consistency"), ("likely", ("--no-confidence",), "log_likelihood")):
        call = ("impute", world / "run", world / "shards", *TO_IMAGE, *DRAWN, *options, "--calibration", world / "report")
        done = mmtool(*call, "-o", world / name)
        assert done.code == 0, done.err
        lines = [json.loads(line) for line in (world / name / "imputed.jsonl").read_text().splitlines()]
        for line in lines:
            np.testing.assert_allclose(line["probability"], curves[score](line[score]))
            assert len(line["probability"]) == 3 and line["probability_fitted_on"] == curves[score].samples
        assert mmtool("lint", world / name).code == 0
    plain = mmtool("impute", world / "run", world / "shards", *TO_IMAGE, *DRAWN, "-o", world / "plain")
    assert plain.code == 0 and "probability" not in (world / "plain/imputed.jsonl").read_text()


@pytest.mark.parametrize(
    ("options", "message"), [(("--draws", 3), "other temperature"), ((*DRAWN, "--donors", "shards"), "no effect with --donors")]
)
def test_other_draws_are_refused(world: Path, mmtool: Mmtool, options: tuple[Any, ...], message: str) -> None:
    given = [world / "shards" if option == "shards" else option for option in options]
    done = mmtool("impute", world / "run", world / "shards", *TO_IMAGE, *given, "--calibration", world / "report", "-o", world / "refused")
    assert done.code == 2 and message in done.err and not (world / "refused").exists()


def test_another_run_and_a_direction_that_was_not_fitted_are_refused(world: Path, tmp_path: Path) -> None:
    (calibration,) = read_calibrations(world / "report")
    options: dict[str, Any] = {"split": "test", "have": "text", "want": "image", "temperature": 0.7, "calibration": str(tmp_path)}
    write_calibrations(tmp_path, {"run": replace(calibration, weights="0" * 64)})
    with pytest.raises(UsageError, match="other runs"):
        package.impute(world / "run", world / "shards", tmp_path / "imputed", **options)
    write_calibrations(tmp_path, {"run": replace(calibration, curves={key_of(["image"], "text"): {}})})
    with pytest.raises(UsageError, match="no probability of image"):
        package.impute(world / "run", world / "shards", tmp_path / "imputed", **options)
    assert not (tmp_path / "imputed").exists()


def test_few_validation_samples_fit_nothing_and_it_is_said(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package.evaluate(world / "run", world / "shards", tmp_path / "report", tasks=("confidence",), limit=MIN_SAMPLES - 1)
    assert f"{MIN_SAMPLES - 1} labelled validation samples" in capsys.readouterr().err
    assert not (tmp_path / "report" / FILE).exists()


def test_a_split_that_is_judged_is_never_fitted_to(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package.evaluate(world / "run", world / "shards/validation", tmp_path / "report", tasks=("confidence",))
    assert "no probabilities of being right are fitted: they would be judged by" in capsys.readouterr().err
    assert not (tmp_path / "report" / FILE).exists()


def test_python_tells_the_same_and_fits_to_whatever_is_right(world: Path) -> None:
    run = package.load(world / "run")
    validation, test = (package.open_shards(world / "shards", split) for split in ("validation", "test"))
    drawn: dict[str, Any] = {"draws": 3, "temperature": 0.7}
    by_report = run.impute(test, "text", "image", **drawn, calibration=world / "report")
    (calibration,) = read_calibrations(world / "report")
    curve = calibration.curves[key_of(["text"], "image")]["consistency"]
    np.testing.assert_allclose([one.probability for one in by_report], curve([one.consistency for one in by_report]))

    def red(sample: Any, image: np.ndarray) -> bool:
        return bool((image[..., 0].mean() > image[..., 1].mean()) == (sample.labels["colour"] == "red"))

    fitted = run.calibrate(validation, "text", want="image", **drawn, right=red)
    told = run.impute(test, "text", "image", **drawn, calibration=fitted)
    right = np.mean([red(sample, image) for sample, one in zip(test, told, strict=True) for image in one.values])
    assert np.mean([one.probability for one in told]) == pytest.approx(right, abs=0.2)
    assert run.impute(test, "text", "image", **drawn)[0].probability is None
    with pytest.raises(UsageError, match="another run"):
        run.impute(test, "text", "image", **drawn, calibration=replace(fitted, weights="0"))
    with pytest.raises(UsageError, match="tell no probability"):
        run.calibrate(validation, "text", want="image", **drawn, right=lambda sample, image: True)
    with pytest.raises(UsageError, match="those of the training"):
        run.calibrate(package.open_shards(world / "shards", "train"), "text", want="image", **drawn, right=red)
