"""Promise: where no method is named, the data decide, and one line says which method it is and why."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Raw, Result

from mmtool.data.graph import CoOccurrence
from mmtool.data.sample import Modality
from mmtool.training.choice import choose_method

Command = Callable[..., Result]
SHORT = ("--preset", "tiny", "--steps", 2, "--batch-tokens", 256, "--no-compile", "--set", "shape.depth=1", "--set", "shape.width=32")


def modality(name: str, *, patches: bool = False) -> Modality:
    return Modality(name, "image", 0 if patches else 64, (4, 4, 12) if patches else (4, 4), "grid", "0" * 64, 16)


@pytest.mark.parametrize(
    ("names", "present", "method", "reason"),
    [
        ("a", ["a"], "masked", "one modality, a"),
        ("ab", ["ab"], "commutative", "no modality links"),
        ("ab", ["ab", "a", "b"], "commutative", "no modality links"),
        ("ab", ["a", "b"], "commutative", "never occur together"),
        ("abc", ["ab", "bc"], "loretta", "a and c never occur together, but b links them"),
        ("abc", ["abc"], "commutative", "no modality links"),
        ("abc", ["ab", "bc", "ac"], "commutative", "no modality links"),
        ("abcd", ["ab", "bc", "cd"], "loretta", "a and c never occur together, but b links them"),
        ("abc", ["ab", "c"], "commutative", "no modality links"),
    ],
)
def test_the_combinations_that_occur_decide(names: str, present: list[str], method: str, reason: str) -> None:
    chosen, why = choose_method([modality(name) for name in names], CoOccurrence.of(present))
    assert chosen == method and reason in why


def test_patches_are_read_by_the_masked_autoencoder() -> None:
    chosen, why = choose_method([modality("image", patches=True), modality("text")], CoOccurrence.of([("image", "text")]))
    assert chosen == "m3ae" and "image" in why


@pytest.fixture
def tokens(raw: Raw, tmp_path: Path, mmtool: Command) -> dict[str, Path]:
    """Token sets of a text and of two tables of the same entities."""
    made = {}
    for name, kind, path in (("note", "text", raw.notes), ("lab", "table", raw.values), ("scan", "table", raw.values)):
        made[name] = tmp_path / f"{name}.tar"
        assert mmtool("tokenize", kind, path, "--fit", "--name", name, "-o", made[name]).code == 0
    return made


@pytest.mark.parametrize(
    ("names", "pairs", "method"),
    [
        (("note",), (), "masked"),
        (("note", "lab"), (), "commutative"),
        (("note", "lab", "scan"), ("note,lab", "lab,scan"), "loretta"),
    ],
)
def test_pretrain_without_a_method_trains_and_says_why(
    tokens: dict[str, Path], tmp_path: Path, mmtool: Command, names: tuple[str, ...], pairs: tuple[str, ...], method: str
) -> None:
    protocol = [word for pair in pairs for word in ("--pair", pair)]
    assert mmtool("shard", *(tokens[name] for name in names), *protocol, "-o", tmp_path / "shards").code == 0
    done = mmtool("pretrain", tmp_path / "shards", *SHORT, "-o", tmp_path / "run")
    assert done.code == 0 and f"method: {method}, because" in done.err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["method"] == method
    again = mmtool("pretrain", tmp_path / "shards", *SHORT, "-o", tmp_path / "run")
    assert again.code == 0 and "nothing to do" in again.err
    named = mmtool("pretrain", tmp_path / "shards", "--method", method, *SHORT, "-o", tmp_path / "run")
    assert named.code == 0 and "because" not in named.err
