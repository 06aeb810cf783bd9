"""Trainings side by side: each in its own process, what they say passed on, and all of them ended in order."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from test_training import make_shards, settings

from mmtool.common.errors import DataError, UsageError
from mmtool.comparison.grid import compare
from mmtool.evaluation.config import EvaluationConfig
from mmtool.training.checkpoint import newest_checkpoint
from mmtool.training.pretrain import pretrain
from mmtool.training.side_by_side import train_all


def note(folder: Path, name: str, other: str) -> None:
    """Leave a mark, and wait for that of the other: only two at once come to an end."""
    (folder / name).write_text(f"{os.getpid()} {torch.get_num_threads()}")
    print(f"{name} is here", file=sys.stderr)
    wait_for((folder / other).exists)


def refuse() -> None:
    raise UsageError("this makes no sense.", where="here", fix="Do something else.")


def vanish() -> None:
    print("about to vanish", file=sys.stderr)
    os._exit(9)


@pytest.mark.slow
def test_two_at_once_share_the_cores_and_say_who_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = {"first": "second", "second": "first"}
    train_all({name: partial(note, tmp_path, name, other) for name, other in names.items()}, jobs=2)
    marks = [tuple(map(int, (tmp_path / name).read_text().split())) for name in names]
    assert len({os.getpid(), *(pid for pid, _ in marks)}) == 3
    assert {threads for _, threads in marks} == {max(1, torch.get_num_threads() // 2)}
    said = capsys.readouterr().err
    assert "first: first is here\n" in said and "second: trained in 0." in said


@pytest.mark.slow
@pytest.mark.thorough
def test_who_no_longer_listens_does_not_keep_trainings_from_being_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(message: str) -> None:
        if "is here" in message or "stopped" in message:
            raise BrokenPipeError

    monkeypatch.setattr("mmtool.training.side_by_side.log", broken)
    waiting = {name: partial(note, tmp_path, name, "nobody") for name in ("first", "second")}
    with pytest.raises(BrokenPipeError):
        train_all(waiting, jobs=2)
    assert not multiprocessing.active_children()


def test_one_at_a_time_stays_in_the_process(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    train_all({"a": partial(note, tmp_path, "a", "b"), "b": partial(note, tmp_path, "b", "a")})
    assert (tmp_path / "b").read_text().split()[0] == str(os.getpid())


@pytest.mark.slow
def test_an_error_is_that_of_the_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^here: this makes no sense\. Do something else\.$") as caught:
        train_all({"bad": refuse, "good": partial(note, tmp_path, "good", "good")}, jobs=2)
    assert caught.value.exit_code == 2
    with pytest.raises(DataError, match=r"gone: its process ended with exit code 9 \(about to vanish\)"):
        train_all({"gone": vanish, "good": partial(note, tmp_path, "good", "good")}, jobs=2)


@pytest.mark.slow
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_to_the_parent_lets_all_save(tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    shards = make_shards(tmp_path / "shards")
    endless = settings(method="causal", steps=10**6, checkpoint_every=0)
    runs = [tmp_path / "a", tmp_path / "b"]

    def stop_when_training() -> None:
        with suppress(AssertionError):
            wait_for(lambda: all((run / "metrics.jsonl").exists() for run in runs))
        os.kill(os.getpid(), number)

    threading.Thread(target=stop_when_training, daemon=True).start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit):
        train_all({run.name: partial(pretrain, endless, shards, run) for run in runs}, jobs=2)
    assert signal.getsignal(signal.SIGTERM) is before
    assert all(newest_checkpoint(run / "checkpoints") is not None for run in runs)
    said = capsys.readouterr().err
    assert all(f"{run.name}: stopped at step" in said for run in runs)


@pytest.mark.slow
def test_a_training_outlives_its_parent_long_enough_to_save(tmp_path: Path) -> None:
    shards, run = make_shards(tmp_path / "shards"), tmp_path / "run"
    code = f"""
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_training import settings
from mmtool.training.pretrain import pretrain
from mmtool.training.side_by_side import train_all
if __name__ == "__main__":
    endless = settings(method="causal", steps=10**6, checkpoint_every=0)
    folder, shards = Path({str(tmp_path)!r}), Path({str(shards)!r})
    train_all({{name: partial(pretrain, endless, shards, folder / name) for name in ("run", "other")}}, jobs=2)
"""
    (tmp_path / "parent.py").write_text(code)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: (run / "metrics.jsonl").exists() and (tmp_path / "other" / "metrics.jsonl").exists())
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: newest_checkpoint(run / "checkpoints") is not None)


def wait_for(arrived: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 120
    while not arrived():
        assert time.monotonic() < give_up
        time.sleep(0.05)


@pytest.mark.slow
def test_a_grid_side_by_side_is_the_grid(tmp_path: Path) -> None:
    shards, config = make_shards(tmp_path / "shards"), EvaluationConfig(label="class", contact_samples=0)
    variants = {method: settings(method=method, steps=4, checkpoint_every=0) for method in ("causal", "contrastive", "commutative")}
    one, two = (compare(variants, [0], shards, tmp_path / str(jobs), config, jobs=jobs) for jobs in (1, 2))
    assert [path.relative_to(tmp_path / "1") for path in one.runs] == [path.relative_to(tmp_path / "2") for path in two.runs]
    assert [(row["run"], row["metric"], row["n"]) for row in one.results] == [(row["run"], row["metric"], row["n"]) for row in two.results]
    assert [row["value"] for row in one.results] == pytest.approx([row["value"] for row in two.results], rel=0.02, abs=0.05)
