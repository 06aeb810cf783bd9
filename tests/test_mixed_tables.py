"""Tables with columns of several types keep each by its own codes, from tokens to imputed CSVs and reports."""

import csv
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Result

import mmtool as package
from mmtool.common.errors import DataError, UsageError
from mmtool.metrics.columns import compare_columns
from mmtool.preprocessing.fit import find_tokenizer
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.sources import SourceOptions
from mmtool.preprocessing.tokenize import tokenize
from mmtool.tokenizers.base import from_bytes, to_bytes
from mmtool.tokenizers.code_values import OneHot
from mmtool.tokenizers.column_types import NUMBER, Boolean, Category, Date, Ordinal
from mmtool.tokenizers.table import TableTokenizer
from mmtool.tokenizers.table_codec import TableCodecTokenizer

Mmtool = Callable[..., Result]
COUNT = 120
STAGES, GRADES = ("I", "II", "III"), ("low", "mid", "high")
TYPES = {"stage": Category(STAGES), "smoker": Boolean(("no", "yes")), "visit": Date(), "grade": Ordinal(GRADES)}
FEATURES = ("age", *TYPES)


def rows(count: int = COUNT) -> np.ndarray:
    """Age, stage, smoker, visit and grade, some cells missing."""
    random = np.random.default_rng(0)
    stage = random.integers(0, 3, count)
    columns = [50 + 10 * stage + random.normal(size=count), stage, stage > 0, random.integers(17000, 19000, count), stage]
    table = np.stack(columns, 1).astype(np.float32)
    table[::9, 1] = table[1::7, 0] = table[2::11, 3] = np.nan
    return table


@pytest.fixture(scope="module")
def tokenizer() -> TableTokenizer:
    return TableTokenizer.fit(list(rows()), {"features": FEATURES, "types": TYPES, "n_bins": 8}, 0)


def test_categories_have_codes_of_their_own(tokenizer: TableTokenizer) -> None:
    codes = np.stack(tokenizer.encode(list(rows())))
    assert tokenizer.vocabulary_size == 8 + 1 + 3 and tokenizer.ordered_codes == 8
    present = ~np.isnan(rows()[:, 1])
    assert set(codes[present, 1]) == {9, 10, 11} and set(codes[~present, 1]) == {8} and set(codes[:, 2]) == {9, 10}
    decoded = np.stack(tokenizer.decode(list(codes)))
    np.testing.assert_array_equal(decoded[:, [1, 2, 4]], rows()[:, [1, 2, 4]])
    np.testing.assert_array_equal(np.isnan(decoded), np.isnan(rows()))
    assert tokenizer.report["categorical_features"] == 2 and tokenizer.report["reconstruction_r2"] > 0.9


def test_types_travel_in_the_file_of_the_tokenizer(tokenizer: TableTokenizer) -> None:
    again = from_bytes(to_bytes(tokenizer))
    assert again.types == TYPES and to_bytes(again) == to_bytes(tokenizer)  # type: ignore[attr-defined]


def test_a_code_that_does_not_exist_is_missing(tokenizer: TableTokenizer) -> None:
    exist = tokenizer.code_values().exist
    assert exist is not None and exist.sum(1).tolist() == [9, 4, 3, 9, 9]
    for code in range(tokenizer.vocabulary_size):
        (row,) = tokenizer.decode([np.full(5, code)])
        assert (~np.isnan(row) <= exist[:, code]).all()


def test_means_of_code_values_are_shares_of_categories(tokenizer: TableTokenizer) -> None:
    table = np.array([[50, 0, 1, 18000, 2], [60, 2, 1, 18000, 2], [60, 2, 0, 18000, 2]], np.float32)
    means = tokenizer.code_values().of(np.stack(tokenizer.encode(list(table)))).mean(0, keepdims=True)
    np.testing.assert_allclose(tokenizer.one_hot.probabilities(means, 1), [[1 / 3, 0, 2 / 3]], rtol=1e-5)
    (row,) = tokenizer.from_code_values(means)
    assert row[1:3].tolist() == [2, 1] and row[4] == 2


def test_a_category_that_there_is_not_is_refused(tokenizer: TableTokenizer) -> None:
    for wrong in (3, 0.5, -1):
        with pytest.raises(DataError, match="'stage' has no category number"):
            tokenizer.encode([np.array([50, wrong, 0, 18000, 1], np.float32)])


def test_categories_have_no_components() -> None:
    with pytest.raises(UsageError, match="'stage', 'smoker' hold categories") as refused:
        TableCodecTokenizer.fit(list(rows()), {"features": FEATURES, "types": TYPES}, 0)
    assert "--scheme bins" in str(refused.value)


def test_dates_and_levels_have_components_and_come_back_as_such(tmp_path: Path) -> None:
    table, types = rows()[:, [0, 3, 4]], {"visit": TYPES["visit"], "grade": TYPES["grade"]}
    fitted = TableCodecTokenizer.fit(list(table), {"features": ["age", "visit", "grade"], "types": types, "components": 3}, 0)
    path = fitted.write_rows(["a"], fitted.decode(fitted.encode(list(table[5:6]))), tmp_path / "t.csv")
    (written,) = records(path)
    day = Date().read(written["visit"])
    assert written["grade"] in GRADES and day is not None and abs(day - table[5, 1]) < 90


def test_one_hot_rows_come_back() -> None:
    one_hot = OneHot([NUMBER, Category(STAGES), NUMBER, Boolean()])
    table = np.array([[0.5, 2, np.nan, 1], [1.5, np.nan, 3, 0]], np.float32)
    assert one_hot.encode(table)[0].tolist()[:4] == [0.5, 0, 0, 1] and one_hot.encode(table).shape == (2, 7)
    np.testing.assert_array_equal(one_hot.decode(one_hot.encode(table)), table)


def test_categories_are_measured_by_accuracy_and_numbers_by_r2() -> None:
    true = rows()
    imputed, categorical = np.where(np.isnan(true), 0, true), np.array([False, True, True, False, False])
    perfect = compare_columns(categorical, true, imputed, 0)
    assert perfect["category_accuracy"].value == 1 and perfect["r2"].value == pytest.approx(1)
    imputed[:, 2] = 1 - imputed[:, 2]
    assert compare_columns(categorical, true, imputed, 0)["category_accuracy"].value == pytest.approx(0.5)
    assert compare_columns(categorical[:1], true[:, :1], imputed[:, :1], 0).keys() == {"r2", "spearman"}
    assert compare_columns(categorical[1:3], true[:, 1:3], imputed[:, 1:3], 0).keys() == {"category_accuracy"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a clinical table and genes, shards, and a run of a few steps."""
    folder, random = tmp_path_factory.mktemp("mixed"), np.random.default_rng(1)
    stages = np.nan_to_num(rows()[:, 4]).astype(int)
    columns = [NUMBER, *TYPES.values()]
    cells = [["" if np.isnan(value) else column.write(value) for column, value in zip(columns, row, strict=True)] for row in rows()]
    write(folder / "clinical.csv", ["patient", *FEATURES], cells)
    genes = stages[:, None] * np.array([1, -1, 0.5]) + random.normal(0, 0.2, (COUNT, 3))
    write(folder / "genes.csv", ["patient", "a", "b", "c"], genes.round(3).tolist())
    options = SourceOptions(table=TableOptions(column_types={"grade": "<".join(GRADES)}))
    tokenize("table", [folder / "clinical.csv"], folder / "clinical.tar", name="clinical", options=options, settings={"n_bins": 8})
    tokenize("table", [folder / "genes.csv"], folder / "genes.tar", name="genes", settings={"n_bins": 8})
    return folder


def records(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, header: list[str], cells: list[list[Any]]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *([f"p{i:03d}", *row] for i, row in enumerate(cells))])


def trained(filled: Path, mmtool: Mmtool, method: str) -> Path:
    """The run of a method, trained the first time that it is asked for."""
    if not (filled / "shards").exists():
        assert mmtool("shard", filled / "clinical.tar", filled / "genes.tar", "-o", filled / "shards").code == 0
    size = ("--preset", "tiny", "--set", "shape.depth=1", "--set", "shape.width=32", "--batch-tokens", 512, "--no-compile")
    training = ("--method", method, "--steps", 4, "--set", "value_epochs=2")
    assert mmtool("pretrain", filled / "shards", "-o", filled / method, *training, *size).code == 0
    return filled / method


@pytest.mark.parametrize("method", ["commutative", "masked"])
def test_mixed_columns_from_raw_files_to_imputed_ones(filled: Path, mmtool: Mmtool, method: str) -> None:
    run, out, report = trained(filled, mmtool, method), filled / f"{method}-filled", filled / f"{method}-report"
    asked = ("--split", "test", "--have", "genes", "--want", "clinical", "--draws", 4)
    assert mmtool("impute", run, filled / "shards", *asked, "-o", out).code == 0
    imputed = records(out / "clinical.csv")
    assert list(imputed[0]) == ["key", *FEATURES] and len(imputed) == 12
    for row in imputed:
        assert row["stage"] in STAGES and row["smoker"] in ("no", "yes") and row["grade"] in GRADES
        assert 45 < float(row["age"]) < 75 and "2016-07-01" < datetime.date.fromisoformat(row["visit"]).isoformat() < "2022-02-01"
    check_probabilities(out, imputed)
    raw = ("--raw", f"clinical={filled / 'clinical.csv'}", "--draws", 10)
    assert mmtool("evaluate", run, filled / "shards/test", *raw, "-o", report).code == 0
    results = json.loads((report / "report.json").read_text())["rows"]
    metrics = {row["metric"] for row in results if row["target"] == "clinical" and row["run"] == method}
    assert {"category_accuracy", "r2", "spearman", "coverage_80"} <= metrics
    best = max(row["value"] for row in results if row["metric"] == "category_accuracy" and row["run"] == "ridge (chain)")
    assert best > 0.8


def check_probabilities(out: Path, imputed: list[dict[str, str]]) -> None:
    """They sum to 1, and the most probable category is the imputed one; bounds say nothing of categories."""
    for row, shares in zip(imputed, records(out / "clinical.probabilities.csv"), strict=True):
        of_stage = {name: float(shares[f"stage={name}"]) for name in STAGES}
        assert sum(of_stage.values()) == pytest.approx(1, abs=0.01) and shares["key"] == row["key"]
        assert of_stage[row["stage"]] == max(of_stage.values())
    low, high = (records(out / f"clinical.{name}.csv")[0] for name in ("q05", "q95"))
    assert low["stage"] == "" and low["visit"] <= high["visit"] and GRADES.index(low["grade"]) <= GRADES.index(high["grade"])


def test_mixed_rows_from_python(filled: Path, mmtool: Mmtool) -> None:
    run = package.load(trained(filled, mmtool, "commutative"))
    row = {"age": 60, "stage": "II", "smoker": "yes", "visit": "2019-05-01", "grade": None}
    (sample,) = run.encode({"clinical": [row]})
    assert sample.tokens["clinical"][1] == 10 and sample.tokens["clinical"][4] == 8
    with pytest.raises(DataError, match="'stage' holds 'IV', a category that no"):
        run.encode({"clinical": [{**row, "stage": "IV"}]})


def test_annotated_files_hold_numbers_only(filled: Path, mmtool: Mmtool) -> None:
    pytest.importorskip("anndata")
    asked = ("--have", "genes", "--want", "clinical", "--format", "h5ad", "-o", filled / "no")
    refused = mmtool("impute", filled / "commutative", filled / "shards", "--split", "test", *asked)
    assert refused.code == 2 and "'stage'" in refused.err and not (filled / "no").exists()


def test_types_and_unseen_categories_on_the_command_line(filled: Path, mmtool: Mmtool) -> None:
    table, tokens = filled / "clinical.csv", filled / "again.tar"
    types = ("--column-type", "grade=low<mid<high", "--column-type", "visit=skip")
    fitted = mmtool("tokenize", "table", table, "--fit", *types, "--scale", "rank", "-o", tokens)
    assert fitted.code == 0 and "the column 'visit' is left out" in fitted.err
    assert find_tokenizer(tokens, "table").types.keys() == {"stage", "smoker", "grade"}  # type: ignore[attr-defined]
    new = filled / "new.csv"
    new.write_text(table.read_text().replace(",II,", ",IV,"))
    again = ("tokenize", "table", new, "--tokenizer", tokens, "--column-type", "visit=skip", "-o", filled / "new.tar")
    refused = mmtool(*again)
    assert refused.code == 1 and "'IV'" in refused.err and "--unseen missing" in refused.err
    other = mmtool(*again, "--column-type", "stage=number")
    assert other.code == 1 and "takes the column 'stage' for a category, not for a number" in other.err
    taken = mmtool(*again, "--unseen", "missing")
    assert taken.code == 0 and "count as missing: 'IV'" in taken.err


def test_raw_tables_take_column_types(filled: Path, mmtool: Mmtool) -> None:
    run, extended = filled / "commutative", filled / "extended.csv"
    lines = (filled / "clinical.csv").read_text().splitlines()
    extended.write_text("\n".join([f"{lines[0]},ward", *(f"{line},{i}" for i, line in enumerate(lines[1:]))]) + "\n")
    imputing = ("impute", run, "--raw", f"clinical={extended}", "--want", "genes", "-o", filled / "of-raw")
    evaluating = ("evaluate", run, filled / "shards/test", "--raw", f"clinical={extended}", "-o", filled / "by-raw")
    for command in (imputing, evaluating):
        refused = mmtool(*command)
        assert refused.code == 1 and "unknown 'ward'" in refused.err and "--column-type" in refused.err
        assert mmtool(*command, "--column-type", "ward=skip").code == 0
    assert len(records(filled / "of-raw/genes.csv")) == COUNT
    both = ("--raw", f"clinical={extended}", "--raw", f"genes={filled / 'genes.csv'}", "--column-type", "ward=skip")
    assert mmtool("evaluate", run, filled / "shards/test", *both, "-o", filled / "by-both").code == 0


def test_types_are_of_tables_with_samples_in_rows(tmp_path: Path, mmtool: Mmtool) -> None:
    (tmp_path / "m.csv").write_text("gene,s1,s2,s3\nTP53,1,2,3\nEGFR,4,5,6\n")
    refused = mmtool(
        "tokenize", "table", tmp_path / "m.csv", "--transpose", "--column-type", "s1=category", "--fit", "-o", tmp_path / "m.tar"
    )
    assert refused.code == 2 and "samples in rows" in refused.err and not (tmp_path / "m.tar").exists()
