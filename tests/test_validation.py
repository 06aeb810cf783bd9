"""Validation comes after the checkpoint, is left at once when the training is asked to stop, and is written once wherever it died."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_finetune import base, tuning  # noqa: F401  # a fixture
from test_training import make_shards, same, settings, weights

from mmtool.training import finetuner, loop
from mmtool.training import pretrain as stage
from mmtool.training.checkpoint import list_checkpoints
from mmtool.training.finetune import finetune
from mmtool.training.finetuner import Finetuner
from mmtool.training.metrics import MetricsLog
from mmtool.training.pretrain import pretrain
from mmtool.training.run import open_run


class Killed(BaseException):
    """Stands for a kill: nothing may catch it and go on."""


def validations(run: Path) -> dict[int, list[dict[str, float]]]:
    """Records of validations by their step."""
    found: dict[int, list[dict[str, float]]] = {}
    log = run / "metrics.jsonl"
    for line in log.read_text().splitlines() if log.exists() else ():
        record = json.loads(line)
        if "validation" in record:
            found.setdefault(record["step"], []).append(record["validation"])
    return found


def test_the_checkpoint_is_there_before_the_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = stage._validate, []

    def looking(trainer, samples):
        seen.append((trainer.step, list_checkpoints(tmp_path / "run/checkpoints")[-1].name))
        return real(trainer, samples)

    monkeypatch.setattr(stage, "_validate", looking)
    pretrain(settings(), make_shards(tmp_path / "shards"), tmp_path / "run")
    assert seen == [(step, f"{step:08d}") for step in (4, 8, 12)]


@pytest.mark.parametrize("method", ["cm3", "loretta"])
@pytest.mark.parametrize(("place", "name"), [(stage, "_validate"), (MetricsLog, "append"), (loop, "amend_checkpoint")])
def test_a_kill_around_the_validation_neither_loses_nor_doubles_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, place: object, name: str
) -> None:
    shards = make_shards(tmp_path / "shards")
    summary = pretrain(settings(method=method), shards, tmp_path / "whole")
    real, deaths = getattr(place, name), []

    def dying(*arguments):
        if name == "append" and "validation" not in arguments[1]:
            return real(*arguments)
        if len(deaths) < 3 and (not deaths or deaths[-1] != steps()):
            deaths.append(steps())
            raise Killed
        return real(*arguments)

    def steps() -> str:
        return list_checkpoints(tmp_path / "killed/checkpoints")[-1].name

    monkeypatch.setattr(place, name, dying)
    for _ in range(3):
        with pytest.raises(Killed):
            pretrain(settings(method=method), shards, tmp_path / "killed")
    done = pretrain(settings(method=method), shards, tmp_path / "killed")
    assert deaths == ["00000004", "00000008", "00000012"]
    assert validations(tmp_path / "killed") == validations(tmp_path / "whole") and list(validations(tmp_path / "whole")) == [4, 8, 12]
    assert all(len(records) == 1 for records in validations(tmp_path / "killed").values())
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed")) and done.validation == summary.validation
    again = pretrain(settings(method=method), shards, tmp_path / "killed")
    assert again.validation == summary.validation and validations(tmp_path / "killed") == validations(tmp_path / "whole")


def test_a_checkpoint_on_request_has_no_validation_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = make_shards(tmp_path / "shards")
    step = loop.Loop._train

    def asked(self, *arguments):
        real = self._one_step

        def one_step(window):
            real(window)
            if self.step == 6:
                os.kill(os.getpid(), signal.SIGINT)

        self._one_step = one_step
        step(self, *arguments)

    monkeypatch.setattr(loop.Loop, "_train", asked)
    with pytest.raises(KeyboardInterrupt):
        pretrain(settings(), shards, tmp_path / "run")
    assert list_checkpoints(tmp_path / "run/checkpoints")[-1].name == "00000006"
    monkeypatch.setattr(loop.Loop, "_train", step)
    pretrain(settings(), shards, tmp_path / "run")
    assert list(validations(tmp_path / "run")) == [4, 8, 12]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 128 + signal.SIGTERM), pytest.param(signal.SIGINT, -signal.SIGINT, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("at", [4, pytest.param(12, marks=pytest.mark.slow)])
def test_a_request_ends_a_long_validation_at_once(tmp_path: Path, number: int, code: int, at: int) -> None:
    shards = make_shards(tmp_path / "shards")
    command = [sys.executable, "-c", SLOW_SCRIPT, str(shards), str(tmp_path / "run"), str(Path(__file__).parent), str(at)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "validating\n"
        asked = time.monotonic()
        process.send_signal(number)
        _, said = process.communicate(timeout=400)
    assert time.monotonic() - asked < 300, "the validation would have taken ten minutes"
    assert process.returncode == code, said
    assert "the same command continues" in said and "leaving the validation" in said
    assert list_checkpoints(tmp_path / "run/checkpoints")[-1].name == f"{at:08d}"
    assert list(validations(tmp_path / "run")) == [step for step in (4, 8) if step < at]
    pretrain(settings(), shards, tmp_path / "run")
    pretrain(settings(), shards, tmp_path / "whole")
    assert same(weights(tmp_path / "run"), weights(tmp_path / "whole"))
    assert validations(tmp_path / "run") == validations(tmp_path / "whole")


SLOW_SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_training import settings
from mmtool.training import pretrain as stage
real, at = stage._validate, int(sys.argv[4])
def slow(trainer, samples):
    if trainer.step == at:
        print("validating", flush=True)
        time.sleep(600)
    return real(trainer, samples)
stage._validate = slow
stage.pretrain(settings(), Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("name", ["validate", "_update_early_stopping", "amend"])
def test_finetuning_that_was_killed_around_a_validation_keeps_the_same_best_step(
    base: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    accuracies, steps = {5: 0.5, 10: 0.9, 15: 0.7}, []

    def scripted(target, outputs, samples):
        return {"loss": 1.0, "accuracy": accuracies.get(steps[-1], 0.1)}

    real_validate, real_judge, real_amend, deaths = Finetuner.validate, Finetuner._update_early_stopping, loop.amend_checkpoint, []

    def die(step: int) -> None:
        if alive and step not in deaths:
            deaths.append(step)
            raise Killed

    def validate(self):
        steps.append(self.step)
        if name == "validate":
            die(self.step)
        return real_validate(self)

    def judge(self, measured):
        if name == "_update_early_stopping":
            die(self.step)
        real_judge(self, measured)

    def amend(folder, state):
        if name == "amend":
            die(state["step"])
        real_amend(folder, state)

    monkeypatch.setattr(finetuner, "scores", scripted)
    monkeypatch.setattr(Finetuner, "validate", validate)
    monkeypatch.setattr(Finetuner, "_update_early_stopping", judge)
    monkeypatch.setattr(loop, "amend_checkpoint", amend)
    config = tuning(checkpoint_every=5, patience=3, steps=100, keep=1)
    alive = False
    whole = finetune(config, base / "cm3", base / "shards", tmp_path / "whole")
    alive = True
    while True:
        try:
            killed = finetune(config, base / "cm3", base / "shards", tmp_path / "killed")
            break
        except Killed:
            continue
    assert deaths == [5, 10, 15, 20, 25]
    assert (killed.steps, killed.best_step) == (whole.steps, whole.best_step) == (25, 10)
    runs = [open_run(tmp_path / each) for each in ("whole", "killed")]
    assert [run.checkpoint().path.name for run in runs] == ["00000010"] * 2
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    listed = [[path.name for path in list_checkpoints(run.checkpoints)] for run in runs]
    assert listed == [["00000010", "00000025"]] * 2
    assert validations(tmp_path / "whole") == validations(tmp_path / "killed")
    again = finetune(config, base / "cm3", base / "shards", tmp_path / "killed")
    assert (again.steps, again.best_step) == (25, 10)
