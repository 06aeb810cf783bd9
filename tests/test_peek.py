"""`peek` decodes samples of every combination of modalities, as files and as one picture."""

import csv
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import COLOURS, Raw, Result
from PIL import Image

import mmtool as package
from mmtool.data.shards import open_token_set
from mmtool.evaluation.peek import choose
from mmtool.preprocessing.sources import SourceOptions
from mmtool.preprocessing.tokenize import tokenize

Mmtool = Callable[..., Result]


@pytest.fixture(scope="module")
def mixed(raw: Raw, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of images, recordings and texts, of which every third entity lacks its text."""
    folder = tmp_path_factory.mktemp("peek")
    rows = list(csv.reader(raw.notes.open()))
    kept = [row for number, row in enumerate(rows) if number % 3 or not number]
    (folder / "notes.csv").write_text("\n".join(map(",".join, ([f'"{cell}"' for cell in row] for row in kept))))
    options = SourceOptions(label_columns=("colour",), text_column="text")
    tokenize("text", [folder / "notes.csv"], folder / "text.tar", name="note", options=options)
    tokenize("image", [raw.images], folder / "image.tar", name="image", scheme="patches", settings={"patch": 4})
    tokenize("audio", [raw.clips], folder / "audio.tar", name="sound", scheme="patches")
    package.shard([folder / f"{name}.tar" for name in ("text", "image", "audio")], folder / "shards")
    return folder / "shards"


def test_samples_are_decoded_into_files_and_a_picture(mixed: Path, raw: Raw, mmtool: Mmtool, tmp_path: Path) -> None:
    done = mmtool("peek", mixed, "--samples", 6, "-o", tmp_path / "look", "--json")
    assert done.code == 0, done.err
    assert set(json.loads(done.out)["combinations"]) == {"image + note + sound", "image + sound"}
    record = json.loads((tmp_path / "look/peek.json").read_text())
    assert len(record["samples"]) == 6 and {len(sample["files"]) for sample in record["samples"]} == {2, 3}
    for sample in record["samples"]:
        home = tmp_path / "look" / f"{sample['number']:02d}"
        assert np.array_equal(np.asarray(Image.open(home / "image.png")), np.asarray(Image.open(raw.images / f"{sample['key']}.png")))
        assert (home / "sound.wav").stat().st_size > 1000
        number = int(sample["key"].removeprefix("case"))
        if (home / "note.txt").exists():
            assert (home / "note.txt").read_text() == f"a {COLOURS[number % 4]} thing, seen on day {number}"
            assert sample["labels"] == {"colour": COLOURS[number % 4]}
    sheet = np.asarray(Image.open(tmp_path / "look/sheet.png").convert("L"))
    assert sheet.shape[1] > 3 * 190 and (sheet < 128).mean() > 0.02
    assert mmtool("lint", tmp_path / "look").code == 0
    assert len(json.loads(mmtool("info", tmp_path / "look", "--json").out)["samples"]) == 6


def test_rows_of_tables_carry_the_keys_of_their_samples(project: Path, mmtool: Mmtool, tmp_path: Path) -> None:
    assert mmtool("peek", project / "lab.tar", "--samples", 3, "-o", tmp_path / "look").code == 0
    for sample in json.loads((tmp_path / "look/peek.json").read_text())["samples"]:
        assert sample["files"] == [f"{sample['number']:02d}/lab.csv"]
        rows = list(csv.DictReader((tmp_path / "look" / sample["files"][0]).open()))
        assert [row["key"] for row in rows] == [sample["key"]]


@pytest.mark.parametrize("verb", ["peek", "shard", "pretrain"])
def test_raw_files_are_to_be_tokenized_first(verb: str, raw: Raw, project: Path, mmtool: Mmtool, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "pictures.tar", "w") as archive:
        archive.add(raw.images, "images")
    (tmp_path / "data.json").write_text('[{"key": "a", "text": "b"}]')
    for path, what in ((raw.notes, "a raw file"), (tmp_path / "data.json", "a raw file"), (tmp_path / "pictures.tar", "an archive of raw")):
        done = mmtool(verb, path, "-o", tmp_path / "out")
        assert done.code == 1 and f"this is {what}" in done.err and f"`mmtool tokenize KIND {path} --fit" in done.err, done.err
    whole = (project / "lab.tar").read_bytes()
    for size in (0, 10, 700, len(whole) - 600):
        (tmp_path / "cut.tar").write_bytes(whole[:size])
        assert "cut" in mmtool(verb, tmp_path / "cut.tar", "-o", tmp_path / "out").err, size
    (tmp_path / "damaged.tar").write_bytes(whole[:3] + b"x" + whole[4:])
    assert "raw" not in mmtool(verb, tmp_path / "damaged.tar", "-o", tmp_path / "out").err.replace(str(tmp_path), "")
    assert not (tmp_path / "out").exists()


def test_every_combination_comes_in_turn_whatever_its_size(mixed: Path) -> None:
    tokens = open_token_set(mixed)
    shown = [tokens.present(number) for number in choose(tokens, 6, 0)]
    assert [len(names) for names in shown] == [3, 2, 3, 2, 3, 2]
    assert choose(tokens, 6, 0) == choose(tokens, 6, 0) != choose(tokens, 6, 1)
    assert sorted(choose(tokens, 10**6, 0)) == list(range(len(tokens)))


def test_it_replaces_what_it_wrote_alone(mixed: Path, mmtool: Mmtool, tmp_path: Path) -> None:
    look = tmp_path / "look"
    assert mmtool("peek", mixed, "-o", look, "--samples", 2).code == 0
    assert mmtool("peek", mixed, "-o", look).code == 2
    assert mmtool("peek", mixed, "-o", look, "--samples", 3, "--force").code == 0
    (look / "mine.txt").write_text("mine")
    assert mmtool("peek", mixed, "-o", look, "--force").code == 2 and (look / "mine.txt").exists()
    assert mmtool("peek", mixed, "-o", tmp_path / "no", "--samples", 0).code == 2 and not (tmp_path / "no").exists()
    assert mmtool("peek", tmp_path / "nothing", "-o", tmp_path / "no").code == 1 and not (tmp_path / "no").exists()


def test_from_python(mixed: Path, tmp_path: Path) -> None:
    assert package.peek(mixed, tmp_path / "look", split="test", samples=1).samples == 1
