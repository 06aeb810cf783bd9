"""A row without any value and an empty text are an absent modality: never trained on, never a truth, and imputed where it is wanted."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmtool.common.errors import DataError
from mmtool.data.shards import TokenSet, open_token_set
from mmtool.imputation.inputs import raw_samples
from mmtool.preprocessing.raw_rows import raw_rows
from mmtool.preprocessing.sources import SourceOptions, read_items
from mmtool.preprocessing.tokenize import tokenize
from mmtool.tokenizers.base import from_bytes

COUNT = 60


def write_tables(folder: Path) -> None:
    """mrna.csv of 60 patients, and protein.csv of the same ones in which every other row is NA."""
    random = np.random.default_rng(0)
    factor = random.normal(size=COUNT)
    for name in ("mrna", "protein"):
        with open(folder / f"{name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sample", *(f"{name}{column}" for column in range(4))])
            for row in range(COUNT):
                values = (factor[row] + 0.3 * random.normal(size=4)).round(3).tolist()
                writer.writerow([f"S{row:02d}", *(("NA", "", " ", "NaN") if name == "protein" and row % 2 else values)])


def read(kind: str, path: Path, **options: Any) -> tuple[dict[str, Any], list[str]]:
    absent: list[str] = []
    items = {item.key: item.value for item in read_items(kind, [path], SourceOptions(**options), absent=absent)}
    return items, absent


def decoded(token_set: TokenSet, name: str) -> list[Any]:
    return from_bytes(token_set.tokenizers[name]).decode([sample.tokens[name] for sample in token_set])


def test_rows_of_na_are_absent_from_tokens_to_imputed_files(tmp_path: Path, mmtool: Callable[..., Any]) -> None:
    write_tables(tmp_path)
    for name in ("mrna", "protein"):
        done = mmtool(
            "tokenize", "table", tmp_path / f"{name}.csv", "--fit", "--n-bins", 8, "--name", name, "--json", "-o", tmp_path / f"{name}.tar"
        )
        assert done.code == 0 and json.loads(done.out)["absent"] == (30 if name == "protein" else 0)
    assert done.err.count("30 of 60 samples are empty, hence absent.") == 1 and "30 samples" in done.err and ", 30 absent," in done.err
    assert mmtool("shard", tmp_path / "mrna.tar", tmp_path / "protein.tar", "-o", tmp_path / "shards").code == 0
    samples = [sample for split in ("train", "validation", "test") for sample in open_token_set(tmp_path / "shards", split)]
    assert {sample.key for sample in samples if sample.present == ("mrna",)} == {f"S{row:02d}" for row in range(1, COUNT, 2)}
    trained = mmtool(
        "pretrain", tmp_path / "shards", "--method", "commutative", "--preset", "tiny", "--set", "shape.depth=1", "--set", "shape.width=32",
        "--set", "value_epochs=1", "--steps", 3, "--batch-tokens", 256, "--no-compile", "-o", tmp_path / "run",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    filled = mmtool("impute", tmp_path / "run", tmp_path / "shards", "-o", tmp_path / "filled", "--json")
    assert filled.code == 0 and json.loads(filled.out.splitlines()[-1])["imputed"] == {"protein": 30}
    sources = [word for name in ("mrna", "protein") for word in ("--raw", f"{name}={tmp_path / name}.csv")]
    filled = mmtool("impute", tmp_path / "run", *sources, "-o", tmp_path / "filled-raw", "--json")
    assert filled.code == 0 and json.loads(filled.out.splitlines()[-1])["imputed"] == {"protein": 30}
    keys = [row[0] for row in csv.reader((tmp_path / "filled-raw/protein.csv").open())][1:]
    assert keys == [f"S{row:02d}" for row in range(1, COUNT, 2)]
    present = {
        sample.key: sample.present
        for sample in raw_samples(tmp_path / "run", {name: tmp_path / f"{name}.csv" for name in ("mrna", "protein")})
    }
    assert present["S01"] == ("mrna",) and present["S02"] == ("mrna", "protein")
    assert len(raw_rows({"protein": tmp_path / "protein.csv"}, tmp_path / "run")["protein"]) == 30
    lines = (tmp_path / "protein.csv").read_text().splitlines(keepends=True)
    (tmp_path / "aliquots.csv").write_text(lines[0] + "".join(line.replace(",", "-01A,", 1) for line in lines[1:]))
    evaluate = ("evaluate", tmp_path / "run", tmp_path / "shards", "--raw", f"protein={tmp_path / 'aliquots.csv'}", "--contact-samples", 0)
    refused = mmtool(*evaluate, "-o", tmp_path / "report")
    assert refused.code == 1 and "'S00-01A'" in refused.err and "--label-pattern" in refused.err
    judged = mmtool(*evaluate, "--label-pattern", "^(?P<key>S..)", "-o", tmp_path / "report")
    assert judged.code == 0 and "raw tables" in (tmp_path / "report" / "report.md").read_text()


def test_a_row_of_na_is_no_average_patient(tmp_path: Path) -> None:
    write_tables(tmp_path)
    summary = tokenize("table", [tmp_path / "protein.csv"], tmp_path / "t.tar", name="protein", scheme="codec", settings={"components": 2})
    assert (summary.samples, summary.absent) == (30, 30) and summary.reconstruction["samples"] == summary.splits["train"]


def test_a_row_of_which_the_tokenizer_keeps_nothing_is_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"p{row},{row},{row % 3},\n" for row in range(30)) + "q,,,5\n"
    (tmp_path / "t.csv").write_text("id,a,b,rare\n" + rows)
    summary = tokenize("table", [tmp_path / "t.csv"], tmp_path / "t.tar", name="lab", settings={"min_present": 0.5})
    assert (summary.samples, summary.absent) == (30, 1) and "q" not in open_token_set(tmp_path / "t.tar").keys
    assert "rows without any value of the features that the tokenizer keeps, hence absent: 1" in capsys.readouterr().err


def test_empty_captions_are_absent_unless_they_are_to_be_kept(tmp_path: Path) -> None:
    cells = ["number one", "", '"  \t"', '"\u2003\n"', "number two"]
    (tmp_path / "t.csv").write_text("key,text\n" + "".join(f"{place},{cell}\n" for place, cell in enumerate(cells)), encoding="utf-8")
    texts, absent = read("text", tmp_path / "t.csv")
    assert texts == {"0": "number one", "4": "number two"} and absent == ["1", "2", "3"]
    texts, absent = read("text", tmp_path / "t.csv", keep_empty=True)
    assert list(texts.values()) == ["number one", "", "  \t", "\u2003\n", "number two"] and absent == []


def test_null_is_no_text_at_all(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"key": "a", "text": null}\n{"key": "b", "text": "one"}\n{"key": "c", "text": ""}\n')
    assert read("text", tmp_path / "t.jsonl") == ({"b": "one"}, ["a", "c"])
    assert read("text", tmp_path / "t.jsonl", keep_empty=True) == ({"b": "one", "c": ""}, ["a"])


def test_empty_files_and_lines_are_absent_and_keep_their_number(tmp_path: Path) -> None:
    for name, content in (("a", "one\n"), ("b", ""), ("c", " \n\n")):
        (tmp_path / f"{name}.txt").write_text(content)
    assert read("text", tmp_path) == ({"a": "one\n"}, ["b", "c"])
    (tmp_path / "a.txt").write_text("one\n\nthree\n")
    assert read("text", tmp_path / "a.txt", lines=True) == ({"a-000000": "one", "a-000002": "three"}, ["a-000001"])


def test_the_key_of_an_absent_sample_is_taken(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("key,text\na,\na,one\n")
    with pytest.raises(DataError, match="the key 'a' was seen before"):
        read("text", tmp_path / "t.csv", key_column="key")


@pytest.mark.parametrize(("kind", "content"), [("text", "key,text\na,\nb, \n"), ("table", "key,x\na,\nb,NA\n")])
def test_nothing_but_absent_samples_is_an_error(tmp_path: Path, kind: str, content: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(DataError, match=r"t\.csv: all 2 samples are empty"):
        tokenize(kind, [tmp_path / "t.csv"], tmp_path / "t.tar", name="x")
    assert not (tmp_path / "t.tar").exists()


def test_images_without_caption_get_one(tmp_path: Path, mmtool: Callable[..., Any]) -> None:
    np.savez(
        tmp_path / "images.npz",
        images=np.random.default_rng(0).integers(0, 255, (40, 4, 4), np.uint8),
        key=[f"{row:03d}" for row in range(40)],
    )
    (tmp_path / "caps.csv").write_text("key,text\n" + "".join(f"{row:03d},{'' if row % 2 else f'number {row}'}\n" for row in range(40)))
    tokenized = mmtool(
        "tokenize", "image", tmp_path / "images.npz", "--fit", "--as", "patches", "--patch", 2, "--size", 4, "-o", tmp_path / "i.tar"
    )
    assert tokenized.code == 0, tokenized.err
    for options, absent in (((), 20), (("--keep-empty",), 0)):
        done = mmtool("tokenize", "text", tmp_path / "caps.csv", "--fit", *options, "--json", "--force", "-o", tmp_path / "t.tar")
        assert done.code == 0 and json.loads(done.out)["absent"] == absent
        sharded = mmtool(
            "shard", tmp_path / "i.tar", tmp_path / "t.tar", "--fractions", 1, 0, 0, "--force", "--json", "-o", tmp_path / "shards"
        )
        assert json.loads(sharded.out)["absent"]["train"] == {"image": 0, "text": absent}
    assert decoded(open_token_set(tmp_path / "t.tar"), "text")[1] == ""
    refused = mmtool("tokenize", "image", tmp_path / "images.npz", "--fit", "--keep-empty", "-o", tmp_path / "x.tar")
    assert refused.code == 2 and "--keep-empty has no effect on image" in refused.err
