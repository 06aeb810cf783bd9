"""An option that means nothing for the files it is given for is refused with its name and theirs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Raw, Result
from test_errors_cli import assert_refused

from mmtool.cli.options import raw_tables
from mmtool.data.shards import open_token_set

Mmtool = Callable[..., Result]
SHEET = "File Name\tSample ID\na.tsv\tS1\n"
CSV = "id,x\n" + "".join(f"p{row},{row}\n" for row in range(20))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """One small file of each format."""
    (tmp_path / "t.csv").write_text(CSV)
    (tmp_path / "sheet.tsv").write_text(SHEET)
    (tmp_path / "t.txt").write_text("one\ntwo\n")
    (tmp_path / "t.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    return tmp_path


def annotated(path: Path) -> Path:
    anndata = pytest.importorskip("anndata", reason="the extra `omics`")
    pandas = pytest.importorskip("pandas")
    data = anndata.AnnData(np.arange(40, dtype=np.float32).reshape(20, 2))
    data.obs = pandas.DataFrame({"dose": [f"{row},5" for row in range(20)]}, index=[f"c{row}" for row in range(20)])
    data.write_h5ad(path)
    return path


@pytest.mark.parametrize("unused", [
    ["--na", "x"], ["--transpose"], ["--no-transpose"], ["--duplicates", "mean"], ["--decimal", ","], ["--thousands"],
    ["--censored", "bound"], ["--delimiter", "tab"], ["--columns", "a,b"], ["--value-column", "x"], ["--feature-column", "x"],
])  # fmt: skip
def test_tables_of_cells_and_annotated_ones(mmtool: Mmtool, tmp_path: Path, unused: list[str]) -> None:
    path = annotated(tmp_path / "cells.h5ad")
    done = mmtool("tokenize", "table", path, "--fit", *unused, "-o", tmp_path / "t.tar")
    assert_refused(done, 2, f"{path}: {unused[0].replace('--no-', '--')} has no effect on files of this format. Leave it out.")
    assert not (tmp_path / "t.tar").exists()


def test_cells_of_labels_are_cells_in_any_format(mmtool: Mmtool, tmp_path: Path) -> None:
    done = mmtool(
        "tokenize", "table", annotated(tmp_path / "c.h5ad"), "--fit", "--label", "dose", "--decimal", ",", "-o", tmp_path / "t.tar"
    )
    assert done.code == 0, done.err


@pytest.mark.parametrize(("kind", "name", "unused"), [
    ("text", "t.txt", ["--text-column", "x"]), ("text", "t.txt", ["--columns", "x"]), ("text", "t.jsonl", ["--lines"]),
    ("text", "t.jsonl", ["--columns", "a,b"]), ("text", "t.jsonl", ["--delimiter", "tab"]),
])  # fmt: skip
def test_texts(mmtool: Mmtool, files: Path, kind: str, name: str, unused: list[str]) -> None:
    done = mmtool("tokenize", kind, files / name, "--fit", *unused, "-o", files / "t.tar")
    assert_refused(done, 2, f"{files / name}: {unused[0]} has no effect on files of this format")


def test_one_file_of_a_folder_is_enough(mmtool: Mmtool, files: Path) -> None:
    folder = files / "notes"
    folder.mkdir()
    (folder / "a.txt").write_text("a note\n")
    done = mmtool("tokenize", "text", folder, "--text-column", "note", "--fit", "-o", files / "t.tar")
    assert_refused(done, 2, f"{folder / 'a.txt'}: --text-column has no effect")
    (folder / "b.csv").write_text("key,note\n" + "".join(f"p{row},note {row}\n" for row in range(20)))
    done = mmtool("tokenize", "text", folder, "--text-column", "note", "--fit", "-o", files / "t.tar")
    assert done.code == 0, done.err


@pytest.mark.parametrize(("unused", "words"), [
    (["--sample-sheet", "sheet.tsv"], "--sample-sheet: a sheet names files of one sample; which column holds their values?"),
    (["--feature-column", "id"], "each row is a sample, so no column names features. Add --transpose"),
    (["--value-column", "x", "--no-transpose"], "Leave one of --value-column and --no-transpose out."),
])  # fmt: skip
def test_options_that_need_another(mmtool: Mmtool, files: Path, unused: list[str], words: str) -> None:
    unused = [str(files / word) if word == "sheet.tsv" else word for word in unused]
    done = mmtool("tokenize", "table", files / "t.csv", "--fit", *unused, "-o", files / "t.tar")
    assert_refused(done, 2, words)


@pytest.mark.parametrize(("kind", "unused", "reason"), [
    ("image", ["--text-column", "x"], "on image"), ("image", ["--clip", 3], "on image"), ("text", ["--channel", "left"], "on text"),
    ("text", ["--censored", "bound"], "on text"), ("text", ["--decimal", ","], "on text without --label or --labels"),
    ("text", ["--value-range", 0, 9], "on text"), ("table", ["--keep-na"], "on table"), ("table", ["--lines"], "on table"),
    ("image", ["--na", "x"], "on image without --label or --labels"), ("image", ["--captions", "first"], "on image"),
    ("audio", ["--columns", "a"], "on audio"), ("text", ["--max-pixels", 9], "on text"), ("image", ["--source-rate-hz", 9], "on image"),
])  # fmt: skip
def test_options_of_other_kinds(mmtool: Mmtool, files: Path, kind: str, unused: list[Any], reason: str) -> None:
    done = mmtool("tokenize", kind, files / "t.csv", "--fit", *unused, "-o", files / "t.tar")
    assert_refused(done, 2, f"{unused[0]} has no effect {reason}. Leave it out.")


def test_labels_and_texts_of_a_command_take_them(mmtool: Mmtool, files: Path) -> None:
    rows = "".join(f"p{row};note {row};{row},5\n" for row in range(18))
    (files / "n.csv").write_text("key;text;dose\n" + rows + "q;null;unknown\nr;no note;1,5\n")
    command = ["tokenize", "text", files / "n.csv", "--delimiter", ";", "--label", "dose", "--decimal", ",", "--na", "unknown"]
    done = mmtool(*command, "--na", "no note", "--fit", "-o", files / "n.tar")
    assert done.code == 0 and "texts taken as missing: 1 'no note', 1 'null'" in done.err, done.err
    samples = {sample.key: sample.labels for sample in open_token_set(files / "n.tar")}
    assert samples["p3"] == {"dose": 3.5} and "q" not in samples
    done = mmtool(*command, "--keep-na", "--fit", "-o", files / "k.tar")
    samples = {sample.key: sample.labels for sample in open_token_set(files / "k.tar")}
    assert done.code == 0 and samples["q"] == {} and "r" in samples


def test_raw_files_of_a_run_are_read_with_the_options_of_tokenize(mmtool: Mmtool, raw: Raw, project: Path, tmp_path: Path) -> None:
    header, *rows = raw.values.read_text().splitlines()
    (tmp_path / "v.csv").write_text("\n".join([header.replace(",", ";"), *(row.replace(",", ";").replace(".", ",") for row in rows)]))
    command = ["impute", project / "run", "--want", "text", "--limit", 5]
    assert mmtool(*command, "--raw", f"lab={raw.values}", "-o", tmp_path / "a").code == 0
    done = mmtool(*command, "--raw", f"lab={tmp_path / 'v.csv'}", "--decimal", ",", "--delimiter", ";", "-o", tmp_path / "b")
    assert done.code == 0, done.err
    assert (tmp_path / "a/imputed.jsonl").read_text() == (tmp_path / "b/imputed.jsonl").read_text()
    tables = [
        raw_tables([f"lab={path}"], project / "run", reading)
        for path, reading in ((raw.values, {}), (tmp_path / "v.csv", {"decimal": ",", "layer": None}))
    ]
    assert tables[0]["lab"].keys() == tables[1]["lab"].keys()
    assert all((tables[0]["lab"][key] == row).all() for key, row in tables[1]["lab"].items())


@pytest.mark.parametrize("unused", [["--layer", "counts"], ["--mod", "rna"], ["--transpose"], ["--na", "x"], ["--decimal", ","]])
def test_evaluate_and_compare_have_them_for_raw_tables_alone(mmtool: Mmtool, project: Path, tmp_path: Path, unused: list[str]) -> None:
    for command in (["evaluate", project / "run", project / "shards"], ["compare", project / "shards", "--methods", "causal"]):
        assert_refused(mmtool(*command, *unused, "-o", tmp_path / "out"), 2, f"{unused[0]} has no effect without --raw")


def test_types_of_columns_say_what_channels_are_and_nothing_of_arrays(mmtool: Mmtool, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", signal=np.arange(99.0).reshape(-1, 3) % 7, sample_rate_hz=50)
    (tmp_path / "b.csv").write_text("time_s,x,label\n" + "".join(f"{row / 50},{row % 7},{row % 3}\n" for row in range(40)))
    command = ["--fit", "--scheme", "patches", "--column-type", "label=number", "-o", tmp_path / "t.tar"]
    done = mmtool("tokenize", "signal", tmp_path / "a.npz", *command)
    assert_refused(done, 2, f"{tmp_path / 'a.npz'}: --column-type has no effect on files of this format. Leave it out.")
    done = mmtool("tokenize", "signal", tmp_path / "b.csv", *command)
    assert done.code == 0 and "left out" not in done.err, done.err
