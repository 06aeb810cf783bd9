"""Stages whose memory does not grow with the data: samples wait on disk, files are read in parts, tokenizers are fitted to a part."""

import errno
import gzip
import random
import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import mmtool.preprocessing.fit as fitting
from mmtool.common.errors import DataError
from mmtool.common.storage import sha256_bytes, sha256_file
from mmtool.data import shard_files
from mmtool.data.sample import Modality, Sample
from mmtool.data.shards import open_token_set, write_stream
from mmtool.data.spool import Spool
from mmtool.preprocessing.prepare import ImagePreparer
from mmtool.preprocessing.readers import raw_files, records
from mmtool.preprocessing.reservoir import Reservoir
from mmtool.preprocessing.shard import shard
from mmtool.preprocessing.sources import Item, SourceOptions, read_items
from mmtool.preprocessing.splits import Split
from mmtool.preprocessing.tokenize import tokenize
from mmtool.tokenizers.image import ImageFormat

MEGABYTE = 1 << 20
EXAMPLES = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def peak_bytes(work: Callable[[], Any]) -> int:
    """Of what Python and NumPy allocate meanwhile."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def sample(key: str, split: str = "train", **tokens: Any) -> Sample:
    values = {name: np.asarray(array) for name, array in tokens.items()}
    return Sample(key, values, {"digit": 3, "ratio": 0.1, "name": "ä", "none": None}, {"group": key, "rows": {"a": 2}}, split)


@EXAMPLES
@given(st.lists(KEYS, unique=True))
def test_a_spool_gives_samples_back_in_order_as_often_as_wanted(keys: list[str]) -> None:
    with Spool() as spool:
        for number, key in enumerate(keys):
            spool.add(sample(key, ["train", "test"][number % 2], a=np.arange(number % 5, dtype=np.uint32)))
        assert len(spool) == len(keys)
        for _ in range(2):
            assert [found.key for found in spool] == sorted(keys)
        assert [found.key for found in spool.of_split("test")] == sorted(keys[1::2]) and len(spool.of_split("test")) == len(keys[1::2])


def test_a_spool_keeps_all_of_a_sample() -> None:
    stored = [
        sample("b", a=np.arange(7, dtype=np.uint16), c=np.arange(12, dtype=np.uint8).reshape(3, 4)),
        sample("a", "validation", a=np.zeros(0, np.int64), c=np.arange(24, dtype=np.uint8).reshape(6, 4)[::2, ::2]),
    ]
    with Spool() as spool:
        for one in stored:
            spool.add(one)
        for found, expected in zip(spool, reversed(stored), strict=True):
            assert (found.key, found.split, found.labels, found.metadata) == (
                expected.key,
                expected.split,
                expected.labels,
                expected.metadata,
            )
            assert found.present == expected.present
            for name, tokens in expected.tokens.items():
                assert found.tokens[name].dtype == tokens.dtype and np.array_equal(found.tokens[name], tokens)
        assert spool.longest == {"a": 7, "c": 3}


def test_a_spool_refuses_what_a_shard_could_not_hold() -> None:
    with Spool() as spool:
        with pytest.raises(DataError, match="cannot be stored as JSON"):
            spool.add(Sample("nan", {}, {"x": float("nan")}))
        for _ in range(2):
            spool.add(sample("twice"))
        with pytest.raises(DataError, match=r"twice: two samples have this key"):
            list(spool)


def test_a_full_disk_is_said_as_the_system_says_it() -> None:
    with Spool() as spool:
        spool._database.execute("PRAGMA max_page_count = 20")
        with pytest.raises(OSError, match="TMPDIR") as refused:
            for number in range(100):
                spool.add(sample(f"{number}", a=np.zeros(5000, np.uint8)))
        assert refused.value.errno == errno.ENOSPC


def test_a_disk_that_refuses_is_said_as_the_system_says_it() -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Spool() as spool, pytest.raises(OSError, match="TMPDIR") as refused:
        spool._database.execute("PRAGMA cache_size = 1")
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            for number in range(100):
                spool.add(sample(f"{number}", a=np.zeros(5000, np.uint8)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert refused.value.errno == errno.EIO


def item(key: str, num_bytes: int) -> Item:
    return Item(key, np.zeros(num_bytes, np.uint8), {}, key)


@EXAMPLES
@given(st.dictionaries(KEYS, st.integers(0, 50), max_size=30), st.integers(1, 20), st.integers(1, 200), st.randoms(use_true_random=False))
def test_a_reservoir_depends_on_the_data_alone(sizes: dict[str, int], items: int, num_bytes: int, source: random.Random) -> None:
    kept = set()
    for _ in range(3):
        keys = source.sample(sorted(sizes), len(sizes))
        reservoir = Reservoir(items, num_bytes)
        for key in keys:
            reservoir.add(item(key, sizes[key]))
        kept.add(tuple(found.key for found in reservoir.items()))
        assert reservoir.num_seen == len(sizes)
    (chosen,) = kept
    assert list(chosen) == sorted(chosen) and len(chosen) <= items
    assert sum(sizes[key] for key in chosen) <= num_bytes or len(chosen) == 1
    if len(sizes) <= items and sum(sizes.values()) <= num_bytes:
        assert set(chosen) == set(sizes)
    assert bool(chosen) == bool(sizes)


def test_a_reservoir_takes_those_with_the_lowest_hashes() -> None:
    keys = [f"k{number}" for number in range(100)]
    in_order = sorted(keys, key=lambda key: int(sha256_bytes(key.encode())[:16], 16))
    for bound, count in (((10, 1e9), 10), ((1000, 7 * 8), 7)):
        reservoir = Reservoir(*bound)
        for key in keys:
            reservoir.add(item(key, 8))
        assert {found.key for found in reservoir.items()} == set(in_order[:count])


def test_what_is_left_out_of_fitting_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("id,a,b\n" + "".join(f"p{i},{i},{-i}\n" for i in range(50)))
    how: dict[str, Any] = {"name": "t", "split": Split((1, 0, 0)), "force": True, "settings": {"n_bins": 4}}
    tokenize("table", [tmp_path / "t.csv"], tmp_path / "t.tar", **how)
    assert "lowest hashes" not in capsys.readouterr().err
    monkeypatch.setattr(fitting, "MAX_FITTING_BYTES", 20 * 2 * 4)
    summary = tokenize("table", [tmp_path / "t.csv"], tmp_path / "t.tar", **how)
    assert "of 50 training samples the 20 with the lowest hashes" in capsys.readouterr().err
    assert summary.reconstruction["samples"] == 20 and summary.samples == 50


@pytest.mark.parametrize("mode", ["L", "RGB", None])
@pytest.mark.parametrize("fit", ["stretch", "contain", "cover"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_made_small_at_once_are_the_same_when_they_are_fitted_to(mode: str | None, fit: str, channels: int) -> None:
    value = np.random.default_rng(0).integers(0, 256, (37, 61, channels), np.uint8)
    chosen = {"size": [16, 24], "fit": fit} | ({"mode": mode} if mode else {})
    small = ImagePreparer.reduced(value, chosen)
    assert small.shape[:2] == (16, 24)
    for final in [mode] if mode else ["RGB", "L"][: 1 + (channels == 1)]:
        form = ImageFormat((16, 24), final, 8, fit)
        np.testing.assert_array_equal(form.bring(small), form.bring(value))


def test_large_pictures_are_not_held(tmp_path: Path) -> None:
    side, count = 400, 80
    for number in range(count):
        Image.fromarray(np.full((side, side, 3), number, np.uint8)).save(tmp_path / f"{number:02d}.png")
    how: dict[str, Any] = {"name": "image", "scheme": "patches", "settings": {"size": 8}}
    peak = peak_bytes(lambda: tokenize("image", [tmp_path], tmp_path / "out.tar", **how))
    assert peak < count * side * side * 3 / 3


def table_of(path: Path, rows: int) -> Path:
    values = np.random.default_rng(0).normal(size=(rows, 60)).round(4).tolist()
    text = f"id,{','.join(f'f{i}' for i in range(60))}\n" + "".join(f"p{i},{','.join(map(str, row))}\n" for i, row in enumerate(values))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", [*(pytest.param(name, marks=pytest.mark.slow) for name in ("t.csv", "t.tsv")), "t.csv.gz"])
def test_tables_are_read_line_by_line(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_files, "BUFFER_BYTES", 1 << 15)
    monkeypatch.setattr(records, "HEAD", 1 << 15)
    monkeypatch.setattr(raw_files, "_read_path", lambda path: pytest.fail(f"{path} is read as a whole"))
    rows = 4000
    path = table_of(tmp_path / name, rows)
    if name == "t.tsv":
        path.write_text(path.read_text().replace(",", "\t"))

    def read() -> None:
        assert sum(len(found.value[0]) for found in read_items("table", [path], SourceOptions())) == rows * 60

    assert peak_bytes(read) < 1.5 * MEGABYTE  # of a text of 1.7 megabytes, in passes before the last of which 240,000 cells are read


def test_parquet_tables_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow
    from pyarrow import parquet

    rows = 3000
    columns = {"id": [f"p{i}" for i in range(rows)]} | {f"f{i}": np.random.default_rng(i).normal(size=rows) for i in range(40)}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet", row_group_size=500)
    monkeypatch.setattr(raw_files, "BUFFER_BYTES", 1 << 15)
    monkeypatch.setattr(raw_files, "_read_path", lambda path: pytest.fail(f"{path} is read as a whole"))

    def read() -> None:
        items = read_items("table", [tmp_path / "t.parquet"], SourceOptions())
        for number, found in enumerate(items):
            assert found.key == f"p{number}" and found.value[0][3] == np.float32(columns["f3"][number])

    read()  # which imports what it takes
    assert peak_bytes(read) < 2 * MEGABYTE  # where 120,000 numbers as objects would be four


def test_parquet_tables_with_two_columns_of_one_name(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow
    from pyarrow import parquet

    from mmtool.preprocessing.readers.table_options import TableOptions

    arrays = [pyarrow.array(["a", "b"]), pyarrow.array([1.0, 2.0]), pyarrow.array([3.0, 6.0]), pyarrow.array([5.0, 7.0])]
    parquet.write_table(pyarrow.Table.from_arrays(arrays, names=["id", "x.y", "x", "x"]), tmp_path / "t.parquet")
    items = read_items("table", [tmp_path / "t.parquet"], SourceOptions(table=TableOptions(duplicates="mean")))
    assert {found.key: found.value[0].tolist() for found in items} == {"a": [1.0, 4.0], "b": [2.0, 6.5]}


def token_tar(path: Path, name: str, count: int, length: int) -> Path:
    modality = Modality(name, "text", 100, None, "line", sha256_bytes(b"fitted"), 0)
    with open(path, "wb") as file:
        samples = (Sample(f"s{i:04d}", {name: np.full(length, i % 100, np.uint16)}, {"digit": i % 3}) for i in range(count))
        write_stream(file, [modality], {name: b"fitted"}, samples)
    return path


@pytest.mark.parametrize("align", [False, True])
def test_sharding_holds_no_tokens(tmp_path: Path, align: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmtool.preprocessing.protocol import Alignment

    count, length = 200, 50_000
    inputs = [token_tar(tmp_path / f"{name}.tar", name, count, length) for name in "ab"]
    monkeypatch.setattr(shard_files, "IN_MEMORY_BYTES", 0)
    how: dict[str, Any] = {"alignment": Alignment("digit")} if align else {}
    peak = peak_bytes(lambda: shard(inputs, tmp_path / "out", **how))
    assert peak < 2 * count * length * 2 / 4
    train = open_token_set(tmp_path / "out", "train")
    assert all(np.array_equal(found.tokens["a"], found.tokens["a"][:1].repeat(length)) for found in train) and len(train) > count / 2


def test_a_spool_and_a_list_are_written_alike(tmp_path: Path) -> None:
    modality = Modality("a", "text", 100, None, "line", sha256_bytes(b"fitted"), 0)
    samples = [sample(key, a=np.arange(len(key), dtype=np.uint16)) for key in ("b", "a/c", "ab")]
    with Spool() as spool, open(tmp_path / "list.tar", "wb") as of_list, open(tmp_path / "spool.tar", "wb") as of_spool:
        for one in samples:
            spool.add(one)
        write_stream(of_list, [modality], {"a": b"fitted"}, samples)
        write_stream(of_spool, [modality], {"a": b"fitted"}, spool)
    assert sha256_file(tmp_path / "list.tar") == sha256_file(tmp_path / "spool.tar")


def test_an_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmtool.preprocessing.readers import text_streams

    monkeypatch.setattr(text_streams, "MAX_LINE", 1000)
    (tmp_path / "t.csv").write_text("id,a\np1,2\n" + "p2," + "0" * 5000)
    with pytest.raises(DataError, match=r"t\.csv: a line is longer than"):
        list(read_items("table", [tmp_path / "t.csv"], SourceOptions()))
