"""Promise: MultimodalImputer fills tables as the command line does, leaves what is there alone, and keeps as an estimator should."""

import importlib
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata
import mudata
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmtool import DataError, UsageError, load
from mmtool.sklearn import MultimodalImputer

Frames = dict[str, pd.DataFrame]
TRAINING = {"compile": "off", "batch_tokens": 256, "value_epochs": 0, "validation_samples": 8, "shape": {"depth": 1, "width": 32}}
TINY: dict[str, Any] = {"preset": "tiny", "steps": 2, "bins": 8, "draws": 4, "settings": TRAINING}
VALUES = {**TINY, "settings": {**TRAINING, "value_epochs": 1}}  # networks for expected values as well, a few seconds
WIDTHS = {"mrna": 4, "mirna": 3, "rppa": 2}


@pytest.fixture(autouse=True)
def no_warnings_but_ours() -> Iterator[None]:
    """Anything else that is warned of is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for said in (
            "samples hold nothing",
            "numbers of",
            "missing values in",
            "still missing in",
            "some stay as drawn",
            "Most columns of rows",
        ):
            warnings.filterwarnings("default", f".*{said}", UserWarning)
        yield


def tables(count: int = 60) -> Frames:
    """Patients p00 to p59 have mrna; p00 to p39 mirna, p30 to p59 rppa. All follow two factors; two values are missing."""
    random = np.random.default_rng(0)
    factors = random.normal(size=(count, 2))
    patients = pd.Index([f"p{number:02d}" for number in range(count)], name="patient")
    frames = {}
    for name, width in WIDTHS.items():
        values = factors @ random.normal(size=(2, width)) + random.normal(0, 0.1, (count, width))
        frames[name] = pd.DataFrame(values, patients, [f"{name}{column}" for column in range(width)])
    frames["mrna"].iloc[3, 1] = frames["mirna"].iloc[4, 0] = np.nan
    return {"mrna": frames["mrna"], "mirna": frames["mirna"].iloc[: count * 2 // 3], "rppa": frames["rppa"].iloc[count // 2 :]}


def in_one(frames: Frames) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """The tables side by side, and the blocks of their columns."""
    return pd.concat(frames.values(), axis=1), {name: list(frame.columns) for name, frame in frames.items()}


@pytest.fixture(scope="module")
def fitted() -> MultimodalImputer:
    return MultimodalImputer(**VALUES).fit(tables())


def assert_kept(complete: pd.DataFrame, given: pd.DataFrame) -> None:
    """What was given is there, exactly, and nothing is missing."""
    shown = complete.loc[given.index, list(given.columns)]
    assert given.isna().to_numpy()[shown.to_numpy() != given.to_numpy()].all() and complete.notna().all().all()


def test_frames_come_back_complete(fitted: MultimodalImputer) -> None:
    frames = tables()
    complete = fitted.transform(frames)
    assert list(complete) == ["mrna", "mirna", "rppa"]
    for name, frame in frames.items():
        assert list(complete[name].columns) == list(frame.columns) and list(complete[name].index) == list(frames["mrna"].index)
        assert_kept(complete[name], frame)
    alone = fitted.transform({"mrna": frames["mrna"].iloc[::-1]})
    assert list(alone["rppa"].index) == [f"p{number:02d}" for number in reversed(range(60))]
    assert alone["rppa"].shape == (60, 2) and alone["rppa"].notna().all().all()
    assert list(frames["mrna"].isna().sum()) == [0, 1, 0, 0], "the input is not changed"


def test_the_numbers_are_those_of_the_command_line(mmtool: Callable[..., Any], fitted: MultimodalImputer, tmp_path: Path) -> None:
    frames, common = tables(), ("--fractions", 0.9, 0.1, 0.0, "--seed", 0)
    for name, frame in frames.items():
        frame.to_csv(tmp_path / f"{name}.csv")
        command = ("tokenize", "table", tmp_path / f"{name}.csv", "--fit", "--name", name, "--n-bins", 8, *common)
        assert mmtool(*command, "-o", tmp_path / f"{name}.tar").code == 0
    assert mmtool("shard", *(tmp_path / f"{name}.tar" for name in frames), *common, "-o", tmp_path / "shards").code == 0
    settings = ("--batch-tokens", 256, "--no-compile", "--set", "value_epochs=1", "--set", "validation_samples=8")
    settings += ("--set", "shape.depth=1", "--set", "shape.width=32")
    done = mmtool("pretrain", tmp_path / "shards", "--preset", "tiny", "--steps", 2, *settings, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    raw = [word for name in frames for word in ("--raw", f"{name}={tmp_path / name}.csv")]
    assert mmtool("impute", tmp_path / "run", *raw, "--draws", 4, "-o", tmp_path / "imputed").code == 0
    complete, bounds = fitted.transform(frames), fitted.predict_quantiles(frames, (0.05, 0.95))
    for suffix, ours in (("", complete), (".q05", bounds[0.05]), (".q95", bounds[0.95])):
        for name in ("mirna", "rppa"):
            theirs = pd.read_csv(tmp_path / f"imputed/{name}{suffix}.csv", index_col="key")
            assert len(theirs) == 60 - len(frames[name])
            assert np.array_equal(ours[name].loc[theirs.index].to_numpy(np.float32), theirs.to_numpy(np.float32)), (name, suffix)
    opened = MultimodalImputer.load(tmp_path / "run")
    again = opened.set_params(draws=4).transform({"mrna": frames["mrna"].iloc[:5]})
    np.testing.assert_array_equal(again["rppa"], fitted.transform({"mrna": frames["mrna"].iloc[:5]})["rppa"])


def test_arrays_with_blocks_are_the_same_tables(fitted: MultimodalImputer) -> None:
    frame, blocks = in_one(tables())
    slices = {"mrna": slice(0, 4), "mirna": [4, 5, 6], "rppa": slice(7, None)}
    array = MultimodalImputer(**TINY, blocks=slices).fit(frame.to_numpy())
    complete = array.transform(frame.to_numpy())
    assert isinstance(complete, np.ndarray) and complete.shape == frame.shape
    assert_kept(pd.DataFrame(complete), pd.DataFrame(frame.to_numpy()))
    named = MultimodalImputer(**TINY, blocks=blocks).fit(frame)
    np.testing.assert_array_equal(named.transform(frame).to_numpy(), complete)
    assert named.transform(frame).index.equals(frame.index) and list(named.feature_names_in_) == list(frame.columns)
    assert array.get_feature_names_out().tolist() == [f"x{number}" for number in range(9)]
    single = array.transform(frame.to_numpy(np.float32))
    assert single.dtype == np.float32
    parts = MultimodalImputer(**TINY).fit({name: frame[columns].to_numpy() for name, columns in blocks.items()})
    filled = parts.transform({name: frame[columns].to_numpy() for name, columns in blocks.items()})
    np.testing.assert_array_equal(np.hstack(list(filled.values())), complete)


@pytest.mark.thorough
def test_order_of_columns_in_blocks_is_kept() -> None:
    frame, blocks = in_one(tables())
    mixed = frame[[*frame.columns[::2], *frame.columns[1::2]]]
    complete = MultimodalImputer(**TINY, blocks=blocks).fit(mixed).transform(mixed)
    assert list(complete.columns) == list(mixed.columns)
    assert_kept(complete, mixed)


def test_anndata_and_mudata_come_back_as_such() -> None:
    frames = tables()
    cells = {name: anndata.AnnData(frame.astype(np.float32)) for name, frame in frames.items() if name != "rppa"}
    cells["mrna"].obs["batch"] = pd.Categorical(["a", "b"] * 30)
    cells["mrna"].var["chromosome"] = [1, 2, 3, 4]
    with mudata.set_options(pull_on_update=False):
        data = mudata.MuData(cells)
    imputer = MultimodalImputer(**TINY).fit(data)
    complete = imputer.transform(data)
    assert isinstance(complete, mudata.MuData) and complete["mirna"].shape == (60, 3) and complete.obs_names.equals(data.obs_names)
    assert list(complete["mrna"].obs["batch"]) == ["a", "b"] * 30 and list(complete["mrna"].var["chromosome"]) == [1, 2, 3, 4]
    for name in cells:
        assert_kept(complete[name].to_df(), frames[name].astype(np.float32))
    as_dict = imputer.transform(cells)
    assert isinstance(as_dict["mirna"], anndata.AnnData) and np.array_equal(as_dict["mirna"].X, complete["mirna"].X)
    frame, blocks = in_one({name: frames[name] for name in cells})
    one = anndata.AnnData(frame.astype(np.float32))
    whole = MultimodalImputer(**TINY, blocks=blocks).fit(one).transform(one)
    assert isinstance(whole, anndata.AnnData) and not np.isnan(whole.X).any() and whole.obs_names.equals(one.obs_names)


def test_set_output_joins_tables_for_the_next_step(fitted: MultimodalImputer) -> None:
    frames = tables()
    names = [f"{name}__{column}" for name, frame in frames.items() for column in frame.columns]
    assert fitted.get_feature_names_out().tolist() == names and fitted.n_features_in_ == 9
    joined = clone(fitted).set_output(transform="pandas").fit_transform(frames)
    assert list(joined.columns) == names and list(joined.index) == list(frames["mrna"].index)
    np.testing.assert_array_equal(joined[[name for name in names if name.startswith("rppa")]], fitted.transform(frames)["rppa"])
    scaled = make_pipeline(MultimodalImputer(**TINY).set_output(transform="pandas"), StandardScaler()).fit_transform(frames)
    assert np.allclose(scaled.mean(0), 0, atol=1e-6)


def test_quantiles_bound_what_is_missing_and_leave_the_rest(fitted: MultimodalImputer) -> None:
    frames = tables()
    bounds = fitted.predict_quantiles(frames, (0.1, 0.9), draws=12)
    assert list(bounds) == [0.1, 0.9]
    lower, upper = bounds[0.1]["rppa"], bounds[0.9]["rppa"]
    assert (lower.iloc[30:] == frames["rppa"]).all().all() and (upper.iloc[30:] == frames["rppa"]).all().all()
    assert (lower.iloc[:30] <= upper.iloc[:30]).all().all() and (lower.iloc[:30] < upper.iloc[:30]).any().any()
    assert bounds[0.1]["mrna"].notna().all().all(), "a value missing in a row follows from the other tables"
    with pytest.raises(UsageError, match="2 is no probability"):
        fitted.predict_quantiles(frames, (2,))
    assert [*fitted.predict_quantiles(frames, 0.5, draws=2)] == [0.5]


def test_bounds_are_corrected_by_samples_of_their_own(fitted: MultimodalImputer) -> None:
    """Of patients whose proteins follow nothing that the training knew, bounds as drawn are wrong, and corrected ones are right."""
    random = np.random.default_rng(3)
    patients = pd.Index([f"q{number:03d}" for number in range(600)], name="patient")
    mrna = pd.DataFrame(random.normal(size=(600, 4)), patients, [f"mrna{column}" for column in range(4)])
    rppa = pd.DataFrame(random.gamma(1, size=(600, 2)), patients, ["rppa0", "rppa1"])
    others, new = {"mrna": mrna.iloc[:300], "rppa": rppa.iloc[:300]}, {"mrna": mrna.iloc[300:]}
    held = []
    for options in ({}, {"calibrate_on": others}):
        bounds = fitted.predict_quantiles(new, (0.1, 0.9), **options)
        held.append(((rppa.iloc[300:] >= bounds[0.1]["rppa"]) & (rppa.iloc[300:] <= bounds[0.9]["rppa"])).to_numpy().mean())
    assert held[1] == pytest.approx(0.8, abs=0.06) and abs(held[0] - 0.8) > 0.1
    known = fitted.run_.imputer.training_items
    trained = [sample.key for sample in fitted.run_.encode(tables()) if known.holds(sample)]
    with pytest.raises(UsageError, match="those of the training"):
        fitted.predict_quantiles(new, (0.1, 0.9), calibrate_on={"mrna": tables()["mrna"].loc[trained]})


def test_samples_are_several_completions(fitted: MultimodalImputer) -> None:
    frames = tables()
    first, second = fitted.sample(frames, n=2)
    for complete in (first, second):
        for name, frame in frames.items():
            assert_kept(complete[name], frame)
    assert (first["rppa"].iloc[:30] != second["rppa"].iloc[:30]).any().any()
    assert first["rppa"].equals(fitted.sample(frames, n=2)[0]["rppa"]), "the same seed"


def test_donors_are_rows_of_training_samples(fitted: MultimodalImputer) -> None:
    frames = tables()
    donors = fitted.donors({"mrna": frames["mrna"].iloc[:3]}, n=2)
    rows = donors["rppa"]
    assert list(donors) == ["mirna", "rppa"] and rows.index.names == ["sample", "rank", "donor"] and len(rows) == 6
    assert list(rows.index.get_level_values("sample")) == ["p00", "p00", "p01", "p01", "p02", "p02"]
    named = rows.index.get_level_values("donor")
    assert set(named) <= set(frames["rppa"].index)
    spread = np.ptp(frames["rppa"].to_numpy(), axis=0)
    assert (np.abs(rows.to_numpy() - frames["rppa"].loc[named].to_numpy()) < spread / 3).all(), "as their tokens decode"


def test_scores_are_of_tables_that_are_there(fitted: MultimodalImputer) -> None:
    frames = tables()
    scores = fitted.scores(frames)
    assert list(scores) == ["mrna", "mirna", "rppa"] and fitted.score(frames) == pytest.approx(np.mean(list(scores.values())))
    imputed = load_run(fitted).impute({name: frames[name] for name in ("mirna", "rppa")}, want="mrna", draws=4)
    true = frames["mrna"].loc[imputed.index]
    r2 = 1 - ((true - imputed) ** 2).sum() / ((true - true.mean()) ** 2).sum()
    assert scores["mrna"] == pytest.approx(r2.mean(), abs=1e-5)
    assert np.isnan(fitted.score({"mrna": frames["mrna"]})), "alone, nothing can be measured"


def load_run(imputer: MultimodalImputer) -> Any:
    return imputer.run_


@pytest.mark.thorough
def test_it_learns_where_there_is_something_to_learn() -> None:
    longer = {**TINY, "settings": {**TRAINING, "value_epochs": 30}}
    frames = {name: frame for name, frame in tables(300).items() if name != "rppa"}
    train, test = ({name: frame[frame.index.str.endswith("9") == held] for name, frame in frames.items()} for held in (False, True))
    assert min(MultimodalImputer(**longer).fit(train).scores(test).values()) > 0.5


@pytest.mark.thorough
def test_single_values_are_filled_by_the_rest_of_their_row() -> None:
    random = np.random.default_rng(1)
    factor = random.normal(size=(200, 1))
    values = factor + random.normal(0, 0.05, (200, 6))
    holes = values.copy()
    holes[::5, 2] = np.nan
    codec = {**TINY, "steps": 1, "scheme": "codec", "tokenizer_settings": {"components": 2}}
    masked = {**TINY, "steps": 100, "settings": {**TRAINING, "learning_rate": 0.01}}
    for params in (codec, masked):
        complete = MultimodalImputer(**params).fit(holes).transform(holes)
        error = np.abs(complete[::5, 2] - values[::5, 2]).mean()
        assert error < 0.5 * np.abs(np.nanmean(holes[:, 2]) - values[::5, 2]).mean(), params


def test_what_nothing_predicts_becomes_the_mean() -> None:
    frames = tables()
    unlinked = {"mrna": frames["mrna"].iloc[:30].copy(), "age": pd.DataFrame({"age": np.arange(30.0, 60.0)}, frames["mrna"].index[:30])}
    unlinked["mrna"].loc["p05"] = np.nan
    unlinked["age"].loc["p05"] = np.nan
    imputer = MultimodalImputer(**TINY).fit(unlinked)
    with pytest.warns(UserWarning, match="1 of 30 samples hold nothing to impute another modality from"):
        complete = imputer.transform(unlinked)
    assert complete["age"].loc["p05", "age"] == pytest.approx(unlinked["age"]["age"].mean())
    np.testing.assert_allclose(complete["mrna"].loc["p05"], unlinked["mrna"].mean())


def test_modalities_that_nothing_links_are_warned_of() -> None:
    frames = tables()
    index = [f"q{number}" for number in range(20)]
    x, y = (pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0) % 7}, index) for _ in range(2))
    imputer = MultimodalImputer(**TINY).fit({"mrna": frames["mrna"], "mirna": frames["mirna"], "x": x, "y": y})
    with pytest.warns(UserWarning, match="60 of 60 samples hold nothing to impute another modality from"):
        complete = imputer.transform({"mrna": frames["mrna"]})
    assert (complete["x"] == x.mean()).all().all() and complete["mirna"].nunique().min() > 1
    with pytest.raises(DataError, match="no key"):
        MultimodalImputer(**TINY).fit({"mrna": frames["mrna"], "x": x})


def test_columns_keep_what_they_hold() -> None:
    random = np.random.default_rng(0)
    factor = random.normal(size=60)
    people = pd.Index(range(100, 160))
    person = pd.DataFrame(
        {
            "sex": pd.Categorical(np.where(factor > 0, "m", "f")),
            "smoker": factor > 1,
            "seen": pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(60) % 7, "D"),
            "visits": pd.array(np.arange(60) % 5, dtype="Int64"),
            "id": np.arange(60) + 7,
            "note": np.where(factor > 0, "True", "no"),
        },
        people,
    )
    lab = pd.DataFrame({"a": factor, "b": -factor}, people)
    frames = {"person": person.iloc[:40], "lab": lab.iloc[10:]}
    imputer = MultimodalImputer(**TINY, column_types={"note": "category"}).fit(frames)
    complete = imputer.transform(frames)["person"]
    known = complete.iloc[:40]
    assert complete.drop(columns="id").notna().all().all() and len(complete) == 60
    assert set(complete["sex"]) == {"m", "f"} and complete["sex"].dtype == person["sex"].dtype
    assert complete["smoker"].dtype == bool and complete["seen"].dtype == person["seen"].dtype
    assert set(complete["note"]) == {"True", "no"}
    assert all((known[name].to_numpy() == frames["person"][name].to_numpy()).all() for name in person.columns)
    assert complete["id"].iloc[40:].notna().all(), "an id has its most frequent value or mean"


def test_without_pandas_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.delitem(sys.modules, "mmtool.sklearn")
    with pytest.raises(UsageError, match=r"needs pandas.*mmtool\[pandas\]"):
        importlib.import_module("mmtool.sklearn")


def test_an_estimator_is_cloned_pickled_saved_and_opened_anywhere(fitted: MultimodalImputer, tmp_path: Path) -> None:
    frames = tables()
    complete = fitted.transform(frames)
    with pytest.raises(Exception, match="not fitted yet"):
        clone(fitted).transform(frames)
    fitted.save(tmp_path / "saved")
    for other in (pickle.loads(pickle.dumps(fitted)), MultimodalImputer.load(tmp_path / "saved")):
        assert other.get_params() == fitted.get_params() and other.modalities_ == fitted.modalities_
        for name, frame in other.transform(frames).items():
            pd.testing.assert_frame_equal(frame, complete[name])
        assert other.donors({"mrna": frames["mrna"].iloc[:1]})["rppa"].equals(fitted.donors({"mrna": frames["mrna"].iloc[:1]})["rppa"])
    assert load(tmp_path / "saved/run").modalities == ("mirna", "mrna", "rppa")
    with pytest.raises(UsageError, match="Choose another path"):
        fitted.save(tmp_path / "saved")
    text = (tmp_path / "saved/imputer.json").read_text()
    (tmp_path / "saved/imputer.json").write_text(text.replace("mrna0", "mrnaX"))
    with pytest.raises(DataError, match=r"imputer\.json"):
        MultimodalImputer.load(tmp_path / "saved")
    with pytest.raises(DataError, match="not a run directory"):
        MultimodalImputer.load(tmp_path)


def test_a_saved_imputer_of_one_table_keeps_names_and_types(tmp_path: Path) -> None:
    frame, blocks = in_one(tables())
    imputer = MultimodalImputer(**TINY, blocks={"mrna": slice(0, 4), "others": list(frame.columns[4:])}).fit(frame)
    imputer.save(tmp_path / "saved")
    other = MultimodalImputer.load(tmp_path / "saved")
    pd.testing.assert_frame_equal(other.transform(frame), imputer.transform(frame))
    assert list(other.feature_names_in_) == list(frame.columns) and set(blocks) == {"mrna", "mirna", "rppa"}
    with pytest.raises(ValueError, match="feature names"):
        other.transform(frame[frame.columns[::-1]])


@pytest.mark.thorough
def test_the_work_directory_keeps_what_the_verbs_wrote(tmp_path: Path) -> None:
    imputer = MultimodalImputer(**TINY, work_dir=tmp_path / "work")
    for _ in range(2):  # a second fit replaces the first
        imputer.fit(tables())
    assert {path.name for path in (tmp_path / "work").iterdir() if path.name[0] != "."} == {"tables", "tokens", "shards", "run"}
    assert load(tmp_path / "work/run").modalities == ("mirna", "mrna", "rppa")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("all of it")
    with pytest.raises(UsageError, match="not empty"):
        MultimodalImputer(**TINY, work_dir=tmp_path / "mine").fit(tables())
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_it_is_quiet_unless_asked(fitted: MultimodalImputer, capfd: pytest.CaptureFixture[str]) -> None:
    fitted.transform(tables())
    MultimodalImputer(**TINY).fit(tables())
    assert capfd.readouterr().err == ""
    MultimodalImputer(**TINY, verbose=True).fit(tables())
    assert "method: commutative, because" in capfd.readouterr().err and fitted.method_ == "commutative"


@pytest.mark.thorough
def test_seeds() -> None:
    frames = tables()
    first, second, other = (MultimodalImputer(**TINY, random_state=seed).fit_transform(frames)["rppa"] for seed in (0, 0, 1))
    assert first.equals(second) and not first.equals(other)
    drawn = {MultimodalImputer(**TINY, random_state=np.random.RandomState(seed)).fit(frames).seed_ for seed in (0, 0, 1)}
    assert len(drawn) == 2


@pytest.mark.thorough
def test_settings_by_modality() -> None:
    frames = tables()
    settings = {"mrna": {"components": 2}, "rppa": {"components": 1}}
    imputer = MultimodalImputer(**{**TINY, "bins": {"mirna": 5}}, scheme={"mrna": "codec", "rppa": "codec"}, tokenizer_settings=settings)
    tokenizers = imputer.fit(frames).run_.imputer.tokenizers
    assert {name: tokenizer.scheme for name, tokenizer in tokenizers.items()} == {"mirna": "bins", "mrna": "codec", "rppa": "codec"}
    assert tokenizers["mirna"].n_bins == 5 and tokenizers["mrna"].shape == (2,) and tokenizers["rppa"].shape == (1,)


@pytest.mark.thorough
def test_it_is_searched_and_validated_as_others_are() -> None:
    frame, blocks = in_one(tables())
    scores = cross_val_score(MultimodalImputer(**TINY, blocks=blocks), frame, cv=KFold(2, shuffle=True, random_state=0))
    assert scores.shape == (2,) and np.isfinite(scores).all()


def test_what_is_wrong_is_named(fitted: MultimodalImputer) -> None:
    frames = tables()
    frame, blocks = in_one(frames)
    cases: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: fitted.transform({"mrna": frames["mrna"].drop(columns="mrna1")}), DataError, "other columns than in training: 'mrna1'"),
        (lambda: fitted.transform({"blood": frames["mrna"]}), UsageError, "not fitted to a modality 'blood'"),
        (lambda: fitted.transform(frame.to_numpy()), UsageError, "fitted to tables by modality"),
        (lambda: fitted.transform({"mrna": [1, 2]}), UsageError, "mrna is a list"),
        (lambda: fitted.transform({}), UsageError, "no table"),
        (lambda: MultimodalImputer(**TINY, blocks=blocks).fit(frames), UsageError, "have no blocks"),
        (lambda: MultimodalImputer(**TINY, blocks={"a": ["mrna0"]}).fit(frame), UsageError, "'mrna1' is in no block"),
        (lambda: MultimodalImputer(**TINY, blocks={"a": slice(0, 9), "b": [1]}).fit(frame), UsageError, "'mrna1' is in several blocks"),
        (lambda: MultimodalImputer(**TINY, blocks={"a": ["x"]}).fit(frame), UsageError, "no column 'x'"),
        (lambda: MultimodalImputer(**TINY).fit({"a": np.ones((3, 1)), "b": np.ones((4, 1))}), DataError, "different numbers of rows"),
        (lambda: MultimodalImputer(**{**TINY, "method": "magic"}).fit(frames), UsageError, "magic"),
        (lambda: MultimodalImputer(**TINY, validation_fraction=1.5).fit(frames), UsageError, "validation_fraction"),
        (lambda: MultimodalImputer(**{**TINY, "settings": {"colour": 1}}).fit(frames), UsageError, "colour"),
        (lambda: MultimodalImputer(**TINY).fit({"mRNA": frames["mrna"]}), UsageError, "'mRNA' is no name for a modality"),
        (lambda: fitted.donors(frames, n=500), UsageError, "donors"),
    ]
    for call, error, what in cases:
        with pytest.raises(error, match=what):
            call()
