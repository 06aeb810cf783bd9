"""On a full disk every verb says so, leaves nothing half-written, and ends well when it is given again: see full_disk.py."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from crash import VERBS

NEED = {"h5ad": "anndata", "h5mu": "mudata", "onnx": "onnxruntime"}
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("verbs", "most"),
    [
        pytest.param(["tokenize", "shard"], 3, marks=pytest.mark.thorough),
        pytest.param(["pretrain", "impute", "export", "peek"], 2, marks=pytest.mark.slow),
        pytest.param([*VERBS, "h5ad", "h5mu", "features", "export", "onnx", "peek"], 4, marks=pytest.mark.slow),
    ],
)
def test_every_verb_that_writes_survives_a_full_disk(verbs: list[str], most: int) -> None:
    verbs = [verb for verb in verbs if verb not in NEED or find_spec(NEED[verb])]
    command = [sys.executable, "-m", "tests.faults.full_disk", *verbs, "--most", str(most)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["verb"] for result in results] == verbs
    for result in results:
        assert result["problems"] == [] and result["tried"] > 1, result
