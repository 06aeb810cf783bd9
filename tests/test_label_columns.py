"""A label that is mostly numbers is a number: a stray cell is named, or costs its sample, instead of turning all ages into classes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Raw, Result
from PIL import Image

from mmtool.common.errors import DataError, UsageError
from mmtool.data.shards import open_token_set
from mmtool.preprocessing.readers.entries import label_value
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.shard import shard
from mmtool.preprocessing.sources import SourceOptions, read_items
from mmtool.preprocessing.tokenize import tokenize

Mmtool = Callable[..., Result]
COUNT, ODD = 60, 17
AGES: list[Any] = [20 + i % 50 for i in range(COUNT)]
AGES[ODD] = "unknown"


def csv_table(folder: Path, labels: list[Any]) -> tuple[str, Path]:
    path = folder / "t.csv"
    path.write_text("id,a,age\n" + "".join(f"p{i:02d},{i},{'' if label is None else label}\n" for i, label in enumerate(labels)))
    return "table", path


def parquet_table(folder: Path, labels: list[Any]) -> tuple[str, Path]:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = [None if label is None else str(label) for label in labels]
    path = folder / "t.parquet"
    parquet.write_table(pyarrow.table({"id": [f"p{i:02d}" for i in range(COUNT)], "a": list(range(COUNT)), "age": texts}), path)
    return "table", path


def tsv_texts(folder: Path, labels: list[Any]) -> tuple[str, Path]:
    path = folder / "t.tsv"
    path.write_text(
        "key\ttext\tage\n" + "".join(f"p{i:02d}\tword {i}\t{'NA' if label is None else label}\n" for i, label in enumerate(labels))
    )
    return "text", path


def json_texts(folder: Path, labels: list[Any]) -> tuple[str, Path]:
    path = folder / "t.jsonl"
    path.write_text("".join(json.dumps({"key": f"p{i:02d}", "text": f"word {i}", "age": label}) + "\n" for i, label in enumerate(labels)))
    return "text", path


def npz_clips(folder: Path, labels: list[Any]) -> tuple[str, Path]:
    path = folder / "clips"
    path.mkdir()
    for i, label in enumerate(labels):
        age = {} if label is None else {"age": np.array(label)}
        np.savez(path / f"p{i:02d}.npz", actions=np.arange(4), **age)
    return "trajectory", path


SOURCES = [csv_table, parquet_table, tsv_texts, json_texts, npz_clips]


@pytest.mark.parametrize("source", SOURCES)
def test_an_odd_cell_of_a_number_is_refused_by_name_wherever_labels_are(tmp_path: Path, source: Callable[..., tuple[str, Path]]) -> None:
    kind, path = source(tmp_path, AGES)
    message = r"the label 'age' is a number in 59 of 60 filled cells, but 'unknown' for 'p17' \(.*\)\. .*empty.*text"
    with pytest.raises(DataError, match=message) as error:
        tokenize(kind, [path], tmp_path / "t.tar", name="x", options=SourceOptions(label_columns=("age",)))
    assert path.is_dir() or f"{path}:{ODD + (1 if path.suffix in ('.jsonl', '.parquet') else 2)}" in str(error.value)
    assert not (tmp_path / "t.tar").exists()
    with pytest.raises(DataError, match="the label 'years'"):
        tokenize(kind, [path], None, name="x", options=SourceOptions(label_columns=("years=age",)))


@pytest.mark.parametrize("source", SOURCES)
def test_it_costs_its_sample_where_bad_samples_are_skipped(tmp_path: Path, source: Callable[..., tuple[str, Path]]) -> None:
    kind, path = source(tmp_path, AGES)
    skip = SourceOptions(label_columns=("age",), on_error="skip")
    done = tokenize(kind, [path], tmp_path / "t.tar", name="x", options=skip)
    assert done.samples == COUNT - 1 and done.rejected == 1
    assert {sample.key: sample.labels["age"] for sample in open_token_set(tmp_path / "t.tar")} == {
        f"p{i:02d}": age for i, age in enumerate(AGES) if i != ODD
    }
    (line,) = (tmp_path / "t.tar.rejects.jsonl").read_text().splitlines()
    assert json.loads(line)["key"] == "p17" and "'unknown'" in json.loads(line)["reason"]


@pytest.mark.parametrize("source", [csv_table, parquet_table, tsv_texts, json_texts])
def test_what_is_missing_stays_missing(tmp_path: Path, source: Callable[..., tuple[str, Path]]) -> None:
    kind, path = source(tmp_path, [None if age == "unknown" else age for age in AGES])
    tokenize(kind, [path], tmp_path / "t.tar", name="x", options=SourceOptions(label_columns=("age",)))
    labels = {sample.key: sample.labels for sample in open_token_set(tmp_path / "t.tar")}
    assert labels["p17"] == {} and labels["p18"] == {"age": 38}


@pytest.mark.parametrize(
    "labels",
    [
        [("adult" if i % 2 else 7) for i in range(COUNT)],  # half of them numbers
        [("unknown" if i == 3 else f"grade {i % 3}") for i in range(COUNT)],
        [("unknown" if i == 3 else i % 2 == 0) for i in range(COUNT)],  # yes, no and unknown are classes
        ["TRUE" if i % 2 else "FALSE" for i in range(COUNT)],
    ],
    ids=["half", "text", "bools", "bools in text"],
)
def test_classes_stay_classes(tmp_path: Path, labels: list[Any]) -> None:
    kind, path = json_texts(tmp_path, labels)
    tokenize(kind, [path], tmp_path / "t.tar", name="x", options=SourceOptions(label_columns=("age",)))
    assert [sample.labels["age"] for sample in open_token_set(tmp_path / "t.tar")] == labels


@pytest.mark.parametrize("source", [csv_table, parquet_table, tsv_texts])
def test_codes_padded_with_zeros_are_text_throughout(tmp_path: Path, source: Callable[..., tuple[str, Path]]) -> None:
    kind, path = source(tmp_path, [f"{95 + i:03d}" for i in range(COUNT)])  # 095 to 154, most of them without a zero in front
    tokenize(kind, [path], tmp_path / "t.tar", name="x", options=SourceOptions(label_columns=("age",)))
    assert [sample.labels["age"] for sample in open_token_set(tmp_path / "t.tar")] == [f"{95 + i:03d}" for i in range(COUNT)]


def test_a_number_with_a_stray_zero_is_no_code(tmp_path: Path) -> None:
    kind, path = csv_table(tmp_path, ["04" if i == 3 else i for i in range(COUNT)])
    with pytest.raises(DataError, match="'04' for 'p03'"):
        tokenize(kind, [path], None, name="x", options=SourceOptions(label_columns=("age",)))
    kind, path = json_texts(tmp_path, [True if i == 3 else i for i in range(COUNT)])
    with pytest.raises(DataError, match="but True for 'p03'"):
        tokenize(kind, [path], None, name="x", options=SourceOptions(label_columns=("age",)))


@pytest.mark.parametrize("source", [csv_table, parquet_table, tsv_texts])
@pytest.mark.parametrize(
    ("odd", "share", "advice"), [("-9", 3, "--na -9"), ("-9", 1, "--na -9"), ("1111", 20, "--na 1111"), ("0.5", 3, "text")]
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_number_among_codes_is_neither_a_class_nor_makes_them_numbers(
    tmp_path: Path, source: Callable[..., tuple[str, Path]], odd: str, share: int, advice: str, on_error: Any
) -> None:
    codes = ["02134", "10001", "00501"]
    kind, path = source(tmp_path, [codes[i % 3] if (i + 1) % (share + 1) else odd for i in range(COUNT)])
    options = SourceOptions(label_columns=("age",), on_error=on_error)
    with pytest.raises(DataError, match=rf"'age' holds '02134' for 'p00' \(.*\), as codes do, and {odd} for 'p\d\d' .* {advice}"):
        tokenize(kind, [path], None, name="x", options=options)
    if odd == "-9":
        options = SourceOptions(label_columns=("age",), table=TableOptions(na=("-9",)), on_error=on_error)
        tokenize(kind, [path], tmp_path / "t.tar", name="x", options=options)
        assert {sample.labels.get("age") for sample in open_token_set(tmp_path / "t.tar")} == {*codes, None}


def test_codes_beside_words_are_text(tmp_path: Path) -> None:
    codes = ["02134", "10001", "K1A 0B1"]
    kind, path = csv_table(tmp_path, [codes[i % 3] for i in range(COUNT)])
    tokenize(kind, [path], tmp_path / "t.tar", name="x", options=SourceOptions(label_columns=("age",)))
    assert {sample.labels["age"] for sample in open_token_set(tmp_path / "t.tar")} == set(codes)


def test_numbers_in_scientific_notation_are_numbers() -> None:
    assert [label_value(text) for text in ("1e-05", "-2.5E+10", ".5", "1.0e+2")] == [1e-5, -2.5e10, 0.5, 100]
    assert [label_value(text) for text in ("3e7", "007", "1e+999", "5.", "e-5")] == ["3e7", "007", "1e+999", "5.", "e-5"]


def test_folders_and_patterns(tmp_path: Path) -> None:
    for i in range(6):
        name = f"{i % 3}/x{i}_{'old' if i == 4 else 30 + i}.png"
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), i).save(tmp_path / "in" / name)
    settings = {"patch": 4, "size": 8}
    with pytest.raises(DataError, match=r"the label 'age' is a number in 5 of 6 filled cells, but 'old' for '1/x4_old'"):
        options = SourceOptions(label_pattern=r"x\d_(?P<age>\w+)")
        tokenize("image", [tmp_path / "in"], None, name="x", scheme="patches", settings=settings, options=options)
    (tmp_path / "in" / "1").rename(tmp_path / "in" / "other")
    with pytest.raises(DataError, match=r"the label 'digit' is a number in 4 of 6 filled cells, but 'other' for 'other/x1_31'"):
        options = SourceOptions(label_from_folder="digit")
        tokenize("image", [tmp_path / "in"], None, name="x", scheme="patches", settings=settings, options=options)


def test_labels_files(mmtool: Mmtool, raw: Raw, project: Path, tmp_path: Path) -> None:
    ages, out = tmp_path / "ages.csv", tmp_path / "out.tar"
    ages.write_text("key,age\n" + "".join(f"case{i:02d},{'unknown' if i == 7 else 20 + i}\n" for i in range(40)))
    text = ["tokenize", "text", raw.notes, "--fit", "--labels", ages, "-o", out]
    for command in (text, ["shard", project / "text.tar", "--labels", ages, "-o", out]):
        done = mmtool(*command)
        assert done.code == 1 and not out.exists()
        assert " ".join(done.err.split()).count(f"'age' is a number in 39 of 40 filled cells, but 'unknown' for 'case07' ({ages}:9)") == 1
    assert mmtool(*text, "--on-error", "skip").code == 0
    assert "case07" not in open_token_set(out).keys and len(open_token_set(out)) == 39
    ages.write_text(ages.read_text().replace("unknown", "NA"))
    assert mmtool(*text, "--force").code == 0
    labels = {sample.key: sample.labels for sample in open_token_set(out)}
    assert labels["case07"] == {} and labels["case08"] == {"age": 28}
    ages.write_text("key,site\n" + "".join(f"case{i:02d},{i + 95:03d}\n" for i in range(40)))
    assert mmtool(*text, "--force").code == 0
    assert [sample.labels["site"] for sample in open_token_set(out)] == [f"{i + 95:03d}" for i in range(40)]


def test_labels_are_written_like_the_numbers_of_their_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id;a;dose;cost;site\np1;0,5;1,5;1.200,5;A,B\np2;1,5;-2,25;800;-\np3;2,5;unknown;3;C\n")
    table = TableOptions(decimal=",", thousands=True, na=("unknown",))
    options = SourceOptions(label_columns=("dose", "cost", "site"), table=table)
    labels = {item.key: item.labels for item in read_items("table", [tmp_path / "t.csv"], options)}
    assert labels == {
        "p1": {"dose": 1.5, "cost": 1200.5, "site": "A,B"},
        "p2": {"dose": -2.25, "cost": 800, "site": "-"},
        "p3": {"cost": 3, "site": "C"},
    }
    (tmp_path / "y.csv").write_text("id;y\np1;0,25\np2;unknown\np3;7,5\n")
    options = SourceOptions(labels_path=tmp_path / "y.csv", label_columns=("y",), table=table)
    (tmp_path / "t.csv").write_text("id;a\np1;0,5\np2;1,5\np3;2,5\n")
    assert [item.labels for item in read_items("table", [tmp_path / "t.csv"], options)] == [{"y": 0.25}, {}, {"y": 7.5}]


@pytest.mark.parametrize(("options", "givers"), [
    ({"label_columns": ("y",), "labels_path": "y.csv"}, "--label and from --labels"),
    ({"label_columns": ("y",), "label_pattern": r"(?P<y>\d)"}, "--label and from --label-pattern"),
    ({"label_from_folder": "y", "labels_path": "y.csv"}, "--labels and from --label-from-folder"),
])  # fmt: skip
def test_a_label_of_two_sources_is_refused(tmp_path: Path, options: dict[str, Any], givers: str) -> None:
    (tmp_path / "t.csv").write_text("id,a,y\np1,1,0\np2,2,1\n")
    (tmp_path / "y.csv").write_text("id,y\np1,5\np2,6\n")
    options = {name: tmp_path / value if name == "labels_path" else value for name, value in options.items()}
    with pytest.raises(UsageError, match=rf"the label 'y' comes from {givers}\..*another name"):
        list(read_items("table", [tmp_path / "t.csv"], SourceOptions(**options)))


def test_labels_of_both_sources_stay_where_their_names_differ(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,a,y\np1,1,0\np2,2,1\n")
    (tmp_path / "z.csv").write_text("id,z\np1,5\np2,6\n")
    options = SourceOptions(label_columns=("y",), labels_path=tmp_path / "z.csv")
    assert [item.labels for item in read_items("table", [tmp_path / "t.csv"], options)] == [{"y": 0, "z": 5}, {"y": 1, "z": 6}]


def stack(path: Path, **arrays: Any) -> list[dict[str, Any]]:
    """The labels of 6 pictures in an npz file with these arrays."""
    np.savez(path / "a.npz", images=np.zeros((6, 8, 9), np.uint8), **arrays)
    return [item.labels for item in read_items("image", [path], SourceOptions())]


def test_one_hot_labels_of_a_stack_are_classes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    classes = [0, 2, 1, 1, 0, 2]
    assert [row["labels"] for row in stack(tmp_path, labels=np.eye(3)[classes])] == classes
    assert "is one-hot" in capfd.readouterr().err
    assert stack(tmp_path, labels=np.array([[1, 1]] * 6)) == [{"labels_0": 1, "labels_1": 1}] * 6
    assert "the labels labels_0 to labels_1" in capfd.readouterr().err


@pytest.mark.parametrize("array", [np.arange(5), np.arange(7)[:, None], np.eye(3)[[0, 1]], np.random.default_rng(0).random((6, 4))])
def test_labels_of_a_stack_that_do_not_fit_are_refused_by_name(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"the array `y` of shape .* one value for each of 6 samples"):
        stack(tmp_path, y=array)


def test_what_is_plainly_no_label_of_a_stack_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = stack(tmp_path, grade=np.arange(6), masks=np.zeros((6, 8, 9)), class_names=np.array(["a", "b", "c", "d"]), rows=np.arange(8))
    assert found == [{"grade": number} for number in range(6)]
    assert "as no labels: masks, class_names, rows" in capfd.readouterr().err


def test_labels_of_medmnist(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = {f"{split}_images": np.zeros((2, 8, 9), np.uint8) for split in ("train", "val")}

    def labels(**arrays: Any) -> list[dict[str, Any]]:
        np.savez(tmp_path / "a.npz", **images, **arrays)
        return [item.labels for item in read_items("image", [tmp_path], SourceOptions())]

    several = np.array([[0, 1, 1], [0, 0, 0]])  # as in ChestMNIST
    found = labels(train_labels=several, val_labels=several)
    assert found[0] == {"label_0": 0, "label_1": 1, "label_2": 1, "split": "train"} and len(found) == 4
    assert "has 3 columns, the labels label_0 to label_2" in capfd.readouterr().err
    assert [row["label"] for row in labels(train_labels=np.eye(3)[[2, 0]], val_labels=np.eye(3)[[1, 1]])] == [2, 0, 1, 1]
    found = labels(val_labels=np.array([[4], [5]]))
    assert found == [{"split": "train"}] * 2 + [{"label": 4, "split": "val"}, {"label": 5, "split": "val"}]
    for wrong in (np.zeros((3, 1)), np.zeros((2, 8, 9)), np.zeros((2, 4))):
        with pytest.raises(DataError, match="`val_labels` of shape"):
            labels(train_labels=np.zeros((2, 1)), val_labels=wrong)


def test_codes_are_text_in_all_samples_of_shards(tmp_path: Path) -> None:
    def tokens(name: str, codes: list[Any], tokenizer: Path | None = None) -> Path:
        rows = [json.dumps({"key": f"{name}{i:02d}", "text": f"word {i}", "zip": codes[i % 2]}) for i in range(20)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows))
        options = SourceOptions(label_columns=("zip",))
        tokenize("text", [tmp_path / f"{name}.jsonl"], tmp_path / f"{name}.tar", name="text", options=options, tokenizer=tokenizer)
        return tmp_path / f"{name}.tar"

    first = tokens("a", ["02134", 10001])
    second = tokens("b", [10001, 30001], first)
    (tmp_path / "labels.csv").write_text("key,zip\n" + "".join(f"a{i:02d},{('02134', 10001)[i % 2]}\n" for i in range(20)))
    shard([first, second], tmp_path / "shards.tar", labels=tmp_path / "labels.csv")
    found = {sample.key: sample.labels["zip"] for sample in open_token_set(tmp_path / "shards.tar")}
    assert found == {
        f"{name}{i:02d}": codes[i % 2] for name, codes in (("a", ("02134", "10001")), ("b", ("10001", "30001"))) for i in range(20)
    }


def test_names_of_the_classes_are_no_labels(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((6, 8, 8)), labels=np.arange(6) % 2, classes=np.array(["cat", "dog"]))
    found = list(read_items("image", [tmp_path / "a.npz"], SourceOptions(value_range=(0, 1))))
    assert [item.labels for item in found] == [{"labels": number % 2} for number in range(6)]
    assert "as no labels: classes" in capfd.readouterr().err


@pytest.mark.parametrize("channels", [1, 3])
def test_images_with_channels_first_are_turned_and_that_is_said(channels: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 6, channels)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", X_train=images.transpose(0, 3, 1, 2), Y_train=np.arange(4))
    found = list(read_items("image", [tmp_path / "a.npz"], SourceOptions()))
    np.testing.assert_array_equal(np.stack([item.value for item in found]), images)
    assert [item.labels for item in found] == [{"label": number, "split": "train"} for number in range(4)]
    assert "taken as (channels, height, width)" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["mask", "lat", "mean", "label_map"])
def test_what_lies_beside_a_single_picture_in_colours_does_not_make_many_of_it(name: str, tmp_path: Path) -> None:
    beside = np.zeros(64 if name == "lat" else 3) if name in ("lat", "mean") else np.zeros((64, 48), np.uint8)
    shape = (3, 64, 48) if name == "mean" else (64, 48, 3)
    np.savez(tmp_path / "a.npz", image=np.zeros(shape, np.uint8), **{name: beside})
    with pytest.raises(DataError, match="counts colours or pictures"):
        list(read_items("image", [tmp_path / "a.npz"], SourceOptions()))


def test_two_arrays_of_one_split_are_refused(tmp_path: Path) -> None:
    images = np.zeros((4, 8, 6), np.uint8)
    np.savez(tmp_path / "a.npz", X_train=images, x_train=images)
    with pytest.raises(DataError, match="stand for the same part"):
        list(read_items("image", [tmp_path / "a.npz"], SourceOptions()))


@pytest.mark.parametrize("shape", [(8, 6), (8, 6, 3)])
def test_samples_of_a_split_without_a_known_name_are_never_left_out(shape: tuple[int, ...], tmp_path: Path) -> None:
    held = {name: np.zeros((4, *shape), np.uint8) for name in ("x_train", "x_unlabeled")}
    np.savez(tmp_path / "a.npz", y_train=np.arange(4), **held)
    with pytest.raises(DataError, match=r"`x_unlabeled` of shape .* holds samples too"):
        list(read_items("image", [tmp_path / "a.npz"], SourceOptions()))


@pytest.mark.parametrize(("images", "labels", "known"), [("x_train", "y_train", "label, split"), ("images", "classes", "classes")])
def test_a_label_that_no_array_is_called_by_is_refused_with_those_there_are(images: str, labels: str, known: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{images: np.zeros((4, 8, 6), np.uint8), labels: np.arange(4)})
    with pytest.raises(DataError, match=f"no label 'y'; the labels are: {known}"):
        list(read_items("image", [tmp_path / "a.npz"], SourceOptions(label_columns=("y",))))
