"""Odd cells of columns that hold no numbers are refused by name or kept as they are: no value changes in silence."""

import csv
import re
from collections.abc import Callable, Sequence
from datetime import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Result

import mmtool as package
from mmtool.cli.options import source_options
from mmtool.common.errors import DataError, UsageError
from mmtool.data.shards import open_token_set
from mmtool.preprocessing.fit import find_tokenizer
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.sources import SourceOptions
from mmtool.preprocessing.tokenize import tokenize
from mmtool.tokenizers.column_types import LAST_DAY, Date

Mmtool = Callable[..., Result]
COUNT = 24


def table(path: Path, cells: Sequence[Any], start: int = 0) -> Path:
    """A column `c` of these cells again and again, beside numbers, which are whole ones."""
    with open(path, "w", newline="") as file:
        rows = ([f"k{start + i:02d}", cells[i % len(cells)], i * 3] for i in range(COUNT))
        csv.writer(file).writerows([["key", "c", "x"], *rows])
    return path


def tokens(paths: Sequence[Path], tokenizer: Path | None = None, **options: Any) -> Path:
    output = paths[0].with_suffix(".tar" if tokenizer is None else ".again.tar")
    tokenize("table", paths, output, name="t", tokenizer=tokenizer, options=SourceOptions(table=TableOptions(**options)))
    return output


def column(path: Path) -> dict[str, str]:
    """Key -> the cell of `c` that its tokens decode to."""
    tokenizer, samples = find_tokenizer(path, "t"), list(open_token_set(path))
    rows = tokenizer.decode([sample.tokens["t"] for sample in samples])
    written = tokenizer.write_rows([sample.key for sample in samples], rows, path.with_suffix(".csv.out"))  # type: ignore[attr-defined]
    return {row["key"]: row["c"] for row in csv.DictReader(written.open(newline=""))}


@pytest.mark.parametrize("bad", ["2021-02-30", "unknown", "0001-01-01T00:00+02:00"])
def test_one_cell_among_dates_that_is_none_is_named(tmp_path: Path, bad: str) -> None:
    with pytest.raises(DataError, match=r"t\.csv:3: the column 'c' holds .*, which is not of the column's type, date"):
        tokens([table(tmp_path / "t.csv", ["2021-01-01", bad, "2021-03-03"])])


@pytest.mark.parametrize("layout", ["%d/%d/%Y", "%Q", "day", "%"])
def test_a_layout_that_tells_no_day_is_refused_at_once(layout: str) -> None:
    with pytest.raises(UsageError, match="is no layout of dates"):
        TableOptions(column_types={"c": f"date:{layout}"})


def test_hours_do_not_turn_a_day_into_the_next(tmp_path: Path) -> None:
    afternoon = tokens([table(tmp_path / "a.csv", ["01/02/2023 11:30 PM"])], column_types={"c": "date:%d/%m/%Y %I:%M %p"})
    declared = tokens([table(tmp_path / "b.csv", ["2021-01-01 18:00", "2021-01-02"])], column_types={"c": "date"})
    assert {cell[:11] for cell in column(afternoon).values()} == {"2023-02-01T"}
    assert set(column(declared).values()) == {"2021-01-01T18:00", "2021-01-02T00:00"}
    both = tokens([table(tmp_path / "c.csv", ["2021-01-01"]), table(tmp_path / "d.csv", ["2021-01-01T18:00"], 50)])
    assert set(column(both).values()) == {"2021-01-01T00:00", "2021-01-01T18:00"}, "whichever table comes first"


def test_a_date_beyond_the_calendar_is_its_last_day() -> None:
    assert Date().write(LAST_DAY + 1e6) == "9999-12-31" and Date().write(-1e9) == "0001-01-01"
    assert Date(timed=True).write(LAST_DAY + 1e6) == "9999-12-31T00:00"


def test_levels_are_read_as_cells_are(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", ["1.0", "2.0", "3.0"])
    fitted = tokens([path], column_types={"c": "1.0<2.0<3.0"})
    assert set(column(fitted).values()) == {"1", "2", "3"}
    with pytest.raises(DataError, match="the tokenizer has the levels 1<2<3 for 'c'"):
        tokens([path], fitted, column_types={"c": "3<2<1"})
    assert column(tokens([path], fitted, column_types={"c": "1<2<3"})) == column(fitted)


def test_a_layout_of_dates_may_be_another_one_for_new_files(tmp_path: Path) -> None:
    fitted = tokens([table(tmp_path / "t.csv", ["2021-01-31", "2021-02-28"])])
    new = table(tmp_path / "new.csv", ["31/01/2021", "28/02/2021"])
    assert column(tokens([new], fitted, column_types={"c": "date:%d/%m/%Y"})) == column(fitted)


def test_na_says_what_is_missing_also_where_the_tokenizer_knows_the_category(tmp_path: Path) -> None:
    fitted = tokens([table(tmp_path / "t.csv", ["a", "b"])])
    assert set(column(tokens([table(tmp_path / "new.csv", ["a", "b"])], fitted, na=("b",))).values()) == {"a", ""}


def test_a_column_without_values_in_one_table_is_of_the_type_of_the_other(tmp_path: Path) -> None:
    empty, filled = table(tmp_path / "a.csv", [""]), table(tmp_path / "b.csv", ["u", "v"], 50)
    for paths in ([empty, filled], [filled, empty]):
        assert set(column(tokens(paths)).values()) == {"", "u", "v"}


def test_numbers_of_matrices_are_no_categories(tmp_path: Path) -> None:
    fitted = tokens([table(tmp_path / "t.csv", ["1", "2", "3"])], column_types={"c": "category"})
    (tmp_path / "matrix.csv").write_text("feature,s1,s2\nc,1,2\nx,1.5,2\n")
    with pytest.raises(DataError, match="'c' holds numbers here, and is of the type category for the tokenizer"):
        tokens([tmp_path / "matrix.csv"], fitted, transpose=True)


def test_errors_of_spreadsheets_are_no_categories(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", ["a", "b", "#DIV/0!"])
    with pytest.raises(DataError, match=r":4: the column 'c' holds '#DIV/0!', which is not of the column's type"):
        tokens([path])
    assert set(column(tokens([path], na=("#DIV/0!",))).values()) == {"a", "b", ""}


@pytest.mark.parametrize("cells", [[[1, 2], [3]], [b"\xff", b"c"], [{"a": 1}, {"a": 2}], [time(3), time(5)]])
def test_cells_that_are_no_texts_are_no_categories(tmp_path: Path, cells: list[Any]) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"key": [f"k{i}" for i in range(COUNT)], "c": cells * (COUNT // 2), "x": np.arange(COUNT)}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"the column 'c' holds .*, which is no finite number"):
        tokens([tmp_path / "t.parquet"])


def test_a_header_that_is_repeated_is_no_sample(tmp_path: Path, mmtool: Mmtool) -> None:
    rows = "".join(f"k{i},{'ab'[i % 2]}\n" for i in range(COUNT))
    (tmp_path / "t.csv").write_text(f"key,c\n{rows}key,c\nlast,a\n")
    refused = mmtool("tokenize", "table", tmp_path / "t.csv", "--fit", "-o", tmp_path / "t.tar")
    assert refused.code == 1 and f"t.csv:{COUNT + 2}: the row repeats the header" in refused.err and not (tmp_path / "t.tar").exists()


def test_lines_of_json_are_no_table(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("".join(f'{{"key": "k{i}", "c": "a"}}\n' for i in range(COUNT)))
    with pytest.raises(DataError, match="this is JSON, no text in columns"):
        tokens([tmp_path / "t.jsonl"])


def test_functions_take_the_options_of_tables_by_name(tmp_path: Path) -> None:
    path = table(tmp_path / "t.csv", ["1", "2"])
    package.tokenize("table", path, tmp_path / "t.tar", name="t", source={"column_types": {"c": "category"}, "key_column": "key"})
    assert set(column(tmp_path / "t.tar").values()) == {"1", "2"}
    with pytest.raises(UsageError, match="there is no setting 'nope'"):
        package.tokenize("table", path, tmp_path / "no.tar", source={"nope": 1})


def test_options_of_raw_files_reach_the_reader() -> None:
    read = source_options({"column_types": {"c": "skip"}, "na": ("x",), "key_column": None})
    assert read == SourceOptions(table=TableOptions(column_types={"c": "skip"}, na=("x",)))


def test_digits_behind_a_zero_are_names_and_keep_it(tmp_path: Path) -> None:
    codes = ["02134", "10001", "94110"]
    assert set(column(tokens([table(tmp_path / "zip.csv", codes)])).values()) == set(codes)
    several = [f"{number:05}" for number in range(COUNT)]
    with pytest.raises(DataError, match=r"--column-type 'c=number'"):
        tokens([table(tmp_path / "ids.csv", several)])
    numbers = column(tokens([table(tmp_path / "ids.csv", several)], column_types={"c": "number"}))
    assert float(numbers["k07"]) == pytest.approx(7, abs=1)
    assert float(column(tokens([table(tmp_path / "plain.csv", ["0", "0.5", "10"])]))["k02"]) == pytest.approx(10, abs=1)


def test_digits_behind_a_zero_among_amounts_are_amounts(tmp_path: Path) -> None:
    doses = column(tokens([table(tmp_path / "dose.csv", ["0.5", "007", "20"])]))
    assert float(doses["k01"]) == pytest.approx(7, abs=1)
    spaced = tmp_path / "spaced.csv"
    spaced.write_text("key,c,x\n" + "".join(f"k{i:02d}, {('02134', '10001')[i % 2]},{i}\n" for i in range(COUNT)))
    assert set(column(tokens([spaced])).values()) == {"02134", "10001"}


@pytest.mark.parametrize("odd", ["-9", "+44", "10001.0", "1e5"])
def test_codes_of_one_width_beside_an_amount_are_refused_until_it_is_said_what_they_are(tmp_path: Path, odd: str) -> None:
    path = table(tmp_path / "zip.csv", ["02134", "10001", "00501", odd])
    with pytest.raises(DataError, match=re.escape(f"'02134', as codes do, and '{odd}'")):
        tokens([path])
    if odd == "-9":
        assert set(column(tokens([path], na=(odd,))).values()) == {"02134", "10001", "00501", ""}


CODES = ["02134", "10001", "02134", "90210", "00501", "10001"]


@pytest.mark.parametrize(
    ("further", "options", "number", "advice"),
    [
        (["-9"] * 7, {}, "-9", "--na -9 where"),  # more often than codes
        (["-9", "-8", "-9", "-8"] * 3, {}, "-9", "--na -9 --na -8 where"),
        (["1111", "-9"], {}, "-9", "--na -9 --na 1111 where"),  # a code that lost its zero
        (["0"] * 12, {}, "0", "--na 0 where"),
        (["0,5"], {"decimal": ","}, "0,5", "'c=number'."),
        (["0,5"], {}, "0,5", "'c=number'."),
        (["1,234"], {"thousands": True}, "1,234", "'c=number'."),
        (["<0.5"], {"censored": "bound"}, "<0.5", "'c=number'."),
        (["<0.5"], {"censored": "missing"}, "<0.5", "'c=number'."),
    ],
)
def test_codes_beside_any_number_are_asked_about(
    tmp_path: Path, further: list[str], options: dict[str, Any], number: str, advice: str
) -> None:
    path = table(tmp_path / "zip.csv", CODES + further)
    message = f"'02134', as codes do, and '{number}', as amounts do. Say --column-type 'c=category'"
    with pytest.raises(DataError, match=re.escape(message)) as error:
        tokens([path], **options)
    assert advice in str(error.value)
    assert {*CODES} <= set(column(tokens([path], **options, column_types={"c": "category"})).values())


@pytest.mark.parametrize(
    ("cells", "options"),
    [
        ([f"{i},{i}" for i in range(23)] + ["05"], {"decimal": ","}),
        ([f"{i}.{i}" for i in range(23)] + ["05"], {}),
        ([f"{i},{i:03}" for i in range(1, 24)] + ["05"], {"thousands": True}),
        (["1", "2", "3", "100", "7", "05"], {}),
        (["0.5", "0.5", "007", "20"], {}),
        (["-3", "-12", "1.5", "2.5", "05", "7"], {}),
    ],
)
def test_a_zero_in_front_of_some_number_leaves_a_column_one_of_numbers(tmp_path: Path, cells: list[str], options: dict[str, Any]) -> None:
    path = tokens([table(tmp_path / "t.csv", cells)], **options)
    assert not find_tokenizer(path, "t").types  # type: ignore[attr-defined]


@pytest.mark.parametrize("cells", [["12%", "5 %"], ["$12", "$ 1,200.50"], ["12€", "-3€"], [f"{i}.5%" for i in range(COUNT)]])
def test_numbers_with_a_unit_are_named_as_such(tmp_path: Path, cells: list[str]) -> None:
    path = table(tmp_path / "t.csv", cells)
    with pytest.raises(DataError, match=r"the column 'c' holds texts such as .* numbers with a unit\. .*--column-type 'c=category'"):
        tokens([path])
    if len(cells) < COUNT:
        assert set(column(tokens([path], column_types={"c": "category"})).values()) == set(cells)


def test_hours_are_refused_where_the_tokenizer_has_days(tmp_path: Path) -> None:
    days = tokens([table(tmp_path / "days.csv", ["2021-01-01", "2021-01-05"])])
    hours = table(tmp_path / "hours.csv", ["2021-01-01", "2021-01-01T23:00"])
    for options in ({}, {"column_types": {"c": "date"}}):
        with pytest.raises(DataError, match=r"hours\.csv:3: the column 'c' holds '2021-01-01T23:00', which has hours, .* holds days"):
            tokens([hours], days, **options)
    midnight = table(tmp_path / "midnight.csv", ["2021-01-01T00:00", "2021-01-05"])
    assert set(column(tokens([midnight], days)).values()) == {"2021-01-01", "2021-01-05"}
    timed = tokens([hours])
    for options in ({}, {"column_types": {"c": "date"}}):
        hours.with_suffix(".again.tar").unlink(missing_ok=True)
        assert "2021-01-01T23:00" in column(tokens([hours], timed, **options)).values()


def test_a_truth_value_among_numbers_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv:4.*TRUE"):
        tokens([table(tmp_path / "t.csv", ["0.5", "1.5", "TRUE", "3"])])
