"""Promise: the tutorials' commands run as printed, on the data that the page itself makes."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PAGES = Path(__file__).parents[1] / "examples/guide/pages/tutorials"
SHORT = {  # what keeps a test short; the commands are the page's otherwise
    "tokenize signal": "--set steps=20",
    "pretrain": "--steps 2 --batch-tokens 256 --no-compile --set shape.depth=1 --set shape.width=32",
    "evaluate": "--limit 6 --contact-samples 1",
}


def shortened(command: str) -> str:
    for verb, options in SHORT.items():
        command = re.sub(rf"(mmtool {verb} .*)( -o \S+)", rf"\1 {options}\2", command)
    python = shlex.quote(sys.executable)
    return command.replace("mmtool ", f"{python} -m mmtool ").replace("python make", f"{python} make")


@pytest.fixture
def sensors(tmp_path: Path) -> Path:
    """The folder in which the page's script and commands have run."""
    page = (PAGES / "sensors.md").read_text()
    (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (commands,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    (tmp_path / "make_recordings.py").write_text(script.replace("range(300)", "range(80)"))
    for command in commands.splitlines():
        done = subprocess.run(["bash", "-c", shortened(command)], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    return tmp_path


@pytest.mark.slow
def test_sensors(sensors: Path) -> None:
    imputed = sorted((sensors / "imputed").rglob("*.npz"))
    assert imputed
    with np.load(imputed[0]) as arrays:
        assert list(arrays["channels"]) == ["ecg"] and arrays["sample_rate_hz"] == 50
    assert "diary → chest" in (sensors / "report/report.md").read_text()
