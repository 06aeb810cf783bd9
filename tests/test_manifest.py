"""A table with a column per modality becomes token sets in one command; what a row lacks is declared, and nothing else is invented."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Result
from PIL import Image
from test_errors_cli import assert_refused

import mmtool as front_door
from mmtool.common.errors import DataError, UsageError
from mmtool.data.sample import Sample
from mmtool.data.shards import open_token_set
from mmtool.preprocessing.manifest import ManifestSummary, tokenize_manifest
from mmtool.preprocessing.sources import SourceOptions
from mmtool.tokenizers.base import from_bytes

Mmtool = Callable[..., Result]
COLUMNS = {"image": "picture", "speech": "wav", "text": "caption_1,caption_2"}
AS = {"schemes": {"image": "patches", "speech": "patches"}, "settings": {"image": {"patch": 4}}}
NUM_ROWS = 24


def picture(number: int) -> np.ndarray:
    return np.full((8, 8, 3), 10 * number, np.uint8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A manifest of 24 rows with holes: every third row lacks its picture, every fourth its recording, every fifth its captions."""
    folder = tmp_path / "data"
    (folder / "im").mkdir(parents=True)
    (folder / "wav").mkdir()
    lines = ["patient,picture,wav,caption_1,caption_2,animal,part"]
    for i in range(NUM_ROWS):
        image, wav = f"im/a{i}.png" if i % 3 else "", f"wav/b{i}.wav" if i % 4 else "NA"
        first, second = (f"picture {i}", f"again {i}" if i % 2 else "") if i % 5 else ("", "NA")
        if image:
            Image.fromarray(picture(i)).save(folder / image)
        if i % 4:
            soundfile.write(folder / wav, 0.3 * np.sin(np.arange(2000) * (0.05 + i * 0.01)), 16000)
        lines.append(f"p{i:02d},{image},{wav},{first},{second},{('cat', 'dog', '')[i % 3]},{'train' if i % 6 else 'test'}")
    (folder / "data.csv").write_text("\n".join(lines) + "\n")
    return folder / "data.csv"


def samples(folder: Path, name: str) -> dict[str, Sample]:
    return {sample.key: sample for sample in open_token_set(folder / f"{name}.tar")}


def decoded(folder: Path, name: str) -> dict[str, object]:
    tokenizer = from_bytes(open_token_set(folder / f"{name}.tar").tokenizers[name])
    return {key: tokenizer.decode([sample.tokens[name]])[0] for key, sample in samples(folder, name).items()}


def test_one_command_declares_what_is_absent(mmtool: Mmtool, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokens"
    columns = [word for name, column in COLUMNS.items() for word in ("--column", f"{name}={column}")]
    schemes = ["--as", "image=patches,speech=patches", "--set", "image.patch=4"]
    done = mmtool("tokenize", "--manifest", data, *columns, *schemes, "--label", "animal", "--split-label", "part", "--fit", "-o", out)
    assert done.code == 0, done.err
    assert set(samples(out, "image")) == {f"p{i:02d}" for i in range(NUM_ROWS) if i % 3}
    assert set(samples(out, "speech")) == {f"p{i:02d}" for i in range(NUM_ROWS) if i % 4}
    texts = {key: sample for key, sample in samples(out, "text").items() if "~" not in key}
    assert set(texts) == {f"p{i:02d}" for i in range(NUM_ROWS) if i % 5}
    assert (
        texts["p01"].labels == {"animal": "dog", "part": "train"}
        and texts["p06"].split == "test"
        and texts["p02"].labels == {"part": "train"}
    )
    assert "samples image speech text\n     10   x     x     x\n" in done.err
    assert "      1   -     -     -\n" in done.err, "row 0 holds nothing"
    shards = mmtool("shard", *sorted(out.glob("*.tar")), "--split-label", "part", "-o", tmp_path / "shards", "--json")
    absent = json.loads(shards.out)["absent"]
    assert absent["test"] == {"image": 3, "speech": 1, "text": 0} and absent["train"]["image"] == 4 + 3, "three with a variant"


def test_values_come_back(data: Path, tmp_path: Path) -> None:
    tokenize_manifest(data, tmp_path / "tokens", COLUMNS, **AS)
    pictures = decoded(tmp_path / "tokens", "image")
    assert len(pictures) == 16 and all(np.array_equal(image, picture(int(key[1:]))) for key, image in pictures.items())  # type: ignore[arg-type]


def test_further_captions_are_variants_of_training_samples(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tokenize_manifest(data, tmp_path / "tokens", {"text": "caption_1,caption_2"}, split_label="part")
    texts = decoded(tmp_path / "tokens", "text")
    assert texts["p01"] == "picture 1" and texts["p01~1"] == "again 1" and "p02~1" not in texts
    assert not [key for key in texts if "~" in key and int(key[1:3]) % 6 == 0], "held-out samples have one text"
    said = capfd.readouterr().err
    assert "several texts of one sample: 10 more are variants of training samples, 0 of held-out ones are left out" in said


def test_rows_of_one_key_are_captions_where_that_is_said(tmp_path: Path) -> None:
    lines = [json.dumps({"image_id": i // 2, "text": f"caption {i}"}) for i in range(20)]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    options = SourceOptions(key_column="image_id")
    with pytest.raises(DataError, match=r"'0' was seen before.*--captions all"):
        tokenize_manifest(tmp_path / "c.jsonl", tmp_path / "a", {"text": "text"}, options=options)
    everything = SourceOptions(key_column="image_id", captions="all")
    tokenize_manifest(tmp_path / "c.jsonl", tmp_path / "all", {"text": "text"}, options=everything, split=None)
    texts = decoded(tmp_path / "all", "text")
    assert texts["1"] == "caption 2" and {key for key in texts if "~" not in key} == {str(i) for i in range(10)}
    assert all(texts[key] == f"caption {2 * int(key[:-2]) + 1}" for key in texts if "~" in key)
    first = SourceOptions(key_column="image_id", captions="first")
    tokenize_manifest(tmp_path / "c.jsonl", tmp_path / "first", {"text": "text"}, options=first)
    assert decoded(tmp_path / "first", "text") == {str(i): f"caption {2 * i}" for i in range(10)}


def test_rows_of_one_key_must_agree(data: Path, tmp_path: Path) -> None:
    table = tmp_path / "c.jsonl"
    rows = [{"key": f"k{i // 2}", "picture": f"im/a{1 + i % 2}.png", "class": i % 2} for i in range(8)]
    table.write_text("\n".join(map(json.dumps, rows)))
    options = SourceOptions(captions="all", root=data.parent, key_column="key")
    with pytest.raises(DataError, match=r"c\.jsonl:1: rows of the key 'k0' name different files"):
        tokenize_manifest(table, tmp_path / "o", {"image": "picture"}, options=options, **AS_IMAGE)
    labelled = SourceOptions(captions="all", root=data.parent, key_column="key", label_columns=("class",))
    with pytest.raises(DataError, match="rows of the key 'k0' differ in 'class'"):
        tokenize_manifest(table, tmp_path / "o", {"image": "picture"}, options=labelled, **AS_IMAGE)


AS_IMAGE = {"schemes": {"image": "patches"}, "settings": {"image": {"patch": 4}}}


def test_ids_that_repeat_are_not_passed_over_for_row_numbers(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("id,a\n" + "".join(f"p{i // 2},text {i}\n" for i in range(20)))
    with pytest.raises(DataError, match=r"'id' repeats 'p0'.*--key-column id --captions all.*--key-column none"):
        tokenize_manifest(tmp_path / "d.csv", tmp_path / "out", {"text": "a"})
    assert not (tmp_path / "out").exists()
    (tmp_path / "counted.csv").write_text(",a\n" + "".join(f"{i},text {i}\n" for i in range(20)))
    tokenize_manifest(tmp_path / "counted.csv", tmp_path / "out", {"text": "a"})
    assert len(decoded(tmp_path / "out", "text")) == 20


def test_captions_of_one_key_need_to_know_which_column_that_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--captions: .*--key-column"):
        SourceOptions(captions="all")


def test_paths_begin_in_a_folder_near_the_table(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    meta = data.parent / "meta/table.csv"  # as ESC-50 lies: meta/esc50.csv and audio/
    meta.parent.mkdir()
    meta.write_text("key,file\n" + "".join(f"k{i},b{i}.wav\n" for i in range(NUM_ROWS) if i % 4))
    done = tokenize_manifest(meta, tmp_path / "o", {"sound": "file"}, schemes={"sound": "patches"})
    assert done.modalities["sound"].kind == "audio" and done.modalities["sound"].samples == 18
    assert f"paths in column 'file' begin in {data.parent}/wav" in capfd.readouterr().err


@pytest.mark.parametrize(("cell", "words"), [
    ("im/none.png", r"there is no file .*im/none\.png.*--root"), ("https://a.org/b.png", "is not on this machine"),
    ("data.csv", "is not an image file by its name"), ("12", "there is no file"),
])  # fmt: skip
def test_a_wrong_cell_is_named_or_set_aside(data: Path, tmp_path: Path, cell: str, words: str, capfd: pytest.CaptureFixture[str]) -> None:
    table = data.parent / "t.csv"
    table.write_text("key,picture\n" + "".join(f"k{i},{cell if i == 4 else f'im/a{i}.png'}\n" for i in range(NUM_ROWS) if i % 3))
    with pytest.raises(DataError, match=rf"t\.csv:4.*{words}"):
        tokenize_manifest(table, tmp_path / "o", {"image": "picture"}, **AS_IMAGE)
    assert not (tmp_path / "o").exists()
    done = tokenize_manifest(table, tmp_path / "o", {"image": "picture"}, options=SourceOptions(on_error="skip"), **AS_IMAGE)
    (reject,) = map(json.loads, (tmp_path / "o/image.tar.rejects.jsonl").read_text().splitlines())
    assert done.modalities["image"].rejected == 1 and reject["key"] == "k4" and reject["file"] == f"{table}:4"
    assert f"1 samples were rejected; the reasons are in {tmp_path / 'o/image.tar.rejects.jsonl'}\n" in capfd.readouterr().err


def test_a_file_that_fails_is_listed_by_its_row(data: Path, tmp_path: Path) -> None:
    (data.parent / "im/a4.png").write_bytes(b"no picture")
    done = tokenize_manifest(data, tmp_path / "o", {"image": "picture"}, options=SourceOptions(on_error="skip"), **AS_IMAGE)
    (reject,) = map(json.loads, (tmp_path / "o/image.tar.rejects.jsonl").read_text().splitlines())
    assert done.modalities["image"].rejected == 1 and reject["key"] == "p04"
    assert str(data.parent / "im/a4.png") in reject["file"] and f"{data}:6" in reject["file"] and "cannot be decoded" in reject["reason"]


def test_rows_without_keys_are_numbered_and_joined_by_row(mmtool: Mmtool, data: Path, tmp_path: Path) -> None:
    rows = [line.split(",", 1)[1] for line in data.read_text().splitlines()]
    data.write_text("\n".join(rows))
    columns = ["--column", "image=picture", "--column", "text=caption_1", "--as", "image=patches", "--set", "image.patch=4"]
    done = mmtool("tokenize", "--manifest", data, *columns, "--fit", "-o", tmp_path / "o")
    assert done.code == 0 and "keys: row numbers" in done.err
    joined = mmtool("shard", *sorted((tmp_path / "o").glob("*.tar")), "--by-row", "-o", tmp_path / "shards", "--json")
    both = sum(count for held in json.loads(joined.out)["combinations"].values() for name, count in held.items() if name == "image+text")
    assert both == sum(i % 3 > 0 and i % 5 > 0 for i in range(NUM_ROWS))


def test_a_folder_of_token_sets_is_replaced_and_reused(mmtool: Mmtool, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "tokens"
    tokenize_manifest(data, out, COLUMNS, **AS)
    command = ["tokenize", "--manifest", data, "--column", "image=picture", "--tokenizer", out]
    assert_refused(mmtool(*command, "-o", out, "--force"), 2, "never replaces what the command reads")
    assert mmtool(*command, "-o", tmp_path / "again").code == 0
    before = open_token_set(out / "image.tar").modalities[0].tokenizer
    assert open_token_set(tmp_path / "again/image.tar").modalities[0].tokenizer == before
    assert_refused(mmtool(*command, "-o", tmp_path / "again"), 2, "the output exists already", "--force")
    assert mmtool(*command, "-o", tmp_path / "again", "--force").code == 0
    (tmp_path / "again/notes.md").write_text("mine")
    assert_refused(mmtool(*command, "-o", tmp_path / "again", "--force"), 2, "notes.md")


def test_the_same_manifest_gives_the_same_bytes(data: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        tokenize_manifest(data, tmp_path / name, COLUMNS, **AS)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["image.tar", "presence.json", "speech.tar", "text.tar"]
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)


@pytest.mark.parametrize(("words", "said"), [
    (["image", "im"], ["instead of a kind and files"]), ([], ["which columns hold modalities?"]),
    (["--column", "image=nothing"], ["there is no column 'nothing'", "picture"]),
    (["--column", "x=animal:picture"], ["there is no column 'animal:picture'"]),
    (["--column", "x:smell=picture"], ["there is no kind 'smell'"]),
    (["--column", "values:table=animal"], ["a row of a table is no cell", "mmtool tokenize table"]),
    (["--column", "image=picture,wav"], ["only texts may come from several columns"]),
    (["--column", "image=picture", "--size", "8"], ["--size has no effect with --manifest", "--set NAME.KEY=VALUE"]),
    (["--column", "image=picture", "--set", "size=8"], ["'size' names no modality"]),
    (["--column", "image=picture", "--set", "img.size=8"], ["no column is the modality 'img'"]),
])  # fmt: skip
def test_what_is_not_clear_is_refused(mmtool: Mmtool, data: Path, tmp_path: Path, words: list[str], said: list[str]) -> None:
    done = mmtool("tokenize", *words, "--manifest", data, "--fit", "-o", tmp_path / "o")
    assert done.code in (1, 2) and all(word in " ".join(done.err.split()) for word in said), done.err
    assert not (tmp_path / "o").exists()


def test_without_a_manifest_kind_and_paths_are_needed(mmtool: Mmtool, tmp_path: Path) -> None:
    assert_refused(mmtool("tokenize", "image", "--fit", "-o", tmp_path / "o"), 2, "what is to be tokenized?")
    done = mmtool("tokenize", "image", tmp_path, "--column", "image=x", "--fit", "-o", tmp_path / "o")
    assert_refused(done, 2, "--column has no effect without --manifest")


def test_the_verb_is_a_function(data: Path, tmp_path: Path) -> None:
    done = front_door.tokenize_manifest(data, tmp_path / "o", {"picture:image": "picture"}, schemes={"picture": "patches"}, settings={})
    assert isinstance(done, ManifestSummary) and done.presence == {"picture": 16, "": 8}


def with_pictures(folder: Path, header: str, names: list[str]) -> Path:
    """A manifest whose first column names pictures, a row each; there is a text in every row."""
    for name in {*names}:
        Image.fromarray(picture(int(name.partition(".")[0]))).save(folder / name)
    (folder / "m.csv").write_text(f"{header}\n" + "".join(f"{name},text {row}\n" for row, name in enumerate(names)))
    return folder / "m.csv"


@pytest.mark.parametrize("header", ["image,caption", "img,words"])
def test_the_header_of_a_caption_data_set_does_not_change_the_keys(tmp_path: Path, header: str) -> None:
    table = with_pictures(tmp_path, header, [f"{i}.png" for i in range(12)])
    first, second = header.split(",")
    done = tokenize_manifest(table, tmp_path / "out", {"image": first, "text": second}, **AS_IMAGE)
    assert done.presence == {"image+text": 12}
    assert samples(tmp_path / "out", "image").keys() == samples(tmp_path / "out", "text").keys()


def test_a_picture_in_several_rows_is_asked_about(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table = with_pictures(tmp_path, "img,cap", [f"{i // 3}.png" for i in range(18)])
    columns = {"image": "img", "text": "cap"}
    with pytest.raises(DataError, match=r"m\.csv:\d+.*--group-column img.*--key-column img --captions all.*--key-column none"):
        tokenize_manifest(table, tmp_path / "out", columns, **AS_IMAGE)
    assert not (tmp_path / "out").exists()
    tokenize_manifest(table, tmp_path / "out", columns, options=SourceOptions(group_column="img"), **AS_IMAGE)
    groups = [sample.metadata["group"] for sample in samples(tmp_path / "out", "image").values()]
    assert len(groups) == 18 and len({*groups}) == 6
    assert "stands in several rows" not in capfd.readouterr().err
    options = SourceOptions(key_column="img", captions="all")
    tokenize_manifest(table, tmp_path / "texts", columns, options=options, **AS_IMAGE)
    assert len(samples(tmp_path / "texts", "image")) == 6
    assert "stands in several rows" not in capfd.readouterr().err
    tokenize_manifest(table, tmp_path / "numbered", columns, options=SourceOptions(key_column="none"), **AS_IMAGE)
    assert len(samples(tmp_path / "numbered", "image")) == 18
    assert "warning: a file of the column 'img' stands in several rows" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["id", "ID ", "_id"])
def test_ids_are_known_in_any_spelling(tmp_path: Path, name: str) -> None:
    (tmp_path / "d.csv").write_text(f"{name},a\n" + "".join(f"p{i // 2},text {i}\n" for i in range(20)))
    with pytest.raises(DataError, match="repeats 'p0'"):
        tokenize_manifest(tmp_path / "d.csv", tmp_path / "out", {"text": "a"})


def test_a_word_for_missing_in_a_column_of_paths_is_named(data: Path, tmp_path: Path) -> None:
    data.write_text(data.read_text().replace(",NA,", ",nope,"))
    with pytest.raises(DataError, match=r"there is no file .*nope.*--na nope"):
        tokenize_manifest(data, tmp_path / "out", {"speech:audio": "wav"}, schemes={"speech": "patches"})
