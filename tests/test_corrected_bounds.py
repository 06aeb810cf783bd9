"""Bounds corrected on validation samples: fitted by `evaluate`, applied by `impute`, on the command line and in Python."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Result

import mmtool as package
from mmtool.common.errors import DataError, UsageError
from mmtool.data.graph import CoOccurrence
from mmtool.data.held_out import open_held_out
from mmtool.data.identity import TrainingItems
from mmtool.data.sample import Sample
from mmtool.evaluation.config import EvaluationConfig
from mmtool.evaluation.directions import Direction
from mmtool.evaluation.evaluate import evaluate
from mmtool.evaluation.leaks import Learner
from mmtool.evaluation.reference.data import Reference
from mmtool.evaluation.reference.decoded import DecodedSamples
from mmtool.evaluation.uncertainty import correcting_samples
from mmtool.evaluation.validation import calibrating_set
from mmtool.imputation.calibration import FILE, read_calibrations
from mmtool.preprocessing.raw_rows import raw_rows

pytestmark = pytest.mark.usefixtures("quick_baselines")

Mmtool = Callable[..., Result]
COUNT, SIZES = 600, {"genes": 4, "proteins": 8}
DRAWN: dict[str, Any] = {"draws": 10, "temperature": 0.2}  # draws that are much too sure
FRACTIONS = (0.4, 0.3, 0.3)
IMPUTE = ("--have", "genes", "--want", "proteins", "--split", "test", "--draws", 10, "--temperature", 0.2)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tables of the same patients by codecs that lose much, shards of both, a run that has learned next to nothing, and its report,
    for which the raw proteins are known and the raw genes are not."""
    folder, random = tmp_path_factory.mktemp("bounds"), np.random.default_rng(0)
    factors = random.normal(size=(COUNT, 2))
    for name, size in SIZES.items():
        rows = 0.3 * factors @ random.normal(size=(2, size)) + random.gamma(1, size=(COUNT, size))
        header, cells = ["key", *(f"{name}{i}" for i in range(size))], rows.round(4).tolist()
        with open(folder / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows([header, *([f"p{i:03d}", *row] for i, row in enumerate(cells))])
        scheme: dict[str, Any] = {"scheme": "codec", "components": size, "n_bins": 8, "fractions": FRACTIONS}
        package.tokenize("table", folder / f"{name}.csv", folder / f"{name}.tar", name=name, **scheme)
    package.shard([folder / f"{name}.tar" for name in SIZES], folder / "shards", fractions=FRACTIONS)
    small = {"preset": "tiny", "shape": {"depth": 1, "width": 32}, "batch_tokens": 256, "compile": "off", "value_epochs": 0}
    package.pretrain(folder / "shards", folder / "run", method="commutative", steps=4, **small)
    options = EvaluationConfig.of(**DRAWN, contact_samples=0)
    raw = raw_rows({"proteins": folder / "proteins.csv"}, folder / "run")
    evaluate([folder / "run"], folder / "shards", folder / "report", options, raw=raw)
    return folder


def values_of(content: dict[str, Any], target: str) -> dict[str, float]:
    """Metrics of the run in one direction."""
    return {row["metric"]: row["value"] for row in content["rows"] if row["target"] == target and row["run"] == "commutative"}


def table(path: Path) -> np.ndarray:
    return np.array([row[1:] for row in list(csv.reader(path.open()))[1:]], float)


def true_proteins(world: Path, imputed: Path) -> np.ndarray:
    known = {row[0]: row[1:] for row in csv.reader((world / "proteins.csv").open())}
    return np.array([known[row[0]] for row in list(csv.reader((imputed / "proteins.csv").open()))[1:]], float)


def test_a_report_holds_both_and_says_by_how_many_samples(world: Path) -> None:
    content = json.loads((world / "report/report.json").read_text())
    found = values_of(content, "proteins")
    for level in (50, 80, 95):
        assert {f"coverage_{level}", f"width_{level}", f"coverage_{level}_corrected", f"width_{level}_corrected"} <= found.keys()
        assert found[f"coverage_{level}_corrected"] == pytest.approx(level / 100, abs=0.05)
        assert found[f"coverage_{level}"] < level / 100 - 0.05 and found[f"width_{level}"] < found[f"width_{level}_corrected"]
    assert 0.2 < found["crps"] < 2
    samples = {row.get("validation_samples") for row in content["rows"] if row["metric"].endswith("_corrected")}
    assert samples == {content["meta"]["samples"]["validation"]}
    for page in ("report.md", "report.html"):
        text = (world / "report" / page).read_text()
        assert "Corrected intervals" in text and "Width of intervals" in text and "CRPS" in text and "commutative, corrected" in text
    assert (world / "report/crps.svg").exists()


def test_a_truth_that_codes_do_not_hold_corrects_nothing(world: Path) -> None:
    content = json.loads((world / "report/report.json").read_text())
    found = values_of(content, "genes")
    assert "coverage_80" in found and not any(metric.endswith("_corrected") for metric in found)


def correcting(data: Path, **config: Any) -> list[Sample]:
    """The validation samples of an evaluation of these held-out samples."""
    test_set = open_held_out(data)
    return calibrating_set(data, test_set, list(test_set), [], EvaluationConfig.of(**{"draws": 10, **config}))


def test_samples_that_correct_bounds_are_validation_samples_that_nothing_else_knows(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    validation = {sample.key for sample in package.open_shards(world / "shards", "validation")}
    for data in (world / "shards", world / "shards/test"):
        assert {sample.key for sample in correcting(data)} == validation
    assert correcting(world / "shards", draws=9) == [] and not capsys.readouterr().err
    assert correcting(world / "shards/validation") == [] and "judged by the validation samples" in capsys.readouterr().err
    shutil.copytree(world / "shards/test", tmp_path / "test")
    assert correcting(tmp_path / "test") == [] and "no validation samples" in capsys.readouterr().err
    test_set = open_held_out(world / "shards")
    trained = Learner("a run", TrainingItems.of(list(package.open_shards(world / "shards", "validation"))[:7]), "")
    kept = calibrating_set(world / "shards", test_set, list(test_set), [trained], EvaluationConfig(draws=10))
    assert len(kept) == len(validation) - 7 and f"7 of {len(validation)} validation samples calibrate nothing" in capsys.readouterr().err


def test_a_direction_that_no_validation_sample_holds_is_said(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    samples = [replace(sample, tokens={"genes": sample.tokens["genes"]}) for sample in package.open_shards(world / "shards", "validation")]
    tokenizers = package.load(world / "run").imputer.tokenizers
    sides = [DecodedSamples(samples, tokenizers)] * 2
    raw = raw_rows({"proteins": world / "proteins.csv"}, world / "run")
    reference = Reference(*sides, tokenizers, CoOccurrence.of([]), None, 0, raw, validation=sides[0])
    config = EvaluationConfig(draws=10)
    assert not len(correcting_samples(reference, Direction(("genes",), "proteins"), config))
    assert "no validation sample holds all of these" in capsys.readouterr().err
    assert not len(correcting_samples(reference, Direction(("proteins",), "genes"), config))
    assert "--raw genes=FILE" in capsys.readouterr().err


def test_imputed_bounds_are_corrected_and_hold_what_they_say(world: Path, mmtool: Mmtool) -> None:
    for name, options in (("drawn", ()), ("corrected", ("--calibration", world / "report"))):
        done = mmtool("impute", world / "run", world / "shards", *IMPUTE, *options, "-o", world / name)
        assert done.code == 0, done.err
    true, held = true_proteins(world, world / "corrected"), {}
    for name in ("drawn", "corrected"):
        low, high = (table(world / name / f"proteins.{bound}.csv") for bound in ("q05", "q95"))
        held[name] = ((true >= low) & (true <= high)).mean()
    assert held["corrected"] == pytest.approx(0.9, abs=0.04) and held["drawn"] < 0.8
    np.testing.assert_array_equal(table(world / "drawn/proteins.csv"), table(world / "corrected/proteins.csv"))
    lines = [json.loads(line) for line in (world / "corrected/imputed.jsonl").read_text().splitlines()]
    (calibration,) = read_calibrations(world / "report")
    assert {line["bounds_corrected_on"] for line in lines} == {calibration.samples(["genes"], "proteins")}
    assert "bounds_corrected_on" not in (world / "drawn/imputed.jsonl").read_text()
    assert mmtool("lint", world / "report").code == 0


def test_a_direction_without_correction_is_said(world: Path, mmtool: Mmtool) -> None:
    turned = ("--have", "proteins", "--want", "genes", "--split", "test", "--draws", 10, "--temperature", 0.2)
    done = mmtool("impute", world / "run", world / "shards", *turned, "--calibration", world / "report", "-o", world / "turned")
    assert done.code == 0 and "bounds of genes from proteins stay as drawn" in done.err
    assert json.loads((world / "turned/imputed.jsonl").read_text().splitlines()[0])["bounds_corrected_on"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--draws", 12, "--temperature", 0.2), "corrected for 10 draws, not for 12"),
        (("--draws", 10), "other temperature"),
        (("--draws", 10, "--donors", "shards"), "--calibration has no effect with --donors"),
    ],
)
def test_other_draws_than_those_of_the_report_are_refused(world: Path, mmtool: Mmtool, options: tuple[Any, ...], message: str) -> None:
    given = [world / "shards" if option == "shards" else option for option in options]
    wanted = ("--have", "genes", "--want", "proteins", "--split", "test", *given)
    done = mmtool("impute", world / "run", world / "shards", *wanted, "--calibration", world / "report", "-o", world / "refused")
    assert done.code == 2 and message in done.err and not (world / "refused").exists()


def test_a_report_on_another_run_or_without_corrections_is_refused(world: Path, mmtool: Mmtool) -> None:
    (world / "uncorrected").mkdir()
    call = ("impute", world / "run", world / "shards", *IMPUTE, "-o", world / "refused", "--calibration")
    without = mmtool(*call, world / "uncorrected")
    assert without.code == 2 and "holds no calibration" in without.err
    small = {"preset": "tiny", "shape": {"depth": 1, "width": 32}, "batch_tokens": 256, "compile": "off", "value_epochs": 0}
    package.pretrain(world / "shards", world / "other", method="commutative", steps=5, **small)
    with pytest.raises(UsageError, match="other runs"):
        package.impute(world / "other", world / "shards", world / "refused", **DRAWN, calibration=str(world / "report"))


def test_a_changed_calibration_is_refused_and_found(world: Path, tmp_path: Path, mmtool: Mmtool) -> None:
    damaged = shutil.copytree(world / "report", tmp_path / "damaged")
    content = bytearray((damaged / FILE).read_bytes())
    content[-1] ^= 1
    (damaged / FILE).write_bytes(content)
    with pytest.raises(DataError, match="digest"):
        read_calibrations(damaged)
    found = mmtool("lint", damaged)
    assert found.code == 1 and FILE in found.out + found.err


def test_data_frames_are_corrected_by_the_report_or_by_frames(world: Path) -> None:
    """The same bounds as on the command line; and by held-out frames alone, from which the training is left out."""
    pandas = pytest.importorskip("pandas")
    run = package.load(world / "run")
    frames = {name: pandas.read_csv(world / f"{name}.csv", index_col="key") for name in SIZES}
    keys = [sample.key for sample in package.open_shards(world / "shards", "test")]
    given, shares = {"genes": frames["genes"].loc[keys]}, (0.05, 0.95)
    _, by_report = run.impute(given, want="proteins", **DRAWN, quantiles=shares, calibration=world / "report")
    done = world / "as-files"
    package.impute(
        world / "run", world / "shards", done, split="test", have="genes", want="proteins", **DRAWN, calibration=str(world / "report")
    )
    order = [row[0] for row in list(csv.reader((done / "proteins.csv").open()))[1:]]
    np.testing.assert_allclose(by_report[0.05].loc[order], table(done / "proteins.q05.csv"), rtol=1e-4, atol=1e-4)
    others = {name: frame.drop(index=keys) for name, frame in frames.items()}
    by_frames = run.calibrate(others, want="proteins", **DRAWN, quantiles=shares)
    validation = len(package.open_shards(world / "shards", "validation"))
    assert by_frames.samples(["genes"], "proteins") == validation
    _, bounds = run.impute(given, want="proteins", **DRAWN, quantiles=shares, calibration=by_frames)
    true = frames["proteins"].loc[keys]
    assert ((true >= bounds[0.05]) & (true <= bounds[0.95])).to_numpy().mean() == pytest.approx(0.9, abs=0.05)
    with pytest.raises(UsageError, match=r"share 0\.3 were not corrected"):
        run.impute(given, want="proteins", **DRAWN, quantiles=(0.3,), calibration=by_frames)


def test_training_samples_alone_correct_nothing(world: Path) -> None:
    pandas = pytest.importorskip("pandas")
    trained = [sample.key for sample in package.open_shards(world / "shards", "train")]
    frames = {name: pandas.read_csv(world / f"{name}.csv", index_col="key").loc[trained] for name in SIZES}
    with pytest.raises(UsageError, match="those of the training"):
        package.load(world / "run").calibrate(frames, want="proteins", **DRAWN)
