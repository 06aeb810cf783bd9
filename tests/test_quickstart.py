"""Promise: the quickstart bridges speech and text, which it never saw together, and says so in its last line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "examples" / "quickstart.sh"
SCRIPTS = ("quickstart_data", "quickstart_plan", "quickstart_table", "m3ae_summary", "m3ae_mnist/looks", "m3ae_mnist/sentences")


@pytest.mark.slow
def test_the_quickstart_imputes_the_pair_that_never_occurred(tmp_path):
    done = subprocess.run(["sh", str(SCRIPT), "--out", str(tmp_path / "out")], stdout=subprocess.PIPE, text=True, check=True)
    document = json.loads(done.stdout.splitlines()[-1])
    value = {(row["run"], *row["given"], row["target"], row["metric"]): row["value"] for row in document["results"]}
    for given, target in (("speech", "text"), ("text", "speech")):  # README: 0.53 and 0.30 of the perplexity with this seed
        assert ("commutative, chained", given, target, "accuracy") in value
        loretta, baseline = value["loretta", given, target, "accuracy"], value["commutative", given, target, "accuracy"]
        assert loretta > 0.6 and loretta - baseline >= 0.3
        assert value["loretta", given, target, "perplexity"] <= 0.6 * value["commutative", given, target, "perplexity"]
    assert {(tuple(row["given"]), row["target"]) for row in document["results"] if row["seen"]} >= {
        (("image",), "text"),
        (("speech",), "image"),
    }
    assert (tmp_path / "out" / document["report"] / "contact_sheet.png").exists()


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_says_how_to_use_it(name):
    done = subprocess.run([sys.executable, str(SCRIPT.parent / f"{name}.py"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: {Path(name).name}.py [-h]")


def test_an_unknown_option_says_how_to_use_it():
    done = subprocess.run(["sh", str(SCRIPT), "--colour"], capture_output=True, text=True)
    assert done.returncode == 2 and "usage: sh examples/quickstart.sh" in done.stderr
