"""Files of other formats in folders and archives are left out, but never without a word."""

import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtool.common.errors import DataError
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
    (folder / "scan.avif").write_bytes(b"avif")
    return folder


def keys(*paths: Path, labels_path: Path | None = None) -> list[str]:
    return [item.key for item in read_items("image", paths, SourceOptions(labels_path=labels_path))]


def test_files_of_other_formats_are_counted_and_reported_once(photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    done = tokenize("image", [photos], tmp_path / "i.tar", name="image", scheme="patches", settings={"patch": 4})
    assert done.samples == 12 and done.left_out == 4
    err = capfd.readouterr().err
    assert err.count("left out") == 1
    assert f"left out: 4 files of other formats: 3 .heic, 1 .avif ({photos}/scan.avif)" in err
    tokenize("image", [photos], tmp_path / "j.tar", name="image", tokenizer=tmp_path / "i.tar")
    assert capfd.readouterr().err.count("left out: 4 files") == 1


def test_files_that_hold_no_samples_are_not_counted(photos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for file in [*photos.glob("trip/*.HEIC"), photos / "scan.avif"]:
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
    assert keys(tmp_path / "p.zip", tmp_path / "q.tar") == ["trip/00", "01"]
    err = capfd.readouterr().err
    listed = "2 .zip inside archives, 1 without extension, 1 .heic"
    assert f"left out: 4 files of other formats: {listed} ({tmp_path}/p.zip/inner.zip)" in err


def test_a_folder_of_nothing_but_other_formats_names_them(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no image file here, but 1 file of another format: 1 \.heic \(.*a\.heic\)"):
        keys(tmp_path)
