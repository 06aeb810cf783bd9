"""Two processes train what one trains, with a model of their own or one that is sharded over them: the same losses, whatever their samples
hold; one goes on where two stopped, and back."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from test_training import make_shards, settings

from mmtool.common.errors import UsageError
from mmtool.methods import METHODS
from mmtool.training.checkpoint import list_checkpoints
from mmtool.training.distributed import Processes
from mmtool.training.pretrain import pretrain
from mmtool.training.run import open_run

pytestmark = pytest.mark.thorough
STEPS, EVERY = 8, 4
TRANSITIVE = {"warmup": 0.25, "transitive_share": 0.5, "draws": 2}
CASES = [("mixed", name) for name in METHODS] + [("apart", name) for name in METHODS if name != "loretta"]

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch.distributed as dist
import test_distributed
if "RANK" in os.environ:
    dist.init_process_group("gloo")
for job in json.loads(sys.argv[2]):
    test_distributed.train(**job)
if dist.is_initialized():
    dist.destroy_process_group()
"""


def train(
    world: str,
    method: str,
    folder: str,
    name: str,
    accumulate: int,
    stop: int = 0,
    best: int = 0,
    shard: bool = False,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Train in this process, one of two or alone; with `stop`, the last process is asked to end after so many steps; with `best`, that step
    has the best validation, and the training stops two validations later. more: settings."""
    import signal

    import torch.distributed as dist

    from mmtool.training import pretrain as stage
    from mmtool.training.trainer import Trainer

    real_parts, real_step = stage._parts, Trainer._one_step

    def parts(run, method, data, here):
        """The first part sees samples of the modality a alone, the second those without it."""
        parts = real_parts(run, method, data, here)
        for loader in parts.loaders:
            loader.members = np.array([i for i in range(len(data)) if ("a" in data.present(i)) == (loader.part == 0)])
        return parts

    def one_step(self, window):
        real_step(self, window)
        if self.step == stop and (not dist.is_initialized() or dist.get_rank() == dist.get_world_size() - 1):
            os.kill(os.getpid(), signal.SIGTERM)

    options = {**({"method_options": TRANSITIVE} if method == "loretta" else {}), **(more or {})}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmtool.training.loop.REPORT_EVERY", 1)
        patch.setattr(Trainer, "_one_step", one_step)
        if world == "apart":
            patch.setattr(stage, "_parts", parts)
        if best:
            options["patience"] = 2
            patch.setattr(stage, "_validate", lambda trainer, samples: {"a->b": 2.0 + (trainer.step != best)} if samples else {})
        steps, every = (20, 2) if best else (STEPS, EVERY)
        config = settings(method=method, steps=steps, precision="fp32", checkpoint_every=every, accumulate=accumulate, **options)
        try:
            pretrain(config, Path(folder) / world, Path(folder) / name, shard_model=shard)
        except SystemExit as stopped:
            assert stop and stopped.code == 128 + signal.SIGTERM


def launch(jobs: list[dict[str, object]], num_processes: int) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num_processes}"] if num_processes > 1 else []
    script = Path(str(jobs[0]["folder"])) / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, *launcher, str(script), str(Path(__file__).parent), json.dumps(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def losses(run: Path) -> np.ndarray:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return np.array([list(record["loss"].values()) for record in records if "loss" in record])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards mixed, of (a, b) and (b, c), and apart, of a and (b, c); runs of all cases by one process, by two and by two with a sharded
    model."""
    folder = tmp_path_factory.mktemp("distributed")
    make_shards(folder / "mixed")
    make_shards(folder / "apart", ("a", "bc"))
    together: list[dict[str, Any]] = []
    for world, method in CASES:
        job: dict[str, Any] = {"world": world, "method": method, "folder": str(folder)}
        train(**job, name=f"one-{world}-{method}", accumulate=2)
        together += [
            {**job, "name": f"{name}-{world}-{method}", "accumulate": 1, "shard": shard}
            for name, shard in (("two", False), ("sharded", True))
        ]
    launch(together, 2)
    return folder


def tensors(run: Path, file: str) -> dict[str, np.ndarray]:
    return load_file(list_checkpoints(run / "checkpoints")[-1] / file)


@pytest.mark.parametrize("together", ["two", "sharded"])
@pytest.mark.parametrize(("world", "method"), CASES)
def test_losses_are_those_of_one_process(folder: Path, world: str, method: str, together: str) -> None:
    two, one = losses(folder / f"{together}-{world}-{method}"), losses(folder / f"one-{world}-{method}")
    assert len(two) == STEPS
    np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-5)
    assert open_run(folder / f"{together}-{world}-{method}").record["batch"]["parts"] == 2


@pytest.mark.parametrize(("world", "method"), CASES)
def test_a_sharded_run_holds_what_any_other_holds(folder: Path, world: str, method: str) -> None:
    """Whole tensors of the same names, the same measures of held-out samples, networks of values, and a config that is the same."""
    one, sharded = folder / f"one-{world}-{method}", folder / f"sharded-{world}-{method}"
    for file in ("model.safetensors", "optimizer.safetensors"):
        whole = tensors(one, file)
        assert {name: tensor.shape for name, tensor in tensors(sharded, file).items()} == {name: each.shape for name, each in whole.items()}
    assert {path.name for path in sharded.iterdir()} == {path.name for path in one.iterdir()}
    assert open_run(sharded).record["config"] == {**open_run(one).record["config"], "accumulate": 1}
    measured = [
        [
            list(record["validation"].values())
            for record in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
            if "validation" in record
        ]
        for run in (one, sharded)
    ]
    np.testing.assert_allclose(measured[1], measured[0], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True])
def test_a_run_is_continued_on_another_number_of_processes(folder: Path, shard: bool) -> None:
    name = f"continued-{shard}"
    job = {"world": "mixed", "method": "loretta", "folder": str(folder), "name": name, "accumulate": 1, "shard": shard}
    for num_processes, stop in ((2, 3), (1, 6), (2, 0)):
        launch([{**job, "stop": stop}], num_processes)
        last = list_checkpoints(folder / name / "checkpoints")[-1]
        assert json.loads((last / "state.json").read_text())["step"] == (stop or STEPS)
    np.testing.assert_allclose(losses(folder / name), losses(folder / "one-mixed-loretta"), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_sharded_model_takes_an_odd_number_of_parts_and_what_else_a_training_may_do(tmp_path: Path) -> None:
    """Three parts on two processes, after one; with Muon, with blocks that are computed anew, and compiled."""
    make_shards(tmp_path / "apart", ("a", "bc"))
    job = {"world": "apart", "method": "cm3", "folder": str(tmp_path), "accumulate": 3}
    cases = {"muon": {"optimizer": "muon"}, "recompute": {"recompute": True}, "compile": {"compile": "on"}}
    jobs = [{**job, "name": f"odd-{name}", "more": more} for name, more in cases.items()]
    launch([{**each, "name": f"{each['name']}-alone"} for each in jobs] + [{**each, "stop": 6} for each in jobs], 1)
    launch([{**each, "shard": True} for each in jobs], 2)
    for name in cases:
        two, one = losses(tmp_path / f"odd-{name}"), losses(tmp_path / f"odd-{name}-alone")
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-5)
        assert open_run(tmp_path / f"odd-{name}").record["batch"]["parts"] == 3 and len(two) == STEPS


@pytest.mark.slow
@pytest.mark.parametrize("shard", [False, True])
def test_all_processes_stop_early_where_the_first_one_does(tmp_path: Path, shard: bool) -> None:
    make_shards(tmp_path / "mixed")
    job = {"world": "mixed", "method": "cm3", "folder": str(tmp_path), "name": "early", "accumulate": 1, "best": 4, "shard": shard}
    for _ in range(2):
        launch([job], 2)
        assert [path.name for path in list_checkpoints(tmp_path / "early/checkpoints")] == ["00000004", "00000006", "00000008"]


def test_more_processes_than_batches_of_a_step_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmtool.training import pretrain as stage

    real = stage._parts
    monkeypatch.setattr(stage, "_parts", lambda run, method, data, here: real(run, method, data, Processes(0, 3)))
    config = settings(method="causal", steps=STEPS, precision="fp32", checkpoint_every=EVERY, accumulate=1)
    with pytest.raises(UsageError, match=r"2 batches in a step, too few for 3"):
        pretrain(config, folder / "mixed", folder / "two-mixed-causal")
