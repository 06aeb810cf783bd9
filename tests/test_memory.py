"""Promise: a training that cannot fit into memory is refused before its first step, and one that fits is not."""

import dataclasses
from pathlib import Path

import pytest
import torch
from test_training import CLASSES, make_shards, settings

from mmtool.common.cgroups import memory_left
from mmtool.common.errors import UsageError
from mmtool.data.shards import open_token_set
from mmtool.training import memory
from mmtool.training.config import FinetuneConfig, check_as
from mmtool.training.finetune import finetune
from mmtool.training.memory import Rehearsal, available_bytes, bound_bytes, rehearse_finetuning, rehearse_pretraining
from mmtool.training.pretrain import pretrain
from mmtool.training.run import Run, open_run

CPU = torch.device("cpu")
METHODS = ("cm3", "causal", "masked", "contrastive", "loretta", "m3ae")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("memory") / "shards")


def begun(shards: Path, output: Path, method: str) -> Run:
    pretrain(settings(method=method, steps=1, validation_samples=0, value_epochs=0), shards, output)
    return open_run(output)


def rehearsed(run: Run, shards: Path) -> Rehearsal:
    train = open_token_set(shards, split="train")
    return rehearse_pretraining(run, [train[i] for i in range(8)], CPU)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_rehearsed_is_what_a_step_holds(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    run = begun(shards, tmp_path / "run", method)
    found = rehearsed(run, shards)
    monkeypatch.setattr(memory, "FakeTensorMode", lambda allow_non_fake_inputs: torch.enable_grad())
    assert found == rehearsed(run, shards), "with real tensors"
    assert found.weights_bytes == 4 * run.model(CPU).num_parameters()
    assert found.training_bytes(1) < bound_bytes(run, run.record["batch"], CPU), "so that a run is not taken to be smaller than it is"
    assert found.training_bytes(2) > found.training_bytes(1), "gradients of earlier batches are kept"


@pytest.mark.parametrize("method", ["cm3", "contrastive", "m3ae"])
def test_so_it_is_in_finetuning(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    begun(shards, tmp_path / "run", method)
    config = check_as(FinetuneConfig, {"label": "class", "steps": 1, "batch_samples": 8})
    finetune(config, tmp_path / "run", shards, tmp_path / "tuned")
    run, train = open_run(tmp_path / "tuned"), open_token_set(shards, split="train")
    samples = [train[i] for i in range(8)]
    found = rehearse_finetuning(run, config, samples, CPU)
    frozen = rehearse_finetuning(run, dataclasses.replace(config, layer_decay=0.0), samples, CPU)
    assert frozen.trained_bytes == 4 * CLASSES * (32 + 1) < found.trained_bytes and frozen.peak_bytes < found.peak_bytes
    with monkeypatch.context() as patch:
        patch.setattr(memory, "FakeTensorMode", lambda allow_non_fake_inputs: torch.enable_grad())
        assert found == rehearse_finetuning(run, config, samples, CPU), "with real tensors"
    assert found.training_bytes(1) < bound_bytes(run, {"rows": 8, "length": 12, "capacity": [0] * 3}, CPU)
    monkeypatch.setattr(memory, "available_bytes", lambda device: found.training_bytes(1) // 2)
    with pytest.raises(UsageError, match=r"which reads 8 x 12 tokens at once.*Give fewer --batch-samples"):
        finetune(config, tmp_path / "run", shards, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_training_that_does_not_fit_is_refused_and_leaves_nothing(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begun(shards, tmp_path / "run", "cm3")
    needed = memory.OVERHEAD * rehearsed(run, shards).training_bytes(1)
    monkeypatch.setattr(memory, "available_bytes", lambda device: int(needed / 1.3))
    sizes = r"[\d,]+ parameters, which reads 16 x 32 tokens"
    said = rf"a, up to 5 tokens in a sample: a step needs about .* GiB .*{sizes}.*--batch-tokens.*recompute"
    with pytest.raises(UsageError, match=said):
        pretrain(settings(), shards, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    with pytest.raises(UsageError, match="a step needs about"):
        pretrain(settings(steps=2, validation_samples=0, value_epochs=0, method="cm3"), shards, tmp_path / "run")
    assert open_run(tmp_path / "run").config.steps == 1, "nor does a run go on that cannot"


@pytest.mark.parametrize("method", ["cm3", "m3ae"])
def test_rows_that_are_longer_than_samples_are_named(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1 << 20)
    with pytest.raises(UsageError, match=r"which reads 1 x 4,096 tokens at once\)\. Leave --row-length out"):
        pretrain(settings(method=method, row_length=4096), shards, tmp_path / "run")
    with pytest.raises(UsageError, match="a step needs about") as error:
        pretrain(settings(method=method), shards, tmp_path / "run")
    assert "--row-length" not in str(error.value)


@pytest.mark.parametrize(("share", "warned"), [(0.9, True), (1.1, False)])
def test_a_training_that_may_fit_begins(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], share: float, warned: bool
) -> None:
    needed = memory.OVERHEAD * rehearsed(begun(shards, tmp_path / "run", "cm3"), shards).training_bytes(1)
    monkeypatch.setattr(memory, "available_bytes", lambda device: int(share * needed))
    assert pretrain(settings(steps=1, validation_samples=0, value_epochs=0), shards, tmp_path / "other").steps == 1
    assert ("warning: a, up to 5 tokens" in capsys.readouterr().err) == warned


def test_limits_of_control_groups_count(tmp_path: Path) -> None:
    membership = tmp_path / "membership"
    two, one = ("memory.max", "memory.current", "inactive_file"), ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    for version, line, folder, names in (
        (2, "0::/job/task\n", tmp_path / "two" / "job", two),
        (1, "4:memory:/job/task\n", tmp_path / "one" / "memory" / "job", one),
    ):
        mounted = tmp_path / ("two" if version == 2 else "one")
        (folder / "task").mkdir(parents=True)
        membership.write_text(line)
        assert memory_left(mounted, membership) is None, "there is no limit"
        limit, used, cached = names
        (folder / limit).write_text("1000\n")
        (folder / used).write_text("700\n")
        (folder / "memory.stat").write_text(f"anon 600\n{cached} 50\n")
        assert memory_left(mounted, membership) == 350, "of the group above, in which files are cached"
    (tmp_path / "two" / "job" / "memory.max").write_text("max\n")
    membership.write_text("0::/job/task\n")
    assert memory_left(tmp_path / "two", membership) is None


def test_the_least_of_what_limits_a_process_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_free", lambda: 8000)
    monkeypatch.setattr(memory, "memory_left", lambda: 6000)
    monkeypatch.setattr(memory, "_address_space", lambda: None)
    assert available_bytes(CPU) == 6000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert available_bytes(CPU) == 2000, "processes of a training share it"
    monkeypatch.setattr(memory, "_address_space", lambda: 1500)
    assert available_bytes(CPU) == 1500


def test_the_address_space_that_is_left_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1 << 50, 1 << 50))
    left = memory._address_space()
    assert left is not None and (1 << 49) < left < (1 << 50), "without what is used"
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    assert memory._address_space() is None
