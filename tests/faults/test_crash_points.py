"""Killed before and in the middle of a write, every verb ends well when it is given again: see crash.py."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from crash import VERBS

SCRIPT = Path(__file__).with_name("crash.py")


def survived(verbs: list[str], most: int) -> list[dict[str, Any]]:
    """In a process of its own, since one that has trained cannot fork others that train."""
    root = SCRIPT.parents[2]
    command = [sys.executable, "-m", "tests.faults.crash", *verbs, "--most", str(most)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert done.stdout, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(results: list[dict[str, Any]], verbs: list[str]) -> None:
    assert [result["verb"] for result in results] == verbs
    for result in results:
        assert result["problems"] == [] and result["tried"] > 1, result


@pytest.mark.thorough
def test_tokenize_and_shard_survive() -> None:
    check(survived(["tokenize", "shard"], 4), ["tokenize", "shard"])


@pytest.mark.parametrize(
    "verbs", [pytest.param(["pretrain", "impute"], marks=pytest.mark.slow), pytest.param([*VERBS], marks=pytest.mark.slow)]
)
def test_every_verb_that_writes_survives(verbs: list[str]) -> None:
    check(survived(verbs, 2), verbs)  # all points: python -m tests.faults.crash


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kills"), [("KILL", 50), ("TERM", 20)])
def test_a_training_survives_kills_at_random_times(name: str, kills: int) -> None:
    command = [sys.executable, "-m", "tests.faults.kill", "--signal", name, "--kills", str(kills), "--seconds", "600"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=SCRIPT.parents[2])
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert result["problems"] == [] and result["kills"] and result["trainings"]
