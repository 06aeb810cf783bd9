"""Promise: tables come back from MultimodalImputer with the columns they had: labels, dtypes, time zones and ways of writing dates."""

import warnings
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmtool import DataError, UsageError
from mmtool.sklearn import MultimodalImputer

Frames = dict[str, pd.DataFrame]
TRAINING = {"compile": "off", "batch_tokens": 256, "value_epochs": 0, "validation_samples": 8, "shape": {"depth": 1, "width": 32}}
TINY: dict[str, Any] = {"preset": "tiny", "steps": 2, "bins": 8, "draws": 4, "settings": TRAINING}
FACTOR = np.random.default_rng(0).normal(size=60)
PEOPLE = pd.Index([f"p{number:02d}" for number in range(60)])
DAYS = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(60) * 5 % 37, "D")
LARGE = 2**53 + 1 + 1000 * np.arange(60)  # odd, so that no float holds them
LACKING = ["p03", "p31"]  # p03 is in `person` alone, p31 in both tables; p40 and later in `lab` alone


def lab() -> pd.DataFrame:
    return pd.DataFrame({"a": FACTOR, "b": -FACTOR}, PEOPLE).iloc[10:]


def study(person: pd.DataFrame) -> Frames:
    """`person` of p00 to p39, where two lack all but the number x; `lab` of p10 to p59."""
    person = person.set_axis(PEOPLE).assign(x=FACTOR)
    person.loc[LACKING, [name for name in person.columns if name != "x"]] = None
    return {"person": person.iloc[:40], "lab": lab()}


def filled(frames: Frames, **params: Any) -> pd.DataFrame:
    """The complete table `person`, where all that was given is as it was."""
    complete = MultimodalImputer(**TINY, **params).fit_transform(frames)["person"]
    given = frames["person"]
    for name in given.columns:
        kept = given[name].notna()
        assert complete[name].loc[given.index][kept].tolist() == given[name][kept].tolist(), name
    assert complete.notna().all().all() and list(complete.index) == list(PEOPLE)
    return complete


def test_dates_keep_their_zone_and_dtype() -> None:
    noon = DAYS + pd.Timedelta(hours=12)
    dates = {"day": DAYS, "zoned": noon.tz_localize("Europe/Berlin"), "seconds": noon.astype("datetime64[s]")}
    frames = study(pd.DataFrame(dates))
    complete = filled(frames)
    assert complete[list(dates)].dtypes.tolist() == frames["person"][list(dates)].dtypes.tolist()
    assert complete["zoned"].max() == dates["zoned"].max()
    assert (complete["day"] == complete["day"].dt.normalize()).all(), "days have no hours, whatever fills them"
    gap = complete["zoned"].loc["p40":] - complete["zoned"].dt.tz_convert("UTC").loc["p40":]
    assert (gap == pd.Timedelta(0)).all() and complete["zoned"].between("2020-01-01", "2020-02-08").all()


def test_dates_as_text_stay_text_in_their_form() -> None:
    forms = {
        "day": "%Y-%m-%d",
        "minutes": "%Y-%m-%d %H:%M",
        "seconds": "%Y-%m-%dT%H:%M:%S",
        "offset": "%Y-%m-%dT%H:%M+01:00",
        "german": "%d.%m.%Y",
    }
    person = pd.DataFrame({name: (DAYS + pd.Timedelta(hours=12)).strftime(form) for name, form in forms.items()})
    objects = pd.Series([day.to_pydatetime() for day in DAYS], dtype=object)
    frames = study(person.assign(category=person["day"].astype("category"), object=objects, date=objects.map(lambda day: day.date())))
    complete = filled(frames, column_types={"german": "date:%d.%m.%Y"})
    assert {type(day) for day in complete["object"]} == {datetime} and {type(day) for day in complete["date"]} == {date}
    for name, form in forms.items():
        read = pd.to_datetime(complete[name], format=form)  # raises for another form
        assert read.between("2020-01-01", "2020-02-07").all(), name
    assert complete["category"].dtype == "category" and complete["category"].map(len).eq(10).all()


def test_dates_of_a_table_that_is_not_passed_are_as_in_training(tmp_path: Path) -> None:
    zoned = DAYS.tz_localize("Europe/Berlin")
    imputer = MultimodalImputer(**TINY).fit(study(pd.DataFrame({"text": DAYS.strftime("%Y-%m-%d"), "zoned": zoned})))
    imputer.save(tmp_path / "saved")
    for opened in (imputer, MultimodalImputer.load(tmp_path / "saved")):
        person = opened.transform({"lab": lab()})["person"]
        assert person["zoned"].dtype == zoned.dtype and person["text"].str.fullmatch(r"2020-\d\d-\d\d").all()


def test_dtypes_are_those_that_came() -> None:
    person = pd.DataFrame(
        {
            "single": FACTOR.astype(np.float32),
            "word": pd.array(np.where(FACTOR > 0, "m", "w"), dtype="string"),
            "truth": pd.array(FACTOR > 0, dtype="boolean"),
            "count": pd.array(np.arange(60) % 5, dtype="Int64"),
            "constant": pd.array(np.full(60, 3), dtype="Int64"),
            "digits": FACTOR.round(2).astype(str),
        }
    )
    frames = study(person)
    frames["person"]["plain"], frames["person"]["code"] = 7, np.arange(40) % 2
    complete = filled(frames, column_types={"code": "category"})
    expected = {**frames["person"].dtypes, "count": pd.Float64Dtype()}
    assert complete.dtypes.to_dict() == expected, "means of counts are no whole numbers, all others fit"
    assert complete["digits"].map(type).eq(str).all() and set(complete["code"]) == {0, 1}


def test_integers_that_no_float_holds_stay_as_they_are() -> None:
    person = pd.DataFrame({"id": LARGE, "number": pd.array(LARGE, dtype="Int64"), "y": FACTOR})
    frames = study(person)
    frames["person"]["id"] = LARGE[:40]
    assert frames["person"].dtypes.astype(str).tolist()[:2] == ["int64", "Int64"]
    complete = filled(frames, column_types={"id": "skip", "number": "skip"})
    assert complete.dtypes.astype(str).tolist()[:2] == ["int64", "Int64"]


def test_labels_of_columns_come_back(tmp_path: Path) -> None:
    labels = pd.Index([1, "b ", ("c", "d")], tupleize_cols=False, name="gene")
    mixed = pd.DataFrame(np.stack([FACTOR, -FACTOR, FACTOR * 2], axis=1), PEOPLE, labels).iloc[:40]
    levels = pd.MultiIndex.from_tuples([("g", 1), ("g", 2)], names=["gene", "part"])
    several = lab().set_axis(levels, axis=1)
    imputer = MultimodalImputer(**TINY).fit({"mixed": mixed, "several": several})
    imputer.save(tmp_path / "saved")
    for opened in (imputer, MultimodalImputer.load(tmp_path / "saved")):
        for frames in ({"mixed": mixed, "several": several}, {"mixed": mixed.iloc[:, ::-1]}):
            complete = opened.transform(frames)
            for name, expected in (("mixed", labels), ("several", levels)):
                assert complete[name].columns.equals(expected) and complete[name].columns.names == expected.names
    assert imputer.donors({"mixed": mixed.iloc[:1]})["several"].columns.equals(levels)
    assert imputer.feature_names_["mixed"] == ["1", "b", "('c', 'd')"]


def test_labels_of_one_table_come_back() -> None:
    numbered = pd.DataFrame(np.stack([FACTOR, -FACTOR], axis=1))
    levels = pd.MultiIndex.from_tuples([("g", 1), ("g", 2)])
    for frame in (numbered, numbered.set_axis(levels, axis=1)):
        assert MultimodalImputer(**TINY).fit_transform(frame).columns.equals(frame.columns)


def test_columns_without_any_value_are_warned_of_and_stay() -> None:
    frames = {"lab": lab().assign(empty=np.nan)}
    with pytest.warns(UserWarning, match="lab: no value in 'empty'"):
        imputer = MultimodalImputer(**TINY).fit(frames)
    frames["lab"].loc["p10", ["a", "empty"]] = np.nan, 5.0
    with pytest.warns(UserWarning, match="lab: some entries are still missing in 'empty'"):
        complete = imputer.transform(frames)["lab"]
    assert complete["empty"].isna().sum() == 49 and complete.loc["p10", "empty"] == 5.0 and complete[["a", "b"]].notna().all().all()


def test_errors_speak_of_tables_rows_and_parameters() -> None:
    frame = lab()
    word = frame.astype(object)
    word.loc["p20", "a"] = "high"
    dates = frame.assign(seen=["01/02/2020", "13/02/2020"] * 25)
    twice = frame.set_axis(["a", "a "], axis=1)
    large = frame.assign(c=np.arange(50) + 2**40)
    imputer = MultimodalImputer(**TINY).fit({"lab": frame})
    cases: list[tuple[Any, type[Exception], str]] = [
        (
            lambda: MultimodalImputer(**TINY).fit({"lab": word}),
            DataError,
            r"lab, p20: the column 'a' holds 'high'.*column_types=\{'a': 'category'\}",
        ),
        (lambda: imputer.transform({"lab": word}), DataError, r"lab, p20: the column 'a' holds 'high'.*column_types=\{'a'"),
        (
            lambda: MultimodalImputer(**TINY).fit({"lab": dates}),
            DataError,
            r"lab: the column 'seen'.*column_types=\{'seen': 'date:%d/%m/%Y'\}",
        ),
        (lambda: MultimodalImputer(**TINY).fit({"lab": twice}), DataError, r"lab: .*'a' \(2 times\)\. Rename them"),
        (lambda: MultimodalImputer(**TINY).fit({"lab": large}), DataError, "lab: single precision rounds integers of the columns 'c'"),
        (
            lambda: MultimodalImputer(**TINY, column_types={"a": "magic"}).fit({"lab": frame}),
            UsageError,
            "column_types: 'magic' is no type",
        ),
    ]
    for call, error, what in cases:
        with pytest.raises(error, match=f"^{what}") as raised:
            call()
        assert "--" not in str(raised.value) and ".csv" not in str(raised.value)


def test_unseen_categories_and_indices_that_do_not_meet_are_warned_of() -> None:
    frames = study(pd.DataFrame({"kind": ["lo", "mid", "hi"] * 20, "zip": ["02134", "10001"] * 30}))
    imputer = MultimodalImputer(**TINY).fit(frames)
    new = frames["person"].iloc[:2].assign(kind="zz", zip=2134)
    with pytest.warns(UserWarning) as said:
        imputer.transform({"person": new})
    unseen = [str(warning.message) for warning in said if "that the tokenizer does not know count as missing" in str(warning.message)]
    assert len(unseen) == 2 and "'kind'" in unseen[0] and unseen[0].endswith("'zz' (2)") and unseen[1].endswith("'2134' (2)")
    person, padded = frames["person"].set_axis(range(40)), lab().set_axis([f"{number:03d}" for number in range(50)])
    with pytest.warns(UserWarning, match=r"only 0 samples of person \(others: '0', .*\) are in lab \('000', "):
        imputer.transform({"person": person, "lab": padded})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        imputer.transform({"person": frames["person"], "lab": lab().iloc[:3]})
