"""Promise: a request to stop is met within seconds, however long a step takes, and costs nothing but that step."""

import hashlib
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import make_shards, same, settings, weights

from mmtool.methods import METHODS
from mmtool.training import loop
from mmtool.training.checkpoint import list_checkpoints
from mmtool.training.pretrain import pretrain
from mmtool.training.stopping import Stopped, heard_in_backward, stop_requests
from mmtool.training.trainer import Trainer


@pytest.mark.parametrize(("method", "step", "calls"), [("cm3", 0, 1), ("cm3", 6, 2), ("loretta", 7, 1), ("m3ae", 5, 2)])
def test_a_step_that_takes_long_is_abandoned_and_done_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], method: str, step: int, calls: int
) -> None:
    """In the forward pass of one of its two batches; before the first checkpoint, between two of them, and in a transitive step."""
    shards, config = make_shards(tmp_path / "shards"), settings(method=method, accumulate=2)
    pretrain(config, shards, tmp_path / "whole")
    forward, seen = Trainer._forward_loss, list[int]()

    def endless(self: Trainer, *inputs: Any) -> torch.Tensor:
        seen.append(self.step)
        if seen.count(step) == calls and step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)
            while True:
                time.sleep(0.01)
        return forward(self, *inputs)

    with monkeypatch.context() as patch:
        patch.setattr("mmtool.training.loop.GRACE_S", 0.05)
        patch.setattr(Trainer, "_forward_loss", endless)
        with pytest.raises(SystemExit) as stopped:
            pretrain(config, shards, tmp_path / "run")
    assert stopped.value.code == 128 + signal.SIGTERM and "it is abandoned" in capsys.readouterr().err
    assert list_checkpoints(tmp_path / "run/checkpoints")[-1].name == f"{step:08d}"
    pretrain(config, shards, tmp_path / "run")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def _train_with_an_endless_operation(shards: Path, run: Path, place: str) -> None:
    """In step 5, or in the validation after step 4: OpenSSL computes for hours, and Python calls no handler of a signal meanwhile."""
    forward = Trainer._forward_loss

    def endless(*_: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

    loop.GRACE_S = 0.1
    if place == "step":
        Trainer._forward_loss = lambda self, *inputs: endless() if self.step == 5 else forward(self, *inputs)  # type: ignore[method-assign]
    else:
        METHODS["cm3"].validate = endless  # type: ignore[method-assign]
    pretrain(settings(method="cm3"), shards, run)


@pytest.mark.parametrize(("place", "step"), [("step", 5), ("validation", 4)])
def test_an_operation_that_takes_long_is_left_in_its_midst(tmp_path: Path, place: str, step: int) -> None:
    shards = make_shards(tmp_path / "shards")
    process = multiprocessing.get_context("spawn").Process(
        target=_train_with_an_endless_operation, args=(shards, tmp_path / "run", place), daemon=True
    )
    process.start()
    process.join(100)
    assert process.exitcode == 128 + signal.SIGTERM
    assert list_checkpoints(tmp_path / "run/checkpoints")[-1].name == f"{step:08d}"
    assert not list(tmp_path.rglob("*partial*")), "neither a lock nor half a checkpoint is left"
    pretrain(settings(method="cm3"), shards, tmp_path / "run")
    pretrain(settings(method="cm3"), shards, tmp_path / "whole")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def test_a_step_is_not_abandoned_once_the_weights_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = make_shards(tmp_path / "shards")
    pretrain(settings(), shards, tmp_path / "whole")
    update = Trainer._update

    def slow(self: Trainer, *arguments: Any) -> None:
        if self.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
        update(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr("mmtool.training.loop.GRACE_S", 0.05)
        patch.setattr(Trainer, "_update", slow)
        with pytest.raises(SystemExit):
            pretrain(settings(), shards, tmp_path / "run")
    assert list_checkpoints(tmp_path / "run/checkpoints")[-1].name == "00000006"
    pretrain(settings(), shards, tmp_path / "run")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def test_what_is_raised_and_dropped_is_raised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python does with what is raised while it collects garbage."""
    monkeypatch.setattr("mmtool.training.stopping.AGAIN_S", 0.05)
    dropped = []

    def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            try:
                while True:
                    time.sleep(0.01)
            except Stopped:
                if dropped:
                    raise
                dropped.append(1)

    with stop_requests(1.0) as requests, pytest.raises(Stopped):
        requests.interrupting(work, 0.05)
    assert dropped


def test_a_backward_pass_can_be_left_in_its_midst() -> None:
    """While PyTorch computes, Python would handle no signal before the end; here one comes when hundreds of layers are left."""
    layers = [torch.nn.Linear(64, 64) for _ in range(300)]
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    model, asked = torch.nn.Sequential(*layers), []

    class Late(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            asked.append(signal.setitimer(signal.ITIMER_REAL, 1e-3))
            return gradient

    with stop_requests(1.0) as requests, heard_in_backward(parameters):
        output = Late.apply(model(torch.ones(4096, 64)))
        with pytest.raises(Stopped):
            requests.interrupting(output.sum().backward, 1.0)
    assert asked and layers[0].weight.grad is None, "it was left before it reached the first layer"
