"""Sample keys come from the column that holds them, by one rule for every reader; rows are numbered only where that is asked for."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmtool.common.errors import DataError, UsageError
from mmtool.data.shards import open_token_set
from mmtool.preprocessing.labels import read_labels
from mmtool.preprocessing.raw_rows import raw_rows
from mmtool.preprocessing.sources import Item, SourceOptions, read_items
from mmtool.preprocessing.tokenize import tokenize


def read(kind: str, *paths: Path, **options: Any) -> dict[str, Item]:
    return {item.key: item for item in read_items(kind, paths, SourceOptions(**options))}


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def features(items: dict[str, Item]) -> tuple[str, ...]:
    return next(iter(items.values())).value[1]


def test_numeric_ids_join_patients_and_not_rows(tmp_path: Path, mmtool: Callable[..., Any]) -> None:
    ids = np.arange(10001, 10041)
    for name, seed in (("mrna", 1), ("protein", 2)):
        order = np.random.default_rng(seed).permutation(ids)
        rows = "".join(f"{patient},{patient % 7},{patient % 5}\n" for patient in order)
        path = text(tmp_path / name / "data.csv", "subject_id,x1,x2\n" + rows)
        done = mmtool("tokenize", "table", path, "--fit", "--name", name, "-o", tmp_path / f"{name}.tar")
        assert done.code == 0 and done.err.count(f"keys: column 'subject_id' of {path}") == 1
    assert mmtool("shard", tmp_path / "mrna.tar", tmp_path / "protein.tar", "-o", tmp_path / "shards").code == 0
    samples = list(open_token_set(tmp_path / "shards", "train"))
    assert {sample.key for sample in samples} <= set(map(str, ids))
    assert all((sample.tokens["mrna"] == sample.tokens["protein"]).all() for sample in samples)


@pytest.mark.parametrize(
    "name", ["key", "ID", "Sample", "Sample.ID", "patient-id", "SUBJECT_ID", "Bar Code", "barcode", "file_name", "x_id", "patientId"]
)
@pytest.mark.parametrize("values", [("P1", "P2"), ("7", "12")])
def test_a_column_with_the_name_of_a_key_is_one_and_no_feature(tmp_path: Path, name: str, values: tuple[str, str]) -> None:
    items = read("table", text(tmp_path / "t.csv", f"a,{name},b\n1,{values[0]},2\n3,{values[1]},4\n"))
    assert tuple(items) == values and features(items) == ("a", "b")


def test_key_comes_before_id_and_id_before_others(tmp_path: Path) -> None:
    path = text(tmp_path / "t.csv", "patient_id,id,key,a\n1,11,21,0\n2,12,22,0\n")
    assert list(read("table", path)) == ["21", "22"] and features(read("table", path)) == ("a",)
    path = text(tmp_path / "u.csv", "patient_id,id,a\n1,11,0\n2,12,0\n")
    assert list(read("table", path)) == ["11", "12"]
    assert list(read("table", path, key_column="patient_id")) == ["1", "2"]
    assert features(read("table", path, key_column="patient_id")) == ("a",)


@pytest.mark.parametrize("header", ["patient_id,sample_id", "id,patient_id"])  # an id that counts the rows is but their number
def test_two_columns_that_may_be_keys_are_named(tmp_path: Path, header: str) -> None:
    path = text(tmp_path / "t.csv", f"{header},a\n1,31,0\n2,12,0\n")
    first, second = header.split(",")
    with pytest.raises(
        DataError, match=rf"t\.csv: several columns may hold the keys: column '{first}', column '{second}'\. .*--key-column NAME"
    ):
        read("table", path)
    assert list(read("table", path, key_column=second)) == ["31", "12"]
    assert list(read("table", path, group_column=first)) == ["31", "12"]


def test_ids_that_repeat_or_are_missing_are_no_keys_and_no_features(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = text(tmp_path / "t.csv", "patient_id,visit_id,sample,a\n7,,S1,0\n7,5,S2,1\n")
    items = read("table", path)
    assert list(items) == ["S1", "S2"] and features(items) == ("a",)
    assert "left out: column 'patient_id' (repeats '7'), column 'visit_id' (has empty cells, the first in row 1)" in capsys.readouterr().err
    assert read("table", path, label_columns=("patient_id",))["S2"].labels == {"patient_id": 7}
    with pytest.raises(DataError, match=r"'patient_id', 'a'; column 'patient_id' \(repeats '7'\)\..*--key-column none"):
        read("table", text(tmp_path / "u.csv", "patient_id,a\n7,0\n7,1\n"))


def test_measured_values_under_the_name_of_an_id_stay_features(tmp_path: Path) -> None:
    items = read("table", text(tmp_path / "t.csv", "key,stain_id,a\nx,0.25,1\ny,3,2\n"))
    assert features(items) == ("stain_id", "a")


def test_an_index_that_counts_the_rows_is_neither_key_nor_feature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = text(tmp_path / "expr.csv", ",g1,g2\n0,1,2\n1,3,4\n2,5,6\n")
    with pytest.raises(DataError, match=r"the nameless first column \(counts the rows\)\. .*--key-column NAME.*--key-column none"):
        read("table", path)
    items = read("table", path, key_column="none")
    assert list(items) == ["expr-000000", "expr-000001", "expr-000002"] and features(items) == ("g1", "g2")
    items = read("table", text(tmp_path / "expr2.csv", "Unnamed: 0,sample,g1\n1,S1,1\n2,S2,3\n"))
    assert list(items) == ["S1", "S2"] and features(items) == ("g1",)
    numbers, column = capsys.readouterr().err.splitlines()
    assert numbers == f"keys: row numbers of {path}; left out: the nameless first column (counts the rows)"
    assert column == f"keys: column 'sample' of {tmp_path / 'expr2.csv'}; left out: column 'Unnamed: 0' (counts the rows)"


@pytest.mark.parametrize("names", [("TCGA-1", "TCGA-2", "TCGA-3"), ("17", "4", "5")])
def test_an_index_with_names_holds_the_keys(tmp_path: Path, names: tuple[str, ...]) -> None:
    rows = [f"{name},1,{place}" for place, name in enumerate(names)]
    items = read("table", text(tmp_path / "t.csv", "\n".join(['"",g1,g2', *rows])))
    assert tuple(items) == names and features(items) == ("g1", "g2")


def test_row_names_of_r_have_no_name_in_the_header(tmp_path: Path) -> None:
    items = read("table", text(tmp_path / "m.tsv", "g1\tg2\nS1\t1\t2\nS2\t3\tNA\n"))
    assert list(items) == ["S1", "S2"] and features(items) == ("g1", "g2")
    for content in ("id,a\n1,2,3\n", "a,b\nx,1,2,\n", "a,b\nx,1,2\ny,1\n"):
        with pytest.raises(DataError, match="cells where the header has"):
            read("table", text(tmp_path / "bad.csv", content))


def test_parquet_knows_integers_floats_and_the_index_of_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"subject_id": [10001, 10002], "a": [0.5, 1.5]})
    frame.to_parquet(tmp_path / "ints.parquet")
    frame.astype({"subject_id": float}).to_parquet(tmp_path / "floats.parquet")
    frame.astype({"subject_id": float}).to_csv(tmp_path / "floats.csv", index=False)
    named = frame.drop(columns="subject_id")
    named.set_axis(["x", "y"]).to_parquet(tmp_path / "index.parquet")
    named.set_axis(pandas.Index([31, 12], name="animal")).to_parquet(tmp_path / "named.parquet")
    found = {
        name: read("table", tmp_path / name) for name in ("ints.parquet", "floats.parquet", "floats.csv", "index.parquet", "named.parquet")
    }
    assert [list(items) for items in found.values()] == [["10001", "10002"]] * 3 + [["x", "y"], ["31", "12"]]
    assert all(features(items) == ("a",) for items in found.values())
    with pytest.raises(DataError, match="no column is known to hold the keys; the columns are: 'a'"):
        named.to_parquet(tmp_path / "plain.parquet")
        read("table", tmp_path / "plain.parquet")


def test_names_of_files_are_keys_without_their_extensions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pictures").mkdir()
    for name in ("cat.png", "caf\u0065\u0301.png"):  # the accent apart from its letter, as macOS stores it
        Image.new("RGB", (4, 4)).save(tmp_path / "pictures" / name)
    captions = text(tmp_path / "captions.csv", "file_name,text\ncat.png,a cat\ncaf\u00e9.png,a coffee\n")
    assert set(read("image", tmp_path / "pictures")) == set(read("text", captions)) == {"cat", "caf\u00e9"}
    assert f"keys: column 'file_name' of {captions}, without the extensions of file names" in capsys.readouterr().err
    assert read_labels(captions).rows == {"cat": {"text": "a cat"}, "caf\u00e9": {"text": "a coffee"}}
    for rows in ("cat.png,1\ncat.jpg,2\n", "cat.png,1\ndog,2\n", "v1.5,1\nv1.6,2\n"):  # different samples, or no names of files
        assert list(read("table", text(tmp_path / "t.csv", f"file,a\n{rows}"))) == [row.split(",")[0] for row in rows.split()]


def test_leading_zeros_are_part_of_a_key(tmp_path: Path) -> None:
    assert list(read("table", text(tmp_path / "t.csv", "id,a\n007,1\n7,2\n7.5x,3\n"))) == ["007", "7", "7.5x"]


def test_several_captions_of_an_image_need_another_key(tmp_path: Path) -> None:
    rows = "".join(f"{number // 2},{number + 100},caption {number}\n" for number in range(6))
    path = text(tmp_path / "coco.csv", "image_id,id,caption\n" + rows)
    assert list(read("text", path, text_column="caption")) == [str(100 + number) for number in range(6)]
    path = text(tmp_path / "plain.csv", "image_id,caption\n1,a\n1,b\n")
    with pytest.raises(DataError, match=r"column 'image_id' \(repeats '1'\)"):
        read("text", path, text_column="caption")


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl", "t.npz"])
def test_texts_follow_the_same_rule(tmp_path: Path, name: str) -> None:
    path, texts = tmp_path / name, ["one", "two"]

    def write(**columns: Any) -> None:
        if name == "t.npz":
            np.savez(path, **columns)
        elif name == "t.jsonl":
            text(path, "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in zip(*columns.values(), strict=True)))
        else:
            rows = [list(columns), *zip(*columns.values(), strict=True)]
            text(path, "".join(("\t" if name == "t.tsv" else ",").join(map(str, row)) + "\n" for row in rows))

    write(text=texts, Patient_ID=[31, 12])
    assert [(key, item.value, item.rows) for key, item in read("text", path).items()] == [("31", "one", None), ("12", "two", None)]
    for columns in ({"text": texts}, {"text": texts, "note": ["a", "b"]}):
        write(**columns)
        with pytest.raises(DataError, match=r"no column is known to hold the keys.*--key-column none"):
            read("text", path)
        assert [(key, item.rows) for key, item in read("text", path, key_column="none").items()] == [("t-000000", 2), ("t-000001", 2)]
    write(text=texts, none=["a", "b"])
    assert list(read("text", path, key_column="none")) == ["a", "b"]


def test_unclear_keys_are_never_skipped(tmp_path: Path) -> None:
    text(tmp_path / "a.csv", "key,text\na,one\n")
    text(tmp_path / "b.csv", "text\ntwo\n")
    with pytest.raises(DataError, match=r"b\.csv: no column is known to hold the keys"):
        read("text", tmp_path, on_error="skip")


def test_a_malformed_row_is_reported_as_such(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv:3: 1 cells where the header has 2"):
        read("table", text(tmp_path / "t.csv", "id,a\n5,1\n7\n9,2\n"))


def test_stacks_and_lines_are_numbered_by_nature(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((2, 3, 3), np.uint8), shade=np.array(["dark", "dim"]))
    items = read("image", tmp_path / "set.npz")
    assert [(key, item.rows, item.labels) for key, item in items.items()][1] == ("set-000001", 2, {"shade": "dim"})
    np.savez(tmp_path / "ids.npz", images=np.zeros((2, 3, 3), np.uint8), image_id=np.array([5, 6]))
    assert [(key, item.rows) for key, item in read("image", tmp_path / "ids.npz").items()] == [("5", None), ("6", None)]
    lines = read("text", text(tmp_path / "t.txt", "one\ntwo\nthree\n"), lines=True)
    assert [(key, item.rows) for key, item in lines.items()][2] == ("t-000002", 3)


def test_labels_files_follow_the_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clinical = text(tmp_path / "clinical.csv", ",age,Patient ID\n0,61,10001.0\n1,NA,10002\n")
    labels = read_labels(clinical)
    assert labels.names == ("age",) and labels.rows == {"10001": {"age": 61}, "10002": {"age": None}}
    assert capsys.readouterr().err == f"keys: column 'Patient ID' of {clinical}\n"
    two = text(tmp_path / "two.csv", "image_id,patient_id,age\n1,31,61\n2,12,70\n")
    with pytest.raises(DataError, match=r"several columns may hold the keys: column 'image_id', column 'patient_id'"):
        read_labels(two)
    assert set(read_labels(two, "patient_id").rows) == {"31", "12"}
    assert read_labels(text(tmp_path / "any.csv", "code,age\nx,61\n")).rows == {"x": {"age": 61}}
    assert read_labels(text(tmp_path / "again.csv", "patient_id,scan,age\nP,1,2\nP,2,2\n"), "scan").rows["1"] == {
        "patient_id": "P",
        "age": 2,
    }
    with pytest.raises(UsageError, match="Choose from: image_id"):
        read_labels(two, "nosuch")


def test_labels_meet_integer_ids_of_a_table(tmp_path: Path) -> None:
    table = text(tmp_path / "t.csv", "id,a\n31,1\n12,2\n")
    labels = text(tmp_path / "labels.csv", "kind,id\nx,12.0\ny,31.0\n")
    assert {key: item.labels for key, item in read("table", table, labels_path=labels).items()} == {
        "31": {"kind": "y"},
        "12": {"kind": "x"},
    }


def test_a_missing_group_is_no_group(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = text(tmp_path / "t.csv", "key,site,a\nx,,1\ny,NA,2\nz,4,3\n")
    assert [item.group for item in read("table", path, group_column="site").values()] == ["x", "y", "4"]
    parquet.write_table(pyarrow.table({"key": ["x", "y", "z"], "site": [None, float("nan"), 4.0], "a": [1, 2, 3]}), tmp_path / "t.parquet")
    items = read("table", tmp_path / "t.parquet", group_column="site", label_columns=("place=site",))
    assert [item.group for item in items.values()] == ["x", "y", "4"] and [item.labels for item in items.values()] == [
        {},
        {},
        {"place": 4.0},
    ]
    np.savez(tmp_path / "t.npz", key=["x", "y"], text=["one", "two"], site=[np.nan, 4.0], kind=["", "NA"])
    items = read("text", tmp_path / "t.npz", group_column="site", label_columns=("kind",))
    assert [item.group for item in items.values()] == ["x", "4"] and [item.labels for item in items.values()] == [{}, {}]


def test_raw_tables_are_keyed_alike(tmp_path: Path) -> None:
    path = text(tmp_path / "t.csv", "subject_id,a\n" + "".join(f"{30 - row},{row}\n" for row in range(20)))
    tokenize("table", [path], tmp_path / "t.tar", name="lab")
    assert raw_rows({"lab": path}, tmp_path / "t.tar")["lab"]["30"].tolist() == [0.0]
    assert open_token_set(tmp_path / "t.tar").keys == [str(30 - row) for row in reversed(range(20))]


# row numbers are not joined in silence


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """Token sets of files of one name without keys: images in a.tar, texts in b.tar, both of 30 rows, and texts of 29 rows in c.tar."""
    (tmp_path / "a").mkdir()
    np.savez(tmp_path / "a/t.npz", images=np.zeros((30, 4, 4), np.uint8))
    options = SourceOptions(key_column="none")
    tokenize("image", [tmp_path / "a/t.npz"], tmp_path / "a.tar", name="image", scheme="patches", settings={"patch": 2, "size": 4})
    for name, count in (("b", 30), ("c", 29)):
        text(tmp_path / name / "t.csv", "text\n" + "".join(f"number {row} of the book\n" for row in range(count)))
        tokenize("text", [tmp_path / name / "t.csv"], tmp_path / f"{name}.tar", name="text", options=options)
    return tmp_path


def test_row_numbers_are_joined_only_where_that_is_asked_for(numbered: Path, mmtool: Callable[..., Any]) -> None:
    join = ("shard", numbered / "a.tar", "-o", numbered / "out")
    done = mmtool(*join, numbered / "b.tar")
    assert done.code == 1 and "image and text have no keys but row numbers" in done.err and "--by-row" in done.err
    assert not (numbered / "out").exists()
    done = mmtool(*join, numbered / "c.tar", "--by-row")
    assert done.code == 1 and "cannot be joined by row: 30 of image, 29 of text" in done.err
    assert mmtool(*join, numbered / "b.tar", "--by-row").code == 0
    assert all(sample.present == ("image", "text") for sample in open_token_set(numbered / "out"))


def test_what_was_joined_by_row_can_be_sharded_again(numbered: Path, mmtool: Callable[..., Any]) -> None:
    assert mmtool("shard", numbered / "a.tar", numbered / "b.tar", "--by-row", "-o", numbered / "out").code == 0
    assert mmtool("shard", numbered / "out", "-o", numbered / "again").code == 0
    tokenize("text", [numbered / "b/t.csv"], numbered / "d.tar", name="note", options=SourceOptions(key_column="none"))
    assert "note have no keys but row numbers" in mmtool("shard", numbered / "out", numbered / "d.tar", "-o", numbered / "more").err


def test_row_numbers_meet_keys_that_name_them(numbered: Path, mmtool: Callable[..., Any]) -> None:
    rows = "".join(f"t-{row:06d},number {row} of the book\n" for row in range(30))
    tokenize("text", [text(numbered / "named.csv", "key,text\n" + rows)], numbered / "named.tar", name="text")
    assert mmtool("shard", numbered / "a.tar", numbered / "named.tar", "-o", numbered / "out").code == 0


def test_a_picture_without_a_name_is_a_picture(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "7.png")
    assert [(key, item.rows) for key, item in read("image", tmp_path, key_column="none").items()] == [("7", None)]


def test_episodes_are_numbered_by_nature_and_clips_without_a_group_keep_theirs(tmp_path: Path) -> None:
    ends = np.array([0, 0, 0, 1, 0, 0, 0, 1], bool)
    np.savez(tmp_path / "t.npz", observations=np.zeros((8, 2)), terminals=ends)
    assert [(key, item.rows) for key, item in read("trajectory", tmp_path / "t.npz").items()] == [("t-000000", 2), ("t-000001", 2)]
    named = {"observations": np.zeros((8, 2)), "episode": np.repeat([3, 5], 4)}
    np.savez(tmp_path / "n.npz", **named)
    assert [(key, item.rows) for key, item in read("trajectory", tmp_path / "n.npz").items()] == [("n-000003", None), ("n-000005", None)]
    sites = text(tmp_path / "sites.csv", "key,site\nt-000000-000000,\nt-000000-000002,\nt-000001-000000,lab\nt-000001-000002,lab\n")
    clips = read("trajectory", tmp_path / "t.npz", clip=2, labels_path=sites, group_column="site", key_column="none")
    assert [item.group for item in clips.values()] == ["t-000000", "t-000000", "lab", "lab"]
