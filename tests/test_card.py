"""`info RUN --card`: a run says what it is, what was measured and what it is not fit for, and leaves to people what only they know."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import Result
from test_training import make_shards, settings

from mmtool.training.pretrain import pretrain

FIELDS = (
    "what the run is for",
    "where the data comes from",
    "uses that it is not fit for",
    "licence, or terms of use",
    "licence]",
    "name, address",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    make_shards(folder / "shards")
    pretrain(settings(method="commutative", steps=20, checkpoint_every=20, weight_decay=0.25), folder / "shards", folder / "lab run")
    return folder / "lab run"


def test_a_card_holds_data_method_numbers_limits_and_licences(mmtool, run: Path) -> None:
    done: Result = mmtool("info", run, "--card")
    assert done.code == 0 and done.out.startswith("# lab run\n")
    assert [line for line in done.out.splitlines() if line.startswith("## ")] == [
        "## Data", "## Method", "## Numbers", "## Limits", "## Licences and contact",
    ]  # fmt: skip
    record = json.loads((run / "config.json").read_text())
    held = {"".join(row["modalities"]): row["samples"] for row in record["co_occurrence"]}
    codes = record["modalities"][1]["vocabulary_size"]
    assert f"| b | table | {codes} | {held['ab'] + held['bc']:,} |" in done.out
    assert f"a + b ({held['ab']:,})" in done.out and record["data"][:12] in done.out
    assert "`commutative`" in done.out and "- `weight_decay`: `0.25`" in done.out and "`clip_norm`" not in done.out
    assert "a + c (through b)" in done.out
    assert all(field in done.out for field in FIELDS) and done.out.count("[fill in: ") == len(FIELDS) + 1
    assert "<" not in done.out  # which Markdown would take for HTML


def test_numbers_are_those_that_were_measured(mmtool, run: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    measured = next(record["validation"] for record in records if "validation" in record)
    card = mmtool("info", run, "--card").out
    assert measured and all(f"| {name} | {value:.4g} |" in card for name, value in measured.items())
    assert "Trained: 20 steps." in card
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    (copy / "metrics.jsonl").unlink()
    without = mmtool("info", copy, "--card").out
    assert "Nothing was measured on held-out samples" in without and "| what | value |" not in without and "losses" not in without


def test_a_run_that_was_not_trained_to_its_end_says_so(mmtool, run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    shutil.rmtree(copy / "checkpoints")
    assert "Trained: no checkpoint yet, not to the end of its budget." in mmtool("info", copy, "--card").out


def test_only_runs_have_cards(mmtool, run: Path) -> None:
    refused = mmtool("info", run.parent / "shards", "--card")
    assert refused.code == 1 and "not a run directory" in refused.err
    assert mmtool("info", run, "--card", "--json").code == 2
