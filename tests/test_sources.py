"""Raw files as people have them are read as they are; damage and traps are errors that name the file and what to do."""

import gzip
import io
import json
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.sources import Item, Reject, SourceOptions, read_items


def read(kind: str, *paths: Path, rejects: list[Reject] | None = None, **options: Any) -> dict[str, Item]:
    return {item.key: item for item in read_items(kind, paths, SourceOptions(**options), rejects)}


def picture(path: Path, size: tuple[int, int] = (6, 4), mode: str = "RGB", **save: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **save)
    return path


def tone(path: Path, frames: int = 800, channels: int = 1, **write: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.sin(np.arange(frames) / 5)[:, None] * np.linspace(0.5, 0.1, channels)
    soundfile.write(path, wave, 8000, **write)
    return path


def text(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


# images


@pytest.mark.parametrize("name", ["a.png", "b.JPG", "c.webp", "d.bmp", "e.tif", "f.gif"])
def test_image_files_of_every_kind(tmp_path: Path, name: str) -> None:
    item = read("image", picture(tmp_path / name))[name.split(".")[0]]
    assert item.value.shape == (4, 6, 3) and item.value.dtype == np.uint8


def test_grey_stays_grey_and_transparency_lies_on_white(tmp_path: Path) -> None:
    picture(tmp_path / "grey.png", mode="L")
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    items = read("image", tmp_path)
    assert items["grey"].value.shape == (4, 6, 1)
    assert (items["clear"].value == 255).all()


def test_pictures_stand_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert read("image", picture(tmp_path / "a.jpg", exif=exif))["a"].value.shape == (6, 4, 3)


def test_16_bit_images_need_a_declared_range(tmp_path: Path) -> None:
    depth = np.array([[0, 2048, 4095]], np.uint16)
    Image.fromarray(depth).save(tmp_path / "scan.png")
    with pytest.raises(DataError, match=r"scan\.png.*uint16 values from 0 to 4095.*--value-range"):
        read("image", tmp_path)
    assert read("image", tmp_path, value_range=(0, 4095))["scan"].value.ravel().tolist() == [0, 128, 255]


def test_16_bit_colour_is_refused(tmp_path: Path) -> None:
    data = bytearray(picture(tmp_path / "a.png").read_bytes())
    data[24] = 16
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DataError, match="16 bits per colour"):
        read("image", tmp_path)


def test_damaged_and_dangerous_images_are_refused(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png", (64, 64))
    whole = path.read_bytes()
    with pytest.raises(DataError, match="4,096 pixels, more than 1,000"):
        read("image", path, max_pixels=1000)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.png: the image cannot be decoded"):
        read("image", path)
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(DataError, match="cannot be decoded"):
        read("image", path)
    frames = [Image.new("L", (4, 4), shade) for shade in (0, 100, 200)]
    frames[0].save(tmp_path / "b.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="3 frames"):
        read("image", tmp_path / "b.gif")


def idx(path: Path, array: np.ndarray) -> Path:
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()) if path.suffix == ".gz" else header + array.tobytes())
    return path


def test_mnist_files_and_their_labels(tmp_path: Path) -> None:
    images = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    path = idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    idx(tmp_path / "train-labels-idx1-ubyte.gz", np.array([7, 1, 9], np.uint8))
    items = read("image", tmp_path)
    assert {key: item.labels for key, item in items.items()} == {
        "train-images-000000": {"label": 7},
        "train-images-000001": {"label": 1},
        "train-images-000002": {"label": 9},
    }
    np.testing.assert_array_equal(items["train-images-000001"].value[..., 0], images[1])
    assert read("image", path, label_columns=("digit=label",))["train-images-000002"].labels == {"digit": 9}
    other = idx(tmp_path / "other-idx1-ubyte", np.array([1, 2], np.uint8))
    with pytest.raises(DataError, match="2 labels for 3 images"):
        read("image", path, labels_path=other)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))
    with pytest.raises(DataError, match="promises 60 bytes, the file holds 59"):
        read("image", path)


def test_arrays_of_images(tmp_path: Path) -> None:
    images = np.zeros((2, 3, 3, 3), np.uint8)
    np.savez(tmp_path / "set.npz", images=images, shade=np.array(["dark", "dim"]), key=np.array(["a", "b"]), size=np.array([3, 4]))
    items = read("image", tmp_path / "set.npz")
    assert items["b"].labels == {"shade": "dim", "size": 4} and items["a"].value.shape == (3, 3, 3)
    assert read("image", tmp_path / "set.npz", label_columns=("size",))["a"].labels == {"size": 3}
    np.save(tmp_path / "plain.npy", images[..., 0])
    assert set(read("image", tmp_path / "plain.npy")) == {"plain-000000", "plain-000001"}
    for name, empty in (("bytes", np.zeros((2, 0, 3), np.uint8)), ("deep", np.zeros((2, 4, 0, 3), np.uint16))):
        np.savez(tmp_path / f"{name}.npz", images=empty)
        with pytest.raises(DataError, match=rf"{name}\.npz, image 0: the image has {empty.shape[1]} x {empty.shape[2]} pixels"):
            read("image", tmp_path / f"{name}.npz")
    np.savez(tmp_path / "bad.npz", images=np.array([{}, {}], object))
    with pytest.raises(DataError, match=r"bad\.npz: the arrays cannot be read"):
        read("image", tmp_path / "bad.npz")


# audio


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
def test_recordings_of_every_kind(tmp_path: Path, name: str) -> None:
    samples, rate = read("audio", tone(tmp_path / name, channels=2))["a"].value
    assert samples.shape == (800,) and samples.dtype == np.float32 and rate == 8000
    np.testing.assert_allclose(samples, 0.3 * np.sin(np.arange(800) / 5), atol=0.1)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg"])
@pytest.mark.parametrize("share", [0.98, 0.5])
def test_cut_recordings_are_refused(tmp_path: Path, name: str, share: float) -> None:
    path = tone(tmp_path / name, frames=20_000)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError, match=r"a\.(wav|flac|ogg): "):
        read("audio", path)


def test_long_empty_and_unfinite_recordings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"longer than 0\.05 s"):
        read("audio", tone(tmp_path / "a.flac"), max_duration_s=0.05)
    with pytest.raises(DataError, match="the recording is empty"):
        read("audio", tone(tmp_path / "b.wav", frames=0))
    soundfile.write(tmp_path / "c.wav", np.array([0, np.nan, 0]), 8000, subtype="FLOAT")
    with pytest.raises(DataError, match="NaN or infinite"):
        read("audio", tmp_path / "c.wav")
    text(tmp_path / "d.wav", "no sound")
    with pytest.raises(DataError, match=r"d\.wav: the recording cannot be decoded"):
        read("audio", tmp_path / "d.wav")


# labels, keys and groups


def test_labels_and_group_from_file_names(tmp_path: Path) -> None:
    for name in ("0_ann_1", "7_bob_2"):
        tone(tmp_path / f"{name}.wav")
    items = read("audio", tmp_path, label_pattern=r"(?P<digit>\d)_(?P<speaker>\w+)_\d+", group_column="speaker")
    assert items["7_bob_2"].labels == {"digit": 7, "speaker": "bob"} and items["7_bob_2"].group == "bob"
    with pytest.raises(DataError, match=r"no column or label 'nosuch'; the labels are: digit, speaker\. .*--group-column"):
        read("audio", tmp_path, label_pattern=r"(?P<digit>\d)_(?P<speaker>\w+)_\d+", group_column="nosuch")
    with pytest.raises(DataError, match=r"no column or label 'nosuch'; the labels are: none\."):
        read("audio", tmp_path, group_column="nosuch")
    items = read("audio", tmp_path, label_pattern=r"(?P<key>\d)_(?P<group>[a-z]+)")
    assert items["0"].group == "ann" and items["0"].labels == {}
    with pytest.raises(DataError, match=r"'0_ann_1' does not match"):
        read("audio", tmp_path, label_pattern=r"(?P<digit>\d\d)")
    with pytest.raises(UsageError, match="no named group"):
        read("audio", tmp_path, label_pattern=r"\d")


def test_labels_from_folders_and_from_a_file(tmp_path: Path) -> None:
    picture(tmp_path / "scans/cat/1.png")
    picture(tmp_path / "scans/dog/2.png")
    labels = text(tmp_path / "labels.csv", "id,age,name,weight\ncat/1,3,Tom,NA\ndog/2,b4,,2.5\n")
    items = read("image", tmp_path / "scans", label_from_folder="animal", labels_path=labels)
    assert items["cat/1"].labels == {"animal": "cat", "age": 3, "name": "Tom"} and items["cat/1"].group == "cat/1"
    assert items["dog/2"].labels == {"animal": "dog", "age": "b4", "weight": 2.5}
    assert read("image", tmp_path / "scans", labels_path=labels, label_columns=("years=age",))["cat/1"].labels == {"years": 3}
    with pytest.raises(DataError, match=r"no column 'colour'.*--label"):
        read("image", tmp_path / "scans", labels_path=labels, label_columns=("age", "colour"))
    with pytest.raises(DataError, match="no such labels file"):
        read("image", tmp_path / "scans", labels_path=tmp_path / "absent.csv")
    with pytest.raises(DataError, match="no sample has a row"):
        read("image", tmp_path / "scans/cat", labels_path=labels)


def test_blanks_around_a_key_are_no_part_of_it(tmp_path: Path) -> None:
    notes = text(tmp_path / "notes.csv", "key,text\n a ,hello\n")
    ages = text(tmp_path / "ages.csv", "age,key\n61, a\n")
    assert read("text", notes, labels_path=ages)["a"].labels == {"age": 61}


def test_keys_are_unique(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    picture(tmp_path / "1.jpg")
    with pytest.raises(DataError, match=r"1\.png: the key '1' was seen before, in .*1\.jpg"):
        read("image", tmp_path)


# text


def test_text_files_one_per_sample_or_per_line(tmp_path: Path) -> None:
    path = text(tmp_path / "note.v1.txt", "first \nsecond\u2028half\n")
    assert read("text", path)["note.v1"].value == "first \nsecond\u2028half\n"
    assert [item.value for item in read("text", path, lines=True).values()] == ["first ", "second\u2028half"]


def test_texts_in_tables(tmp_path: Path) -> None:
    csv = text(tmp_path / "t.csv", 'id,text,kind\n1,"a, ""b""\nc",x\n2,x,y\n')
    items = read("text", csv, key_column="id", label_columns=("kind",), group_column="kind")
    assert items["1"].value == 'a, "b"\nc' and items["2"].value == "x" and items["2"].labels == {"kind": "y"} and items["2"].group == "y"
    tsv = text(tmp_path / "t.tsv", '5\t"whole ""quote"""\n6\t"half" quote\n')
    items = read("text", tsv, key_column="none", columns=("domain", "text"), label_columns=("digit=domain",))
    assert [item.value for item in items.values()] == ['whole "quote"', '"half" quote']
    assert items["t-000001"].labels == {"digit": 6}
    lines = text(tmp_path / "t.jsonl", '{"key": "a", "text": "héllo", "n": 3}\n\n{"key": "b", "text": "x", "n": null}\n')
    items = read("text", lines, label_columns=("n",))
    assert items["a"].value == "héllo" and items["a"].labels == {"n": 3} and items["b"].labels == {}
    np.savez(tmp_path / "t.npz", images=np.zeros((2, 4, 4)), name=np.array(["cat", "dog"]))
    assert read("text", tmp_path / "t.npz", key_column="none")["t-000001"].value == "dog"


def test_text_trouble_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"key,text\na,fine\nb,\xff\n")
    with pytest.raises(DataError, match=r"a\.csv:3: the text is not UTF-8"):
        read("text", tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"b\.csv:3: 3 cells where the header has 2.*--columns"):
        read("text", text(tmp_path / "b.csv", "id,text\n1,a\n2,b,c\n"))
    with pytest.raises(DataError, match=r"no column 'text'; the columns are: id, note.*--text-column"):
        read("text", text(tmp_path / "c.csv", "id,note\n1,a\n"))
    with pytest.raises(DataError, match=r"d\.jsonl:2: this is not JSON"):
        read("text", text(tmp_path / "d.jsonl", '{"key": "k", "text": "a"}\n{"text"\n'))
    with pytest.raises(DataError, match=r"e\.jsonl:1.*holds 3, which is no text"):
        read("text", text(tmp_path / "e.jsonl", '{"text": 3, "key": "a"}\n'))


# tables


def test_tables_keep_numbers_and_declare_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"patient,a,cancer,b\nP-1,1.5,BRCA,\nP-2,NA,NA,-2e3\n"))
    items = read("table", path, label_columns=("cancer",))
    values, features = items["P-1"].value
    assert features == ("a", "b") and values.dtype == np.float32
    np.testing.assert_array_equal(values, [1.5, np.nan])
    np.testing.assert_array_equal(items["P-2"].value[0], [np.nan, -2000])
    assert items["P-1"].labels == {"cancer": "BRCA"} and items["P-2"].labels == {}
    plain = text(tmp_path / "plain.tsv", "a\tb\n1\t2\n3\t4\n")
    assert set(read("table", plain, key_column="none")) == {"plain-000000", "plain-000001"}


def test_parquet_tables(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"id": ["x", "y"], "a": [1, None], "b": [0.5, 2.0]}), tmp_path / "t.parquet")
    items = read("table", tmp_path / "t.parquet")
    np.testing.assert_array_equal(items["y"].value[0], [np.nan, 2])
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="the Parquet file is damaged"):
        read("table", tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,a,b\nx,1,two\n", r"t\.csv:2: the column 'b' holds 'two'.*--label"),
        ("id,a,b\nx,1,1_000\n", "the column 'b' holds '1_000'"),
        ("id,a,b\nx,1,inf\n", "column 'b'"),
        ("id,a,b\nx,1,1e39\n", "'b' is infinite in single precision"),
        ("id,a,a\nx,1,2\n", r"1 of 1 features have a name that others have as well: 'a' \(2 times\).*--duplicates mean"),
        ("id,a\nx,1\nx,2\n", r"the key 'x' was seen before, in .*t\.csv:2"),
        ("id,a\n", "the table has no rows"),
        ("", "the file is empty"),
        ("id,a\n,1\n", "empty key"),
        ('id,a\nx,"1\n', "the CSV is malformed"),
        ("id\nx\n", "no column besides key and labels"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read("table", text(tmp_path / "t.csv", content), key_column="id" if content.startswith("id") else None)


# folders and archives


def archive(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as file:
            for name, data in members.items():
                file.writestr(name, data)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_archives_are_read_like_folders(tmp_path: Path, name: str) -> None:
    members = {"./x/1.txt": b"one", "x/2.txt": b"two", "readme.md": b"", "x/.hidden.txt": b""}
    items = read("text", archive(tmp_path / name, members), label_from_folder="folder")
    assert {key: item.value for key, item in items.items()} == {"x/1": "one", "x/2": "two"}
    assert items["x/1"].labels == {"folder": "x"}


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
@pytest.mark.parametrize("member", ["../x.txt", "a/../../x.txt", "a\\..\\..\\x.txt"])
def test_archives_with_unsafe_names_are_refused(tmp_path: Path, name: str, member: str) -> None:
    with pytest.raises(DataError, match="unsafe name"):
        read("text", archive(tmp_path / name, {member: b"x"}))


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
@pytest.mark.parametrize("member", ["/data/x/1.txt", "data\\x\\1.txt"])
def test_names_of_other_systems_become_plain_keys(tmp_path: Path, name: str, member: str) -> None:
    items = read("text", archive(tmp_path / name, {member: b"one"}), label_from_folder="folder")
    assert items["data/x/1"].value == "one" and items["data/x/1"].labels == {"folder": "x"}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_links_in_archives_are_counted_and_left_out(tmp_path: Path, mode: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"a.tar{mode[1:].replace(':', '.')}"
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, target in (("x.txt", "/etc/passwd"), ("latest.txt", "1.txt"), ("1.txt", "")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = (tarfile.SYMTYPE, target, 0) if target else (tarfile.REGTYPE, "", 3)
            tar.addfile(info, io.BytesIO(b"one"))
    assert {key: item.value for key, item in read("text", path).items()} == {"1": "one"}
    assert f"left out: 2 files of other formats: 2 .txt as links ({path}/x.txt)" in capfd.readouterr().err


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_hard_links_in_archives_are_files(tmp_path: Path, mode: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"a.tar{mode[1:].replace(':', '.')}"
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, target in (("./x/1.txt", ""), ("./x/2.txt", "./x/1.txt"), ("3.txt", "x/2.txt"), ("4.txt", "absent.txt"), ("5.txt", "")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = (tarfile.LNKTYPE, target, 0) if target else (tarfile.REGTYPE, "", 5)
            tar.addfile(info, io.BytesIO(name[-5:].encode()))
    found = {key: item.value for key, item in read("text", path, label_from_folder="folder").items()}
    assert found == {"x/1": "1.txt", "x/2": "1.txt", "3": "1.txt", "5": "5.txt"}
    assert f"left out: 1 file of another format: 1 .txt as links ({path}/4.txt)" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["a.tar.zst", "a.tar"])
def test_archives_of_zstandard_are_refused_by_that_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x28\xb5\x2f\xfd" + bytes(600))
    for path in (tmp_path / name, tmp_path):
        with pytest.raises(DataError, match=r"compressed with Zstandard.*`zstd -d"):
            read("text", path)


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_tar_cut_at_any_block_is_refused(tmp_path: Path, kept: int) -> None:
    path = archive(tmp_path / "a.tar", {"1.txt": b"one", "2.txt": b"two"})
    path.write_bytes(path.read_bytes()[: 512 * kept])
    with pytest.raises(DataError, match="cut"):
        read("text", path)


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", {"1.txt": b"one", "2.txt": b"two"})
    data = bytearray(path.read_bytes())
    data[1024 + 3] ^= 1  # in the header of the second member
    path.write_bytes(data)
    with pytest.raises(DataError, match="cut or damaged"):
        read("text", path)
    path = archive(tmp_path / "b.zip", {"1.txt": b"one" * 100})
    path.write_bytes(path.read_bytes().replace(b"oneone", b"onfone", 1))
    with pytest.raises(DataError, match=r"b\.zip/1\.txt: the file is damaged"):
        read("text", path)
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(b"text\n" + b"abc\n" * 1000)[:-9])
    with pytest.raises(DataError, match="damaged or cut"):
        read("text", tmp_path / "c.csv.gz")


def test_nothing_to_read_is_an_error_that_names_what_would_be(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no audio file here.*\.wav, \.flac, \.ogg"):
        read("audio", tmp_path / "empty")
    with pytest.raises(DataError, match="no such file or folder"):
        read("audio", tmp_path / "absent")
    with pytest.raises(DataError, match=r"not a text file by its name.*\.jsonl"):
        read("text", text(tmp_path / "a.docx", ""))
    with pytest.raises(UsageError, match="unknown kind 'smell'"):
        read("smell", tmp_path)


# bad samples


def many_notes(folder: Path, good: int, bad: int) -> Path:
    folder.mkdir()
    for number in range(good + bad):
        (folder / f"{number:05d}.txt").write_bytes(b"fine" if number < good else b"\xff")
    return folder


def test_bad_samples_are_set_aside_with_their_reason(tmp_path: Path) -> None:
    rejects: list[Reject] = []
    items = read("text", many_notes(tmp_path / "a", 5, 3), rejects=rejects, on_error="skip")
    assert len(items) == 5 and [reject.key for reject in rejects] == ["00005", "00006", "00007"]
    assert "not UTF-8" in rejects[0].reason and rejects[0].file.endswith("00005.txt")
    with pytest.raises(DataError, match="not UTF-8"):
        read("text", tmp_path / "a")


def test_a_bad_row_costs_that_row_only(tmp_path: Path) -> None:
    rejects: list[Reject] = []
    path = text(tmp_path / "t.csv", "id,a\nx,1\ny,one\nz,3\n")
    assert set(read("table", path, rejects=rejects, on_error="skip")) == {"x", "z"} and rejects[0].file.endswith("t.csv:3")


def test_too_many_bad_samples_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="100 bad samples in a row"):
        read("text", many_notes(tmp_path / "a", 1, 150), on_error="skip")
    with pytest.raises(DataError, match="20 of 420 samples are bad"):
        read("text", many_notes(tmp_path / "b", 400, 20), on_error="skip")
    assert len(read("text", many_notes(tmp_path / "c", 400, 19), on_error="skip")) == 400


def test_a_failing_disk_is_never_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = many_notes(tmp_path / "a", 2, 0)

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("mmtool.preprocessing.readers.raw_files._read_stream", fail)
    with pytest.raises(OSError, match="Input/output error"):
        read("text", folder, on_error="skip")


# the real corpora


def corpora() -> Path:
    folder = Path(os.environ.get("MMTOOL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("the real corpora are absent: set MMTOOL_DATA")
    return folder


@pytest.mark.data
def test_mnist_and_spoken_digits_are_read_as_downloaded() -> None:
    images = read("image", corpora() / "mnist")
    assert len(images) == 60_000 and images["train-images-000000"].labels == {"label": 5}
    options = {"label_pattern": r"(?P<digit>\d)_(?P<speaker>\w+)_\d+", "group_column": "speaker"}
    speech = read("audio", corpora() / "fsdd", **options)
    assert len(speech) == 2700 and {item.group for item in speech.values()} == {item.labels["speaker"] for item in speech.values()}
    assert all(item.value[1] == 8000 and 0.1 < len(item.value[0]) / 8000 < 2.5 for item in speech.values())


@pytest.mark.data
def test_emoji_give_images_and_texts_under_the_same_keys() -> None:
    images = read("image", corpora() / "emoji", label_columns=("group",))
    names = read("text", corpora() / "emoji", text_column="name", key_column="none")
    assert images.keys() == names.keys() and len(names) == 1644 and names["emoji32-000000"].value == "grinning face"


def test_rows_of_json_may_lack_fields(tmp_path: Path) -> None:
    rows = [{"id": "a", "text": "one"}, {"id": "b", "text": "two", "age": 5}, {"id": "c", "age": 7, "site": "x"}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    absent: list[str] = []
    options = SourceOptions(label_columns=("age", "site"))
    items = {item.key: item for item in read_items("text", [tmp_path / "t.jsonl"], options, absent=absent)}
    assert {key: (item.value, item.labels) for key, item in items.items()} == {"a": ("one", {}), "b": ("two", {"age": 5})}
    assert absent == ["c"], "a row without its text has none"
    with pytest.raises(DataError, match=r"there is no column 'sex' for the label 'sex'"):
        list(read_items("text", [tmp_path / "t.jsonl"], SourceOptions(label_columns=("sex",))))
