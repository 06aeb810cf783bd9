"""Promise: values given in Python are read as those of files and data frames, or refused by name."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import mmtool as library
from mmtool import DataError, UsageError
from mmtool.api import Run

TINY = {"preset": "tiny", "steps": 1, "batch_tokens": 256, "compile": "off", "value_epochs": 1, "shape": {"depth": 1, "width": 32}}
ROWS = [{"stage": 1, "seen": date(2020, 1, 1), "y": 0.5}, {"stage": 2, "seen": date(2020, 1, 8), "y": -0.5}]


def visits() -> pd.DataFrame:
    """Rows of 60 visits: a category whose names are integers, a day, a number."""
    random = np.random.default_rng(0)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(60) % 9, "D")
    return pd.DataFrame(
        {"stage": random.integers(1, 4, 60), "seen": days, "y": random.normal(size=60).round(3)}, index=[f"p{i:02d}" for i in range(60)]
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on pictures, texts and the table."""
    folder, frame = tmp_path_factory.mktemp("given"), visits()
    (folder / "images").mkdir()
    for place, key in enumerate(frame.index):
        Image.new("RGB", (8, 8), (4 * place, 0, 200)).save(folder / f"images/{key}.png")
    pd.Series([f"visit {place % 7}" for place in range(60)], frame.index, name="note").to_csv(folder / "text.csv", index_label="key")
    frame.assign(seen=frame["seen"].dt.strftime("%Y-%m-%d")).to_csv(folder / "visit.csv", index_label="key")
    library.tokenize("image", folder / "images", folder / "image.tar", size=8, steps=2)
    library.tokenize("text", folder / "text.csv", folder / "text.tar", source={"text_column": "note"})
    types = {"column_types": {"stage": "category"}}
    library.tokenize("table", folder / "visit.csv", folder / "visit.tar", name="visit", source=types, n_bins=np.int64(8))
    library.shard([folder / f"{name}.tar" for name in ("image", "text", "visit")], folder / "shards", seed=np.int64(0))
    library.pretrain(folder / "shards", folder / "run", **{**TINY, "steps": np.int64(1)})
    opened = library.load(folder / "run")
    assert isinstance(opened, Run)
    return opened


def tokens_of(run: Run, name: str, values: Any, keys: Any = None) -> list[list[int] | None]:
    samples = run.encode({name: values}, keys=keys)
    return [sample.tokens[name].tolist() if name in sample.tokens else None for sample in samples]


def test_a_value_of_a_category_is_its_name_in_rows_as_in_data_frames(run: Run) -> None:
    as_rows, as_frame = tokens_of(run, "visit", ROWS), tokens_of(run, "visit", pd.DataFrame(ROWS).astype({"seen": "datetime64[ns]"}))
    assert as_rows == as_frame
    assert tokens_of(run, "visit", [{**row, "stage": f"{row['stage']}"} for row in ROWS]) == as_frame
    assert tokens_of(run, "visit", [{**row, "stage": float(row["stage"])} for row in ROWS]) == as_frame
    with pytest.raises(DataError, match=r"visit, 0: the column 'stage' holds 0, a category that no .* or None"):
        run.encode({"visit": [{**ROWS[0], "stage": 0}]})


@pytest.mark.parametrize(
    "moment", [np.datetime64("2020-01-08"), np.datetime64("2020-01-08", "ns"), pd.Timestamp("2020-01-08"), "2020-01-08"]
)
def test_a_day_is_a_day_whatever_type_holds_it(run: Run, moment: Any) -> None:
    assert tokens_of(run, "visit", [{**ROWS[1], "seen": moment}]) == tokens_of(run, "visit", ROWS[1:])


def test_numbers_beyond_the_codes_are_said_and_infinite_ones_refused(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    run.encode({"visit": [{**ROWS[0], "y": 1e9}, ROWS[1]]})
    assert "1 numbers of y in 1 visit samples lie beyond the data" in capfd.readouterr().err
    for value, said in ((np.inf, "'y' holds inf"), (1e300, "'y' is infinite"), ([1.0, 2.0], "'y' holds .*neither text nor")):
        with pytest.raises(DataError, match=f"visit, 0: .*{said}"):
            run.encode({"visit": [{**ROWS[0], "y": value}]})


@pytest.mark.parametrize("none", [None, float("nan"), np.float32("nan"), pd.NA, pd.NaT])
def test_whatever_stands_for_no_value_is_none(run: Run, none: Any) -> None:
    assert tokens_of(run, "visit", [ROWS[0], none])[1] is None
    assert tokens_of(run, "visit", [{**ROWS[0], "y": none}]) == tokens_of(run, "visit", [{**ROWS[0], "y": None}])
    assert tokens_of(run, "text", ["visit 1", none])[1] is None


def test_a_text_without_words_is_a_missing_modality(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    listed = tokens_of(run, "text", ["visit 1", "", " \n"])
    assert listed[0] and listed[1:] == [None, None]
    assert "2 of 3 values of text are empty, hence absent" in capfd.readouterr().err
    samples = run.encode({"text": pd.Series(["visit 1", ""], index=["a", "b"]), "visit": visits().iloc[:2].set_axis(["a", "b"])})
    assert [sample.present for sample in samples] == [("text", "visit"), ("visit",)]


def test_pictures_of_pillow_are_read_as_those_in_files(run: Run) -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[2:, :5, 0] = 220
    picture = Image.fromarray(pixels)
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6
    clear = picture.convert("RGBA")
    clear.putalpha(0)
    asked = [pixels, picture, turned, clear, np.full((8, 8, 3), 255, np.uint8)]
    plain, of_pillow, upright, transparent, white = tokens_of(run, "image", asked)
    assert plain == of_pillow == upright != white == transparent
    for odd, said in ((np.zeros((0, 0, 3), np.uint8), "0 x 0 pixels"), ("scan.png", "is str"), (picture.convert("F"), "float32 values")):
        with pytest.raises(DataError, match=f"image, 0: .*{said}"):
            run.encode({"image": [odd]})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"text": "a red scan"}, "text is a single str"),
        ({"visit": ROWS[0]}, "visit is a single dict"),
        ({"text": None}, "text is a single NoneType"),
        ({"visit": pd.DataFrame(ROWS), "text": ["visit 1", None]}, "text is list, no data frame"),
        (pd.DataFrame(ROWS), "without names of modalities"),
    ],
)
def test_what_is_no_list_of_values_is_refused(run: Run, values: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run.encode(values)
    for name, value in (("text", 5), ("visit", np.zeros(3)), ("visit", pd.Series([1.0, 2.0]))):
        with pytest.raises(DataError, match=f"{name}, 0: "):
            run.encode({name: value if isinstance(value, pd.Series) else [value]})


@pytest.mark.parametrize("as_given", [list, np.array, pd.Index, pd.Series, iter])
def test_keys_come_in_any_list_and_are_text(run: Run, as_given: Callable[[Any], Any]) -> None:
    assert [sample.key for sample in run.encode({"visit": ROWS}, keys=as_given([7, 9]))] == ["7", "9"]


def test_keys_that_are_not_clear_are_refused(run: Run) -> None:
    with pytest.raises(DataError, match="'x' stands more than once"):
        run.encode({"visit": ROWS}, keys=["x", "x"])
    with pytest.raises(DataError, match=r"keys\[1\]: None is no key"):
        run.encode({"visit": ROWS}, keys=["x", None])
    with pytest.raises(UsageError, match="keys is a single str"):
        run.encode({"visit": ROWS}, keys="xy")
    with pytest.raises(UsageError, match="the keys of data frames are their index"):
        run.encode({"visit": visits().iloc[:2]}, keys=["x", "y"])


def test_a_label_is_the_same_sample_in_all_frames(run: Run) -> None:
    scans = pd.Series(["visit 1", "visit 2"], index=["s1.csv", "s2.csv"])
    table = visits().iloc[:3].set_axis(["s2.csv", "s1.csv", "control"])
    frames = {"text": scans, "visit": table}
    assert [(sample.key, sample.present) for sample in run.encode(frames)] == [
        ("control", ("visit",)),
        ("s1.csv", ("text", "visit")),
        ("s2.csv", ("text", "visit")),
    ]
    assert list(run.impute(frames, want="visit").index) == ["s1.csv", "s2.csv", "control"]
    alone = run.impute({"text": scans}, want="visit")
    assert list(alone.index) == ["s1.csv", "s2.csv"] and alone.notna().all(axis=None)
    rest = run.impute({"text": scans, "visit": table.drop(index="s2.csv")}, want="visit", only_missing=True)
    assert list(rest.index) == ["s2.csv"] and rest.notna().all(axis=None)
    joined = run.encode({"text": scans, "visit": table.set_axis(["s2", "s1", "control"])})
    assert [sample.key for sample in joined] == ["control", "s1", "s2"], "names of files meet others without their extension"


def test_numbers_of_numpy_are_numbers(run: Run) -> None:
    samples = run.encode({"text": ["visit 1"]})
    plain = run.impute(samples, "text", "visit", seed=3, draws=2, temperature=0.5, top_k=4)[0]
    same = run.impute(samples, "text", "visit", seed=np.int64(3), draws=np.int8(2), temperature=np.float32(0.5), top_k=np.uint8(4))[0]
    assert np.array_equal(plain.values, same.values, equal_nan=True)
    frame = pd.Series(["visit 1"], index=["a"])
    _, bounds = run.impute({"text": frame}, want="visit", draws=np.int64(3), quantiles=np.float64(0.5))
    assert list(bounds) == [0.5]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"seed": -1}, "seed is -1. Give a whole number from 0"),
        ({"seed": 1 << 64}, "seed is 18446744073709551616"),
        ({"seed": 1.5}, r"seed is 1\.5"),
        ({"seed": None}, "seed is None"),
        ({"draws": None}, "draws is None"),
        ({"have": ["text", "text"]}, "'text' is named more than once"),
        ({"have": ["text", "visit"]}, "'visit' is both given and wanted"),
        ({"want": ["visit"]}, r"\['visit'\] names no modality"),
        ({"samples": {}}, "there is no data frame"),
        ({"samples": {"text": ["visit 1"]}}, "text is list, no data frame"),
        ({"samples": [{"text": "visit 1"}]}, "samples hold dict"),
    ],
)
def test_imputations_that_make_no_sense_are_refused(run: Run, asked: dict[str, Any], said: str) -> None:
    samples = run.encode({"text": ["visit 1"], "visit": ROWS[:1]})
    with pytest.raises(UsageError, match=said):
        run.impute(**{"samples": samples, "have": "text", "want": "visit", **asked})


def test_scores_and_features_are_of_samples(run: Run) -> None:
    samples = run.encode({"text": ["visit 1"], "visit": ROWS[:1]})
    with pytest.raises(UsageError, match="'visit' is both given and wanted"):
        run.score(samples, ["text", "visit"], "visit")
    for wrong in (samples[0], {"text": pd.Series(["visit 1"])}):
        for call in (lambda: run.score(wrong, "text", "visit"), lambda: run.features(wrong, "text"), lambda: run.predict(wrong)):  # noqa: B023
            with pytest.raises(UsageError, match=r"samples are a single (Sample|dict)"):
                call()
    with pytest.raises(UsageError, match="there are no samples"):
        run.features([], "text")
    with pytest.raises(UsageError, match="'text' is named more than once"):
        run.features(samples, ["text", "text"])


def test_one_name_needs_no_list(run: Run, tmp_path: Path) -> None:
    shards = run.imputer.run.path.parent / "shards"
    report = library.evaluate(run.imputer.run.path, shards / "test", tmp_path / "report", tasks="retrieval", candidates=np.int64(3))
    assert report.rows
    assert [modality.name for modality in library.torch_dataset(shards, split="train", modalities="text").modalities] == ["text"]


@pytest.mark.parametrize(("device", "said"), [("gpu", "'gpu' is no device"), ("cuda:99", "no GPU|there is no cuda:99")])
def test_a_run_is_opened_on_a_device_that_there_is(run: Run, device: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        library.load(run.imputer.run.path, device=device)
