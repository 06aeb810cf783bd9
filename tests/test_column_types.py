"""What columns of a table hold is told by their cells or declared, said in one line, and refused where it would be a guess."""

import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmtool.common.errors import DataError, UsageError
from mmtool.data.shards import open_token_set
from mmtool.preprocessing.fit import find_tokenizer
from mmtool.preprocessing.keys import KeyColumnError
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.sources import Item, SourceOptions, read_items
from mmtool.preprocessing.splits import Split
from mmtool.preprocessing.tokenize import tokenize
from mmtool.tokenizers.column_types import Boolean, Category, Date, Ordinal, types_of

EVERYTHING = Split((1.0, 0.0, 0.0))
DATES = ["2021-03-31", "1969-12-31", "2021-03-31", "2020-02-29"]


def table(folder: Path, **columns: Sequence[Any]) -> Path:
    """A CSV with a key and these columns."""
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(["key", *columns]), *(",".join([f"s{i}", *map(str, row)]) for i, row in enumerate(rows))]
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    return folder / "t.csv"


def read(path: Path, **options: Any) -> list[Item]:
    return list(read_items("table", [path], SourceOptions(table=TableOptions(**options))))


def type_of(folder: Path, cells: Sequence[Any], declared: str | None = None) -> Any:
    """The type of a column with these cells beside one of numbers, None where it holds numbers."""
    options = {"column_types": {"x": declared}} if declared else {}
    items = read(table(folder, x=cells, y=range(len(cells))), **options)
    return types_of(items[0].value[1]).get("x")


def values_of(folder: Path, cells: Sequence[Any], declared: str | None = None, **options: Any) -> list[float]:
    options |= {"column_types": {"x": declared}} if declared else {}
    return [float(item.value[0][0]) for item in read(table(folder, x=cells, y=range(len(cells))), **options)]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["b", "a", "b", "NA"], Category(("a", "b"))),
        (["+", "-", "+", "?"], Category(("+", "-"))),
        (["none", "chemo", "chemo", "none"], Category(("chemo", "none"))),
        (["TRUE", "FALSE", "TRUE", ""], Boolean(("FALSE", "TRUE"))),
        (["Yes", "Yes", "No", "NA"], Boolean(("No", "Yes"))),
        (["yes", "yes", "yes", "NA"], Boolean(("no", "yes"))),
        (DATES, Date()),
        (["2021-03-31 10:30", "2021-03-31", "", "2020-02-29T01:00"], Date(timed=True)),
        (["1", "0", "1", "0"], None),
    ],
    ids=lambda value: str(value),
)
def test_cells_tell_what_a_column_holds(tmp_path: Path, cells: list[str], expected: Any) -> None:
    assert type_of(tmp_path, cells) == expected


@pytest.mark.parametrize("cells", [["1", "2", "3", "x"], ["1", "<0.5", "x", "y"], ["inf", "x", "2", "y"], ["1,234", "x", "2", "3"]])
def test_odd_cells_of_a_column_of_numbers_are_no_classes(tmp_path: Path, cells: list[str]) -> None:
    cells = [f'"{cell}"' for cell in cells]
    with pytest.raises(DataError, match=r"'x' holds '(x|<0\.5|inf|1,234)'"):
        type_of(tmp_path, cells)


def test_each_type_of_parquet_is_read_by_its_cells(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {"key": list("abc"), "day": [datetime(2021, 3, 31), None, datetime(2021, 4, 1)], "well": [True, False, None], "z": [1, 2, 3]}
    parquet.write_table(pyarrow.table({**columns, "arm": ["x", "y", "x"]}), tmp_path / "t.parquet")
    types = types_of(read(tmp_path / "t.parquet")[0].value[1])
    assert types == {"day": Date(), "well": Boolean(("False", "True")), "arm": Category(("x", "y"))}


@pytest.mark.parametrize(
    ("cells", "declared", "expected"),
    [
        (["0", "1", "0", "NA"], "boolean", [0, 1, 0, math.nan]),
        (["2", "1", "2", "1"], "category", [1, 0, 1, 0]),
        (["II", "I", "III", "NA"], "I<II<III", [1, 0, 2, math.nan]),
        (["31/12/1969", "02/01/1970", "-", "01/01/1970"], "date:%d/%m/%Y", [-1, 1, math.nan, 0]),
        (["1", "2", "NA", "4"], "number", [1, 2, math.nan, 4]),
    ],
    ids=lambda value: str(value),
)
def test_types_are_declared(tmp_path: Path, cells: list[str], declared: str, expected: list[float]) -> None:
    np.testing.assert_array_equal(values_of(tmp_path, cells, declared), expected)


def test_what_is_skipped_is_no_feature(tmp_path: Path) -> None:
    items = read(table(tmp_path, x=["a", "b", "c"], y=[1, 2, 3]), column_types={"x": "skip"})
    assert items[0].value[1] == ("y",) and items[2].value[0].tolist() == [3]


def test_further_spellings_of_missing_are_no_categories(tmp_path: Path) -> None:
    assert type_of(tmp_path, ["a", "b", "a", "-9"]) == Category(("-9", "a", "b"))
    path = table(tmp_path, x=["a", "b", "a", "-9"], y=range(4))
    items = read(path, na=("-9.0",))
    assert types_of(items[0].value[1]) == {"x": Category(("a", "b"))} and math.isnan(items[3].value[0][0])


@pytest.mark.parametrize("declared", ["text", "category:a", "a<", "a<a", "date:", ""])
def test_what_is_no_type_is_refused(declared: str) -> None:
    with pytest.raises(UsageError, match="is no type of a column") as refused:
        TableOptions(column_types={"x": declared})
    assert "--column-type" in str(refused.value)


def test_a_declared_column_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(KeyColumnError, match="no column 'grade'"):
        read(table(tmp_path, y=[1, 2]), column_types={"grade": "category"})


def test_names_of_samples_are_no_categories(tmp_path: Path) -> None:
    with pytest.raises(KeyColumnError, match="another text in every row") as refused:
        type_of(tmp_path, ["TCGA-1", "TCGA-2", "TCGA-3"])
    assert "--key-column 'x'" in str(refused.value) and "x=skip" in str(refused.value)
    assert type_of(tmp_path, ["TCGA-1", "TCGA-2", "TCGA-3"], "category").categories == ("TCGA-1", "TCGA-2", "TCGA-3")


def test_too_many_categories_are_refused_unless_they_are_declared(tmp_path: Path) -> None:
    cells = [f"town {i % 60}" for i in range(120)]
    with pytest.raises(KeyColumnError, match="60 different texts"):
        type_of(tmp_path, cells)
    assert len(type_of(tmp_path, cells, "category").categories) == 60
    with pytest.raises(KeyColumnError, match="1,001 different texts"):
        type_of(tmp_path, [f"n{i}" for i in range(1001)], "category")


@pytest.mark.parametrize(
    "cells", [["1/2/21", "3/4/21", "1/2/21"], ["31.12.2020", "1.1.2021", "1.1.2021"], ["3-Mar-21", "4-Mar-21", "4-Mar-21"]]
)
def test_dates_that_may_be_read_in_several_ways_are_refused(tmp_path: Path, cells: list[str]) -> None:
    with pytest.raises(KeyColumnError, match="seems to hold dates") as refused:
        type_of(tmp_path, cells)
    assert "date:%d/%m/%Y" in str(refused.value)


def test_a_cell_that_is_not_of_its_type_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'x' holds 'IV', which is not of the column's type, ordinal") as refused:
        values_of(tmp_path, ["I", "II", "IV"], "I<II<III")
    assert "t.csv:4" in str(refused.value)
    assert math.isnan(values_of(tmp_path, ["I", "II", "IV"], "I<II<III", na=("IV",))[2])


def test_what_was_recognised_is_said_in_a_line_for_each_type(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    read(table(tmp_path, sex=list("mffm"), stage=["I", "II", "I", "II"], day=DATES, smoker=["no", "yes", "no", "no"], age=[1, 2, 3, 4]))
    said = capfd.readouterr().err
    assert "columns 'sex', 'stage' are read as categories" in said
    assert "'day' is read as dates" in said and "'smoker' is read as truth values" in said and "'age'" not in said


def test_categories_of_several_tables_are_one_list(tmp_path: Path) -> None:
    for name, cells in (("a", ["x", "z", "z"]), ("b", ["z", "y", "y"])):
        (tmp_path / name).mkdir()
        table(tmp_path / name, arm=cells, y=[1, 2, 3])
        text = (tmp_path / name / "t.csv").read_text().replace("s", name)
        (tmp_path / name / "t.csv").write_text(text)
    tokenize("table", [tmp_path / "a/t.csv", tmp_path / "b/t.csv"], tmp_path / "t.tar", name="t", split=EVERYTHING)
    assert find_tokenizer(tmp_path / "t.tar", "t").types == {"arm": Category(("x", "y", "z"))}  # type: ignore[attr-defined]


def test_a_column_of_another_type_in_another_table_is_refused(tmp_path: Path) -> None:
    for name, cells in (("a", ["x", "z", "z"]), ("b", [1, 2, 3])):
        (tmp_path / name).mkdir()
        table(tmp_path / name, arm=cells, y=[1, 2, 3])
        text = (tmp_path / name / "t.csv").read_text().replace("s", name)
        (tmp_path / name / "t.csv").write_text(text)
    with pytest.raises(DataError, match="'arm' is read as category in one table and as number in another"):
        tokenize("table", [tmp_path / "a/t.csv", tmp_path / "b/t.csv"], tmp_path / "t.tar", name="t", split=EVERYTHING)


def test_a_category_that_was_never_seen_is_refused_or_missing_and_never_another(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tokenize("table", [table(tmp_path, x=list("abab"), y=range(4))], tmp_path / "t.tar", name="t", split=EVERYTHING)
    new = table(tmp_path, x=list("abcc"), y=range(4))
    with pytest.raises(DataError, match="'x' holds 'c', a category that no training sample") as refused:
        tokenize("table", [new], tmp_path / "n.tar", name="t", tokenizer=tmp_path / "t.tar")
    assert "--unseen missing" in str(refused.value) and "t.csv:4" in str(refused.value)
    options = SourceOptions(table=TableOptions(unseen="missing"))
    tokenize("table", [new], tmp_path / "n.tar", name="t", tokenizer=tmp_path / "t.tar", options=options)
    assert "count as missing: 'c' (2)" in capfd.readouterr().err
    tokenizer = find_tokenizer(tmp_path / "n.tar", "t")
    values = [float(row[0]) for row in tokenizer.decode([sample.tokens["t"] for sample in open_token_set(tmp_path / "n.tar")])]
    np.testing.assert_array_equal(values, [0, 1, math.nan, math.nan])


def test_features_of_one_name_that_hold_no_numbers_are_not_made_one(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("key,arm,arm,y\na,x,x,1\nb,y,x,2\nc,x,y,3\n")
    with pytest.raises(KeyColumnError, match="several columns are called 'arm'"):
        read(tmp_path / "t.csv", duplicates="mean")


def test_ordinals_and_dates_are_written_as_they_are(tmp_path: Path) -> None:
    assert Ordinal(("low", "mid", "high")).write(1.6) == "high" and Date().write(18717.4) == "2021-03-31"
    assert Date(timed=True).write(18717.4375) == "2021-03-31T10:30"


def test_rows_share_the_names_of_their_columns(tmp_path: Path) -> None:
    first, second = read(table(tmp_path, x=list("aba"), y=range(3)))[:2]
    assert first.value[1] is second.value[1]
