"""Promise: data frames go into a run and come out of it, with the numbers of the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mmtool as library
from mmtool import DataError, UsageError

COMMAND = Callable[..., Any]


def row_tables() -> dict[str, pd.DataFrame]:
    """`vitals` of patients p00 to p49 (numbers, a category, a date, a truth value), `lab` of p20 to p69."""
    random = np.random.default_rng(0)
    factor = random.normal(size=70)
    patients = [f"p{number:02d}" for number in range(70)]
    numbers = {f"v{i}": (factor * (i + 1) + random.normal(0, 0.1, 70)).round(3) for i in range(3)}
    words = {
        "sex": np.where(factor > 0, "m", "f"),
        "seen": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(70) % 9, "D"),
        "smoker": factor > 1,
    }
    vitals = pd.DataFrame({**numbers, **words}, index=pd.Index(patients, name="patient"))
    lab = pd.DataFrame({f"l{i}": (factor - i + random.normal(0, 0.1, 70)).round(3) for i in range(4)}, index=vitals.index)
    vitals.loc["p03", "v1"] = np.nan
    vitals.loc["p05", ["sex", "seen"]] = None
    return {"vitals": vitals.iloc[:50], "lab": lab.iloc[20:]}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables as files, and a run on them."""
    folder = tmp_path_factory.mktemp("frames")
    for name, frame in row_tables().items():
        frame.to_csv(folder / f"{name}.csv")
        library.tokenize("table", folder / f"{name}.csv", folder / f"{name}.tar", name=name, n_bins=8, fractions=(1.0, 0.0, 0.0))
    library.shard([folder / "vitals.tar", folder / "lab.tar"], folder / "shards")
    tiny = {"preset": "tiny", "steps": 2, "batch_tokens": 256, "compile": "off", "value_epochs": 1, "shape": {"depth": 1, "width": 32}}
    library.pretrain(folder / "shards", folder / "run", **tiny)
    return folder


def test_rows_are_encoded_as_files_are(study: Path) -> None:
    from mmtool.imputation.inputs import raw_samples

    run, frames = library.load(study / "run"), row_tables()
    encoded = run.encode(frames)
    from_files = raw_samples(study / "run", {name: study / f"{name}.csv" for name in frames})
    assert [sample.key for sample in encoded] == [sample.key for sample in from_files] == [f"p{number:02d}" for number in range(70)]
    for sample, other in zip(encoded, from_files, strict=True):
        assert sample.present == other.present
        assert all(np.array_equal(sample.tokens[name], other.tokens[name]) for name in sample.present)


def test_a_frame_comes_out_with_the_numbers_of_the_command_line(study: Path, mmtool: COMMAND) -> None:
    frame = row_tables()["vitals"].iloc[::-1]
    command = ("impute", study / "run", "--raw", f"vitals={study / 'vitals.csv'}", "--want", "lab", "--draws", 5, "--seed", 3)
    done = mmtool(*command, "-o", study / "lab-imputed")
    assert done.code == 0, done.err
    imputed, bounds = library.load(study / "run").impute({"vitals": frame}, want="lab", draws=5, seed=3, quantiles=(0.05, 0.95))
    assert imputed.index.equals(frame.index) and list(imputed.columns) == ["l0", "l1", "l2", "l3"]
    for suffix, ours in (("", imputed), (".q05", bounds[0.05]), (".q95", bounds[0.95])):
        theirs = pd.read_csv(study / f"lab-imputed/lab{suffix}.csv", index_col="key").loc[list(ours.index)]
        assert np.array_equal(ours.to_numpy(), theirs.to_numpy(np.float32)), suffix
    assert (bounds[0.05] <= bounds[0.95]).to_numpy().all()


def test_typed_columns_come_out_as_what_they_are(study: Path) -> None:
    imputed = library.load(study / "run").impute({"lab": row_tables()["lab"]}, want="vitals")
    assert list(imputed.columns) == ["v0", "v1", "v2", "sex", "seen", "smoker"]
    assert set(imputed["sex"]) <= {"m", "f"} and set(imputed["smoker"]) <= {"True", "False"}
    assert pd.api.types.is_datetime64_any_dtype(imputed["seen"]) and imputed["seen"].between("2020-01-01", "2020-01-09").all()
    assert imputed[["v0", "v1", "v2"]].dtypes.eq(np.float32).all()


def test_several_frames_are_joined_by_their_index(study: Path) -> None:
    run, frames = library.load(study / "run"), row_tables()
    imputed = run.impute(frames, want="lab")
    assert list(imputed.index) == [f"p{number:02d}" for number in range(70)]
    assert imputed.iloc[:50].notna().all().all() and imputed.iloc[50:].isna().all().all(), "nothing is left when lab itself is wanted"
    alone = run.impute({"vitals": frames["vitals"]}, want="lab")
    assert imputed.iloc[:50].equals(alone)
    nothing = run.impute({"lab": frames["lab"]}, have="vitals", want="lab")
    assert nothing.isna().all().all() and len(nothing) == 50


def test_any_unique_index_will_do(study: Path) -> None:
    frame, run = row_tables()["vitals"], library.load(study / "run")
    numbered = frame.reset_index(drop=True).iloc[::-1]
    imputed = run.impute({"vitals": numbered}, want="lab")
    assert imputed.index.equals(numbered.index) and imputed.notna().all().all()
    for index, what in (([*frame.index[:-1], "p00"], "'p00' more than once"), ([*frame.index[:-1], None], "row 49 has no name")):
        with pytest.raises(DataError, match=what):
            run.impute({"vitals": frame.set_axis(index)}, want="lab")
    levels = pd.MultiIndex.from_product([["a"], frame.index])
    with pytest.raises(DataError, match="several levels"):
        run.impute({"vitals": frame.set_axis(levels)}, want="lab")


def test_empty_rows_and_unknown_categories(study: Path, capfd: pytest.CaptureFixture[str]) -> None:
    frame, run = row_tables()["vitals"].iloc[:4].astype(object), library.load(study / "run")
    frame.loc["p01"] = None
    frame.loc["p02", "sex"] = "x"
    imputed = run.impute({"vitals": frame}, want="lab")
    assert imputed.isna().all(axis=1).tolist() == [False, True, False, False]
    said = capfd.readouterr().err
    assert "1 of 4 samples hold nothing to impute lab from" in said and "'x' (1)" in said


def test_what_is_wrong_is_named(study: Path, project: Path) -> None:
    frame, run = row_tables()["vitals"], library.load(study / "run")
    with pytest.raises(DataError, match="it lacks 'v0'"):
        run.impute({"vitals": frame.drop(columns="v0")}, want="lab")
    with pytest.raises(UsageError, match="no modality 'blood'"):
        run.impute({"blood": frame}, want="lab")
    with pytest.raises(UsageError, match="no modality 'blood'"):
        run.impute({"vitals": frame}, want="blood")
    with pytest.raises(UsageError, match=r"1\.5 is no probability"):
        run.impute({"vitals": frame}, want="lab", quantiles=(1.5,))
    with pytest.raises(UsageError, match="quantiles need several draws"):
        run.impute({"vitals": frame}, want="lab", quantiles=(0.05,))
    with pytest.raises(DataError, match=r"p00.*'v0' holds 'high'"):
        run.impute({"vitals": frame.astype({"v0": object}).replace({"v0": {frame["v0"].iloc[0]: "high"}})}, want="lab")
    with pytest.raises(UsageError, match="modalities that are named"):
        run.impute(library.open_shards(study / "shards", split="train"), want="lab")
    texts = library.load(project / "run")
    with pytest.raises(UsageError, match="text is text, no table"):
        texts.impute({"lab": pd.DataFrame({"a": [1.0], "b": [2.0], "c": [0.5]}, index=["p1"])}, want="text")
    with pytest.raises(DataError, match="Give a series"):
        texts.encode({"text": pd.DataFrame({"note": ["a red thing"]})})


def test_only_samples_without_the_table_are_imputed(study: Path) -> None:
    frame, run = row_tables()["vitals"], library.load(study / "run")
    whole = run.impute({"vitals": frame}, want="lab")
    held = whole.iloc[:3]
    rest = run.impute({"vitals": frame, "lab": held}, want="lab", only_missing=True)
    assert list(rest.index) == list(frame.index[3:]) and list(rest.columns) == list(whole.columns) and rest.notna().all(axis=None)
    with pytest.raises(UsageError, match="no sample lacks lab"):
        run.impute({"vitals": frame.iloc[:3], "lab": held}, want="lab", only_missing=True)


def test_series_hold_other_values(project: Path) -> None:
    run = library.load(project / "run")
    texts = pd.Series(["a red thing", None, "a blue thing"], index=["p2", "p1", "p0"])
    samples = run.encode({"text": texts, "lab": pd.DataFrame({"a": [1.0], "b": [2.0], "c": [0.5]}, index=["p1"])})
    assert [(sample.key, sample.present) for sample in samples] == [("p0", ("text",)), ("p1", ("lab",)), ("p2", ("text",))]
    imputed = run.impute({"text": texts}, want="lab")
    assert list(imputed.index) == ["p2", "p1", "p0"] and imputed.notna().all(axis=1).tolist() == [True, False, True]
