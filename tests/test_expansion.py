"""Files that are larger than they look: caps in bytes for all that is decompressed into memory, and none for what is read line by line."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
from PIL import Image

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers import audio, raw_files
from mmtool.preprocessing.sources import SourceOptions, read_items

ZEROS = bytes(1 << 20)  # of which a thousandth is stored


def picture() -> bytes:
    data = io.BytesIO()
    Image.new("L", (4, 4)).save(data, "PNG")
    return data.getvalue() + ZEROS  # which decoders do not mind


def in_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", picture())


def in_tar(path: Path) -> None:
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo("a.png.gz")
        data = gzip.compress(picture())
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))


def episode(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name in ("observations", "actions"):
            file.create_dataset(name, (1 << 17, 2), "f4", compression="gzip")


def silence(path: Path) -> None:
    soundfile.write(path, np.zeros((8000, 4), np.float32), 8000)


def workbook(path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["id", "a"])
    book.active.append(["x", "0" * 30_000])
    book.active.append(["y", "1"])
    book.save(path)


FORMS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a.png.gz": ("image", lambda path: path.write_bytes(gzip.compress(picture()))),
    "a.png.bz2": ("image", lambda path: path.write_bytes(bz2.compress(picture()))),
    "a.png.xz": ("image", lambda path: path.write_bytes(lzma.compress(picture()))),
    "a.zip": ("image", in_zip),
    "a.tgz": ("image", in_tar),
    "a.npz": ("image", lambda path: np.savez_compressed(path, images=np.zeros((64, 128, 128), np.uint8))),
    "a.hdf5": ("trajectory", episode),
    "a.flac": ("audio", silence),
    "a.xlsx": ("table", workbook),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_expands_without_end_is_refused_before_it_does(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, write = FORMS[name]
    write(tmp_path / name)
    monkeypatch.setattr(raw_files, "MAX_GROWTH_BYTES", 10_000)
    monkeypatch.setattr(audio, "MAX_DECODED_BYTES", 10_000)
    with pytest.raises(DataError, match=r"more than .* (beyond|MiB)") as refused:
        list(read_items(kind, [tmp_path / name], SourceOptions()))
    assert name in str(refused.value)


@pytest.mark.parametrize("name", FORMS)
def test_the_same_files_are_read_below_the_caps(name: str, tmp_path: Path) -> None:
    kind, write = FORMS[name]
    write(tmp_path / name)
    if name != "a.xlsx":  # whose cell is no number
        assert len(list(read_items(kind, [tmp_path / name], SourceOptions()))) >= 1


def test_tables_are_read_at_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 20_000
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(("id,a,b\n" + "".join(f"p{i},0,0\n" for i in range(rows))).encode()))
    monkeypatch.setattr(raw_files, "MAX_GROWTH_BYTES", 10_000)
    monkeypatch.setattr(raw_files, "MAX_FILE_BYTES", 10_000)
    assert len(list(read_items("table", [tmp_path / "t.csv.gz"], SourceOptions()))) == rows


def test_an_hdf5_file_in_which_the_library_never_ends_is_refused(tmp_path: Path) -> None:
    """The heap of texts of variable length is overwritten: to read one takes for ever, in one call."""
    path = tmp_path / "episode.hdf5"
    with h5py.File(path, "w") as file:
        file.attrs["environment"] = "maze"
        file["rewards"], file["actions"] = np.zeros(3), np.zeros((3, 2))
    whole = path.read_bytes()
    assert len(list(read_items("trajectory", [path], SourceOptions(), quiet=True))) == 1
    damaged = bytearray(whole)
    heap = whole.index(b"GCOL") + 16
    damaged[heap : heap + 64] = b"\xff" * 64
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"episode\.hdf5.*does not end"):
        list(read_items("trajectory", [path], SourceOptions(), quiet=True))
