"""Promise: --device and --threads hold for all that a verb computes, and for nothing after it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmtool.common.errors import UsageError
from mmtool.training import hardware
from mmtool.training.hardware import pick_device, pick_precision, using
from mmtool.training.loop import Loop
from mmtool.verbs import impute as impute_in_python

SMALL = ("--steps", 2, "--set", "checkpoint_every=0")
CALLS: dict[str, tuple[Any, ...]] = {
    "pretrain": ("shards", "--method", "cm3", "--preset", "tiny", "--no-compile", *SMALL),
    "finetune": ("run", "shards", "--label", "colour", *SMALL),
    "adapt": ("shards", "--encoder", "text=run", "--label", "colour", *SMALL),
    "impute": ("run", "shards", "--split", "test", "--have", "text", "--want", "lab"),
    "evaluate": ("run", "shards", "--limit", 8, "--task", "retrieval", "--label", "colour"),
}


@pytest.mark.parametrize("verb", CALLS)
def test_a_verb_computes_where_it_is_told(
    verb: str, mmtool: Callable[..., Any], project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it seems that there is a GPU, which every verb would take: here that ends in an error of PyTorch."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    parts = [
        project / part if part in ("run", "shards") else f"text={project / 'run'}" if part == "text=run" else part for part in CALLS[verb]
    ]
    done = mmtool(verb, *parts, "--device", "cpu", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert pick_device().type == "cuda", "it is forgotten again"
    other = mmtool(verb, *parts, "--device", "tpu", "-o", tmp_path / "other")
    assert other.code == 2 and "'tpu' is no device. Give cpu, cuda, or cuda:NUMBER" in other.err and not (tmp_path / "other").exists()


@pytest.mark.thorough
def test_threads_hold_for_the_training_and_the_processes_it_starts(
    mmtool: Callable[..., Any], project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, str | None]] = []
    real, before = Loop.train, (torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS"))

    def train(self: Loop, *arguments: Any) -> None:
        seen.append((torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")))
        real(self, *arguments)

    monkeypatch.setattr(Loop, "train", train)
    parts = [project / part if part == "shards" else part for part in CALLS["pretrain"]]
    assert mmtool("pretrain", *parts, "--threads", 3, "-o", tmp_path / "out").code == 0
    assert seen == [(3, "3")] and (torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS")) == before


def test_python_has_them_as_well(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    done = impute_in_python(project / "run", project / "shards", tmp_path / "out", split="test", have="text", want="lab", device="cpu")
    assert done.samples > 0


@pytest.mark.parametrize(
    ("name", "gpus", "said"),
    [
        ("cuda", 0, "there is no GPU that PyTorch can use"),
        ("cuda:1", 0, "there is no GPU that PyTorch can use"),
        ("cuda:2", 2, "there is no cuda:2: this machine has 2. Count from cuda:0 to cuda:1"),
        ("cuda:x", 2, "'cuda:x' is no device"),
        ("cpu:1", 2, "'cpu:1' is no device"),
        ("", 0, None),
        ("cuda", 1, None),
    ],
)
def test_a_device_that_there_is_not_is_refused(name: str, gpus: int, said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if said is None:
        with using(name):
            assert pick_device().type == ("cuda" if gpus else "cpu")
        return
    with pytest.raises(UsageError, match=said), using(name):
        pass


def test_processes_of_torchrun_take_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="each process of torchrun takes its own GPU"), using("cuda:1"):
        pass


def test_a_limit_that_was_exceeded_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([100.0, 300.0, 50.0])
    monkeypatch.setattr(hardware, "_limits", {})
    monkeypatch.setattr(hardware, "_product_rate", lambda *_: next(rates))
    reached = (0.0, 90.0, 200.0, 90.0, 400.0)
    assert [hardware.matmul_limit(torch.device("cpu"), torch.float32, flops) for flops in reached] == [100, 100, 300, 300, 300]


def test_bf16_is_not_chosen_where_onednn_may_not_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pathlib.Path.read_text", lambda path: "flags : avx2 avx512f avx512_bf16")
    chosen = {}
    for isa in ("", "avx2", "AVX512_CORE_BF16"):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", isa)
        chosen[isa] = pick_precision("auto", torch.device("cpu"))
    assert chosen == {"": torch.bfloat16, "avx2": torch.float32, "AVX512_CORE_BF16": torch.bfloat16}
