"""`--on-error skip` sets the bad sample aside, by the line it stands in, and nothing else: all others come out, with the right values."""

import gzip
import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.csv_rows import CsvRows
from mmtool.preprocessing.sources import Item, Reject, SourceOptions, read_items
from mmtool.preprocessing.tokenize import tokenize

ROWS, BAD = 60, 5
SEEDS = range(6)


def read(kind: str, *paths: Path, **options: Any) -> tuple[dict[str, Item], list[Reject]]:
    rejects: list[Reject] = []
    items = {item.key: item for item in read_items(kind, paths, SourceOptions(on_error="skip", **options), rejects)}
    return items, rejects


def lines_of(rejects: list[Reject]) -> list[int]:
    return [int(reject.file.rsplit(":", 1)[1]) for reject in rejects]


def drawn(seed: int) -> tuple[random.Random, list[int]]:
    """A random source, and the numbers of the rows that are to be damaged."""
    source = random.Random(seed)
    return source, sorted(source.sample(range(ROWS), BAD))


def refused_as_raised(kind: str, path: Path, line: int, **options: Any) -> None:
    """Without skipping, the first bad row ends the run, file and line named."""
    with pytest.raises(DataError, match=rf"{path.name}:{line}: "):
        list(read_items(kind, [path], SourceOptions(**options)))


def write(path: Path, rows: list[bytes]) -> Path:
    path.write_bytes(b"".join(row + b"\n" for row in rows))
    return path


CSV_DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "one cell more": lambda row: row + b",9",
    "one cell less": lambda row: row.rsplit(b",", 1)[0],
    "a quote that opens": lambda row: row.replace(b",", b',"', 1),
    "text behind a quote": lambda row: row.replace(b",", b',"a"b', 1),
    "null bytes": lambda row: row[:3] + bytes(4) + row[3:],
    "not UTF-8": lambda row: row[:3] + b"\xff\xfe" + row[3:],
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("gz", [False, True])
def test_rows_of_csv_tables(tmp_path: Path, seed: int, gz: bool) -> None:
    source, bad = drawn(seed)
    rows = [f"p{i:02d},{i},{i * 0.5},{-i}".encode() for i in range(ROWS)]
    for number in bad:
        rows[number] = source.choice(list(CSV_DAMAGE.values()))(rows[number])
    path = write(tmp_path / "t.csv", [b"id,a,b,c", *rows])
    if gz:
        path = tmp_path / "t.csv.gz"
        path.write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    items, rejects = read("table", path)
    assert list(items) == [f"p{i:02d}" for i in range(ROWS) if i not in bad]
    assert all(item.value[0].tolist() == [int(key[1:]), int(key[1:]) * 0.5, -int(key[1:])] for key, item in items.items())
    assert lines_of(rejects) == [number + 2 for number in bad]
    refused_as_raised("table", path, bad[0] + 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_of_csv_texts_of_several_lines(tmp_path: Path, seed: int) -> None:
    source, bad = drawn(seed)
    content = [source.choice([f"plain {i}", f"two\nlines, {i}", f'said ""{i}""', f"three\n\nlines {i}"]) for i in range(ROWS)]
    rows = [f'k{i:02d},"{text}",x'.encode() for i, text in enumerate(content)]
    first = {number: 2 + sum(row.count(b"\n") + 1 for row in rows[:number]) for number in range(ROWS)}
    for number in bad:
        content[number] = f"bad {number}"
        shift = rows[number].count(b"\n")
        rows[number] = source.choice([b'k,"open', b"k,1,2,3", b"k", b'k,"\xff",x', b'k,"a"b,x', b"k,\0,x"]) + b"\n" * shift
    path = write(tmp_path / "t.csv", [b"key,text,kind", *rows])
    items, rejects = read("text", path)
    assert list(items) == [f"k{i:02d}" for i in range(ROWS) if i not in bad]
    assert all(item.value == content[int(key[1:])].replace('""', '"') for key, item in items.items())
    assert lines_of(rejects) == [first[number] for number in bad]
    refused_as_raised("text", path, first[bad[0]])


def test_an_open_quote_swallows_nothing(tmp_path: Path) -> None:
    rows = [f"k{i:02d},word {i}" for i in range(ROWS)]
    for last in ("k40,word 40", 'k40,"word", 40', 'k40,word" 40', 'k40,word 40"'):  # the file ends, or a quote comes, and what is behind it
        rows[5], rows[40] = 'k05,"word 5', last
        items, rejects = read("text", write(tmp_path / "t.csv", [b"key,text", *(row.encode() for row in rows)]))
        assert set(items) >= {f"k{i:02d}" for i in range(ROWS)} - {"k05", "k40"} and "k05" not in items, last
        assert lines_of(rejects)[0] == 7 and all(item.value.startswith("word") for item in items.values())


def test_two_stray_quotes_in_a_table_cost_their_two_rows(tmp_path: Path) -> None:
    rows = [f"p{i:02d},{i},{i},{i}" for i in range(ROWS)]
    rows[5], rows[7] = 'p05,"5,5,5', 'p07,7",7,7'
    items, rejects = read("table", write(tmp_path / "t.csv", [b"id,a,b,c", *(row.encode() for row in rows)]))
    assert set(items) == {f"p{i:02d}" for i in range(ROWS)} - {"p05", "p07"} and lines_of(rejects) == [7, 9]


def test_texts_and_labels_of_several_lines_are_no_stray_quotes(tmp_path: Path) -> None:
    letter = "Dear all,\nfirst, the news\nthen, the rest\nBest, Ann"
    path = tmp_path / "t.csv"
    path.write_text(f'key,text\na,"{letter}"\nb,"{letter}"\n')
    items, rejects = read("text", path)
    assert [item.value for item in items.values()] == [letter, letter] and not rejects
    path.write_text(f'id,note,x,y\na,"{letter}",1,2\nb,"{letter}",3,4\n')
    items, rejects = read("table", path, label_columns=("note",))
    assert [item.labels["note"] for item in items.values()] == [letter, letter] and not rejects


KEYS: dict[str, Callable[[int], str]] = {
    "numbers": lambda row: str(row + 1),
    "codes": lambda row: f"k{row:02d}",
    "barcodes": lambda row: f"TCGA-A{row % 9}-{row:04d}-01A",
    "file names": lambda row: f"images/cat_{row}.png",
    "random": lambda row: f"{random.Random(row).getrandbits(64):016x}",
}


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("layout", ["{key},{text}", "{text},{key}", "{key},{text},dog"])
@pytest.mark.parametrize("apart", [1, 2, 5])
def test_two_stray_quotes_among_short_texts_swallow_no_rows(tmp_path: Path, keys: str, layout: str, apart: int) -> None:
    for first in (0, 30):
        texts = [f"number {row}" for row in range(ROWS)]
        texts[first], texts[first + apart] = f'"number {first}', f'number {first + apart}"'
        rows = [layout.format(key=KEYS[keys](row), text=text).encode() for row, text in enumerate(texts)]
        header = layout.format(key="key", text="text").replace("dog", "kind").encode()
        items, rejects = read("text", write(tmp_path / "t.csv", [header, *rows]))
        known = {row: KEYS[keys](row).removesuffix(".png") for row in range(ROWS)}  # keys that are file names lose their extension
        assert set(items) >= {known[row] for row in range(ROWS)} - {known[first], known[first + apart]}
        assert known[first] not in items and lines_of(rejects)[0] == first + 2
        assert all(item.value.startswith("number") and "\n" not in item.value for item in items.values())
        refused_as_raised("text", tmp_path / "t.csv", first + 2)


def test_poems_with_commas_stay_whole(tmp_path: Path) -> None:
    poem = "the woods are lovely, dark and deep\nbut I have promises, to keep\nand miles to go, before I sleep"
    rows = "".join(f'p{row:03d},"{poem}"\n' for row in range(20)) + "p100,a line\n"
    (tmp_path / "t.csv").write_text("key,text\n" + rows)
    items, rejects = read("text", tmp_path / "t.csv")
    assert not rejects and len(items) == 21 and items["p007"].value == poem


def test_a_broken_row_of_several_lines_is_one(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('key,text\na,one\nb,"two\nlines without end\nor sense",more\nc,three\n')
    items, rejects = read("text", path)
    assert list(items) == ["a", "c"] and lines_of(rejects) == [3]


def test_rows_without_a_key_keep_their_numbers(tmp_path: Path) -> None:
    items, rejects = read("table", write(tmp_path / "t.csv", [b"a,b", b"9", b"1,2", b"3", b"5,6"]), key_column="none")
    assert {key: item.value[0].tolist() for key, item in items.items()} == {"t-000001": [1, 2], "t-000003": [5, 6]}
    assert lines_of(rejects) == [2, 4]
    items, _ = read("text", write(tmp_path / "n.txt", [b"one", b"\xff", b"three"]), lines=True)
    assert {key: item.value for key, item in items.items()} == {"n-000000": "one", "n-000002": "three"}


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_of_tsv_texts(tmp_path: Path, seed: int) -> None:
    source, bad = drawn(seed)
    rows = [f'k{i:02d}\t"a" stray " quote {i}\tx'.encode() for i in range(ROWS)]
    for number in bad:
        rows[number] = source.choice([rows[number] + b"\t", b"k\t1", b"\xe9" + rows[number], rows[number] + b"\0"])
    path = write(tmp_path / "t.tsv", [b"key\ttext\tkind", *rows])
    items, rejects = read("text", path)
    assert {key: item.value for key, item in items.items()} == {f"k{i:02d}": f'"a" stray " quote {i}' for i in range(ROWS) if i not in bad}
    assert lines_of(rejects) == [number + 2 for number in bad]
    refused_as_raised("text", path, bad[0] + 2)


JSON_DAMAGE = [
    b'{"key": "k", "text"',
    b"",
    b"[1, 2]",
    b"3",
    b"[" * 100_000,
    b'{"key": "k", "text": "\xff"}',
    b'{"key": "k", "text": 3}',
    rb'{"key": "k", "text": "half \ud83d"}',
    rb'{"key": "k\ud83d", "text": "half"}',
    b'{"text": "no key"}',
    b'{"key": "k", "text": "a\0b"}',
]


@pytest.mark.parametrize("seed", SEEDS)
def test_rows_of_json_lines(tmp_path: Path, seed: int) -> None:
    source, bad = drawn(seed)
    rows = [json.dumps({"key": f"k{i:02d}", "text": f"smile \U0001f600 {i}"}).encode() for i in range(ROWS)]
    for number in bad:
        rows[number] = source.choice(JSON_DAMAGE[:1] + JSON_DAMAGE[2:])
    path = write(tmp_path / "t.jsonl", rows)
    items, rejects = read("text", path, key_column="key")
    assert {key: item.value for key, item in items.items()} == {f"k{i:02d}": f"smile \U0001f600 {i}" for i in range(ROWS) if i not in bad}
    assert lines_of(rejects) == [number + 1 for number in bad]
    refused_as_raised("text", path, bad[0] + 1, key_column="key")


@pytest.mark.parametrize("damage", JSON_DAMAGE)
def test_every_kind_of_bad_json(tmp_path: Path, damage: bytes) -> None:
    path = write(tmp_path / "t.jsonl", [b'{"key": "a", "text": "x"}', damage, b'{"key": "b", "text": "y"}'])
    items, rejects = read("text", path, key_column="key")
    assert list(items) == ["a", "b"] and lines_of(rejects) == ([2] if damage else [])
    assert all(reject.reason.encode() and (reject.key or "").encode() is not None for reject in rejects)


def test_rows_of_npz_texts(tmp_path: Path) -> None:
    texts = np.array([f"word {i}" for i in range(ROWS)])
    texts.view(np.uint32).reshape(ROWS, -1)[7, 0] = 0xD83D  # half of a character
    np.savez(tmp_path / "t.npz", text=texts)
    items, rejects = read("text", tmp_path / "t.npz", key_column="none")
    assert {key: item.value for key, item in items.items()} == {f"t-{i:06d}": f"word {i}" for i in range(ROWS) if i != 7}
    assert rejects[0].file.endswith("t.npz, row 7")


def test_rows_of_parquet_tables(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    values = [float("inf") if i in (3, 30) else i / 2 for i in range(ROWS)]
    parquet.write_table(pyarrow.table({"id": [f"p{i:02d}" for i in range(ROWS)], "a": values}), tmp_path / "t.parquet")
    items, rejects = read("table", tmp_path / "t.parquet")
    assert {key: item.value[0].item() for key, item in items.items()} == {f"p{i:02d}": i / 2 for i in range(ROWS) if i not in (3, 30)}
    assert lines_of(rejects) == [4, 31]


# archives and folders


def picture(shade: int) -> bytes:
    data = io.BytesIO()
    Image.new("L", (8, 8), shade).save(data, "PNG")
    return data.getvalue()


def members() -> Iterator[tuple[str, bytes]]:
    return ((f"{i:02d}.png", picture(i)) for i in range(ROWS))


def shades(items: dict[str, Item]) -> dict[str, int]:
    return {key: int(item.value[0, 0, 0]) for key, item in items.items()}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_of_zip_archives(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members():
            archive.writestr(name, data)
        archive.writestr("../outside.png", picture(0))
        places = [info.header_offset for info in archive.infolist()]
    data = bytearray(path.read_bytes())
    data[places[11]] ^= 0xFF  # the member's own header
    for place in range(places[20] + 40, places[21] - 4):
        data[place] ^= 0x55
    path.write_bytes(data)
    items, rejects = read("image", path)
    assert shades(items) == {f"{i:02d}": i for i in range(ROWS) if i not in (11, 20)}
    assert [Path(reject.file).name for reject in rejects] == ["a.zip", "11.png", "20.png"] and "unsafe name" in rejects[0].reason


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz"])
def test_members_of_tar_archives(tmp_path: Path, name: str) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for member, data in members():
            info = tarfile.TarInfo(member)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "00.png"
        archive.addfile(link)
    with tarfile.open(fileobj=io.BytesIO(stream.getvalue())) as archive:
        places = [info.offset for info in archive]
    data = bytearray(stream.getvalue())
    data[places[0] + 3] ^= 1
    data[places[20] + 3] ^= 1
    data[places[33] + 512 + 20] ^= 1  # in the picture itself
    path = tmp_path / name
    path.write_bytes(gzip.compress(bytes(data)) if name.endswith("gz") else bytes(data))
    items, rejects = read("image", path)
    assert shades(items) == {f"{i:02d}": i for i in range(ROWS) if i not in (0, 20, 33)}
    assert len(rejects) == 3 and sum("begin a member" in reject.reason for reject in rejects) == 2
    with pytest.raises(DataError, match=r"a\.tar.*byte 0 should begin a member"):
        list(read_items("image", [path], SourceOptions()))


@pytest.mark.parametrize("name", ["a.tar", "a.zip"])
def test_a_cut_archive_costs_what_is_cut_off(tmp_path: Path, name: str) -> None:
    path, other = tmp_path / "in" / name, tmp_path / "in" / "z.png"
    path.parent.mkdir()
    if name == "a.zip":
        path.write_bytes(b"PK\x03\x04 no")
    else:
        with tarfile.open(path, "w") as archive:
            for member, data in members():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        with tarfile.open(path) as archive:
            end = archive.getmembers()[31].offset_data + 20
        path.write_bytes(path.read_bytes()[:end])
    other.write_bytes(picture(99))
    items, rejects = read("image", path.parent)
    assert items["z"].value[0, 0, 0] == 99 and len(items) == (1 if name == "a.zip" else 32) and rejects


def test_files_of_a_folder(tmp_path: Path) -> None:
    for name, data in members():
        (tmp_path / name).write_bytes({"05.png": data[:40], "08.png": b"<html>404</html>", "09.png": b""}.get(name, data))
    (tmp_path / "caf\udce9.png").write_bytes(picture(1))
    items, rejects = read("image", tmp_path)
    assert shades(items) == {f"{i:02d}": i for i in range(ROWS) if i not in (5, 8, 9)}
    assert not any("0x" in reject.reason for reject in rejects)  # an address would differ from run to run
    assert len(rejects) == 4 and any("not UTF-8" in reject.reason and reject.file.encode() for reject in rejects)
    for number in range(3):
        (tmp_path / f"{number}.csv").write_bytes(b"text\nword\n\xff\nlast\n" if number else b"\xff\n")
    items, rejects = read("text", tmp_path, key_column="none")
    assert set(items) == {"1-000000", "1-000002", "2-000000", "2-000002"} and len(rejects) == 3


# trajectories


def steps(number: int, length: int = 6) -> dict[str, np.ndarray]:
    return {
        "observations": np.full((length, 2), number, np.float32) + np.arange(length, dtype=np.float32)[:, None],
        "actions": np.arange(length) % 3,
        "rewards": np.full(length, number, np.float32),
    }


def rewards_of(items: dict[str, Item]) -> dict[str, float]:
    return {key: float(item.value["rewards"][0]) for key, item in items.items()}


def test_episodes_of_minari_files(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "main_data.hdf5"
    with h5py.File(path, "w") as file:
        for number in range(ROWS):
            group = file.create_group(f"episode_{number}")
            group.attrs["seed"] = number
            for name, array in steps(number).items():
                array = array[:-2] if (number, name) == (3, "rewards") else array
                array = np.where(np.arange(6) == 2, np.nan, array) if (number, name) == (11, "rewards") else array
                if number == 20 and name == "actions":
                    group[name] = h5py.ExternalLink("/etc/passwd", "x")
                elif number == 30:
                    group.create_dataset(name, data=array, chunks=array.shape, fletcher32=True)
                else:
                    group[name] = array
        del file["episode_40"]
        file["episode_40"] = np.zeros(3)
        place = file["episode_30/observations"].id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[place + 3] ^= 0x10
    path.write_bytes(data)
    items, rejects = read("trajectory", path, label_columns=("seed",))
    bad = (3, 11, 20, 30, 40)
    assert rewards_of(items) == {f"episode_{i}": i for i in range(ROWS) if i not in bad}
    assert [reject.key for reject in rejects] == [f"episode_{i}" for i in bad]
    assert all(f"episode_{i}" in reject.file for i, reject in zip(bad, rejects, strict=True))
    assert items["episode_4"].labels == {"seed": 4}


def all_steps() -> dict[str, np.ndarray]:
    parts = [steps(number) for number in range(20)]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return {**arrays, "episode": np.repeat(np.arange(20), 6), "step": np.tile(np.arange(6), 20)}


@pytest.mark.parametrize("form", ["npz", "hdf5"])
def test_episodes_of_files_of_all_steps(tmp_path: Path, form: str) -> None:
    arrays = all_steps()
    arrays["step"][14] = arrays["step"][13]  # episode 2
    arrays["rewards"][33] = np.inf  # episode 5
    arrays["observations"][60, 1] = np.nan  # episode 10
    arrays["episode"] = np.where(np.arange(120) == 93, np.nan, arrays["episode"])  # episode 15, amid it
    path = tmp_path / f"t.{form}"
    if form == "npz":
        np.savez(path, **arrays)
    else:
        with pytest.importorskip("h5py").File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    items, rejects = read("trajectory", path)
    assert rewards_of(items) == {f"t-{i:06d}": i for i in range(20) if i not in (2, 5, 10, 15)}
    assert [reject.key for reject in rejects] == [f"t-{i:06d}" for i in (2, 5, 10, 15)] and "NaN at step 93" in rejects[-1].reason


def test_episodes_of_parquet_files(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {name: array.tolist() for name, array in all_steps().items()}
    columns["observations"][13] = [1.0]  # episode 2
    columns["observations"][33] = None  # episode 5
    columns["observations"][45][1] = None  # episode 7
    columns["actions"][60] = None  # episode 10
    columns["episode"][90] = None  # the first step of episode 15, which may as well be the last of 14
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    items, rejects = read("trajectory", tmp_path / "t.parquet")
    bad = (2, 5, 7, 10, 14, 15)
    assert rewards_of(items) == {f"t-{i:06d}": i for i in range(20) if i not in bad}
    assert [reject.key for reject in rejects] == [f"t-{i:06d}" for i in bad]
    assert all(f"t.parquet:{line}: " in reject.reason for line, reject in zip((14, 34, 46, 61, 91, 91), rejects, strict=True))
    assert all(item.value["actions"].dtype == np.int64 for item in items.values())
    with pytest.raises(DataError, match=r"t\.parquet:14: the lists of column 'observations' differ in length"):
        list(read_items("trajectory", [tmp_path / "t.parquet"], SourceOptions()))


# the stage


def test_one_bad_row_costs_one_sample_and_the_rest_gives_the_same_tokens(tmp_path: Path) -> None:
    rows = [f"p{i:02d},{i},{i * 2}".encode() for i in range(ROWS)]
    write(tmp_path / "good.csv", [b"id,a,b", *(row for i, row in enumerate(rows) if i != 4)])
    write(tmp_path / "bad.csv", [b"id,a,b", *(row + b",9" if i == 4 else row for i, row in enumerate(rows))])
    skip = SourceOptions(on_error="skip")
    done = tokenize("table", [tmp_path / "bad.csv"], tmp_path / "bad.tar", name="lab", options=skip)
    tokenize("table", [tmp_path / "good.csv"], tmp_path / "good.tar", name="lab", options=skip)
    assert done.samples == ROWS - 1 and done.rejected == 1
    assert (tmp_path / "bad.tar").read_bytes() == (tmp_path / "good.tar").read_bytes()
    assert "bad.csv:6" in (tmp_path / "bad.tar.rejects.jsonl").read_text()


def test_the_reason_is_named_where_nothing_is_left(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [b"id,a", b"p1,x", b"p2,y"])
    with pytest.raises(DataError, match=r"no sample could be read: .*t\.csv:2: the column 'a' holds 'x'.*\(and 1 more\)"):
        read("table", path)
    (tmp_path / "t.parquet").write_bytes(b"PAR1" + bytes(40))
    with pytest.raises(DataError, match=r"no sample could be read: .*the Parquet file is damaged"):
        read("table", tmp_path / "t.parquet")


def test_a_long_cell_is_not_taken_apart_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "one\n" * 20_000
    path = write(tmp_path / "t.csv", [b"key,text,n", b'a,"' + text.encode() + b'",1', *(b"b%d,two,2" % row for row in range(9))])
    looked_at = 0
    apart = CsvRows._cells_of

    def counted(self: CsvRows, line: str) -> list[str]:
        nonlocal looked_at
        looked_at += 1
        return apart(self, line)

    monkeypatch.setattr(CsvRows, "_cells_of", counted)
    items, _ = read("text", path)
    assert items["a"].value == text and len(items) == 10
    assert looked_at < 100, "lines that cannot be rows are seen by the first one"


def test_other_ways_of_quoting_are_named_with_a_way_on(tmp_path: Path) -> None:
    (tmp_path / "mysql.csv").write_text("key,text\n" + "".join(f'n{i},"he said \\"hi\\" {i}"\n' for i in range(9)))
    with pytest.raises(DataError, match=r"mysql\.csv:2: .*sed 's/"):
        list(read_items("text", [tmp_path / "mysql.csv"], SourceOptions()))
    broken = "".join(f'n{i}\t"with a line\nbreak {i}"\n' for i in range(9))
    (tmp_path / "breaks.tsv").write_text(f"key\ttext\n{broken}")
    with pytest.raises(DataError, match=r"breaks\.tsv:2: a quote opens in this row and closes in line 3.*to_csv"):
        list(read_items("text", [tmp_path / "breaks.tsv"], SourceOptions()))
    (tmp_path / "short.tsv").write_text('key\ttext\nn0\tsome "words"\nn1\n')
    with pytest.raises(DataError, match=r"short\.tsv:3: 1 cells .*Mend the row"):
        list(read_items("text", [tmp_path / "short.tsv"], SourceOptions()))


def write_tsv(path: Path, lines: list[bytes]) -> Path:
    return write(path, [b"key\ttext", *(b"k%d\ttext %d" % (row, row) for row in range(5)), *lines, b"k8\tlast"])


@pytest.mark.parametrize(
    "lines",
    [
        [b'k5\t"one 5', b'two"'],  # a break
        [b'k5\t"one 5', b'two\tthree"'],  # and a tab
        [b'k5\t"one 5', b"", b"two", b'three ""four"""'],  # blank lines and quotes within
        [b'k5\t"one', *(b"two %d\tthree" % n for n in range(12)), b'four\tfive"'],  # so many lines with tabs as if they were rows
        [b'k5\t"one 5', b'5" two"'],  # quotes that are not doubled
    ],
)
def test_a_quote_that_closes_in_a_later_line_of_a_tsv_costs_its_row(tmp_path: Path, lines: list[bytes]) -> None:
    items, rejects = read("text", write_tsv(tmp_path / "t.tsv", lines))
    assert {key: item.value for key, item in items.items()} == {**{f"k{row}": f"text {row}" for row in range(5)}, "k8": "last"}
    assert lines_of(rejects)[0] == 7 and "a quote opens in this row" in rejects[0].reason and "to_csv" in rejects[0].reason
    refused_as_raised("text", tmp_path / "t.tsv", 7)


@pytest.mark.parametrize(
    ("lines", "texts"),
    [
        ([b'k5\t"tis never closed', b"k6\tnext"], ['"tis never closed', "next"]),
        ([b'k5\t"tis "odd" quotes', b'k6\t5" wide'], ['"tis "odd" quotes', '5" wide']),
        ([b'k5\t"A sentence.', b'k6\tAnd its end."', b"k7\tnext"], ['"A sentence.', 'And its end."']),  # keys that count: rows
        ([b'k5\t"whole ""cell"""', b'k6\t"""tis"'], ['whole "cell"', '"tis']),
    ],
)
def test_stray_quotes_in_a_tsv_are_text(tmp_path: Path, lines: list[bytes], texts: list[str]) -> None:
    items, rejects = read("text", write_tsv(tmp_path / "t.tsv", lines))
    assert [items["k5"].value, items["k6"].value] == texts and len(items) == 7 + len(lines) - 1 and not rejects


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        (["anna\tone", 'otto\t"two', 'kurt\tthree"', "emma\tfour"], {"anna", "emma"}),
        (["1\tone", '2\t"two', '3\tthree"', "3\tfour"], {"1", "3"}),  # a numbered list within a text
        (["1\tone", '20\t"two', '300\tthree"', "40\tfour"], {"1", "40"}),
        (["img_1\tone", 'img_2\t"two', 'img_9\tthree"', "img_3\tfour"], {"img_1", "img_3"}),
        (["1\tone", '2\t"two', '3\tthree"', "4\tfour"], {"1", "2", "3", "4"}),  # they count
        (["0b1c2d3e\tone", '4f5a6b7c\t"two', '8d9e0f1a\tthree"', "2b3c4d5e\tfour"], {"0b1c2d3e", "4f5a6b7c", "8d9e0f1a", "2b3c4d5e"}),
    ],
)
def test_keys_alone_tell_rows_of_a_tsv_from_a_quoted_text(tmp_path: Path, rows: list[str], kept: set[str]) -> None:
    write(tmp_path / "t.tsv", [line.encode() for line in ("key\ttext", *rows)])
    items, rejects = read("text", tmp_path / "t.tsv")
    assert {*items} == kept and lines_of(rejects) == ([3] if len(kept) < 4 else [])


def test_numbers_beside_a_quoted_text_are_no_keys(tmp_path: Path) -> None:
    write(tmp_path / "t.tsv", [b"text\tgrade\tkey", b"one\t5\tanna", b'"two\t5\totto', b'three"\t5\tkurt', b"four\t5\temma"])
    items, rejects = read("text", tmp_path / "t.tsv")
    assert {*items} == {"anna", "emma"} and lines_of(rejects) == [3]


def test_a_cell_with_quotes_that_are_not_doubled_keeps_its_second_line(tmp_path: Path) -> None:
    items, rejects = read("text", write_tsv(tmp_path / "t.tsv", [b'k5\t"one" 5', b'two"']))
    assert "k5" not in items and lines_of(rejects) == [7, 8]
