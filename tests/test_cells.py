"""Cells are one text or number each: bytes are text, lists are refused by name, and what holds nothing is no row."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mmtool.common.errors import DataError
from mmtool.preprocessing.label_columns import LabelColumns
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.rejects import Reject
from mmtool.preprocessing.sources import Item, SourceOptions, read_items

BAD = b"\xff\xfe\x00"


def read(kind: str, path: Path, **options: Any) -> dict[str, Item]:
    return {item.key: item for item in read_items(kind, [path], SourceOptions(**options), quiet=True)}


def parquet(path: Path, **columns: Sequence[Any]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path)
    return path


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_bytes_of_a_table_are_text(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"key": [b"p1", b"p2", b"p3", b"p4"], "kind": [b"u", b"v", b"u", None], "site": [b"s", b"s", b"t", b"t"]}
    columns |= {"dose": [b"1", b"0.5", None, b"2"], "grade": [b"lo", b"hi", b"lo", b"hi"], "zip": [b"02134", b"10001"] * 2}
    items = read("table", parquet(tmp_path / "t.parquet", **columns), label_columns=("kind",), group_column="site")
    assert {key: item.labels for key, item in items.items()} == {"p1": {"kind": "u"}, "p2": {"kind": "v"}, "p3": {"kind": "u"}, "p4": {}}
    assert [item.group for item in items.values()] == ["s", "s", "t", "t"]
    values, names = items["p1"].value
    assert values.tolist() == [1, 1, 0] and tuple(names) == ("dose", "grade", "zip")
    assert names.types["grade"].categories == ("hi", "lo") and names.types["zip"].categories == ("02134", "10001")


def test_bytes_of_texts_are_text(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", key=[b"p1", b"p2"], text=["Grüße".encode(), b"NA"], kind=[b"u", b"v"])
    items = read("text", path, label_columns=("kind",))
    assert {key: (item.value, item.labels) for key, item in items.items()} == {"p1": ("Grüße", {"kind": "u"})}


@pytest.mark.parametrize("kind", ["table", "text"])
@pytest.mark.parametrize("column", ["key", "kind", "site"])
@pytest.mark.parametrize("cells", [[BAD, b"v"], [["u"], ["v"]], [{"a": 1}, {"a": 2}]], ids=["bytes", "lists", "dicts"])
def test_what_is_no_name_is_refused_by_name(tmp_path: Path, kind: str, column: str, cells: list[Any]) -> None:
    columns: dict[str, Any] = {"key": ["a", "b"], "kind": ["u", "v"], "site": ["s", "t"], "text": ["1", "2"], column: cells}
    path = parquet(tmp_path / "t.parquet", **columns)
    with pytest.raises(DataError, match=rf"t\.parquet.*the column '{column}' holds .*, which is neither text nor a number"):
        read(kind, path, key_column="key", label_columns=("kind",), group_column="site")


@pytest.mark.parametrize("label", [["u"], {"a": 1}, []])
def test_a_label_of_several_values_costs_its_sample(tmp_path: Path, label: Any) -> None:
    rows = [{"key": f"k{i}", "text": f"word {i}", "kind": label if i == 3 else "u"} for i in range(200)]
    path, rejects = lines(tmp_path / "t.jsonl", *rows), list[Reject]()
    with pytest.raises(DataError, match=r"t\.jsonl:4: the column 'kind' holds"):
        read("text", path, label_columns=("kind",))
    options = SourceOptions(label_columns=("kind",), on_error="skip")
    assert len(list(read_items("text", [path], options, rejects, LabelColumns()))) == 199
    assert [reject.key for reject in rejects] == ["k3"]


def test_lists_are_no_categories_even_where_these_are_declared(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", key=["a", "b"], c=[["u"], ["v"]], x=[1, 2])
    with pytest.raises(DataError, match=r"the column 'c' holds \['u'\], which is neither text nor a number"):
        read("table", path, table=TableOptions(column_types={"c": "category"}))
    assert list(read("table", path, table=TableOptions(column_types={"c": "skip"}))) == ["a", "b"]


@pytest.mark.parametrize("kind", ["table", "text"])
@pytest.mark.parametrize("blank", [",,", " , ,\t", '"","",""'])
def test_rows_of_delimiters_are_blank_lines(tmp_path: Path, kind: str, blank: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"key,text,y\na,1,5\n{blank}\nb,2,6\n{blank}\n{blank}\n")
    assert {key: item.labels for key, item in read(kind, path, label_columns=("y",)).items()} == {"a": {"y": 5}, "b": {"y": 6}}
    with pytest.raises(DataError, match=r"t\.csv:4.*empty key"):
        path.write_text("key,text,y\na,1,5\nb,2,6\n,3,7\n")
        read(kind, path, key_column="key")
    with pytest.raises(DataError, match=r"column 'key' \(has empty cells, the first in row 3\)"):
        read("text", path)


def test_blank_rows_of_labels_are_no_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("key,x\na,1\nb,2\n")
    (tmp_path / "y.csv").write_text("key,y\na,5\n,\nb,6\n,\n")
    assert [item.labels for item in read("table", tmp_path / "t.csv", labels_path=tmp_path / "y.csv").values()] == [{"y": 5}, {"y": 6}]


def test_numbered_rows_keep_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n1,2\n,\n3,4\n")
    assert list(read("table", tmp_path / "t.csv", key_column="none")) == ["t-000000", "t-000002"]


@pytest.mark.parametrize("keep_na", [False, True])
def test_nan_of_json_is_an_absent_text(tmp_path: Path, keep_na: bool) -> None:
    rows = [
        {"key": "a", "text": float("nan")},
        {"key": "b", "text": None},
        {"key": "c", "text": "word"},
        {"key": "d", "text": [float("nan"), "x"]},
    ]
    path, absent = lines(tmp_path / "t.jsonl", *rows), list[str]()
    items = {item.key: item.value for item in read_items("text", [path], SourceOptions(keep_na=keep_na), absent=absent)}
    assert items == {"c": "word", "d": "x"} and absent == ["a", "b"]


def test_a_field_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"key": "a", "text": "x", "text": "y"}\n')
    with pytest.raises(DataError, match=r"t\.jsonl:1: the field 'text' stands twice\. Keep one"):
        read("text", path)


@pytest.mark.parametrize("mark", ["-9", ".", "?"])
def test_na_speaks_of_keys_as_well(tmp_path: Path, mark: str) -> None:
    path, table = tmp_path / "t.csv", TableOptions(na=(mark,))
    path.write_text(f"key,x\na,1\n{mark},2\n")
    assert list(read("table", path)) == ["a", mark]
    with pytest.raises(DataError, match=r"t\.csv:3.*empty key"):
        read("table", path, key_column="key", table=table)
    with pytest.raises(DataError, match=r"column 'key' \(has empty cells, the first in row 2\)|empty key"):
        read("table", path, table=table)
