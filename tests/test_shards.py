"""Token sets keep what was put in: any sample comes back, by name and at random, from a file, a stream and a directory."""

import io
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtool.common.errors import DataError, UsageError
from mmtool.common.storage import canonical_json, sha256_bytes
from mmtool.data import shard_files
from mmtool.data.entries import Keys
from mmtool.data.sample import Modality, Sample
from mmtool.data.shard_format import encode_key, file_stem, npy_header
from mmtool.data.shards import TokenSet, open_token_set, write_split, write_stream

TOKENIZERS = {"image": b"image tokenizer", "patches": b"patch tokenizer", "text": b"text tokenizer"}
PRINTS = {name: sha256_bytes(data) for name, data in TOKENIZERS.items()}
MODALITIES = (
    Modality("text", "text", 70_000, None, "line", PRINTS["text"], 0),
    Modality("image", "image", 512, (2, 3), "grid", PRINTS["image"], 0),
    Modality("patches", "image", 0, (2, 2, 5), "grid", PRINTS["patches"], 0),
)


def samples(number: int, split: str = "train") -> list[Sample]:
    """Samples of which every other lacks text, every third patches; their keys hold dots, slashes and spaces."""
    rng = np.random.default_rng(number)
    made = []
    for i in range(number):
        tokens = {"image": rng.integers(0, 512, 6)}
        if i % 2:
            tokens["text"] = rng.integers(0, 70_000, rng.integers(0, 9))
        if i % 3:
            tokens["patches"] = rng.integers(0, 256, (4, 5))
        made.append(Sample(f"ward {i % 7}/patient.v{i}", tokens, {"digit": i % 10, "name": "ü"}, {"group": f"ward {i % 7}"}, split))
    return made


def stream(made: Iterable[Sample]) -> bytes:
    file = io.BytesIO()
    write_stream(file, MODALITIES, TOKENIZERS, made, {"pairs": []})
    return file.getvalue()


def assert_same(token_set: TokenSet, expected: Iterable[Sample]) -> None:
    ordered = sorted(expected, key=lambda sample: sample.key)
    assert token_set.keys == [sample.key for sample in ordered]
    for i, sample in enumerate(ordered):
        read = token_set[i]
        assert (read.key, read.labels, read.metadata, read.split) == (sample.key, sample.labels, sample.metadata, sample.split)
        assert read.present == sample.present == token_set.present(i)
        for name, tokens in sample.tokens.items():
            np.testing.assert_array_equal(read.tokens[name], tokens)


def test_every_sample_comes_back_from_a_file(tmp_path: Path) -> None:
    made = samples(25)
    (tmp_path / "a.tar").write_bytes(stream(made))
    token_set = open_token_set(tmp_path / "a.tar")
    assert_same(token_set, made)
    assert [modality.name for modality in token_set.modalities] == ["image", "patches", "text"]
    assert [modality.max_length for modality in token_set.modalities] == [6, 4, max(len(s.tokens.get("text", ())) for s in made)]
    assert token_set.tokenizers == TOKENIZERS and token_set.protocol == {"pairs": []}
    assert token_set[0].tokens["image"].dtype == np.uint16 and token_set[1].tokens["image"].flags.writeable
    assert {tokens.dtype for sample in token_set for tokens in sample.tokens.values()} == {np.dtype(t) for t in ("u1", "u2", "u4")}
    assert [sample.key for sample in token_set] == token_set.keys


def test_plain_webdataset_reads_every_sample(tmp_path: Path) -> None:
    made = samples(25)
    (tmp_path / "a.tar").write_bytes(stream(made))
    read = {record["json"]["key"]: record for record in webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False).decode()}
    assert len(read) == len(made)
    for sample in made:
        record = read[sample.key]
        assert record["json"]["present"] == list(sample.present) and record["json"]["labels"] == sample.labels
        assert {name[:-4] for name in record if name.endswith(".npy")} == set(sample.present)
        for name, tokens in sample.tokens.items():
            np.testing.assert_array_equal(record[f"{name}.npy"], tokens)


def test_plain_tar_lists_it(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(stream(samples(3)))
    with tarfile.open(tmp_path / "a.tar") as archive:
        members = archive.getmembers()
    assert members[0].name == "__mmtool__/manifest.json" and members[-1].name == "__mmtool__/end.json"
    assert {(member.mtime, member.uid, member.gid, member.mode) for member in members} == {(0, 0, 0, 0o644)}


def test_same_input_same_bytes_in_any_order() -> None:
    made = samples(12)
    assert stream(made) == stream(made[::-1])
    renamed = io.BytesIO()
    write_stream(renamed, MODALITIES[::-1], dict(reversed(TOKENIZERS.items())), iter(made), {"pairs": []})
    assert renamed.getvalue() == stream(made)


keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(keys, st.lists(st.integers(0, 99), max_size=20), min_size=1, max_size=6))
def test_any_key_and_any_length_survive(tmp_path_factory: pytest.TempPathFactory, texts: dict[str, list[int]]) -> None:
    path = tmp_path_factory.mktemp("any") / "a.tar"
    modality = Modality("text", "text", 100, None, "line", PRINTS["text"], 0)
    made = [Sample(key, {"text": np.array(codes, np.int64)}) for key, codes in texts.items()]
    with open(path, "wb") as file:
        write_stream(file, [modality], {"text": TOKENIZERS["text"]}, made)
    assert_same(open_token_set(path), made)
    records = list(webdataset.WebDataset(str(path), shardshuffle=False).decode())
    assert sorted(record["json"]["key"] for record in records) == sorted(texts)
    assert all(record["text.npy"].tolist() == texts[record["json"]["key"]] for record in records)


@given(keys)
def test_member_names_hold_nothing_but_the_key(key: str) -> None:
    assert not set(encode_key(key)) & set("./\\ ~")


@given(st.text(min_size=1, max_size=400).filter(lambda key: key.isprintable()), st.text("a語/", max_size=80))
def test_names_of_files_are_short_and_tell_keys_apart(key: str, tail: str) -> None:
    stem = file_stem(key)
    assert len(stem) <= 200 and not set(stem) & set("./\\ ")
    assert stem == encode_key(key) or ("~" in stem and unquote(stem.split("~")[0], errors="replace"))
    assert (file_stem(key + tail) == stem) == (not tail)


def test_the_name_of_a_long_key_is_its_head_and_its_hash() -> None:
    assert file_stem("scan/1") == "scan%2F1"
    head, _, end = file_stem("ab" + "語" * 40).partition("~")
    assert unquote(head, errors="ignore") == "ab" + "語" * 20 and re.fullmatch("[0-9a-f]{16}", end)


@given(st.sampled_from(["|u1", "<u2", "<u4"]), st.lists(st.integers(0, 2**40), min_size=1, max_size=2).map(tuple))
def test_npy_headers_are_those_of_numpy(dtype: str, shape: tuple[int, ...]) -> None:
    file = io.BytesIO(npy_header(dtype, shape))
    assert np.lib.format.read_magic(file) == (1, 0)
    assert np.lib.format.read_array_header_1_0(file) == (shape, False, np.dtype(dtype))
    assert file.read() == b"" and len(file.getvalue()) == 128


def test_a_directory_reads_like_a_file_across_shards(tmp_path: Path) -> None:
    made = samples(25)
    index = write_split(tmp_path / "train", MODALITIES, TOKENIZERS, made, {"seed": 1}, split="train", samples_per_shard=10)
    write_split(tmp_path / "test", MODALITIES, TOKENIZERS, samples(5), {"seed": 1}, split="test")
    assert sorted(file.name for file in (tmp_path / "train").iterdir()) == ["00000.tar", "00001.tar", "00002.tar", "index.json"]
    assert [shard["samples"] for shard in index["shards"]] == [10, 10, 5]
    token_set = open_token_set(tmp_path)
    assert_same(token_set, made)
    assert token_set.split == "train" and token_set.fingerprint == index["fingerprint"] and token_set.tokenizers == TOKENIZERS
    assert set(open_token_set(tmp_path, "test").splits) == {"test"} and len(open_token_set(tmp_path / "test")) == 5
    for shard in index["shards"]:
        content = (tmp_path / "train" / shard["name"]).read_bytes()
        assert sha256_bytes(content) == shard["sha256"]


def test_an_index_of_the_first_form_is_read_and_verified(tmp_path: Path) -> None:
    """It lists where the first header of every sample stands."""
    made = samples(25)
    index = write_split(tmp_path, MODALITIES, TOKENIZERS, made, split="train", samples_per_shard=10)
    first = {**index, "format": "mmtool-index/1", "shards": [dict(shard) for shard in index["shards"]]}
    for shard in first["shards"]:
        with tarfile.open(tmp_path / shard["name"]) as tar:
            records = [member for member in tar.getmembers() if member.name.endswith(".json") and "__mmtool__" not in member.name]
        shard["offsets"] = [member.offset for member in records]
    (tmp_path / "index.json").write_text(canonical_json(first) + "\n")
    assert_same(open_token_set(tmp_path), made)
    first["shards"][1]["offsets"][2] += 512
    (tmp_path / "index.json").write_text(canonical_json(first) + "\n")
    with pytest.raises(DataError, match="does not match"):
        open_token_set(tmp_path)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), max_size=12), st.data())
def test_keys_are_a_sequence_of_texts(texts: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(texts)))
    keys = Keys.joined([Keys.of(texts[:cut]), Keys.of(texts[cut:])])
    assert list(keys) == texts == [keys[i] for i in range(len(texts))] == keys[:] and keys == texts and keys != [*texts, "x"]
    assert [keys[i - len(texts)] for i in range(len(texts))] == texts and (not texts or texts[-1] in keys)
    rows = np.array(data.draw(st.lists(st.integers(0, max(0, len(texts) - 1)), max_size=5 if texts else 0)), int)
    assert list(keys.take(rows)) == [texts[i] for i in rows]
    with pytest.raises(IndexError):
        keys[len(texts)]


def test_large_sets_are_mapped_instead_of_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = samples(8)
    write_split(tmp_path, MODALITIES, TOKENIZERS, made, split="train", samples_per_shard=3)
    monkeypatch.setattr(shard_files, "IN_MEMORY_BYTES", 0)
    assert_same(open_token_set(tmp_path), made)


def test_many_shards_are_verified_by_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = samples(11)
    write_split(tmp_path, MODALITIES, TOKENIZERS, made, {"seed": 1}, split="train", samples_per_shard=3)
    alone = open_token_set(tmp_path)
    monkeypatch.setattr(shard_files, "PARALLEL_BYTES", 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    opened, processes = list[str](), shard_files._in_processes
    monkeypatch.setattr(shard_files, "_in_processes", lambda *arguments: opened.append("") or processes(*arguments))
    assert_same(open_token_set(tmp_path), made)
    assert opened and open_token_set(tmp_path).fingerprint == alone.fingerprint
    damaged = bytearray((tmp_path / "00002.tar").read_bytes())
    damaged[700] ^= 1
    (tmp_path / "00002.tar").write_bytes(damaged)
    with pytest.raises(DataError, match=r"00002\.tar"):
        open_token_set(tmp_path)


def test_the_fingerprint_follows_content_not_place(tmp_path: Path) -> None:
    for name, number in (("a", 6), ("b", 6), ("c", 7)):
        write_split(tmp_path / name, MODALITIES, TOKENIZERS, samples(number), split="train")
    prints = [open_token_set(tmp_path / name).fingerprint for name in "abc"]
    assert prints[0] == prints[1] != prints[2]
    (tmp_path / "s.tar").write_bytes(stream([*samples(6), Sample("other", {"image": np.zeros(6, int)}, split="test")]))
    assert len({open_token_set(tmp_path / "s.tar", split).fingerprint for split in (None, "train", "test")}) == 3


def test_counts_and_co_occurrence_need_no_tokens(tmp_path: Path) -> None:
    made = samples(12)
    (tmp_path / "a.tar").write_bytes(stream(made))
    token_set = open_token_set(tmp_path / "a.tar")
    assert token_set.counts() == {"image": 12, "patches": 8, "text": 6}
    assert token_set.co_occurrence() == {("image", "patches"): 8, ("image", "text"): 6, ("patches", "text"): 4}
    assert (token_set.lengths >= 0).sum() == 26


def test_a_split_of_a_single_file_is_filtered(tmp_path: Path) -> None:
    made = [*samples(4), *(Sample(f"held {i}", {"image": np.zeros(6, int)}, split="validation") for i in range(3))]
    (tmp_path / "a.tar").write_bytes(stream(made))
    assert len(open_token_set(tmp_path / "a.tar")) == 7
    assert open_token_set(tmp_path / "a.tar", "validation").keys == ["held 0", "held 1", "held 2"]
    with pytest.raises(DataError, match="no samples of the split 'test'"):
        open_token_set(tmp_path / "a.tar", "test")


def test_a_stream_is_read_from_standard_input() -> None:
    program = "import mmtool.data.shards as s; t = s.open_token_set(None, 'train'); print(len(t), t.fingerprint)"
    done = subprocess.run([sys.executable, "-c", program], input=stream(samples(5)), capture_output=True, check=True)
    assert done.stdout.split()[0] == b"5"


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_killed_upstream_is_told_apart(share: float) -> None:
    data = stream(samples(5))
    program = "import mmtool.data.shards as s; s.open_token_set(None)"
    done = subprocess.run([sys.executable, "-c", program], input=data[: int(share * len(data))], capture_output=True)
    assert done.returncode != 0 and b"standard input: the stream ended before its end record." in done.stderr
    assert b"upstream probably failed" in done.stderr


BAD_SAMPLES = {
    "two samples have this key": [Sample("a", {"image": np.zeros(6, int)})] * 2,
    "where every segment has 6": [Sample("a", {"image": np.zeros(5, int)})],
    "is no segment": [Sample("a", {"image": np.zeros((2, 3), int)})],
    "from 0 to 511": [Sample("a", {"image": np.full(6, 512)})],
    "whole numbers from 0 to 511": [Sample("a", {"image": np.full(6, -1)})],
    "codes must be whole numbers": [Sample("a", {"image": np.full(6, 0.5)})],
    r"shape \(4, 6\)": [Sample("a", {"patches": np.zeros((4, 6), int)})],
    "undeclared modalities": [Sample("a", {"speech": np.zeros(6, int)})],
    "unknown split": [Sample("a", {}, split="dev")],
    "empty key": [Sample("", {})],
    "not valid text": [Sample("\udcff", {})],
    "stored as JSON": [Sample("a", {}, {"age": float("nan")})],
}


@pytest.mark.parametrize("message", BAD_SAMPLES)
def test_bad_samples_are_refused_when_written(message: str) -> None:
    with pytest.raises(DataError, match=message):
        stream(BAD_SAMPLES[message])


def test_duplicates_are_found_across_shards(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two samples have this key"):
        write_split(tmp_path, MODALITIES, TOKENIZERS, [*samples(4), samples(4)[0]], split="train", samples_per_shard=1)


@pytest.mark.parametrize("name", ["mRNA", "a.b", "", "samples", "1st", "a,b"])
def test_modality_names_are_plain(name: str) -> None:
    with pytest.raises(DataError, match="needs another name"):
        write_stream(io.BytesIO(), [Modality(name, "text", 5, None, "line", "", 0)], {}, [])


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    write_split(tmp_path / "set/train", MODALITIES, TOKENIZERS, samples(4), split="train", samples_per_shard=2)
    (tmp_path / "empty").mkdir()
    for path, split, message in (
        ("absent", None, "no such file"),
        ("empty", None, "no shards in this directory"),
        ("set", "test", "Choose from: train"),
        ("set/train", "test", "holds the split 'train'"),
        ("set/train/00001.tar", None, "carries no tokenizers"),
    ):
        with pytest.raises(DataError, match=message):
            open_token_set(tmp_path / path, split)
    with pytest.raises(UsageError, match="no split 'dev'"):
        open_token_set(tmp_path / "set", "dev")
    (tmp_path / "set/train/00001.tar").unlink()
    with pytest.raises(DataError, match="Restore what is missing"):
        open_token_set(tmp_path / "set")
