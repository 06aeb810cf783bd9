"""No value is clipped, merged with another or rounded in silence: codes reach as far as the data, or the command says how to make them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Result

from mmtool.common.errors import DataError, UsageError
from mmtool.data.shards import open_token_set
from mmtool.preprocessing.sources import SourceOptions, read_items
from mmtool.preprocessing.splits import Split
from mmtool.preprocessing.tokenize import tokenize
from mmtool.tokenizers.base import from_bytes, to_bytes
from mmtool.tokenizers.trajectory import TrajectoryTokenizer

Mmtool = Callable[..., Result]
STEPS = 8
ALL_TRAIN = Split((1.0, 0.0, 0.0))


def clips(count: int = 40, **arrays: Callable[[np.random.Generator], np.ndarray]) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [{name: array(random) for name, array in arrays.items()} for _ in range(count)]


def fit(values: list[dict[str, np.ndarray]], **settings: Any) -> TrajectoryTokenizer:
    return TrajectoryTokenizer.fit(values, settings, 0)


def save(folder: Path, values: list[dict[str, np.ndarray]]) -> Path:
    folder.mkdir()
    for number, arrays in enumerate(values):
        np.savez(folder / f"{number:02d}.npz", **arrays)
    return folder


@pytest.mark.parametrize("low, high", [(-1e6, 1e6), (-5000, -1000), (0, 3000), (-300, 10)])
def test_the_mu_law_reaches_as_far_as_the_training_data(low: float, high: float) -> None:
    values = clips(
        rewards=lambda random: random.uniform(low, high, STEPS).astype(np.float32), actions=lambda random: random.integers(0, 3, STEPS)
    )
    tokenizer = from_bytes(to_bytes(fit(values, streams=["rewards", "actions"])))
    largest = max(float(np.abs(clip["rewards"]).max()) for clip in values)
    assert tokenizer.state()[1]["streams"][1]["max_value"] == pytest.approx(max(256, largest))
    for clip, decoded in zip(values, tokenizer.decode(tokenizer.encode(values)), strict=True):
        np.testing.assert_allclose(decoded["rewards"], clip["rewards"], rtol=0.05, atol=0.05)
    assert not any(tokenizer.beyond(clip) for clip in values)


def test_returns_to_go_in_thousands_come_back(tmp_path: Path) -> None:
    values = clips(rewards=lambda random: random.uniform(100, 900, STEPS).astype(np.float32))
    settings = {"streams": "returns_to_go"}
    done = tokenize("trajectory", [save(tmp_path / "raw", values)], tmp_path / "t.tar", name="t", settings=settings, split=ALL_TRAIN)
    assert done.reconstruction["reconstruction_r2_worst"] > 0.99 and done.clipped == {}


def test_data_beyond_a_max_value_that_was_set_are_refused() -> None:
    values = clips(rewards=lambda random: random.uniform(-900, 100, STEPS))
    with pytest.raises(UsageError, match=r"max_value: the rewards reach 8\d\d.*beyond max_value 256.*max_value=[89]\d\d.*binning=quantile"):
        fit(values, max_value=256)
    assert fit(values, max_value=1000).encode(values) and fit(values, binning="quantile").encode(values)
    wide = clips(actions=lambda random: random.integers(-128, 128, STEPS).astype(np.int8))
    wide[0]["actions"][0] = -128
    with pytest.raises(UsageError, match="the actions reach 128"):
        fit(wide, max_value=100)


@pytest.mark.parametrize("binning", ["mu-law", "quantile"])
def test_other_data_beyond_the_range_are_counted_and_reported_once(mmtool: Mmtool, tmp_path: Path, binning: str) -> None:
    usual = clips(300, rewards=lambda random: random.uniform(-400, 400, STEPS), actions=lambda random: random.integers(0, 3, STEPS))
    command = ["tokenize", "trajectory"]
    done = mmtool(
        *command,
        save(tmp_path / "usual", usual),
        "--fit",
        "--fractions",
        1,
        0,
        0,
        "--set",
        f"binning={binning}",
        "-o",
        tmp_path / "a.tar",
        "--json",
    )
    assert done.code == 0 and "clipped" not in done.err and json.loads(done.out)["clipped"] == {}
    for number in (3, 280):  # in two batches
        usual[number]["rewards"][:2] = [2e6, -2e6]
    done = mmtool(*command, save(tmp_path / "other", usual), "--tokenizer", tmp_path / "a.tar", "-o", tmp_path / "b.tar", "--json")
    assert json.loads(done.out)["clipped"] == {"rewards": {"values": 4, "samples": 2}}
    assert done.err.count("4 numbers of rewards in 2 trajectory samples lie beyond") == 1


def test_item_ids_that_would_be_merged_are_refused() -> None:
    values = clips(observations=lambda random: random.integers(0, 5001, STEPS), actions=lambda random: random.integers(0, 3, STEPS))
    values[0]["observations"][0] = 5000
    with pytest.raises(
        UsageError, match=r"--n-bins: the observations are whole numbers up to 5000, with 1024 codes.*--n-bins 5001.*binning=mu-law"
    ):
        fit(values)
    with pytest.raises(UsageError, match="whole numbers up to 5000"):
        fit(values, binning={"rewards": "quantile"})
    for clip, decoded in zip(values, fit(values, n_bins=5001).decode(fit(values, n_bins=5001).encode(values)), strict=True):
        np.testing.assert_array_equal(decoded["observations"], clip["observations"])
    for binning in ("mu-law", {"observations": "quantile"}):
        assert fit(values, binning=binning).streams[0].binning != "whole"
    many = clips(actions=lambda random: random.integers(0, 10**6, STEPS))
    with pytest.raises(UsageError, match="65,535 codes at most"):
        fit(many)
    some = clips(actions=lambda random: random.integers(0, 2000, STEPS))
    assert fit(some, num_actions=2000).streams[0].size == 2000


def test_negative_integers_are_amounts_and_bytes_stay_bytes() -> None:
    assert fit(clips(observations=lambda random: random.integers(-5000, 5000, STEPS))).streams[0].binning == "mu-law"
    values = clips(observations=lambda random: random.integers(0, 256, (STEPS, 2), np.uint8))
    tokenizer = fit(values)
    assert tokenizer.streams[0].binning == "whole" and tokenizer.streams[0].size == 256
    np.testing.assert_array_equal(tokenizer.decode(tokenizer.encode(values))[5]["observations"], values[5]["observations"])


def test_clips_that_do_not_fit_cost_themselves_where_bad_samples_are_skipped(tmp_path: Path) -> None:
    values = clips(actions=lambda random: random.integers(0, 4, STEPS), rewards=lambda random: random.uniform(0, 1, STEPS))
    settings, skip = {"streams": "returns_to_go,actions"}, SourceOptions(on_error="skip", clip=4)
    values[7]["rewards"][6] = np.nan  # in its second clip, but the returns of the first depend on it
    done = tokenize(
        "trajectory", [save(tmp_path / "a", values)], tmp_path / "a.tar", name="t", settings=settings, options=skip, split=ALL_TRAIN
    )
    assert done.samples == 78 and done.rejected == 2
    values[9]["actions"][1] = 9
    done = tokenize("trajectory", [save(tmp_path / "b", values)], tmp_path / "b.tar", name="t", tokenizer=tmp_path / "a.tar", options=skip)
    assert done.samples == 77 and "09-000000" not in open_token_set(tmp_path / "b.tar").keys
    reasons = [json.loads(line) for line in (tmp_path / "b.tar.rejects.jsonl").read_text().splitlines()]
    assert {line["key"] for line in reasons} == {"07-000000", "07-000004", "09-000000"} and all("npz" in line["file"] for line in reasons)


def table(path: Path, columns: dict[str, np.ndarray]) -> Path:
    """A CSV or Parquet file of integers and numbers as they are, with a key."""
    columns = {"id": np.array([f"p{i:03d}" for i in range(len(next(iter(columns.values()))))]), **columns}
    if path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table(columns), path)
    else:
        rows = zip(*(array.tolist() for array in columns.values()), strict=True)
        path.write_text(",".join(columns) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return path


def fit_table(path: Path, scheme: str, output: str = "t.tar", **options: Any) -> Any:
    return tokenize("table", [path], path.with_name(output), name="lab", scheme=scheme, split=ALL_TRAIN, options=SourceOptions(**options))


COUNT = 200
NUMBERS = np.random.default_rng(0)


@pytest.mark.parametrize("scheme", ["bins", "codec"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(
    "column",
    [
        10**12 + NUMBERS.integers(0, 1000, COUNT),
        1_700_000_000 + np.arange(COUNT),
        1.7e9 + np.arange(COUNT) / 4,
        np.full(COUNT, 20231115),
        -(10**15) - NUMBERS.integers(0, 10**6, COUNT),
        10**18 + NUMBERS.integers(0, 10**6, COUNT),
    ],
    ids=["ids", "seconds", "quarters of seconds", "one date", "negative", "beyond double precision"],
)
def test_integers_that_single_precision_would_blur_are_refused(tmp_path: Path, scheme: str, suffix: str, column: np.ndarray) -> None:
    path = table(tmp_path / f"v.{suffix}", {"a": NUMBERS.normal(size=COUNT), "stamp": column})
    with pytest.raises(DataError, match=r"single precision rounds integers of the columns 'stamp' too much.*offset.*--label"):
        fit_table(path, scheme)
    assert fit_table(path, scheme, label_columns=("stamp",)).samples == COUNT
    assert fit_table(table(path, {"a": NUMBERS.normal(size=COUNT), "stamp": column - column.min()}), scheme, "u.tar").samples == COUNT


@pytest.mark.parametrize("scheme", ["bins", "codec"])
def test_large_numbers_that_are_rounded_by_next_to_nothing_are_kept(tmp_path: Path, scheme: str) -> None:
    columns = {
        "counts": np.exp(NUMBERS.normal(12, 4, COUNT)).astype(np.int64) * 2 + 1,
        "huge": NUMBERS.normal(size=COUNT) * 1e30,
        "days": 20_000_000 + NUMBERS.integers(0, 10**6, COUNT),
        "outlier": np.where(np.arange(COUNT) == 7, 2**31 - 1, np.arange(COUNT)),
        "exact": 2.0**40 + 2.0**20 * np.arange(COUNT),
    }
    path = table(tmp_path / "v.csv", columns)
    assert fit_table(path, scheme).samples == COUNT
    done = tokenize("table", [path], tmp_path / "again.tar", name="lab", tokenizer=tmp_path / "t.tar", split=ALL_TRAIN)
    assert done.samples == COUNT and (tmp_path / "again.tar").read_bytes() == (tmp_path / "t.tar").read_bytes()


@pytest.mark.parametrize("scheme", ["bins", "codec"])
def test_later_values_that_single_precision_would_blur_are_refused(tmp_path: Path, scheme: str) -> None:
    seconds = np.arange(COUNT)
    fit_table(table(tmp_path / "v.csv", {"a": NUMBERS.normal(size=COUNT), "time": seconds}), scheme)
    stamps = np.where(seconds == 5, 1_700_000_000_000 + 1, seconds)
    later = table(tmp_path / "later.csv", {"a": NUMBERS.normal(size=COUNT), "time": stamps})
    with pytest.raises(DataError, match=r"p005: the column 'time' holds 1700000000001, which single precision rounds by \d+.*offset"):
        tokenize("table", [later], tmp_path / "u.tar", name="lab", tokenizer=tmp_path / "t.tar")
    skip = SourceOptions(on_error="skip")
    done = tokenize("table", [later], tmp_path / "u.tar", name="lab", tokenizer=tmp_path / "t.tar", options=skip)
    assert done.samples == COUNT - 1 and done.rejected == 1


def test_rows_are_in_double_precision_only_where_that_matters(tmp_path: Path) -> None:
    path = table(tmp_path / "v.csv", {"a": np.array([1, 2**24, 2**24 + 1]), "b": np.array([0.1, 1 / 3, 5])})
    assert [item.value[0].dtype for item in read_items("table", [path], SourceOptions())] == [np.float32, np.float32, np.float64]


def test_quantile_bins_of_files_without_a_range_still_work() -> None:
    values = clips(rewards=lambda random: random.normal(size=STEPS).astype(np.float32))
    tensors, settings = fit(values, binning="quantile").state()
    earlier = {name: tensor for name, tensor in tensors.items() if name.endswith((".edges", ".centres"))}
    again = TrajectoryTokenizer.from_state(earlier, settings)
    assert len(earlier) == 2 and again.beyond({"rewards": np.full(STEPS, 1e6)}) == {}
    np.testing.assert_array_equal(again.encode(values), fit(values, binning="quantile").encode(values))


@pytest.mark.parametrize("scheme", ["bins", "codec"])
def test_table_values_far_beyond_those_of_fitting_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], scheme: str) -> None:
    random = np.random.default_rng(0)
    header, rows = [f"g{i}" for i in range(12)], random.normal(0, 1, (200, 12))

    def write(name: str, values: np.ndarray) -> Path:
        path = tmp_path / name
        lines = [",".join(["id", *header]), *(",".join([f"p{i}", *map(str, row)]) for i, row in enumerate(values))]
        path.write_text("\n".join(lines) + "\n")
        return path

    settings = {"components": 4} if scheme == "codec" else {}
    tokenize("table", [write("a.csv", rows)], tmp_path / "a.tar", name="lab", scheme=scheme, settings=settings)
    other = write("b.csv", random.normal(0, 1, (200, 12)))
    again = tokenize("table", [other], tmp_path / "b.tar", name="lab", tokenizer=tmp_path / "a.tar")
    assert again.clipped == {}
    capsys.readouterr()
    scaled = tokenize("table", [write("c.csv", 10 * rows)], tmp_path / "c.tar", name="lab", tokenizer=tmp_path / "a.tar")
    assert set(scaled.clipped) == set(header)
    said = capsys.readouterr().err
    assert said.count("lie beyond the data that the tokenizer was fitted to") == 5
    assert "7 other columns. Is the data on another scale?" in said
