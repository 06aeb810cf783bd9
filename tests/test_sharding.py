"""A sharded model in one process, quickly; with several processes see test_distributed.py."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors.numpy import load_file
from test_memory import begun, rehearsed
from test_training import make_shards, same, settings, weights
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from mmtool.common.errors import UsageError
from mmtool.data.shards import open_token_set
from mmtool.training import memory
from mmtool.training import pretrain as stage
from mmtool.training.checkpoint import list_checkpoints
from mmtool.training.distributed import Processes, part_like, whole
from mmtool.training.memory import check_pretraining
from mmtool.training.pretrain import pretrain
from mmtool.training.run import open_run
from mmtool.training.sharding import ShardedTrainer

LORETTA = {"method": "loretta", "method_options": {"warmup": 0.25, "transitive_share": 0.5, "draws": 2}}


@pytest.fixture
def group() -> Iterator[None]:
    """A group of one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def sharded(group: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings that shard their model over that one process."""
    monkeypatch.setattr(stage, "processes", lambda shard_model: contextlib.nullcontext(Processes(0, 1, True)))


@pytest.mark.parametrize("options", [LORETTA, {"method": "m3ae"}, {"method": "cm3", "optimizer": "muon", "accumulate": 2}])
def test_a_sharded_training_is_the_same_training(tmp_path: Path, request: pytest.FixtureRequest, options: dict[str, object]) -> None:
    """It is continued in the midst, leaves the files of any other, and its config says nothing of it."""
    config, shards = settings(**options, precision="fp32", value_epochs=2), make_shards(tmp_path / "shards")
    pretrain(config, shards, tmp_path / "plain")
    request.getfixturevalue("sharded")
    step = ShardedTrainer._one_step
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ShardedTrainer, "_one_step", lambda self, *rest: step(self, *rest) if self.step < 6 else interrupt())
        pretrain(config, shards, tmp_path / "run")
    assert list_checkpoints(tmp_path / "run/checkpoints")[-1].name == "00000004"
    pretrain(config, shards, tmp_path / "run")
    assert same_record(tmp_path / "run", tmp_path / "plain")
    for file in ("model.safetensors", "optimizer.safetensors"):
        mine, other = (load_file(list_checkpoints(tmp_path / run / "checkpoints")[-1] / file) for run in ("run", "plain"))
        assert {*mine} == {*other}
        for name, tensor in other.items():
            np.testing.assert_allclose(mine[name], tensor, atol=1e-5, err_msg=name)
    values = [
        load_file(tmp_path / run / "values.safetensors") for run in ("run", "plain") if (tmp_path / run / "values.safetensors").exists()
    ]
    assert all({*each} == {*values[0]} for each in values)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {path.name for path in (tmp_path / "plain").iterdir()}


def interrupt() -> None:
    raise KeyboardInterrupt


def same_record(run: Path, other: Path) -> bool:
    return {**open_run(run).record, "sha256": ""} == {**open_run(other).record, "sha256": ""}


@pytest.mark.usefixtures("sharded")
def test_a_sharded_training_begins_with_the_weights_of_a_run(tmp_path: Path) -> None:
    shards = make_shards(tmp_path / "shards")
    pretrain(settings(), shards, tmp_path / "first")
    pretrain(settings(steps=1, learning_rate=1e-9), shards, tmp_path / "second", init_from=tmp_path / "first")
    old, new = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert all(np.allclose(new[name], tensor, atol=1e-6) for name, tensor in old.items())


def test_one_process_keeps_the_whole_model_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = make_shards(tmp_path / "shards")
    pretrain(settings(), shards, tmp_path / "plain")
    pretrain(settings(), shards, tmp_path / "run", shard_model=True)
    assert "--shard-model: one process keeps the whole model" in capsys.readouterr().err
    pretrain(settings(), shards, tmp_path / "run")
    assert "trained to the end already" in capsys.readouterr().err
    assert same(weights(tmp_path / "plain"), weights(tmp_path / "run"))


@pytest.mark.usefixtures("group")
def test_a_part_is_that_of_the_sharded_tensor() -> None:
    mesh, tensor = init_device_mesh("cpu", (1,)), torch.arange(15.0).view(5, 3)
    sharded = distribute_tensor(torch.zeros(5, 3), mesh, [Shard(0)])
    part = part_like(tensor, sharded)
    assert isinstance(part, DTensor) and part.placements == sharded.placements and torch.equal(whole(part), tensor)
    assert part_like(tensor, tensor) is tensor and whole(tensor) is tensor


def test_what_a_sharded_step_needs_falls_with_the_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = make_shards(tmp_path / "shards")
    run = begun(shards, tmp_path / "run", "cm3")
    found, samples = rehearsed(run, shards), [open_token_set(shards, split="train")[i] for i in range(8)]
    on_a_gpu = [found.sharded_bytes(number, whole=False, saved=False) for number in (1, 2, 8)]
    assert on_a_gpu[0] > on_a_gpu[1] > on_a_gpu[2] > 2 * found.gathered_bytes
    assert found.sharded_bytes(8, whole=False, saved=True) >= 2 * found.trained_bytes, "moments are collected to be saved"
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1)
    with pytest.raises(UsageError, match="--shard-model"):
        check_pretraining(run, samples, Processes(0, 2))
    with pytest.raises(UsageError) as refused:
        check_pretraining(run, samples, Processes(0, 2, True))
    assert "--shard-model" not in str(refused.value)
    monkeypatch.setattr(memory, "available_bytes", lambda device: int(1.3 * found.sharded_bytes(8, whole=True, saved=True)))
    check_pretraining(run, samples, Processes(0, 8, True))
