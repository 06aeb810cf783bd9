"""Promise: LoReTTa is compared with the chain training by training, and the intervals are over what they say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "examples" / "svl_mnist" / "voices_table.py"
CHAINED = "commutative, chained"


def report(folder: Path, **values: list[float]) -> None:
    """One division: accuracies of speech -> text by column and seed; the chain's perplexity is 10, LoReTTa's 5."""
    direction = {"given": ["speech"], "target": "text", "seen": False}
    columns = {"loretta": values["loretta"], CHAINED: values["chained"]}
    rows = [
        {**direction, "run": run, "seed": seed, "metric": metric, "value": value}
        for run, accuracies in columns.items()
        for seed, accuracy in enumerate(accuracies)
        for metric, value in (("accuracy", accuracy), ("perplexity", 5.0 if run == "loretta" else 10.0))
    ]
    (folder / "image").mkdir(parents=True)
    (folder / "image" / "report.json").write_text(json.dumps({"results": rows}))


def test_differences_are_of_the_same_division_and_seed(tmp_path: Path) -> None:
    report(tmp_path / "3", loretta=[0.5, 0.6], chained=[0.4, 0.5])
    report(tmp_path / "22", loretta=[0.9, 0.8], chained=[0.6, 0.9])
    done = subprocess.run([sys.executable, SCRIPT, tmp_path, "3", "22"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    accuracy, perplexity = json.loads(done.stdout.splitlines()[-1])["differences"]
    assert accuracy["by_training"] == pytest.approx({"3/0": 0.1, "3/1": 0.1, "22/0": 0.3, "22/1": -0.1})
    assert accuracy["over_trainings"][0] == accuracy["over_divisions"][0] == pytest.approx(0.1)
    assert accuracy["over_divisions"][1:] == pytest.approx([0.1, 0.1]) and accuracy["over_trainings"][1] < -0.1
    assert perplexity["over_trainings"] == pytest.approx([0.5, 0.5, 0.5])
    text = (tmp_path / "voices.md").read_text()
    assert "| **speech → text**, never seen | - | 60.0 (40-90) | 70.0 (50-90) | - |" in text
    assert f"| {CHAINED} | **speech → text** | accuracy, difference | +10.0 [" in text and "| 3 of 4 |" in text
