"""Excel sheets keep their numbers whole; folders of Cell Ranger are tables of cells by features."""

import gzip
import re
import zipfile
from collections.abc import Sequence
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


def altered(path: Path, member: str, pattern: bytes, text: bytes) -> Path:
    """The workbook with another text in place of a pattern."""
    with zipfile.ZipFile(path) as book:
        members = {name: book.read(name) for name in book.namelist()}
    with zipfile.ZipFile(path, "w") as book:
        for name, data in members.items():
            book.writestr(name, re.sub(pattern, text, data) if name == member else data)
    return path


SHEET = "xl/worksheets/sheet1.xml"


@pytest.mark.parametrize(("member", "pattern"), [(SHEET, rb"</row>.*"), ("xl/workbook.xml", rb"(?s).*"), (SHEET, rb"<v>1.5</v>")])
def test_a_damaged_workbook_is_refused(tmp_path: Path, member: str, pattern: bytes) -> None:
    path = workbook(tmp_path / "t.xlsx", {"s": [["id", "a"], ["p", 1.5]]})
    with pytest.raises(DataError, match=r"the workbook is damaged \(.+\)\. Get it again"):
        read(altered(path, member, pattern, b"<v>abc</v>" if b"1.5" in pattern else b"<"))


def test_merged_cells_are_refused(tmp_path: Path) -> None:
    path = workbook(tmp_path / "t.xlsx", {"s": [["id", "a"], ["p", 1.5], ["q", None]]})
    book = openpyxl.load_workbook(path)
    book.active.merge_cells("B2:B3")
    book.save(path)
    with pytest.raises(DataError, match=r"the cells B2:B3 are merged\. Unmerge them"):
        read(path)


def test_a_formula_that_gave_an_empty_text_is_a_missing_value(tmp_path: Path) -> None:
    rows = [["id", "a", "b"], ["p", 1.5, 2], ["q", '=IF(TRUE,"",1)', 3]]
    path = workbook(tmp_path / "t.xlsx", {"s": rows})
    with pytest.raises(DataError, match="the file does not hold the value"):
        read(path)
    computed = altered(path, SHEET, rb'<c r="B3"[^>]*>(<f>.*?</f>)<v ?/>', rb'<c r="B3" t="str">\1<v></v>')
    assert np.isnan(read(computed)["q"].value[0]).tolist() == [True, False]


@pytest.mark.parametrize(
    ("number_format", "shown"),
    [
        ("00000", ("02134", "10001", "123456")),
        ("[$-407]00000", ("02134", "10001", "123456")),
        ("00000;-00000", ("02134", "10001", "123456")),
        ("[<=99999]00000;00000\\-0000", ("02134", "10001", "00012-3456")),
        ("000\\-00\\-0000", ("000-00-2134", "000-01-0001", "000-12-3456")),
        ('"P"00000', ("P02134", "P10001", "P123456")),
        *((plain, ("2134", "10001", "123456")) for plain in ("General", "0", "#,##0", '0" mg"', "0.00")),
    ],
)
def test_integers_are_read_with_the_zeros_that_a_sheet_shows(tmp_path: Path, number_format: str, shown: Sequence[str]) -> None:
    book = openpyxl.load_workbook(
        workbook(tmp_path / "t.xlsx", {"s": [["id", "site", "x"], *([n, n, i] for i, n in enumerate((2134, 10001, 123456)))]})
    )
    for cell in (*book["s"]["A"][1:], *book["s"]["B"][1:]):
        cell.number_format = number_format
    book.save(tmp_path / "t.xlsx")
    items = read(tmp_path / "t.xlsx", labels=("site",))
    assert tuple(items) == shown and [str(item.labels["site"]) for item in items.values()] == list(shown)


def test_codes_of_a_sheet_are_categories_and_asked_about_beside_a_number(tmp_path: Path) -> None:
    rows = [[f"p{i}", (2134, 10001, 501)[i % 3]] for i in range(9)]
    book = openpyxl.load_workbook(workbook(tmp_path / "t.xlsx", {"s": [["id", "zip"], *rows]}))
    for cell in book["s"]["B"][1:]:
        cell.number_format = "00000"
    book.save(tmp_path / "t.xlsx")
    assert read(tmp_path / "t.xlsx")["p0"].value[1].types["zip"].categories == ("00501", "02134", "10001")
    book["s"]["B2"].value = -9
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(DataError, match="holds '00501', as codes do, and '-9'"):
        read(tmp_path / "t.xlsx")


def test_marks_of_open_workbooks_are_left_out(tmp_path: Path) -> None:
    workbook(tmp_path / "t.xlsx", {"s": [["id", "a"], ["p", 1.5]]})
    (tmp_path / "~$t.xlsx").write_bytes(b"somebody")
    assert set(read(tmp_path)) == {"p"}


def matrix(folder: Path, entries: str, ids: Sequence[str] = ("E1", "E2"), field: str = "integer", prefix: str = "") -> Path:
    """A folder of Cell Ranger with two features and two cells."""
    folder.mkdir()
    text = f"%%MatrixMarket matrix coordinate {field} general\n2 2 {entries.count(';') + 1}\n" + entries.replace(";", "\n") + "\n"
    (folder / f"{prefix}matrix.mtx").write_text(text)
    (folder / f"{prefix}barcodes.tsv").write_text("c1\nc2\n")
    (folder / f"{prefix}features.tsv").write_text("".join(f"{name}\tG\n" for name in ids))
    return folder


@pytest.mark.parametrize(
    ("entries", "ids", "field", "message"),
    [
        ("1 1 5;1 1 5", ("E1", "E2"), "integer", "a feature of a cell has two numbers"),
        ("1 1 5 2", ("E1", "E2"), "complex", "the numbers are complex"),
        ("1 1 5", ("E1", "E1"), "integer", "the id 'E1' of a feature stands twice"),
        ("1 1 5", ("", "E2"), "integer", "a feature has no id"),
        ("1 1 99999999999999999999", ("E1", "E2"), "integer", "Integer out of range"),
    ],
)
def test_odd_matrices_are_refused(tmp_path: Path, entries: str, ids: tuple[str, ...], field: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(matrix(tmp_path / "m", entries, ids, field))


def test_files_beside_a_matrix_are_no_files_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = matrix(tmp_path / "m[1]", "1 1 5;2 2 3", prefix="GSM[1]_")
    assert set(read(folder)) == {"c1", "c2"} and "left out" not in capsys.readouterr().err
    for table in ({"transpose": True}, {"column_types": {"E1": "category"}}):
        with pytest.raises(UsageError, match=r"no effect on files of this format|this file holds numbers"):
            list(read_items("table", [folder], SourceOptions(table=TableOptions(**table)), check_options=True))
