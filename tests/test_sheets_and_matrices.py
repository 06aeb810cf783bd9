"""Excel sheets keep their numbers whole; folders of Cell Ranger are tables of cells by features."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import mmwrite
from scipy.sparse import csc_matrix

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.sources import Item, SourceOptions, read_items
from mmtool.preprocessing.tokenize import tokenize

openpyxl = pytest.importorskip("openpyxl", reason="the extra `excel`")
COUNTS = np.random.default_rng(0).poisson(1, (5, 4))  # features by cells
IDS = [f"ENSG{number:011d}" for number in range(5)]


def read(path: Path, *, mod: str | None = None, labels: tuple[str, ...] = (), **table: Any) -> dict[str, Item]:
    options = SourceOptions(table=TableOptions(**table), mod=mod, label_columns=labels)
    return {item.key: item for item in read_items("table", [path], options)}


def workbook(path: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


ROWS = [["patient", "dose", "site"], ["p1", 0.12345678, "a"], [None, None, None], ["p2", 1e-12, "b"], ["p3", None, "NA"]]


def test_a_sheet_is_read_in_full_precision(tmp_path: Path) -> None:
    items = read(workbook(tmp_path / "t.xlsx", {"Sheet1": ROWS}), labels=("site",))
    assert {key: (item.value[0].tolist(), item.labels) for key, item in items.items()} == {
        "p1": ([np.float32(0.12345678)], {"site": "a"}),
        "p2": ([np.float32(1e-12)], {"site": "b"}),
    }, "a row without values is absent"
    matrix = workbook(tmp_path / "m.xlsx", {"m": [["gene", "s1", "s2"], ["TP53", 1, 2.5], ["MYC", 3, None]]})
    assert [item.value[0].tolist()[0] for item in read(matrix, transpose=True).values()] == [1, 2.5]


def test_one_of_several_sheets_is_named(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", {"notes": [["x"], [1]], "data": ROWS})
    with pytest.raises(UsageError, match=r"the sheets 'notes', 'data'\. Say which one with --sheet"):
        read(path)
    with pytest.raises(UsageError, match=r"and no 'other'"):
        read(path, sheet="other")
    assert set(read(path, sheet="data", labels=("site",))) == {"p1", "p2"}
    (tmp_path / "t.csv").write_text("id,a\np,1\n")
    with pytest.raises(UsageError, match="--sheet has no effect on files of this format"):
        tokenize("table", [tmp_path / "t.csv"], tmp_path / "o.tar", name="t", options=SourceOptions(table=TableOptions(sheet="x")))


def test_formulas_without_a_value_and_damage_are_named(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", {"s": [["id", "a"], ["p", 1], ["q", "=B2*2"]]})
    with pytest.raises(DataError, match=r"t\.xlsx:3: the file does not hold the value of =B2\*2"):
        read(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="the workbook is damaged"):
        read(path)


def cell_ranger(folder: Path, prefix: str = "", features: str = "features", types: list[str] | None = None, packed: bool = True) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    mmwrite(folder / "m.mtx", csc_matrix(COUNTS))
    third = [""] * 5 if types is None else [f"\t{name}" for name in types]
    content = {
        "matrix.mtx": (folder / "m.mtx").read_bytes(),
        "barcodes.tsv": "".join(f"CELL{number}-1\n" for number in range(4)).encode(),
        f"{features}.tsv": "".join(f"{name}\tG{number}{third[number]}\n" for number, name in enumerate(IDS)).encode(),
    }
    (folder / "m.mtx").unlink()
    for name, data in content.items():
        (folder / f"{prefix}{name}{'.gz' if packed else ''}").write_bytes(gzip.compress(data) if packed else data)
    return folder


@pytest.mark.parametrize("layout", [{}, {"features": "genes", "packed": False}, {"prefix": "GSM1_"}])
def test_a_folder_of_cell_ranger(tmp_path: Path, layout: dict[str, Any]) -> None:
    items = read(cell_ranger(tmp_path / "a", **layout))
    assert [item.key for item in items.values()] == [f"CELL{number}-1" for number in range(4)]
    assert all(item.value[1] == tuple(IDS) for item in items.values())
    np.testing.assert_array_equal(np.stack([item.value[0] for item in items.values()]), COUNTS.T)


def test_cells_of_several_folders_are_told_apart(tmp_path: Path) -> None:
    for name in ("s1", "s2"):
        cell_ranger(tmp_path / name)
    assert set(read(tmp_path)) == {f"{name}/CELL{number}-1" for name in ("s1", "s2") for number in range(4)}


def test_features_of_one_type_are_chosen(tmp_path: Path) -> None:
    folder = cell_ranger(tmp_path / "a", types=["Gene Expression"] * 3 + ["Antibody Capture"] * 2)
    with pytest.raises(UsageError, match=r"of the types 'Gene Expression', 'Antibody Capture'\. .*--mod TYPE"):
        read(folder)
    items = read(folder, mod="Antibody Capture")
    assert items["CELL0-1"].value[1] == tuple(IDS[3:]) and items["CELL0-1"].value[0].tolist() == COUNTS[3:, 0].tolist()


def test_lists_that_are_missing_or_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = cell_ranger(tmp_path / "a", packed=False)
    (folder / "barcodes.tsv").write_text("CELL0-1\n")
    with pytest.raises(DataError, match=r"the shape \(5, 4\) for 5 features and 1 barcodes"):
        read(folder)
    (folder / "barcodes.tsv").unlink()
    with pytest.raises(DataError, match=r"there is no barcodes\.tsv beside it"):
        read(folder)
