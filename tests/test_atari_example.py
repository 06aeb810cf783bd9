"""Promise: the Atari example compares methods on what was never heard with what was done, and continues where it was."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "atari" / "run.sh"


def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", SCRIPT, *options], capture_output=True, text=True, env={**os.environ, **environment})


@pytest.mark.slow
def test_the_example_compares_methods_on_the_pair_that_never_occurred(tmp_path: Path) -> None:
    pytest.importorskip("ale_py", reason="the clips need the package ale-py")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    options = ("--data", str(tmp_path / "clips"), "--out", str(tmp_path / "out"), "--smoke")
    done = run(*options, PATH=path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout.splitlines()[-1])
    unseen = {(row["method"], *row["given"], row["target"], row["metric"]) for row in document["results"] if not row["seen"]}
    for method in ("commutative", "loretta"):
        for given, target in (("audio", "actions"), ("actions", "audio")):
            assert {(method, given, target, metric) for metric in ("perplexity", "accuracy", "recall@1")} <= unseen
        assert (method, "actions", "audio", "scene", "probe accuracy") in unseen
    assert all("seed" in row for row in document["results"])
    assert (tmp_path / "out" / "comparison" / "contact_sheet.png").exists()

    again = run(*options, PATH=path)
    assert json.loads(again.stdout.splitlines()[-1]) == document and "training" not in again.stderr.replace("training samples", "")


def test_an_unknown_option_says_how_to_use_it() -> None:
    for options in (("--colour", "red"), ("--data",), ()):
        done = run(*options)
        assert done.returncode == 2 and "sh examples/atari/run.sh --data DIR --out DIR" in done.stderr
