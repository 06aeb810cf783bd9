"""Cells of tables as people and programs write them: missing, censored, with decimal commas, thousands and truth values; never guessed."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Result

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.numbers import Numbers
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.sources import Item, SourceOptions, read_items

Mmtool = Callable[..., Result]
MISSING = [
    "",
    " ",
    "NA",
    " NA ",
    "na",
    "N/A",
    "n/a",
    "#N/A",
    "<NA>",
    "NaN",
    "nan",
    "-nan",
    "NULL",
    "null",
    "None",
    "none",
    "-",
    "--",
    ".",
    "?",
]
MISSING += ["[Not Available]", "[Not Applicable]", "[Not Evaluated]", "[Unknown]", "'--"]


def read(path: Path, **table: Any) -> list[Item]:
    return list(read_items("table", [path], SourceOptions(table=TableOptions(**table))))


def with_cell(folder: Path, cell: str) -> Path:
    """A table in which one cell of column `a` is this one."""
    (folder / "t.tsv").write_text(f"sample\ta\tb\nS1\t5\t1\nS2\t{cell}\t2\n")
    return folder / "t.tsv"


def number(folder: Path, cell: str, **table: Any) -> float:
    value, features = read(with_cell(folder, cell), **table)[1].value
    assert features == ("a", "b") and value[1] == 2
    return float(value[0])


@pytest.mark.parametrize("spelling", MISSING)
def test_spellings_of_missing(tmp_path: Path, spelling: str) -> None:
    assert math.isnan(number(tmp_path, spelling))


@pytest.mark.parametrize(
    ("cell", "value"),
    [("1e+05", 1e5), ("1E-3", 1e-3), ("+2", 2), (".5", 0.5), ("5.", 5), ("-0", 0), ('"3"', 3)],
)
def test_numbers_as_programs_write_them(tmp_path: Path, cell: str, value: float) -> None:
    assert number(tmp_path, cell) == pytest.approx(value)


@pytest.mark.parametrize(
    "cell", ["Inf", "-inf", "Infinity", "0x1A", "1_000", "ND", "missing", "1 000", "12%", "1e", "#VALUE!", "yes", "TRUE"]
)
def test_anything_else_is_refused_by_place_with_a_way_on(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError, match=rf"t\.tsv:3: the column 'a' holds '{cell}', which is no finite number\. .*--na .*--label"):
        number(tmp_path, cell)
    assert math.isnan(number(tmp_path, cell, na=("x", cell)))


def test_numbers_may_stand_for_missing_values(tmp_path: Path) -> None:
    for cell in ("-999", "-999.0"):
        assert number(tmp_path, cell) == -999 and math.isnan(number(tmp_path, cell, na=("-999",)))


def test_na_holds_for_labels_as_well(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sample,a,site\nS1,1,none\nS2,2,unclear\nS3,3,-\n")
    items = read_items("table", [tmp_path / "t.csv"], SourceOptions(label_columns=("site",), table=TableOptions(na=("unclear",))))
    assert [item.labels for item in items] == [{"site": "none"}, {}, {"site": "-"}]  # which may be classes


CENSORED = {"<0.5": 0.5, ">100": 100, "< 1e-3": 1e-3, "<=7": 7, ">=8": 8, "≤0.25": 0.25, "&lt;2": 2}


@pytest.mark.parametrize("cell", [*CENSORED, "<LOD", "<LLOQ", "BDL", "LOD"])
def test_censored_values_are_refused_unless_it_is_said_what_they_are(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError, match=r"t\.tsv:3: the column 'a' holds .*, a censored value\. .*--censored missing"):
        number(tmp_path, cell)
    assert math.isnan(number(tmp_path, cell, censored="missing"))
    if cell in CENSORED:
        assert number(tmp_path, cell, censored="bound") == pytest.approx(CENSORED[cell])
    else:
        with pytest.raises(DataError, match="It names no number to take as its bound"):
            number(tmp_path, cell, censored="bound")


def test_commas_are_never_guessed(tmp_path: Path) -> None:
    for cell in ("1,234", "0,5", "1,234,567.8"):
        with pytest.raises(DataError, match=r"which may be read in two ways\. Add --thousands .*--decimal ,"):
            number(tmp_path, cell)
    assert number(tmp_path, "1,234,567.5", thousands=True) == 1234567.5
    with pytest.raises(DataError, match="'0,125'"):
        number(tmp_path, "0,125", thousands=True)
    assert number(tmp_path, "0,5", decimal=",") == 0.5
    with pytest.raises(DataError, match="has a point"):
        number(tmp_path, "1.234", decimal=",")
    with pytest.raises(DataError, match=r"has a point where the decimal mark is a comma\. .*--thousands"):
        number(tmp_path, "12.5", decimal=",")
    assert number(tmp_path, "1.234,5", decimal=",", thousands=True) == 1234.5
    assert Numbers(thousands=True).number("1,23") is None and Numbers(thousands=True).number("1,234e5") is None


def test_spreadsheets_of_europe(tmp_path: Path, mmtool: Mmtool) -> None:
    (tmp_path / "t.csv").write_text("sample;a;b\n" + "".join(f"S{row};{row},25;1.{row:03d},5\n" for row in range(10)))
    (first, *_) = read(tmp_path / "t.csv", decimal=",", thousands=True)
    assert first.key == "S0" and first.value[0].tolist() == [0.25, 1000.5]
    refused = mmtool("tokenize", "table", tmp_path / "t.csv", "--fit", "-o", tmp_path / "t.tar")
    assert refused.code == 1 and "--decimal ," in " ".join(refused.err.split())
    options = ("--decimal", ",", "--thousands", "--na", "-9", "--na", "ND", "--censored", "bound", "--duplicates", "mean")
    assert mmtool("tokenize", "table", tmp_path / "t.csv", "--fit", *options, "-o", tmp_path / "t.tar").code == 0


def test_options_of_tables_are_refused_elsewhere(tmp_path: Path, mmtool: Mmtool) -> None:
    (tmp_path / "t.txt").write_text("a text")
    for option in (("--transpose",), ("--duplicates", "mean"), ("--thousands",)):
        refused = mmtool("tokenize", "text", tmp_path / "t.txt", "--fit", *option, "-o", tmp_path / "t.tar")
        assert refused.code == 2 and f"{option[0]} has no effect on text" in refused.err
    refused = mmtool("tokenize", "image", tmp_path, "--fit", "--delimiter", "tab", "-o", tmp_path / "t.tar")
    assert refused.code == 2 and "--delimiter has no effect on image" in refused.err


def test_censored_values_in_matrices_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "m.tsv").write_text("gene\tA\tB\ng1\t1\t<0.5\ng2\tNone\t3\n")
    with pytest.raises(DataError, match=r"m\.tsv, column 'B': the row 'g1' \(line 2\) holds '<0\.5', a censored value"):
        read(tmp_path / "m.tsv", transpose=True)
    items = read(tmp_path / "m.tsv", transpose=True, censored="bound")
    assert [str(item.value[0].tolist()) for item in items] == ["[1.0, nan]", "[0.5, 3.0]"]
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"sample": ["x", "y"], "a": ["<0.5", "NA"], "b": [True, None]}), tmp_path / "t.parquet")
    assert [str(item.value[0].tolist()) for item in read(tmp_path / "t.parquet", censored="bound")] == ["[0.5, 1.0]"]
