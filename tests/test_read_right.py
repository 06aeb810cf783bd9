"""Layouts that were once read wrongly without a word: read right now, or refused with a way on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.sources import Item, Reject, SourceOptions, read_items


def read(kind: str, path: Path, **options: Any) -> dict[str, Item]:
    return {item.key: item for item in read_items(kind, [path], SourceOptions(**options))}


def test_a_table_whose_first_line_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("".join(f"s{row},{row}.5,{row * 2}.25\n" for row in range(9)))
    with pytest.raises(DataError, match="seems to be a row and no header: it begins with 's0'"):
        read("table", path)
    assert len(read("table", path, columns=("sample", "a", "b"))) == 9
    path.write_text("sample,400.5,401.0\n" + "".join(f"s{row},{row}.5,1\n" for row in range(9)))  # wavelengths
    assert read("table", path)["s0"].value[1] == ("400.5", "401.0")


def test_features_lie_in_the_rows_of_a_gct(tmp_path: Path) -> None:
    path = tmp_path / "a.gct"
    path.write_text("#1.2\n2\t3\nName\tDescription\ts1\ts2\ts3\nX1\tna\t1\t2\t3\nX2\tna\t4\t5\t6\n")
    items = read("table", path)
    assert {key: item.value[0].tolist() for key, item in items.items()} == {"s1": [1, 4], "s2": [2, 5], "s3": [3, 6]}


def test_a_file_of_one_sample_without_rows_is_set_aside(tmp_path: Path) -> None:
    for name, rows in (("a", "G1\t3\nG2\t4\n"), ("b", "")):
        (tmp_path / f"{name}.tsv").write_text("gene_id\ttpm\n" + rows)
    rejects: list[Reject] = []
    options = SourceOptions(on_error="skip", table=TableOptions(value_column="tpm"))
    assert [item.key for item in read_items("table", [tmp_path], options, rejects)] == ["a"]
    assert len(rejects) == 1 and "b.tsv" in rejects[0].file and "no rows" in rejects[0].reason


def picture(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4), grey, np.uint8)).save(path)


def test_paths_begin_in_the_folder_above_before_any_beside_it(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    table = tmp_path / "meta" / "m.csv"
    table.write_text("id,img\nk,img/i.png\n")
    picture(tmp_path / "other" / "img" / "i.png", 200)
    picture(tmp_path / "third" / "img" / "i.png", 100)
    with pytest.raises(DataError, match=r"may begin in .*other or in .*third.*--root"):
        read("image", table, file_column="img", key_column="id")
    picture(tmp_path / "img" / "i.png", 10)
    assert read("image", table, file_column="img", key_column="id")["k"].value.max() == 10


def test_pairs_of_flickr_under_any_name(tmp_path: Path) -> None:
    rows = 'image,caption\n1.jpg,a dog runs\n1.jpg,"a cap, two"\n2.jpg,b c d\n2.jpg,e f g\n'
    for name in ("captions.txt", "captions.csv"):
        (tmp_path / name).write_text(rows)
        items = read("text", tmp_path / name)
        assert {key: (item.value, item.further) for key, item in items.items()} == {
            "1": ("a dog runs", ("a cap, two",)),
            "2": ("b c d", ("e f g",)),
        }


def test_episodes_whose_steps_lie_apart_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = {"observations": np.zeros((80, 2)), "actions": np.zeros((80, 1))}
    np.savez(tmp_path / "a.npz", episode_index=np.repeat([0, 1, 0, 1], 20), **arrays)
    assert len(read("trajectory", tmp_path / "a.npz")) == 2
    assert "steps of one episode_index lie apart" in capsys.readouterr().err
    np.savez(tmp_path / "b.npz", episode_index=np.repeat([0, 1], 40), **arrays)
    read("trajectory", tmp_path / "b.npz")
    assert "lie apart" not in capsys.readouterr().err


def test_a_cell_is_shown_by_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"key,a\nk,{'x' * 5000}\n")
    with pytest.raises(DataError) as caught:
        read("table", tmp_path / "t.csv")
    assert "xxx" in str(caught.value) and len(str(caught.value)) < 500
