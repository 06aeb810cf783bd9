"""Promise: the example of sweeps leads the named share of links astray, and draws the curves of whatever was trained."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "sweeps"


def run(script: str, *options: object) -> str:
    done = subprocess.run([sys.executable, FOLDER / script, *map(str, options)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_share_of_pictures_goes_to_other_classes(tmp_path: Path) -> None:
    for number in range(300):
        folder = tmp_path / "right" / str(number % 3)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03d}.png").write_bytes(bytes([number % 256]))
    for name in ("wrong", "again"):
        run("wrong_labels.py", tmp_path / "right", tmp_path / name, "--share", 0.3)
    wrong = {path.name: path for path in (tmp_path / "wrong").glob("*/*.png")}
    assert len(wrong) == 300 and all(path.read_bytes() == bytes([int(path.stem) % 256]) for path in wrong.values())
    assert 0.2 < np.mean([int(path.parent.name) != int(path.stem) % 3 for path in wrong.values()]) < 0.4
    assert {path.relative_to(tmp_path / "again") for path in (tmp_path / "again").glob("*/*.png")} == {
        path.relative_to(tmp_path / "wrong") for path in wrong.values()
    }


def report(folder: Path, accuracy: float, **pairs: int) -> None:
    """A point with so many samples of the pairs `image_text`, `image_speech` and `speech_text`."""
    rows = [
        {"run": column, "given": [given], "target": target, "metric": metric, "value": value, "low": value - 0.05, "high": value + 0.05}
        for column in ("commutative", "loretta")
        for given, target in (("speech", "text"), ("text", "speech"))
        for metric, value in (("accuracy", accuracy), ("perplexity", 4.0))
    ]
    presence = [{"modalities": pair.split("_"), "samples": count} for pair, count in pairs.items()]
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps({"rows": rows, "meta": {"presence": {"train": presence}}}))


@pytest.mark.figures
def test_the_curves_are_those_of_the_points(tmp_path: Path) -> None:
    report(tmp_path / "points" / "all", 0.8, image_text=900, image_speech=800)
    report(tmp_path / "points" / "pairs-10", 0.3, image_text=100, image_speech=100)
    report(tmp_path / "points" / "true-0.05", 0.9, image_text=900, image_speech=800, speech_text=40)
    printed = json.loads(run("plot.py", tmp_path / "points", tmp_path / "sweeps").splitlines()[-1])
    points = {(point["sweep"], point["x"], point["column"], point["given"]): point["accuracy"][0] for point in printed["points"]}
    assert points["pairs", 100.0, "loretta", "text"] == 0.3 and points["pairs", 800.0, "loretta", "text"] == 0.8
    assert points["true", 0.0, "loretta", "speech"] == 0.8 and points["true", 40.0, "loretta", "speech"] == 0.9
    assert "| pairs of each kind: 100 | 30.0 / 4 | - | 30.0 / 4 |" in (tmp_path / "sweeps.md").read_text()
    assert (tmp_path / "sweeps.png").stat().st_size > 5000


@pytest.mark.slow
def test_the_example_runs_and_continues(tmp_path: Path) -> None:
    command = ["sh", FOLDER / "run.sh", "--out", tmp_path, "--smoke"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    first, again = (subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PATH": path}) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert {point["sweep"] for point in json.loads(first.stdout.splitlines()[-1])["points"]} == {"pairs", "unpaired", "noise", "true"}
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
