"""Archives that are joined, damaged between their members, or downloaded in part: all is read, or the archive is refused."""

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtool.common.errors import DataError
from mmtool.preprocessing.sources import Reject, SourceOptions, read_items

BLOCK, RECORD = 512, 10_240


def tar(texts: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, text in texts.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return data.getvalue()


def texts(path: Path, rejects: list[Reject] | None = None, **options: object) -> dict[str, str]:
    return {item.key: item.value for item in read_items("text", [path], SourceOptions(**options), rejects)}


FIRST, SECOND = {"1.txt": "one", "2.txt": "two"}, {"3.txt": "three"}
WHOLE = {"1": "one", "2": "two", "3": "three"}


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.tar", tar(FIRST) + tar(SECOND)),
        ("a.tar", tar(FIRST)[: 6 * BLOCK] + tar(SECOND)),  # two blocks of zeros, as Go writes it, and no more
        ("a.tar.gz", gzip.compress(tar(FIRST)) + gzip.compress(tar(SECOND))),
        ("a.tgz", gzip.compress(tar(FIRST) + tar(SECOND))),
    ],
    ids=["tar", "short end", "gz behind gz", "tgz"],
)
def test_archives_behind_one_another_are_read_to_the_last(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    assert texts(tmp_path / name) == WHOLE


def test_zip_archives_behind_one_another_are_refused(tmp_path: Path) -> None:
    for name, members in {"a": FIRST, "b": SECOND}.items():
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for member, text in members.items():
                archive.writestr(member, text)
    joined = tmp_path / "joined.zip"
    joined.write_bytes((tmp_path / "a.zip").read_bytes() + (tmp_path / "b.zip").read_bytes())
    with pytest.raises(DataError, match="several behind one another"):
        texts(joined)


@pytest.mark.parametrize("number", [0, 1, 2], ids=["first", "middle", "last"])
def test_a_header_of_zeros_costs_its_member_and_is_named(number: int, tmp_path: Path) -> None:
    data = bytearray(tar({"1.txt": "one", "2.txt": "two", "3.txt": "three"}))
    start = 2 * BLOCK * number
    data[start : start + BLOCK] = bytes(BLOCK)
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        texts(path)
    rejects: list[Reject] = []
    kept = texts(path, rejects, on_error="skip")
    assert kept == {key: text for key, text in WHOLE.items() if key != str(number + 1)} and len(rejects) == 1


def test_what_follows_the_end_and_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar(FIRST) + b"something else" * 99)
    with pytest.raises(DataError, match=r"behind its end mark, something follows at byte 10,240"):
        texts(tmp_path / "a.tar")
    damaged = bytearray(tar(SECOND))
    damaged[3] ^= 1
    (tmp_path / "a.tar").write_bytes(tar(FIRST) + damaged)
    with pytest.raises(DataError, match=r"behind its end mark"):
        texts(tmp_path / "a.tar")


@pytest.mark.parametrize("record", [RECORD, 1 << 15, 1 << 18, 1 << 20])
def test_zeros_that_fill_a_record_are_no_damage(record: int, tmp_path: Path) -> None:
    data = tar(FIRST)[: 6 * BLOCK]
    (tmp_path / "a.tar").write_bytes(data + bytes(-len(data) % record))
    assert texts(tmp_path / "a.tar") == {"1": "one", "2": "two"}


@pytest.mark.parametrize("size", [3 * RECORD, 200 * RECORD])
def test_half_a_download_whose_rest_is_zeros_is_refused(size: int, tmp_path: Path) -> None:
    data = tar({**FIRST, "3.txt": "x" * (size - 2 * RECORD)})
    (tmp_path / "a.tar").write_bytes(data[: 4 * BLOCK] + bytes(len(data) - 4 * BLOCK))
    with pytest.raises(DataError, match="part of a download"):
        texts(tmp_path / "a.tar")
    rejects: list[Reject] = []
    assert texts(tmp_path / "a.tar", rejects, on_error="skip") == {"1": "one", "2": "two"} and len(rejects) == 1


def test_frames_behind_a_header_of_zeros_are_not_lost_in_silence(tmp_path: Path) -> None:
    data = io.BytesIO()
    places = {}
    with tarfile.open(fileobj=data, mode="w") as archive:
        for video in "abcd":
            for frame in range(4):
                picture = io.BytesIO()
                Image.fromarray(np.frombuffer(os.urandom(400), np.uint8).reshape(20, 20)).save(picture, "PNG")
                info = tarfile.TarInfo(f"{video}/{frame}.png")
                info.size = picture.tell()
                places[info.name] = archive.offset
                archive.addfile(info, io.BytesIO(picture.getvalue()))
    content = bytearray(data.getvalue())
    content[places["b/2.png"] : places["b/2.png"] + BLOCK] = bytes(BLOCK)
    (tmp_path / "all.tar").write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        list(read_items("video", [tmp_path / "all.tar"], SourceOptions(frames=True, source_rate_hz=10.0)))
    options = SourceOptions(frames=True, source_rate_hz=10.0, on_error="skip")
    rejects: list[Reject] = []
    items = list(read_items("video", [tmp_path / "all.tar"], options, rejects))
    assert [item.key for item in items] == ["a", "c", "d"] and "b" in {reject.key for reject in rejects}
