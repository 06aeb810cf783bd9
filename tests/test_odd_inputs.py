"""Odd things among raw files are read, refused by name, or left out one by one: links, pipes, missing keys, broken rows of labels."""

import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_shard_damage import forge, parts, refuse, replaced

import mmtool as package
from mmtool.common.errors import DataError
from mmtool.preprocessing.labels import read_labels
from mmtool.preprocessing.readers.entries import label_value
from mmtool.preprocessing.readers.numbers import Numbers
from mmtool.preprocessing.readers.other_formats import OtherFormats
from mmtool.preprocessing.readers.raw_files import find_files, raw_file
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.sources import Reject, SourceOptions, read_items
from mmtool.preprocessing.tokenize import tokenize

Run = Callable[..., Any]


def texts(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.txt").write_text(f"a text called {name}")
    return folder


def test_linked_folders_are_followed_and_no_folder_is_read_twice(tmp_path: Path) -> None:
    texts(tmp_path / "elsewhere", "a", "b")
    texts(tmp_path / "given", "c")
    (tmp_path / "given/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "given/loop").symlink_to(tmp_path / "given")
    found = [file.stem for file in find_files("text", [tmp_path / "given"], None, OtherFormats())]  # type: ignore[union-attr]
    assert sorted(found) == ["c", "linked/a", "linked/b"]


def test_a_folder_is_read_once_where_links_lead_to_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under its own name if it lies below what is given, through the first of several links where it lies elsewhere, never in circles."""
    texts(tmp_path / "given/dogs", "rex")
    texts(tmp_path / "given/.kept/birds", "tweety")
    texts(tmp_path / "elsewhere", "a")
    for name, target in (("best", "given/dogs"), ("birds", "given/.kept/birds"), ("x", "elsewhere"), ("y", "elsewhere"), ("z", "given")):
        (tmp_path / "given" / name).symlink_to(tmp_path / target)
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "given/dogs")
    (tmp_path / "elsewhere/up").symlink_to(tmp_path)
    keys = [item.key for item in read_items("text", [tmp_path / "given"], SourceOptions())]
    assert sorted(keys) == ["birds/tweety", "dogs/rex", "x/a"]
    (said,) = (line for line in capsys.readouterr().err.splitlines() if "links" in line)
    assert said.startswith("left out: 6 links to folders that are read already: ") and f"{tmp_path / 'given/best'}, " in said


def test_a_pipe_is_left_out_and_a_dangling_link_is_one_bad_sample(tmp_path: Path) -> None:
    folder = texts(tmp_path / "given", "a", "b")
    os.mkfifo(folder / "pipe.txt")
    (folder / "gone.txt").symlink_to(folder / "nowhere.txt")
    with pytest.raises(DataError, match=r"gone\.txt.*cannot be opened"):
        list(read_items("text", [folder], SourceOptions()))
    rejects: list[Reject] = []
    items = list(read_items("text", [folder], SourceOptions(on_error="skip"), rejects))
    assert [item.key for item in items] == ["a", "b"] and len(rejects) == 1


def test_a_key_that_says_it_is_missing_is_none(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("id,x\nNA,1\n" + "".join(f"a{i},{i}\n" for i in range(9)))
    with pytest.raises(DataError, match=r"t\.csv:2.*key"):
        list(read_items("table", [table], SourceOptions(key_column="id")))


def test_a_bad_row_of_labels_costs_itself_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("id,colour\n" + "".join(f"r{i},red\n" for i in range(9)) + "r9\n,blue\nr3,blue\nr10,red\n")
    with pytest.raises(DataError):
        read_labels(labels)
    kept = read_labels(labels, on_error="skip")
    assert len(kept.rows) == 10 and capsys.readouterr().err.count("left out: ") == 3


def test_numbers_that_are_no_numbers_stay_text() -> None:
    assert label_value(float("inf")) == "inf"
    assert label_value("1" * 5000) == "1" * 5000


@pytest.mark.parametrize(("separator", "word"), [(";", "semicolons"), ("|", "bars"), ("\t", "tabs")])
def test_other_separators_of_texts_are_named(tmp_path: Path, separator: str, word: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text("\n".join(separator.join(row) for row in (["id", "text"], *([f"a{i}", str(i)] for i in range(9)))) + "\n")
    with pytest.raises(DataError, match=rf"separated by {word}.*--delimiter"):
        list(read_items("text", [path], SourceOptions()))
    items = list(read_items("text", [path], SourceOptions(table=TableOptions(delimiter=separator))))
    assert [item.key for item in items] == [f"a{i}" for i in range(9)]


def test_commas_in_a_tsv_are_named_where_they_separate_columns(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("id,text\n" + "".join(f"a{row},{row}\n" for row in range(9)))
    with pytest.raises(DataError, match=r"this \.tsv seem to be separated by commas.*--delimiter"):
        list(read_items("text", [tmp_path / "t.tsv"], SourceOptions()))
    assert len(list(read_items("text", [tmp_path / "t.tsv"], SourceOptions(table=TableOptions(delimiter="comma"))))) == 9
    (tmp_path / "one.tsv").write_text("text, raw\n" + "".join(f"{row} words\n" for row in range(9)))
    assert len(list(read_items("text", [tmp_path / "one.tsv"], SourceOptions(key_column="none")))) == 9


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(("mark", "end"), [(";", "\r\n"), ("|", "\n"), ("\t", "\r\n"), (",", "\n")])
def test_a_delimiter_that_is_declared_for_excel(tmp_path: Path, mark: str, end: str, encoding: str) -> None:
    rows = ["sep=" + mark, mark.join(("id", "text")), *(mark.join((f"a{row}", f"text {row}")) for row in range(9))]
    path = tmp_path / "t.csv"
    path.write_bytes((end.join(rows) + end).encode(encoding))
    assert {item.key: item.value for item in read_items("text", [path], SourceOptions())} == {f"a{row}": f"text {row}" for row in range(9)}
    path.write_bytes((end.join([*rows, "cut"]) + end).encode(encoding))
    with pytest.raises(DataError, match=r"t\.csv:12: 1 cells"):
        list(read_items("text", [path], SourceOptions()))


def test_tokens_beside_raw_files_are_left_out(tmp_path: Path) -> None:
    folder = texts(tmp_path / "given", *(f"t{i}" for i in range(30)))
    tokenize("text", [folder], folder / "tokens.tar", name="text")
    others = OtherFormats()
    assert len(list(find_files("text", [folder], None, others))) == 30 and "1 .tar of tokens" in str(others)


@pytest.mark.parametrize("text", ["\uff11\uff12", "\u0967\u0968", "1\uff12.5", "\u0663"])
def test_digits_of_other_scripts_are_text(text: str) -> None:
    assert label_value(text) == text
    assert Numbers().number(text) is None and Numbers().row(["1", text]) == [1.0, None]


@pytest.mark.parametrize("name", ["scan.png", "clip.wav", "notes.csv"])
def test_a_pipe_that_is_given_by_name_is_refused(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    kind = {"png": "image", "wav": "audio", "csv": "text"}[name.rpartition(".")[2]]
    with pytest.raises(DataError):
        list(read_items(kind, [tmp_path / name], SourceOptions()))
    with pytest.raises(DataError, match="a pipe, a device or a folder"):
        raw_file(tmp_path / name).read()


def test_ctrl_c_during_the_imports_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n")
    root = Path(package.__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tmp_path, root)))}
    done = subprocess.run([sys.executable, "-m", "mmtool", "--help"], env=environment, capture_output=True, text=True)
    assert done.returncode == 130 and done.stderr == "interrupted.\n"


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_a_label_that_is_no_number_is_no_shard(value: str) -> None:
    name = next(name for name, _ in parts() if name.endswith("a.json"))
    content = dict(parts())[name].replace(b'"digit":1', b'"digit":' + value.encode())
    refuse(forge(replaced(name, content)), "no number|no finite number|not JSON")


def test_files_of_checkpoints_have_the_mode_of_all_others(project: Path) -> None:
    folder = project / "run/checkpoints/00000002"
    assert len({stat.S_IMODE(file.stat().st_mode) for file in [*folder.iterdir(), project / "run/config.json"]}) == 1


def test_links_in_a_zip_are_no_files_of_their_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`zip -y` keeps them, with the path that they lead to as their content."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.txt", "a text")
        link = zipfile.ZipInfo("y.txt")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "x.txt")
    found = list(read_items("text", [tmp_path / "a.zip"], SourceOptions()))
    assert [(item.key, item.value) for item in found] == [("x", "a text")]
    assert "links" in capfd.readouterr().err


def test_what_lies_in_a_folder_that_is_given_as_well_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data/r").mkdir(parents=True)
    (tmp_path / "data/r/x.txt").write_text("a text")
    for inner in ("data/r", "data/r/x.txt"):
        with pytest.raises(DataError, match="which is given as well"):
            list(read_items("text", [tmp_path / "data", tmp_path / inner], SourceOptions()))


def test_a_member_whose_header_is_damaged_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Also where its content is looked at because its name says nothing."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("scan", "not looked at")
    data = (tmp_path / "a.zip").read_bytes()
    directory = data.index(b"PK\x01\x02")
    (tmp_path / "a.zip").write_bytes(data[: directory + 6] + b"\xee" + data[directory + 7 :])  # a version that nobody knows
    with pytest.raises(DataError, match=r"a\.zip"):
        list(read_items("image", [tmp_path / "a.zip"], SourceOptions()))
