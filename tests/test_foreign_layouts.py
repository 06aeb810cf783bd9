"""Layouts that public datasets come in are read as they lie: Parquet and Arrow of Hugging Face, WebDataset, captions, transcripts."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Result
from PIL import Image

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.manifest import tokenize_manifest
from mmtool.preprocessing.sources import Item, Reject, SourceOptions, read_items

Mmtool = Callable[..., Result]
pyarrow = pytest.importorskip("pyarrow", reason="the extra `parquet`")
NUM = 12


def read(kind: str, *paths: Path, rejects: list[Reject] | None = None, **options: Any) -> dict[str, Item]:
    return {item.key: item for item in read_items(kind, list(paths), SourceOptions(**options), rejects)}


def shade(number: int) -> np.ndarray:
    return np.full((8, 8, 1), 20 * number, np.uint8)


def png(number: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(shade(number)[..., 0]).save(data, "PNG")
    return data.getvalue()


def wav(number: int) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, np.full(400, number / NUM), 8000, format="WAV", subtype="FLOAT")
    return data.getvalue()


def shades(items: dict[str, Item]) -> dict[str, int]:
    return {key: int(item.value[0, 0, 0]) // 20 for key, item in items.items()}


def hub_table(path: bool = True) -> Any:
    """As `datasets` writes images and recordings: structs of content and path, one of each missing."""
    names = [f"{i}.png" if path else None for i in range(NUM)]
    image = [None if i == 3 else {"bytes": png(i), "path": names[i]} for i in range(NUM)]
    sound = [{"bytes": None, "path": None} if i == 4 else {"bytes": wav(i), "path": f"{i}.wav"} for i in range(NUM)]
    columns = {
        "image": image,
        "audio": sound,
        "text": [f"a picture {i}" if i != 5 else None for i in range(NUM)],
        "label": list(range(NUM)),
    }
    return pyarrow.table(columns)


def written(table: Any, path: Path) -> Path:
    from pyarrow import ipc, parquet

    if path.suffix == ".parquet":
        parquet.write_table(table, path)
        return path
    opened = ipc.new_stream if "stream" in path.name else ipc.new_file
    with opened(path, table.schema) as writer:
        writer.write_table(table)
    return path


@pytest.mark.parametrize("name", ["train-00000-of-00001.parquet", "data-stream.arrow", "data-file.arrow"])
def test_columns_of_files_as_the_hub_has_them(tmp_path: Path, name: str) -> None:
    path = written(hub_table(), tmp_path / name)
    images = read("image", path, label_columns=("label",))
    stem = path.stem
    assert shades(images) == {f"{stem}-{i:06d}": i for i in range(NUM) if i != 3}
    assert images[f"{stem}-000007"].labels == {"label": 7} and images[f"{stem}-000007"].rows == NUM
    sounds = read("audio", path)
    assert {key: round(float(item.value[0][0]) * NUM) for key, item in sounds.items()} == {
        f"{stem}-{i:06d}": i for i in range(NUM) if i != 4
    }
    texts = read("text", path, key_column="none")
    assert {key: item.value for key, item in texts.items()} == {f"{stem}-{i:06d}": f"a picture {i}" for i in range(NUM) if i != 5}


def test_a_saved_dataset_is_a_folder(tmp_path: Path) -> None:
    for number in range(2):
        written(hub_table(path=False).slice(6 * number, 6), tmp_path / f"data-0000{number}-of-00002.stream.arrow")
    for name in ("dataset_info.json", "state.json"):
        (tmp_path / name).write_text("{}")
    assert sorted(shades(read("image", tmp_path)).values()) == [i for i in range(NUM) if i != 3]


def test_a_key_column_and_several_columns_of_files(tmp_path: Path) -> None:
    table = hub_table().append_column("id", pyarrow.array([f"k{i}" for i in range(NUM)]))
    table = table.append_column("depth", table["image"])
    path = written(table, tmp_path / "a.parquet")
    assert set(read("image", path)) == {f"k{i}" for i in range(NUM) if i != 3}, "the column called like the kind"
    with pytest.raises(DataError, match=r"several columns hold files.*--file-column"):
        read("image", written(table.rename_columns(["left", "audio", "text", "label", "id", "right"]), tmp_path / "b.parquet"))
    assert shades(read("image", tmp_path / "b.parquet", file_column="right"))["k2"] == 2


def test_a_table_without_files_is_refused_or_left_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "1.png").write_bytes(png(1))
    record = written(pyarrow.table({"url": ["a", "b"], "status": ["success", "failed"]}), tmp_path / "00000.parquet")  # of img2dataset
    with pytest.raises(DataError, match=r"00000\.parquet: no column holds files; the columns are: 'url', 'status'\."):
        read("image", record)
    assert set(read("image", tmp_path)) == {"1"}
    assert "left out: 1 file of another format: 1 .parquet" in capfd.readouterr().err


@pytest.mark.parametrize(("data", "words"), [(b"PAR1" + bytes(40), "is damaged"), (b"", "is damaged")])
@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_a_damaged_table_is_refused(tmp_path: Path, data: bytes, words: str, suffix: str) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(data)
    with pytest.raises(DataError, match=words):
        read("image", tmp_path / f"a.{suffix}")


def test_a_broken_picture_of_a_column_is_named_by_its_row(tmp_path: Path) -> None:
    table = pyarrow.table({"key": ["a", "b"], "image": [{"bytes": png(1), "path": None}, {"bytes": b"<html>", "path": None}]})
    path = written(table, tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet:2, column 'image': the image cannot be decoded"):
        read("image", path)


def test_a_dataset_of_the_hub_is_a_manifest(tmp_path: Path) -> None:
    path = written(hub_table(), tmp_path / "train.parquet")
    columns = {"image": "image", "audio": "audio", "text": "text"}
    done = tokenize_manifest(
        path, tmp_path / "tokens", columns, schemes={"image": "patches", "audio": "patches"}, settings={"image": {"patch": 4}}
    )
    assert done.presence == {"image+audio+text": NUM - 3, "audio+text": 1, "image+text": 1, "image+audio": 1}


def test_json_lines_name_files(tmp_path: Path) -> None:
    for number in range(NUM):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    lines = [json.dumps({"file_name": f"{i}.png", "text": f"words {i}", "class": i % 2}) for i in range(NUM)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))  # as `datasets.load_dataset("imagefolder")` wants it
    items = read("image", tmp_path / "metadata.jsonl", file_column="file_name", label_columns=("class",), key_column="text")
    assert shades(items)["words 5"] == 5 and items["words 5"].labels == {"class": 1}


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def unpacked(path: Path, members: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, data in members.items():
        (path / name).write_bytes(data)
    return path


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


PLACES = [(tar, "a.tar"), (tar, "a.tar.gz"), (zipped, "a.zip"), (unpacked, "a")]


@pytest.mark.parametrize(("write", "name"), PLACES, ids=[name for _, name in PLACES])
def test_labels_of_a_webdataset_lie_beside_the_samples(tmp_path: Path, write: Callable[..., Path], name: str) -> None:
    members: dict[str, bytes] = {}
    for i in range(NUM):
        parts = {".png": png(i), ".cls": str(i % 3).encode(), ".json": json.dumps({"site": f"s{i}", "n": None if i == 2 else i}).encode()}
        members |= {f"{i:03d}{end}": parts[end] for end in sorted(parts, reverse=i % 2 == 0)}  # in any order
    items = read("image", write(tmp_path / name, members), label_columns=("class=cls", "site", "n"))
    assert shades(items) == {f"{i:03d}": i for i in range(NUM)}
    assert all(items[f"{i:03d}"].labels == {"class": i % 3, "site": f"s{i}"} | ({"n": i} if i != 2 else {}) for i in range(NUM))


def test_a_sample_without_its_label_lacks_the_label(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tar(tmp_path / "a.tar", {"1.png": png(1), "1.cls": b"0", "2.png": png(2), "3.png": png(3), "3.cls": b"1"})
    items = read("image", path, label_columns=("cls",))
    assert {key: item.labels for key, item in items.items()} == {"1": {"cls": 0}, "2": {}, "3": {"cls": 1}}
    assert "samples without a label that others have beside them: 1 'cls'\n" in capfd.readouterr().err
    fields = [b'{"site": "x", "age": 3}', b"{}", b'{"site": "y"}']
    path = tar(tmp_path / "b.tar", {f"{i}{end}": data for i in range(3) for end, data in ((".json", fields[i]), (".png", png(i)))})
    items = read("image", path, label_columns=("site", "age"))
    assert [item.labels for item in items.values()] == [{"site": "x", "age": 3}, {}, {"site": "y"}]
    assert "samples without a label that others have beside them: 2 'age', 1 'site'\n" in capfd.readouterr().err


def test_a_label_that_lies_nowhere_and_json_that_is_none_are_named(tmp_path: Path) -> None:
    for name, extra in (("a", {}), ("c", {"1.cls": b"0"}), ("d", {"1.json": b"{}"})):
        path = tar(tmp_path / f"{name}.tar", {"1.png": png(1), **extra, "2.png": png(2)})
        with pytest.raises(DataError, match=rf"{name}\.tar/1\.png: there is no column 'site' for the label 'site'"):
            read("image", path, label_columns=("site",))
    broken = tar(tmp_path / "b.tar", {"1.json": b"{", "1.png": png(1), "2.json": b'{"n": 2}', "2.png": png(2)})
    with pytest.raises(DataError, match=r"b\.tar/1\.json: this is not JSON"):
        read("image", broken, label_columns=("n",))
    rejects: list[Reject] = []
    assert set(read("image", broken, rejects=rejects, label_columns=("n",), on_error="skip")) == {"2"} and rejects[0].key == "1"


@pytest.mark.parametrize(("write", "name"), PLACES, ids=[name for _, name in PLACES])
def test_one_member_of_several_is_chosen(tmp_path: Path, capfd: pytest.CaptureFixture[str], write: Callable[..., Path], name: str) -> None:
    members = {f"{i:03d}.{side}.png": png(i + (side == "right")) for i in range(5) for side in ("left", "right")}
    members = dict(sorted({**members, **{f"{i:03d}.cls": b"%d" % i for i in range(5)}}.items()))
    path = write(tmp_path / name, members)
    items = read("image", path, member="{key}.left.png", label_columns=("cls",))
    assert shades(items) == {f"{i:03d}": i for i in range(5)} and items["003"].labels == {"cls": 3}
    assert "5 .png of other names" in capfd.readouterr().err
    assert shades(read("image", path, member="{key}.r*.png")) == {f"{i:03d}": i + 1 for i in range(5)}


def test_a_key_holds_no_dot_unless_that_is_asked_for(tmp_path: Path) -> None:
    names = ["a/0.png", "a/0.seg.png", "a/1.png", "a/1.seg.png", "b.1/2.png"]
    path = tar(tmp_path / "a.tar", {name: png(i) for i, name in enumerate(names)})
    assert shades(read("image", path, member="{key}.png")) == {"a/0": 0, "a/1": 2, "b.1/2": 4}
    assert shades(read("image", path, member="{key}.seg.png")) == {"a/0": 1, "a/1": 3}
    assert shades(read("image", path, member="{stem}.png")) == {"a/0": 0, "a/0.seg": 1, "a/1": 2, "a/1.seg": 3, "b.1/2": 4}


def test_members_that_are_called_alike_are_said_to_be_apart(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pairs = {f"{i:03d}.{side}.png": png(i) for i in range(5) for side in ("left", "right")}
    assert len(read("image", tar(tmp_path / "a.tar", pairs))) == 10
    assert "000.left and 000.right are samples of their own" in capfd.readouterr().err
    read("image", tar(tmp_path / "b.tar", {f"{i:03d}.png": png(i) for i in range(5)}))
    assert "samples of their own" not in capfd.readouterr().err


@pytest.mark.parametrize("pattern", ["left.png", "{key}{key}.png"])
def test_a_pattern_of_members_holds_the_key_once(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(UsageError, match=r"--member.*\{key\}\.left\.jpg"):
        read("image", tar(tmp_path / "a.tar", {"1.left.png": png(1)}), member=pattern)


def test_keys_that_repeat_from_shard_to_shard_begin_with_the_shard(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(2):
        tar(
            folder / f"{shard:05d}.tar",
            {f"{i}{end}": data for i in range(3) for end, data in ((".png", png(i + 3 * shard)), (".txt", b"words"))},
        )
    assert shades(read("image", folder)) == {f"{shard:05d}/{i}": i + 3 * shard for shard in range(2) for i in range(3)}
    assert capfd.readouterr().err.count("keys repeat from archive to archive: each begins with the name of its archive") == 1
    assert set(read("text", folder)) == set(read("image", folder)), "so that they meet"
    assert set(read("image", folder / "00000.tar")) == {"0", "1", "2"}


def test_keys_of_all_kinds_begin_with_the_shard_where_those_of_one_repeat(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    tar(folder / "0.tar", {"0.png": png(0), "1.png": png(1), "1.txt": b"one", "README.txt": b"a"})
    tar(folder / "1.tar", {"0.png": png(2), "0.txt": b"two", "README.txt": b"b"})
    assert shades(read("image", folder)) == {"0/0": 0, "0/1": 1, "1/0": 2}
    assert {key: item.value for key, item in read("text", folder).items()} == {"0/1": "one", "1/0": "two"}
    assert set(read("image", folder, member="{key}.png")) == {"0/0", "0/1", "1/0"}


def test_kinds_in_archives_of_their_own_meet_by_plain_keys(tmp_path: Path) -> None:
    tar(tmp_path / "images.tar", {f"{i}.png": png(i) for i in range(3)})
    tar(tmp_path / "texts.tar", {f"{i}.txt": b"words" for i in range(3)})
    assert set(read("image", tmp_path)) == set(read("text", tmp_path)) == {"0", "1", "2"}


def test_keys_that_do_not_repeat_stay_as_they_are(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    paths = [tar(tmp_path / f"{shard}.tar", {f"{shard}-{i}.png": png(i) for i in range(3)}) for shard in range(2)]
    assert set(read("image", *paths)) == {f"{shard}-{i}" for shard in range(2) for i in range(3)}
    assert "repeat" not in capfd.readouterr().err


CAPTIONS = [f"caption {i // 5}, {i % 5}" for i in range(20)]


def coco(path: Path) -> Path:
    images = [{"id": 70 + i, "file_name": f"{i:012d}.jpg"} for i in range(5)]
    captions = [{"id": 9 * i, "image_id": 70 + i // 5, "caption": text} for i, text in enumerate(CAPTIONS)]
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": captions}))
    return path


def bars(path: Path) -> Path:
    lines = [f"{i // 5:012d}.jpg| {i % 5}|  {text}" for i, text in enumerate(CAPTIONS)]
    path.write_text("\n".join(["image_name| comment_number| comment", *lines]))
    return path


def token_lines(path: Path) -> Path:
    path.write_text("\n".join(f"{i // 5:012d}.jpg#{i % 5}\t{text}" for i, text in enumerate(CAPTIONS)))
    return path


@pytest.mark.parametrize(("write", "name"), [
    (coco, "captions_val2017.json"), (bars, "results.csv"), (token_lines, "Flickr8k.token.txt"), (token_lines, "results.token"),
])  # fmt: skip
def test_captions_of_pictures_are_recognised(tmp_path: Path, write: Callable[[Path], Path], name: str) -> None:
    items = read("text", write(tmp_path / name))
    assert {key: (item.value, *item.further) for key, item in items.items()} == {
        f"{i:012d}": tuple(CAPTIONS[5 * i : 5 * i + 5]) for i in range(4)
    }
    first = read("text", tmp_path / name, captions="first")
    assert {key: (item.value, item.further) for key, item in first.items()} == {f"{i:012d}": (CAPTIONS[5 * i], ()) for i in range(4)}


def test_the_column_of_such_a_list_may_be_named(tmp_path: Path) -> None:
    assert read("text", bars(tmp_path / "results.csv"), text_column="comment")[f"{0:012d}"].value == CAPTIONS[0]


def test_a_picture_without_caption_is_absent(tmp_path: Path) -> None:
    absent: list[str] = []
    assert len(list(read_items("text", [coco(tmp_path / "c.json")], SourceOptions(), absent=absent))) == 4
    assert absent == [f"{4:012d}"]


@pytest.mark.parametrize(("images", "words"), [
    ([(1, "a.jpg"), (1, "b.jpg")], r"entries 0 and 1 of `images` have the same `id`, 1 \(a\.jpg and b\.jpg\)"),
    ([(1, "a.jpg"), (1, "a.jpg")], r"entries 0 and 1 of `images` have the same `id`, 1"),
    ([(1, "a.jpg"), (2, "a.jpg")], r"entries 0 and 1 of `images` have the same `file_name`, 'a\.jpg'"),
    ([(1, "a.jpg"), (2, None)], r"entry 1 of `images` has no `file_name`"),
])  # fmt: skip
def test_images_of_coco_that_cannot_be_told_apart_are_named(tmp_path: Path, images: list[tuple[int, str | None]], words: str) -> None:
    records = [{"id": number} | ({} if name is None else {"file_name": name}) for number, name in images]
    captions = [{"id": number, "image_id": image, "caption": f"text {number}"} for number, (image, _) in enumerate(images)]
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": records, "annotations": captions}))
    with pytest.raises(DataError, match=rf"captions\.json: {words}"):
        read("text", path)


def test_a_caption_of_coco_that_stands_twice_is_named(tmp_path: Path) -> None:
    captions = [{"id": 5, "image_id": 1, "caption": text} for text in ("a dog", "a cat")]
    (tmp_path / "c.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": captions}))
    with pytest.raises(DataError, match="entries 0 and 1 of `annotations` have the same `id`, 5"):
        read("text", tmp_path / "c.json")


def test_pictures_and_captions_of_coco_meet(mmtool: Mmtool, tmp_path: Path) -> None:
    (tmp_path / "val2017").mkdir()
    for i in range(5):
        (tmp_path / f"val2017/{i:012d}.jpg").write_bytes(png(i))
    mmtool(
        "tokenize",
        "image",
        tmp_path / "val2017",
        "--as",
        "patches",
        "--patch",
        4,
        "--fractions",
        1,
        0,
        0,
        "--fit",
        "-o",
        tmp_path / "i.tar",
    )
    done = mmtool("tokenize", "text", coco(tmp_path / "c.json"), "--fractions", 1, 0, 0, "--fit", "-o", tmp_path / "t.tar")
    assert "several texts of one sample: 16 more are variants of training samples" in done.err
    shards = mmtool("shard", tmp_path / "i.tar", tmp_path / "t.tar", "--fractions", 1, 0, 0, "-o", tmp_path / "s", "--json")
    assert json.loads(shards.out)["combinations"]["train"] == {"image": 1, "image+text": 20}


def test_json_that_holds_no_captions_is_refused_or_left_alone(tmp_path: Path) -> None:
    (tmp_path / "stats.json").write_text('{"count": 3}')
    with pytest.raises(DataError, match=r"stats\.json: this JSON holds no captions .*\.jsonl"):
        read("text", tmp_path / "stats.json")
    (tmp_path / "stats.txt").write_text("words")
    assert set(read("text", tmp_path)) == {"stats"}


def test_a_line_unlike_the_others_is_named(tmp_path: Path) -> None:
    path = bars(tmp_path / "results.csv")
    path.write_text(path.read_text() + "\n2199200615.jpg| 4   A dog runs across the grass .")  # as the original holds one
    with pytest.raises(DataError, match=r"results\.csv:22: '2199200615\.jpg\| 4"):
        read("text", path)


def test_librispeech_meets_its_recordings(tmp_path: Path) -> None:
    folder = tmp_path / "LibriSpeech/dev-clean/84/121123"
    folder.mkdir(parents=True)
    names = [f"84-121123-{i:04d}" for i in range(3)]
    (folder / "84-121123.trans.txt").write_text("".join(f"{name} SO MANY WORDS {i}\n" for i, name in enumerate(names)))
    for name in names:
        soundfile.write(folder / f"{name}.flac", np.zeros(400), 16000)
    for name in ("SPEAKERS.TXT", "README.TXT", "LICENSE.TXT", "BOOKS.TXT"):
        (tmp_path / "LibriSpeech" / name).write_text("; Some\n84 | F | dev-clean\n")
    texts, sounds = read("text", tmp_path / "LibriSpeech"), read("audio", tmp_path / "LibriSpeech")
    assert {key: item.value for key, item in texts.items()} == {
        f"dev-clean/84/121123/{name}": f"SO MANY WORDS {i}" for i, name in enumerate(names)
    }
    assert set(texts) == set(sounds)
    assert set(read("text", folder)) == set(names) == set(read("audio", folder))


@pytest.mark.parametrize(("table", "sounds", "header", "columns"), [
    ("cv/validated.tsv", "cv/clips", "client_id\tpath\tsentence", {"speech": "path", "text": "sentence"}),
    ("ESC-50/meta/esc50.csv", "ESC-50/audio", "filename,fold,category", {"sound": "filename"}),
])  # fmt: skip
def test_common_voice_and_esc50_are_manifests(tmp_path: Path, table: str, sounds: str, header: str, columns: dict[str, str]) -> None:
    (tmp_path / sounds).mkdir(parents=True)
    (tmp_path / table).parent.mkdir(parents=True, exist_ok=True)
    mark = "\t" if table.endswith("tsv") else ","
    cells = [("c", f"a{i}.wav", f"words {i}") if mark == "\t" else (f"a{i}.wav", str(i % 5), "dog") for i in range(NUM)]
    (tmp_path / table).write_text("\n".join([header, *map(mark.join, cells)]))
    for i in range(NUM):
        soundfile.write(tmp_path / sounds / f"a{i}.wav", np.full(400, 0.1), 16000)
    done = tokenize_manifest(tmp_path / table, tmp_path / "tokens", columns, schemes={next(iter(columns)): "patches"})
    assert done.presence == {"+".join(columns): NUM}


@pytest.mark.parametrize("num_labels", [1, 3])
def test_medmnist(tmp_path: Path, num_labels: int) -> None:
    arrays = {}
    for start, split in ((0, "train"), (4, "val"), (6, "test")):
        arrays[f"{split}_images"] = np.stack([shade(start + i)[..., 0] for i in range(2)])
        arrays[f"{split}_labels"] = np.arange(2 * num_labels, dtype=np.uint8).reshape(2, num_labels)
    np.savez(tmp_path / "pathmnist.npz", **arrays)
    items = read("image", tmp_path / "pathmnist.npz")
    assert shades(items) == {
        f"pathmnist-{split}-{i:06d}": start + i for start, split in ((0, "train"), (4, "val"), (6, "test")) for i in range(2)
    }
    labels = {"label": 1} if num_labels == 1 else {"label_0": 3, "label_1": 4, "label_2": 5}
    assert items["pathmnist-val-000001"].labels == labels | {"split": "val"}


def test_transcripts_are_known_with_lines_too(tmp_path: Path) -> None:
    (tmp_path / "84-1.trans.txt").write_text("84-1-0000 ONE\n84-1-0001 TWO\n")
    assert {key: item.value for key, item in read("text", tmp_path, lines=True).items()} == {"84-1-0000": "ONE", "84-1-0001": "TWO"}


def test_what_img2dataset_writes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record = json.dumps({"url": "http://a.org", "caption": "c"}).encode()
    for shard in range(2):
        parts = {".json": record, ".png": png(1), ".txt": b"a photo"}
        tar(tmp_path / f"{shard:05d}.tar", {f"{shard:05d}{i:04d}{end}": data for i in range(3) for end, data in parts.items()})
        written(pyarrow.table({"url": ["http://a.org"], "key": ["0"], "caption": ["a photo"]}), tmp_path / f"{shard:05d}.parquet")
        (tmp_path / f"{shard:05d}_stats.json").write_text('{"count": 3}')
    pictures = read("image", tmp_path)
    assert set(pictures) == {f"{shard:05d}{i:04d}" for shard in range(2) for i in range(3)}
    texts = read("text", tmp_path)
    assert {key: item.value for key, item in texts.items()} == dict.fromkeys(pictures, "a photo")
    said = capfd.readouterr().err
    assert "COCO" not in said and "samples of their own" not in said  # 0.txt and 0.json are one sample
    assert read("image", tmp_path, label_columns=("caption",))["000000000"].labels == {"caption": "c"}
