"""Damaged files of every sort are read, or refused in words: see fuzz.py."""

from pathlib import Path

import pytest
from fuzz import READERS, fuzz, mutate


@pytest.mark.parametrize("name", ["shard", "tokenizer", "run", "stranger", "state", "metrics"])
def test_artefacts(name: str, tmp_path: Path) -> None:
    findings = fuzz(name, tmp_path, tries=40)
    assert findings.problems == {} and findings.tried == 40


@pytest.mark.thorough
@pytest.mark.parametrize("name", list(READERS))
def test_every_reader(name: str, tmp_path: Path) -> None:
    findings = fuzz(name, tmp_path, tries=60, first=1000)
    assert findings.problems == {}


def test_the_whole_files_are_read(tmp_path: Path) -> None:
    for name in ("png", "wav", "csv", "jsonl", "npz", "zip", "tar"):
        path = tmp_path / f"whole{READERS[name].suffix}"
        READERS[name].make(path)
        assert READERS[name].read(path)


def test_a_mutation_is_a_function_of_its_seed() -> None:
    import random

    made = [mutate(b"abcdefgh" * 9, random.Random(f"x {seed}")) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
