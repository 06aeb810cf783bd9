"""Files of other formats in folders and archives are counted and named, and an error where they may be samples."""

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtool.common.errors import DataError
from mmtool.kinds import KINDS
from mmtool.preprocessing.readers.conversions import CONVERSIONS, advice
from mmtool.preprocessing.sources import SourceOptions, read_items
from mmtool.preprocessing.tokenize import tokenize


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "trip").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"trip/{number:02d}.jpg")
    for number in range(3):
        (folder / f"trip/IMG_{number}.HEIC").write_bytes(b"heic")
    (folder / "scan.avi2").write_bytes(b"x")
    return folder


def keys(*paths: Path, kind: str = "image", labels_path: Path | None = None, skip_other: bool = False) -> list[str]:
    return [item.key for item in read_items(kind, paths, SourceOptions(labels_path=labels_path, skip_other=skip_other))]


def test_files_that_may_be_samples_are_an_error_that_says_how_to_convert_them(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"4 files of other formats: 3 \.heic, 1 \.avi2 .* would be left out") as caught:
        tokenize("image", [photos], tmp_path / "i.tar", name="image", scheme="patches", settings={"patch": 4})
    assert "Convert .heic: `magick mogrify -format png *.heic` (ImageMagick)." in str(caught.value)
    assert str(caught.value).endswith("Or leave them out with --skip-other.")
    assert not (tmp_path / "i.tar").exists()


def test_files_left_out_are_counted_and_reported_once(photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    skip = SourceOptions(skip_other=True)
    done = tokenize("image", [photos], tmp_path / "i.tar", name="image", scheme="patches", settings={"patch": 4}, options=skip)
    assert done.samples == 12 and done.left_out == 4
    err = capfd.readouterr().err
    assert err.count("left out") == 1
    assert f"left out: 4 files of other formats: 3 .heic, 1 .avi2 ({photos}/scan.avi2)" in err
    tokenize("image", [photos], tmp_path / "j.tar", name="image", tokenizer=tmp_path / "i.tar", options=skip)
    assert capfd.readouterr().err.count("left out: 4 files") == 1


def test_files_that_hold_no_samples_are_not_counted(photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for file in [*photos.glob("trip/*.HEIC"), photos / "scan.avi2"]:
        file.unlink()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "README.md", "LICENSE", "old.tar.rejects.jsonl", "trip/.hidden.heic"):
        (photos / name).write_text("x")
    (photos / "__MACOSX").mkdir()
    (photos / "__MACOSX/a.heic").write_text("x")
    labels = photos / "labels.csv"
    labels.write_text("key,cat\n" + "".join(f"trip/{number:02d},1\n" for number in range(12)))
    assert len(keys(photos, labels_path=labels)) == 12
    assert "left out" not in capfd.readouterr().err
    keys(photos)
    assert f"left out: 1 file of another format: 1 .csv ({labels})" in capfd.readouterr().err


def test_members_of_archives_and_archives_in_them_are_counted(photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for name in ("trip/00.jpg", "trip/IMG_0.HEIC"):
            archive.write(photos / name, name)
        for name in ("inner.zip", "__MACOSX/trip/b.heic", ".DS_Store", "noname"):
            archive.writestr(name, "x")
    with tarfile.open(tmp_path / "q.tar", "w") as tar:
        tar.add(photos / "trip/01.jpg", "01.jpg")
        tar.add(tmp_path / "p.zip", "p.zip")
    assert keys(tmp_path / "p.zip", tmp_path / "q.tar", skip_other=True) == ["trip/00", "01"]
    err = capfd.readouterr().err
    listed = "2 .zip inside archives, 1 without extension, 1 .heic"
    assert f"left out: 4 files of other formats: {listed} ({tmp_path}/p.zip/inner.zip)" in err


def test_a_folder_of_nothing_but_other_formats_names_them(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no image file here, but 1 file of another format: 1 \.heic \(.*a\.heic\)"):
        keys(tmp_path)


def test_other_modalities_and_what_is_called_like_a_sample_are_no_error(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for file in [*photos.glob("trip/*.HEIC"), photos / "scan.avi2"]:
        file.unlink()
    for name in ("trip/00.cls", "trip/00.left.xmp", "trip/01.xmp", "trip/01.txt", "voice.wav", "annotations.json", "table.csv"):
        (photos / name).write_text("x")
    assert len(keys(photos)) == 12
    assert "left out: 7 files of other formats" in capfd.readouterr().err
    (photos / "trip/99.xmp").write_text("x")
    with pytest.raises(DataError, match=r"1 file of another format: 1 \.xmp \(.*99\.xmp\) would be left out"):
        keys(photos)


def test_where_samples_are_written_notes_may_be_samples(tmp_path: Path) -> None:
    for name in ("a.txt", "b.md", "c.xml"):
        (tmp_path / name).write_text("words")
    with pytest.raises(DataError, match=r"2 files of other formats: 1 \.md, 1 \.xml"):
        keys(tmp_path, kind="text")
    assert keys(tmp_path, kind="text", skip_other=True) == ["a"]


@pytest.mark.parametrize(("kind", "name", "words"), [
    ("image", "i.HEIC", "magick mogrify -format png *.heic"), ("image", "i.nii.gz", "nibabel"),
    ("audio", "s.wma", "ffmpeg -i in.wma out.wav"), ("text", "c.docx", "pandoc in.docx"), ("text", "c.pdf", "pdftotext"),
    ("table", "a.xls", "pandas.read_excel"), ("table", "a.rds", "write.csv"),
    ("trajectory", "r.pkl", "pkl files can run code"),
])  # fmt: skip
def test_a_file_that_is_not_read_is_refused_with_a_way_to_convert_it(tmp_path: Path, kind: str, name: str, words: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"by its name\. Convert it: .*Accepted: ") as caught:
        keys(tmp_path / name, kind=kind)
    assert words in str(caught.value)


def test_every_advice_is_a_sentence_of_its_own_format() -> None:
    formats = [form for entry in KINDS.values() for form in entry.suffixes]
    sentences = [advice(form, formats) for form in CONVERSIONS]
    assert all("{" not in text and text.startswith("Convert it: ") for text in sentences) and advice("xyz", formats) == ""


@pytest.mark.parametrize(("kind", "form"), [("image", "mp4"), ("trajectory", "json"), ("image", "pdf"), ("table", "nii")])
def test_no_advice_leads_to_a_format_that_the_kind_refuses(kind: str, form: str) -> None:
    assert advice(form, KINDS[kind].suffixes) == ""
