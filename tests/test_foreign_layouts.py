"""Layouts that public datasets come in are read as they lie: Parquet and Arrow of Hugging Face, WebDataset, captions, transcripts."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Result
from PIL import Image

from mmtool.common.errors import DataError
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
