"""Promises of a GPU: what it trains, draws and measures is what a CPU does, up to rounding; recorded steps draw what others do."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_golden import rows
from test_training import CLASSES, make_shards, same, sample, settings, weights

from mmtool.data.layout import layout_of
from mmtool.data.sample import Modality
from mmtool.data.sequence import segment
from mmtool.imputation.imputer import Imputer
from mmtool.imputation.sampling_params import SamplingParams
from mmtool.methods import METHODS
from mmtool.model.attention import attend, explicit_attention
from mmtool.model.decode import generate
from mmtool.model.masks import attention_mask, block_mask
from mmtool.model.repeated import Repeated
from mmtool.model.sampling import Sampling
from mmtool.model.transformer import Shape, Transformer
from mmtool.training.pretrain import pretrain

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]
LIKELIEST = SamplingParams(temperature=0)  # random numbers of a GPU are others
OPTIONS = {
    "loretta": {"warmup": 0.25, "transitive_share": 0.5, "draws": 1, "temperature": 0.0},
    "masked": {"confidence_noise": 0.0},
    "m3ae": {"confidence_noise": 0.0},
}


def train(device: str, method: str, shards: Path, run: Path, **options: object) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmtool.training.pretrain.pick_device", lambda: torch.device(device))
        patch.setattr("mmtool.training.loop.REPORT_EVERY", 1)
        common = {"method": method, "method_options": OPTIONS.get(method, {}), "steps": 8, "precision": "fp32"}
        pretrain(settings(**common, **options), shards, run)


def losses(run: Path) -> np.ndarray:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return np.array([list(record["loss"].values()) for record in records if "loss" in record])


@pytest.fixture(scope="module", params=METHODS)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A method, and a folder that holds shards of (a, b) and (b, c) and a run on a CPU and on a GPU."""
    folder = tmp_path_factory.mktemp(request.param)
    make_shards(folder / "shards")
    for device in ("cpu", "cuda"):
        train(device, request.param, folder / "shards", folder / device)
    return request.param, folder


def test_losses_of_a_training(world: tuple[str, Path]) -> None:
    _, folder = world
    np.testing.assert_allclose(losses(folder / "cuda"), losses(folder / "cpu"), rtol=1e-3)


def test_a_compiled_step_with_long_rows(world: tuple[str, Path], tmp_path: Path) -> None:
    method, folder = world
    rows = {"row_length": 512, "batch_tokens": 1024, "checkpoint_every": 0}
    for device, compiled in (("cpu", "off"), ("cuda", "on")):
        train(device, method, folder / "shards", tmp_path / device, compile=compiled, **rows)
    np.testing.assert_allclose(losses(tmp_path / "cuda"), losses(tmp_path / "cpu"), rtol=2e-3)


def test_resumed_it_ends_with_the_same_bits(world: tuple[str, Path], tmp_path: Path) -> None:
    method, folder = world
    run = shutil.copytree(folder / "cuda", tmp_path / "run")
    shutil.rmtree(run / "checkpoints/00000008")
    train("cuda", method, folder / "shards", run)
    assert same(weights(run), weights(folder / "cuda"))


def test_what_is_imputed_scored_and_represented(world: tuple[str, Path]) -> None:
    _, folder = world
    samples = [sample(f"v-{i}", i % CLASSES, "ab", "validation") for i in range(20)]
    runs = [Imputer.open(folder / "cpu", device=device) for device in ("cpu", "cuda")]
    ours, theirs = ([(each.tokens[0], each.log_likelihood) for each in run.impute(samples, ["a"], "c", params=LIKELIEST)] for run in runs)
    for (codes, log_p), (same_codes, same_log_p) in zip(ours, theirs, strict=True):
        assert (codes == same_codes).all() and log_p == pytest.approx(same_log_p, abs=1e-3)
    np.testing.assert_allclose(runs[0].features(samples, ["a"]), runs[1].features(samples, ["a"]), atol=1e-4)
    if runs[0].can_score("b"):
        np.testing.assert_allclose(*(run.score(samples, ["a"], "b") for run in runs), rtol=1e-3)


def test_a_report(world: tuple[str, Path], tmp_path: Path, mmtool, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder = world
    for device in ("cpu", "cuda"):
        monkeypatch.setattr("mmtool.imputation.imputer.pick_device", lambda device=device: torch.device(device))
        tasks = ("--task", "impute", "--task", "retrieval", "--limit", 16, "--temperature", 0)
        done = mmtool("evaluate", folder / "cpu", folder / "shards/validation", "--label", "class", *tasks, "-o", tmp_path / device)
        assert done.code == 0, done.err
    for (*what, value), (*same_what, same_value) in zip(rows(tmp_path / "cpu"), rows(tmp_path / "cuda"), strict=True):
        assert what == same_what and math.isclose(value or 0, same_value or 0, rel_tol=1e-2, abs_tol=1e-2), what


@pytest.mark.parametrize("view", ["past", "document", "segment"])
def test_attention_by_blocks(view: str) -> None:
    torch.manual_seed(0)
    document, modality = ((torch.rand(2, 640, device="cuda") < share).cumsum(1) for share in (0.02, 0.1))
    q, k, v = (torch.randn(2, 3, 640, 32, device="cuda", requires_grad=True) for _ in range(3))
    mixed = torch.compile(attend, dynamic=False)(q, k, v, block_mask(document, modality, view))
    expected = explicit_attention(q, k, v, attention_mask(document, modality, view))
    torch.testing.assert_close(mixed, expected, atol=1e-4, rtol=1e-4)
    toward = torch.randn_like(mixed)
    for gradient, other in zip(*(torch.autograd.grad(out, (q, k, v), toward) for out in (mixed, expected)), strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("guidance", [0.0, 1.0])
def test_recorded_steps_draw_what_others_draw(guidance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = layout_of([Modality("a", "text", 9, None, "line", "0" * 64, 40), Modality("b", "text", 30, None, "line", "1" * 64, 150)])
    with torch.device("cuda"):
        model = Transformer(Shape(depth=2, width=64), layout)
    model.init_weights(torch.Generator("cuda").manual_seed(0))
    prompts = [segment(layout, 0, np.arange(i % 40) % 9) for i in range(64)]

    def drawn() -> tuple[list[list[int]], np.ndarray]:
        generator = torch.Generator("cuda").manual_seed(1)
        generated = [generate(model, prompts, 1, sampling=Sampling(guidance=guidance), generator=generator) for _ in range(2)]
        return [codes.tolist() for each in generated for codes in each.codes], generated[1].log_likelihood

    recorded = drawn()
    monkeypatch.setattr(Repeated, "__call__", lambda self: self._step())
    codes, log_likelihood = drawn()
    assert recorded[0] == codes and len(set(map(len, codes))) > 20
    np.testing.assert_allclose(recorded[1], log_likelihood, rtol=1e-4)


def test_recordings_share_their_memory() -> None:
    """Each with memory of its own, the recordings of a long training would fill the card."""
    generator = torch.Generator("cuda").manual_seed(0)
    total = torch.zeros(1, device="cuda")

    def step() -> None:
        total.add_(torch.rand(4_000_000, generator=generator, device="cuda").mean())

    reserved = []
    for _ in range(12):
        repeated = Repeated(step, generator)
        for _ in range(3):
            repeated()
        reserved.append(torch.cuda.memory_reserved())
    assert reserved[-1] == reserved[2]
    assert 0.45 * 36 < float(total) < 0.55 * 36
