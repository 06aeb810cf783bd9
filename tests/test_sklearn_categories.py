"""Promise: categories that MultimodalImputer fills in are values of the training, in its dtype, whatever a column holds besides."""

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmtool.sklearn import MultimodalImputer
from mmtool.sklearn.column_forms import filled_column
from mmtool.tokenizers.column_types import Ordinal

Frames = dict[str, pd.DataFrame]
TRAINING = {"compile": "off", "batch_tokens": 256, "value_epochs": 0, "validation_samples": 8, "shape": {"depth": 1, "width": 32}}
TINY: dict[str, Any] = {"preset": "tiny", "steps": 2, "bins": 8, "draws": 4, "settings": TRAINING}
FACTOR = np.random.default_rng(0).normal(size=60)
PEOPLE = pd.Index([f"p{number:02d}" for number in range(60)])
STAGE = np.clip(np.round(FACTOR) + 2, 1, 3).astype(int)
GRADE = np.clip(np.round(FACTOR * 2) + 3, 1, 5).astype(int)
LEVELS = ["low", "mid", "high", "extreme"]  # the last one never occurs


def lab() -> pd.DataFrame:
    return pd.DataFrame({"g1": FACTOR, "g2": -FACTOR}, PEOPLE)


def clinic() -> pd.DataFrame:
    columns = {
        "stage": STAGE,
        "code": pd.Series(list(STAGE - 2), dtype=object),
        "share": STAGE / 2,
        "grade": pd.Categorical(GRADE),
        "digits": pd.Categorical(GRADE.astype(str)),
        "level": pd.Categorical(np.array(LEVELS)[STAGE - 1], LEVELS, ordered=True),
        "span": pd.cut(FACTOR, [-9, -1, 0, 1, 9]),
        "steep": pd.Categorical(STAGE * 10, [10, 20, 30], ordered=True),
        "y": FACTOR,
    }
    return pd.DataFrame(columns).set_axis(PEOPLE)


DECLARED = {"stage": "category", "code": "-1<0<1", "share": "category"}


@pytest.fixture(scope="module")
def fitted() -> MultimodalImputer:
    return MultimodalImputer(**TINY, column_types=DECLARED).fit({"lab": lab(), "clinic": clinic()})


@pytest.fixture(scope="module", params=["fitted", "pickled", "saved"])
def opened(request: pytest.FixtureRequest, fitted: MultimodalImputer, tmp_path_factory: pytest.TempPathFactory) -> MultimodalImputer:
    if request.param == "pickled":
        unpickled: MultimodalImputer = pickle.loads(pickle.dumps(fitted))
        return unpickled
    if request.param == "saved":
        fitted.save(path := tmp_path_factory.mktemp("saved") / "imputer")
        return MultimodalImputer.load(path)
    return fitted


def assert_like_training(complete: pd.DataFrame) -> None:
    trained = clinic()
    assert complete.notna().all().all()
    for name in ("stage", "share", "grade", "digits", "level", "steep"):
        assert complete[name].dtype == trained[name].dtype, name
        assert set(complete[name]) <= set(trained[name]), name
    assert set(complete["code"]) <= {-1, 0, 1} and set(complete["code"].map(type)) <= {int, np.int64}


def test_a_table_that_is_absent_has_the_values_and_dtypes_of_the_training(opened: MultimodalImputer) -> None:
    assert_like_training(complete := opened.transform({"lab": lab()})["clinic"])
    drawn = [sample["clinic"] for sample in opened.sample({"lab": lab()}, n=3)]
    for sample in drawn:
        assert_like_training(sample)
    assert set(pd.concat(drawn).groupby("stage").size().index) == {1, 2, 3}
    assert set(map(str, complete["span"])) <= set(map(str, clinic()["span"]))


def test_a_column_that_is_partly_filled_keeps_its_dtype(opened: MultimodalImputer) -> None:
    part = clinic().astype({"stage": "Int64"}).iloc[:6]
    part.loc[PEOPLE[2:4], [name for name in part.columns if name != "y"]] = None
    complete = opened.transform({"lab": lab().iloc[:10], "clinic": part})["clinic"]
    assert complete["stage"].dtype == "Int64"
    assert_like_training(complete.astype({"stage": int}))
    floats = clinic().iloc[:3].astype({"stage": float})
    floats.loc[PEOPLE[1], "stage"] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # 1.0 is the category 1
        stage = opened.transform({"lab": lab().iloc[:6], "clinic": floats})["clinic"]["stage"]
    assert stage.dtype == float and set(stage) <= {1.0, 2.0, 3.0}
    words = clinic().iloc[:3].astype({"stage": str})
    assert set(opened.transform({"lab": lab().iloc[:6], "clinic": words})["clinic"]["stage"]) <= {"1", "2", "3"}


def test_categories_in_order_are_levels_to_the_tokenizer(fitted: MultimodalImputer) -> None:
    types = fitted.run_.imputer.tokenizers["clinic"].types
    assert types["level"] == Ordinal(tuple(LEVELS)) and types["steep"] == Ordinal(("10", "20", "30"))
    assert types["grade"].categories == ("1", "2", "3", "4", "5")


def test_a_level_that_a_frame_does_not_know_goes_into_its_order() -> None:
    column = pd.Series(pd.Categorical(["high", None, None], ["high"], ordered=True))
    complete = filled_column(column, pd.Series([None, "low", "mid"]), Ordinal(tuple(LEVELS)), np.nan, LEVELS)
    assert (
        complete.tolist() == ["high", "low", "mid"] and complete.cat.categories.tolist() == ["low", "mid", "high"] and complete.cat.ordered
    )


def test_what_the_user_declares_counts() -> None:
    frames = {"lab": lab(), "clinic": clinic()[["grade", "y"]]}
    imputer = MultimodalImputer(**TINY, column_types={"grade": "number"}).fit(frames)
    assert "grade" not in imputer.run_.imputer.tokenizers["clinic"].types
