"""From raw tables with holes to imputed ones with bounds, and to a report against the raw values: every stage of the command line."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("quick_baselines")

COUNT, SIZES = 240, {"genes": 12, "proteins": 9, "sugars": 7}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three linked tables of the same patients, and what became of them."""
    folder, random = tmp_path_factory.mktemp("tables"), np.random.default_rng(0)
    factors = random.normal(size=(COUNT, 3))
    for name, size in SIZES.items():
        rows = factors @ random.normal(size=(3, size)) + 0.3 * random.normal(size=(COUNT, size))
        write(folder / f"{name}.csv", ["patient", *(f"{name}{i}" for i in range(size))], rows.round(3).tolist())
    times = random.exponential(np.exp(factors[:, 0])).round(4) + 0.001
    clinical = [[f"kind{int(x > 0)}", float(t), int(random.random() < 0.8)] for x, t in zip(factors[:, 1], times, strict=True)]
    write(folder / "clinical.csv", ["patient", "cancer", "days", "event"], clinical)
    return folder


def write(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *([f"p{i:03d}", *row] for i, row in enumerate(rows))])


@pytest.mark.thorough
def test_tables_are_imputed_with_bounds_and_compared_with_raw_values(
    tables: Path, mmtool: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sksurv", reason="needs the extra [survival]")
    monkeypatch.setattr("mmtool.training.fit_values._fit.__defaults__", (1,))  # one network of values instead of three
    for name in SIZES:
        assert mmtool(
            "tokenize", "table", tables / f"{name}.csv", "--fit", "--name", name, "--scheme", "codec", "--set", "components=4",
            "--n-bins", 12, "--key-column", "patient", "--fractions", 0.6, 0.1, 0.3, "-o", tables / f"{name}.tar",
        ).code == 0  # fmt: skip
    assert mmtool(
        "shard", *(tables / f"{name}.tar" for name in SIZES), "--pair", "genes,proteins", "--pair", "genes,sugars",
        "--labels", tables / "clinical.csv", "--fractions", 0.6, 0.1, 0.3, "-o", tables / "shards",
    ).code == 0  # fmt: skip
    training = (
        "pretrain", tables / "shards", "--method", "loretta", "--preset", "tiny", "--set", "shape.depth=1", "--set", "shape.width=64",
        "--set", "value_epochs=2", "--steps", 20, "--batch-tokens", 1024, "--no-compile", "--checkpoint-every", 0, "-o", tables / "run",
    )  # fmt: skip
    assert mmtool(*training).code == 0
    learned = tables / "run/values.safetensors"
    values = learned.read_bytes()
    learned.unlink()
    assert mmtool(*training).code == 0 and learned.read_bytes() == values  # what was interrupted before it is learned again
    done = mmtool(
        "impute", tables / "run", tables / "shards", "--split", "test", "--have", "sugars", "--want", "proteins", "--draws", 10,
        "-o", tables / "filled",
    )  # fmt: skip
    assert done.code == 0
    assert sorted(path.name for path in (tables / "filled").glob("*.csv")) == [
        "proteins.csv", "proteins.q05.csv", "proteins.q25.csv", "proteins.q50.csv", "proteins.q75.csv", "proteins.q95.csv",
    ]  # fmt: skip
    header = next(csv.reader((tables / "filled" / "proteins.csv").open()))
    assert header == ["key", *(f"proteins{i}" for i in range(9))]
    report = mmtool(
        "evaluate", tables / "run", tables / "shards/test", "--label", "cancer", "--survival", "days,event", "--strata", "cancer",
        "--key-column", "patient", *(word for name in SIZES for word in ("--raw", f"{name}={tables / name}.csv")),
        "--draws", 10, "--limit", 40, "--contact-samples", 2, "--json",
        "-o", tables / "report",
    )  # fmt: skip
    assert report.code == 0, report.err
    rows = json.loads(report.out.splitlines()[-1])["results"]
    found = {(row["run"], "+".join(row["given"]), row["target"], row["metric"]): row["value"] for row in rows}
    assert found["ridge (chain)", "sugars", "proteins", "r2"] > 0.5
    assert found["ridge (chain)", "genes", "proteins", "r2"] > 0.7
    of_intervals = {f"{metric}_{level}" for metric in ("coverage", "width") for level in (50, 80, 95)}
    assert {metric for who, *_, metric in found if who == "loretta"} == {
        "accuracy", "perplexity", "r2", "spearman", "c_index", "c_index_stratified", "crps",
        *of_intervals, *(f"{metric}_corrected" for metric in of_intervals),
    }  # fmt: skip
    assert {metric for who, *_, metric in found if who == "cancer alone"} == {"c_index"}
    assert "Concordance of survival within classes of `cancer`" in (tables / "report/report.md").read_text()
    meta = json.loads((tables / "report/report.json").read_text())["meta"]
    assert meta["raw_tables"] == sorted(SIZES) and meta["upper_bounds"]["c_index"]["genes"]["value"] > 0.6
    compared = mmtool(
        "compare", tables / "shards", "--methods", "masked,contrastive", "--preset", "tiny", "--set", "shape.depth=1",
        "--set", "shape.width=64", "--set", "compile=off", "--set", "value_epochs=1", "--steps", 4, "--limit", 40,
        "--batch-tokens", 1024, "--label", "cancer",
        "--survival", "days,event", "--key-column", "patient", "--raw",
        f"proteins={tables / 'proteins.csv'}", "--draws", 10, "--contact-samples", 0, "--json", "-o", tables / "comparison",
    )  # fmt: skip
    assert compared.code == 0, compared.err
    metrics = {(row["run"], row["metric"]) for row in json.loads(compared.out.splitlines()[-1])["results"]}
    assert {(name, metric) for name in ("masked", "contrastive") for metric in ("r2", "c_index", "coverage_80")} <= metrics


def test_wrong_use_is_named(tables: Path, mmtool: Callable[..., Any]) -> None:
    assert "is not TIME,EVENT" in mmtool("evaluate", "run", "shards", "--survival", "days", "-o", tables / "x").err
    assert "strata are those of survival" in mmtool("evaluate", "run", "shards", "--strata", "cancer", "-o", tables / "x").err


def test_an_empty_column_and_a_link_of_few_samples_spoil_nothing(tmp_path: Path, mmtool: Callable[..., Any]) -> None:
    random, columns = np.random.default_rng(0), {"a": 3, "b": 2, "c": 2}
    held = {"a": range(60), "b": range(70), "c": range(60, 70)}  # 10 samples link b and c
    for name, size in columns.items():
        rows = [[f"p{i:02d}", *random.normal(size=size).round(3), *[""] * (name == "a")] for i in held[name]]
        with open(tmp_path / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows([["key", *(f"x{i}" for i in range(len(rows[0]) - 1))], *rows])
        tokenized = ("tokenize", "table", tmp_path / f"{name}.csv", "--fit", "--name", name, "--fractions", 1, 0, 0)
        assert mmtool(*tokenized, "-o", tmp_path / f"{name}.tar").code == 0
    assert mmtool("shard", *(tmp_path / f"{name}.tar" for name in columns), "--fractions", 1, 0, 0, "-o", tmp_path / "shards").code == 0
    trained = mmtool(
        "pretrain", tmp_path / "shards", "--method", "loretta", "--preset", "tiny", "--batch-tokens", 128, "--no-compile", "--set",
        "shape.depth=1", "--set", "shape.width=32", "--steps", 4, "--set", "value_epochs=1", "--set", "method.warmup=0.5",
        "-o", tmp_path / "run",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    for have, want, empty in (("b", "a", [False, False, False, True]), ("a", "b", [False, False])):
        filled = tmp_path / f"filled-{want}"
        assert mmtool("impute", tmp_path / "run", tmp_path / "shards", "--have", have, "--want", want, "-o", filled).code == 0
        _, *rows = csv.reader((filled / f"{want}.csv").open())
        assert rows and all([value == "" for value in row[1:]] == empty for row in rows)
