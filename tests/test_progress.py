"""Promise: long work says at its start what it sets out to do, and how far it is: on a terminal of any width, and in a log."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
from test_training import make_shards, settings

from mmtool.training.pretrain import pretrain
from mmtool.training.progress import LiveLine

SHOWN = """
from mmtool.common.log import log
from mmtool.training.progress import LiveLine

log("method: loretta, because audio and text never occur together, but image links them (--method names another)")
line = LiveLine()
line.show(0, 0.0, None)
line.show(20, 0.5, 61.0, {"tokens_per_s": 1234.0, "hardware_share": 0.5, "loss": {"image": 1.5, "text": 2.25, "audio": 3.125}})
line.hide()
line.end()
"""


def on_terminal(columns: int) -> str:
    """What the script shows on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
    for name in ("COLUMNS", "LINES"):
        environment.pop(name, None)
    process = subprocess.Popen([sys.executable, "-c", SHOWN], stderr=theirs, stdout=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not data:
            break
        shown += data
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_terminal_of_any_width_shows_whole_words_and_one_line_of_progress(columns: int) -> None:
    shown = on_terminal(columns)
    lines = [line.split("\x1b")[0].rstrip() for part in shown.split("\n") for line in part.split("\r")]
    assert all(len(line) <= columns for line in lines), lines
    message = " ".join(line.strip() for line in shown.replace("\r", "").split("\n")[: 1 + 110 // columns])
    assert message.startswith("method: loretta, because audio and text never occur together, but image links")
    assert "step 20" in shown and "50%" in shown and "1:01 left" in shown and "-:-- left" in shown
    assert ("audio 3.125" in shown.split("step 20")[1]) or columns < 120


def test_a_log_gets_a_line_by_time_and_says_at_once_what_begins(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("mmtool.training.progress.PLAIN_EVERY_S", -1.0)
    pretrain(settings(steps=4), make_shards(tmp_path / "shards"), tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    (begun,) = (number for number, line in enumerate(lines) if line.startswith("training "))
    assert "parameters on the CPU (" in lines[begun] and "to step 4, into " in lines[begun]
    assert [line.split(" | ")[:2] for line in lines[begun + 1 :] if line.startswith("step ")][:2] == [["step 0", "0%"], ["step 1", "25%"]]


def test_losses_are_those_of_the_last_report(capsys, monkeypatch) -> None:
    monkeypatch.setattr("mmtool.training.progress.PLAIN_EVERY_S", -1.0)
    line = LiveLine()
    line.show(1, 0.1, None)
    line.show(2, 0.1, 9.0)
    line.show(20, 0.2, 3700.0, {"samples_per_s": 5.0, "loss": {"task": 0.5}})
    line.show(21, 0.21, 59.0)
    first, between, second, third = capsys.readouterr().err.splitlines()
    assert first == "step 1 | 10% | -:-- left | the first step prepares what the others use"
    assert between == "step 2 | 10% | 0:09 left | no loss reported yet"
    assert second == "step 20 | 20% | 1:01:40 left | 5 samples/s | loss task 0.500" and third.endswith(
        "0:59 left | 5 samples/s | loss task 0.500"
    )


def test_the_summary_tells_the_loss_of_the_shortest_training(mmtool, tmp_path) -> None:
    command = ["pretrain", make_shards(tmp_path / "shards"), "--steps", 3, "--set", "shape.depth=1", "--set", "shape.width=32"]
    command += ["--method", "cm3", "--batch-tokens", 512, "--no-compile", "-o", tmp_path / "run"]
    done, again = mmtool(*command), mmtool(*command)
    last = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[0])
    said = ", training loss" + "".join(f" {name} {value:.3f}" for name, value in last["loss"].items())
    assert last["step"] == 3 and done.err.splitlines()[-1].endswith(said)
    assert again.err.splitlines()[-1].endswith(said), "also where there is nothing left to do"


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full"])
def test_work_goes_on_where_nothing_can_be_said(closed: str) -> None:
    code = "from mmtool.common.log import log, track; log('unheard'); print(sum(track(range(3), 'counting')))"
    done = subprocess.run(["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, code], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (0, "3\n")
