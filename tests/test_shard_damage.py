"""Nothing damaged, cut, spliced or hostile is read as a token set: each is one clear error that names the shard."""

import io
import json
import tarfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtool.common.errors import DataError
from mmtool.common.storage import sha256_bytes
from mmtool.data.sample import Modality, Sample
from mmtool.data.shard_format import END, MANIFEST, TOKENIZERS, npy_header
from mmtool.data.shard_reader import read_shard
from mmtool.data.shards import open_token_set, write_split, write_stream
from mmtool.data.tar import END_OF_ARCHIVE, CutError, TarWriter, member_header, read_members

TOKENIZER = b"a tokenizer"
IMAGE = Modality("image", "image", 50, (4,), "line", sha256_bytes(TOKENIZER), 4)
TEXT = Modality("text", "text", 100, None, "line", sha256_bytes(TOKENIZER), 3)
FILES = {"image": TOKENIZER, "text": TOKENIZER}
SAMPLES = [
    Sample("a", {"image": np.arange(4), "text": np.arange(3)}, {"digit": 1}),
    Sample("b", {"image": np.arange(4) + 3}, {"digit": 2}),
    Sample("k" * 120, {"text": np.arange(2)}),
]


def shard() -> bytes:
    file = io.BytesIO()
    write_stream(file, [IMAGE, TEXT], FILES, SAMPLES)
    return file.getvalue()


WHOLE = shard()


def refuse(data: bytes, message: str | None = None) -> DataError:
    with pytest.raises(DataError, match=message) as caught:
        read_shard(memoryview(data), "damaged.tar")
    assert "damaged.tar" in str(caught.value)
    return caught.value


def test_the_whole_shard_is_accepted() -> None:
    assert list(read_shard(memoryview(WHOLE), "whole.tar").entries.keys) == ["a", "b", "k" * 120]


def test_a_cut_at_every_block_is_refused_as_a_cut() -> None:
    for size in range(0, len(WHOLE), 512):
        assert isinstance(refuse(WHOLE[:size]), CutError), size


@settings(deadline=None, max_examples=100)
@given(st.integers(0, len(WHOLE) - 1))
def test_a_cut_at_any_byte_is_refused(size: int) -> None:
    refuse(WHOLE[:size])


def test_a_cut_that_ends_like_an_archive_is_refused() -> None:
    for member in read_members(memoryview(WHOLE), "whole.tar"):
        assert isinstance(refuse(WHOLE[: member.header] + END_OF_ARCHIVE), DataError)


def test_a_flip_of_every_byte_is_refused() -> None:
    for position in range(len(WHOLE)):
        damaged = bytearray(WHOLE)
        damaged[position] ^= 1 << position % 8
        refuse(bytes(damaged))


def test_appended_archives_are_refused() -> None:
    refuse(WHOLE + WHOLE, "something follows the end")
    refuse(WHOLE + bytes(512), "something follows the end")
    refuse(WHOLE[: -len(END_OF_ARCHIVE)] + WHOLE)


def test_a_left_out_member_is_refused() -> None:
    members = read_members(memoryview(WHOLE), "whole.tar")
    for member, following in pairwise(members):
        refuse(WHOLE[: member.header] + WHOLE[following.header :])


Members = list[tuple[str, bytes]]


def parts() -> Members:
    """The members of the shard, without its end record."""
    buffer = memoryview(WHOLE)
    return [(member.name, bytes(member.read(buffer))) for member in read_members(buffer, "whole.tar")[:-1]]


def forge(members: Members, change: dict[str, Any] | None = None) -> bytes:
    """An archive with these members and an end record whose digest is right."""
    file = io.BytesIO()
    writer = TarWriter(file)
    for name, content in members:
        writer.add(name, content)
    counts = {"samples": 3, "image": 2, "text": 2}
    end = {"counts": counts, "max_length": {"image": 4, "text": 3}, "digest": writer.digest, **(change or {})}
    writer.add(END, json.dumps(end, sort_keys=True, separators=(",", ":")).encode())
    writer.close()
    return file.getvalue()


def replaced(name: str, content: bytes) -> Members:
    return [(known, content if known == name else old) for known, old in parts()]


def record(**change: Any) -> bytes:
    good = {"key": "b", "present": ["image"], "labels": {}, "metadata": {}, "split": "train"}
    return json.dumps({**good, **change}).encode()


def array(values: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, values, version, allow_pickle=True)
    return file.getvalue()


def manifest(**change: Any) -> bytes:
    return json.dumps({**json.loads(parts()[0][1]), **change}, sort_keys=True, separators=(",", ":")).encode()


def swapped() -> Members:
    """The image of `b` stands inside the sample `a`."""
    members = parts()
    places = {name: place for place, (name, _) in enumerate(members)}
    members.insert(places["a.text.npy"], members.pop(places["b.image.npy"]))
    return members


HOSTILE: dict[str, tuple[Callable[[], Members], str]] = {
    "pickle": (lambda: [*parts(), ("b.pkl", b"cos\nsystem\n")], "type that is not accepted"),
    "torch": (lambda: [*parts(), ("b.image.pth", b"")], "type that is not accepted"),
    "duplicate sample": (lambda: [*parts(), *parts()[3:6]], "repeated or out of order"),
    "unsorted": (lambda: [*parts()[:3], *parts()[6:], *parts()[3:6]], "repeated or out of order"),
    "interleaved": (swapped, "does not hold what it declares"),
    "undeclared array": (lambda: [*parts(), ("l.image.npy", parts()[4][1])], "does not belong to the sample before it"),
    "missing array": (lambda: parts()[:-1], "does not hold what it declares"),
    "presence not declared": (lambda: replaced("b.json", record(present=[])), "does not belong to the sample before it"),
    "declared twice": (lambda: replaced("b.json", record(present=["image", "image"])), "unknown or not in order"),
    "unknown modality": (lambda: replaced("b.json", record(present=["speech"])), "unknown or not in order"),
    "present of wrong type": (lambda: replaced("b.json", record(present="image")), "not that of a sample"),
    "other key": (lambda: replaced("b.json", record(key="../b")), "states the key"),
    "other split": (lambda: replaced("b.json", record(split="dev")), "the split 'dev'"),
    "extra field": (lambda: replaced("b.json", record(more=1)), "not that of a sample"),
    "not JSON": (lambda: replaced("b.json", b"{"), "not JSON"),
    "not an object": (lambda: replaced("b.json", b"[]"), "not a JSON object"),
    "object array": (lambda: replaced("b.image.npy", array(np.array([{}, 1, 2, 3], object))), "size that its header states"),
    "float array": (lambda: replaced("b.image.npy", array(np.zeros(4, np.float16))), "not uint16"),
    "other byte order": (lambda: replaced("b.image.npy", array(np.arange(4, dtype=">u2"))), "not uint16"),
    "npy version 2": (lambda: replaced("b.image.npy", array(np.arange(4, dtype="<u2"), (2, 0))), "not uint16"),
    "lying shape": (lambda: replaced("b.image.npy", npy_header("<u2", (10**9,)) + bytes(8)), "size that its header states"),
    "wrong length": (lambda: replaced("b.image.npy", npy_header("<u2", (3,)) + bytes(6)), "3 tokens; image has 4"),
    "too long": (lambda: replaced("a.text.npy", npy_header("<u2", (9,)) + bytes(18)), "text has at most 3"),
    "cut array": (lambda: replaced("b.image.npy", npy_header("<u2", (4,))[:50]), "size that its header states"),
    "code out of range": (lambda: replaced("b.image.npy", npy_header("<u2", (4,)) + b"\x32\0" * 4), "beyond the 50"),
    "no manifest": (lambda: parts()[1:], "no manifest"),
    "format of the future": (lambda: replaced(MANIFEST, manifest(format="mmtool-shards/9")), "this version reads"),
    "other layout": (lambda: replaced(MANIFEST, manifest(layout={"size": 5})), "layout does not follow"),
    "no modalities": (lambda: replaced(MANIFEST, b'{"format":"mmtool-shards/1"}'), "manifest is not in order"),
    "tokenizer exchanged": (lambda: replaced(f"{TOKENIZERS}text.safetensors", b"another"), "not that of the manifest"),
    "tokenizer missing": (lambda: [part for part in parts() if part[0] != f"{TOKENIZERS}text.safetensors"], "do not match"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_content_is_refused_even_with_a_right_digest(case: str) -> None:
    make, message = HOSTILE[case]
    refuse(forge(make()), message)


def test_forging_itself_is_sound() -> None:
    assert forge(parts()) == WHOLE


@pytest.mark.parametrize("change", [{"counts": {"samples": 2, "image": 2, "text": 2}}, {"max_length": {}}, {"more": 1}])
def test_a_wrong_end_record_is_refused(change: dict[str, Any]) -> None:
    refuse(forge(parts(), change), "does not match the samples")


@pytest.mark.parametrize("name", ["/etc/passwd.json", "../up.json", "a/../../up.json", "a b.json", "", ".hidden.json", "a\\b.json"])
def test_unsafe_names_are_neither_written_nor_read(name: str) -> None:
    with pytest.raises(DataError):
        member_header(name, 0)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo(name))
    refuse(file.getvalue(), "unsafe or unknown")


@pytest.mark.parametrize(
    ("kind", "message"),
    [(tarfile.SYMTYPE, "symbolic link"), (tarfile.LNKTYPE, "hard link"), (tarfile.DIRTYPE, "directory"), (tarfile.FIFOTYPE, "pipe")],
)
def test_only_plain_files_are_read(kind: bytes, message: str) -> None:
    info = tarfile.TarInfo("a.json")
    info.type, info.linkname = kind, "/etc/passwd"
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(info)
    refuse(file.getvalue(), message)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG" + bytes(2000), bytes(1024), bytes(512)])
def test_other_files_are_refused(data: bytes) -> None:
    refuse(data)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=2048))
def test_noise_is_refused(data: bytes) -> None:
    refuse(data)


def test_a_foreign_tar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with tarfile.open(tmp_path / "foreign.tar", "w") as archive:
        archive.add(tmp_path / "a.json", "a.json")
    refuse((tmp_path / "foreign.tar").read_bytes(), "not written by mmtool")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    write_split(tmp_path / "train", [IMAGE, TEXT], FILES, SAMPLES, split="train", samples_per_shard=1)
    return tmp_path / "train"


def test_an_exchanged_shard_is_refused(directory: Path) -> None:
    other = [Sample("b", {"image": np.arange(4) + 4}, {"digit": 2})]
    write_split(directory.parent / "other", [IMAGE, TEXT], FILES, [SAMPLES[0], *other, SAMPLES[2]], split="train", samples_per_shard=1)
    (directory / "00001.tar").write_bytes((directory.parent / "other/00001.tar").read_bytes())
    with pytest.raises(DataError, match=r"00001\.tar.*not the one that the index lists"):
        open_token_set(directory)


def test_exchanged_places_are_refused(directory: Path) -> None:
    first, second = directory / "00001.tar", directory / "00002.tar"
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    with pytest.raises(DataError, match="not the one that the index lists"):
        open_token_set(directory)


def test_an_added_shard_is_refused(directory: Path) -> None:
    (directory / "00003.tar").write_bytes((directory / "00002.tar").read_bytes())
    with pytest.raises(DataError, match="the directory holds"):
        open_token_set(directory)


def test_any_change_of_the_index_is_refused(directory: Path) -> None:
    index = (directory / "index.json").read_bytes()
    for position in range(0, len(index), 7):
        damaged = bytearray(index)
        damaged[position] ^= 1
        (directory / "index.json").write_bytes(damaged)
        with pytest.raises(DataError):
            open_token_set(directory)


def test_an_index_that_lists_shards_of_two_sets_is_refused(directory: Path) -> None:
    write_split(directory.parent / "other", [IMAGE, TEXT], FILES, SAMPLES[2:], {"holes": 0.5}, split="train")
    (directory / "00002.tar").write_bytes((directory.parent / "other/00000.tar").read_bytes())
    index = json.loads((directory / "index.json").read_bytes())
    index["shards"][2]["sha256"] = sha256_bytes((directory / "00002.tar").read_bytes())
    (directory / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="do not belong together"):
        open_token_set(directory)
