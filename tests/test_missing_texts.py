"""A text that says it is missing is none, in whatever format it stands; words that merely look like it are kept, and the count is said."""

import json
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pytest
from conftest import Result
from pyarrow import parquet

from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.sources import SourceOptions, read_items

NULL = r"\N"  # as MySQL, Postgres and Hive write it
TEXTS = {"a": "a dog", "b": "NA", "c": " nan ", "d": "null", "e": "None", "f": "-", "g": "NA is sodium", "h": "banana", "i": NULL}
KEPT = {"a": "a dog", "e": "None", "f": "-", "g": "NA is sodium", "h": "banana"}


def write(path: Path) -> Path:
    form = path.suffix[1:]
    if form in ("csv", "tsv"):
        mark = "," if form == "csv" else "\t"
        path.write_text("".join(f"{key}{mark}{text}\n" for key, text in {"key": "text", **TEXTS}.items()))
    elif form == "jsonl":
        path.write_text("".join(json.dumps({"key": key, "text": text}) + "\n" for key, text in TEXTS.items()))
    elif form == "npz":
        np.savez(path, key=np.array(list(TEXTS)), text=np.array(list(TEXTS.values())))
    elif form == "parquet":
        parquet.write_table(arrow.table({"key": list(TEXTS), "text": list(TEXTS.values())}), path)
    elif form == "tar":
        with tarfile.open(path, "w") as archive:
            for key, text in TEXTS.items():
                info = tarfile.TarInfo(f"{key}.txt")
                info.size = len(text)
                archive.addfile(info, BytesIO(text.encode()))
    return path


def read(path: Path, options: SourceOptions | None = None) -> dict[str, str]:
    return {item.key: item.value for item in read_items("text", [path], options or SourceOptions())}


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "npz", "parquet", "tar"])
def test_one_rule_for_all_formats(tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / f"t.{form}")
    assert read(path) == KEPT
    said = capsys.readouterr().err
    assert (
        "texts taken as missing: 1 'NA', 1 '\\N', 1 'nan', 1 'null'; --keep-na keeps them\n" in said and "4 of 9 samples are empty" in said
    )


def test_of_several_texts_the_others_stay(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("key,one,two\na,NA,a dog\nb,a cat,nan\nc,null,NA\n")
    options = SourceOptions(text_column="one,two")
    items = list(read_items("text", [tmp_path / "t.csv"], options))
    assert [(item.key, item.value, item.further) for item in items] == [("a", "a dog", ()), ("b", "a cat", ())]


def test_lines_and_captions_follow_it_too(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_text("one\nNA\nthree\n")
    assert list(read(tmp_path / "l.txt", SourceOptions(lines=True)).values()) == ["one", "three"]
    (tmp_path / "c.txt").write_text("image,caption\n1.jpg,nan\n1.jpg,a dog\n2.jpg,NA\n")
    assert read(tmp_path / "c.txt") == {"1": "a dog"}


def test_words_can_be_kept_and_spellings_added(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("key,text\na,null\nb,eins\nc,no finding\nd,NA\n")
    assert read(tmp_path / "t.csv", SourceOptions(keep_na=True)) == {"a": "null", "b": "eins", "c": "no finding", "d": "NA"}
    options = SourceOptions(table=TableOptions(na=("no finding",)))
    assert read(tmp_path / "t.csv", options) == {"b": "eins"}
    options = SourceOptions(keep_na=True, table=TableOptions(na=("NA",)))
    assert read(tmp_path / "t.csv", options) == {"a": "null", "b": "eins", "c": "no finding"}


def test_a_manifest_says_it_as_well(tmp_path: Path, mmtool: Callable[..., Result]) -> None:
    rows = "".join(f"p{row},{'NA' if row % 4 == 0 else f'a text of {row}'}\n" for row in range(20))
    (tmp_path / "m.csv").write_text("key,note\n" + rows)
    done = mmtool("tokenize", "--manifest", tmp_path / "m.csv", "--column", "text=note", "--fit", "-o", tmp_path / "out")
    assert done.code == 0 and "texts taken as missing: 5 'NA'" in done.err
    done = mmtool("tokenize", "text", tmp_path / "m.csv", "--text-column", "note", "--fit", "-o", tmp_path / "t.tar", "--json")
    assert json.loads(done.out)["absent"] == 5


def test_null_of_databases_is_no_category(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "key,stage,score\n" + "".join(f"p{row},{('early', 'late', NULL)[row % 3]},{row}\n" for row in range(60))
    )
    items = list(read_items("table", [tmp_path / "t.csv"], SourceOptions()))
    header = items[0].value[1]
    assert [np.isnan(item.value[0][header.index("stage")]) for item in items] == [row % 3 == 2 for row in range(60)]
    assert header.types["stage"].categories == ("early", "late")
