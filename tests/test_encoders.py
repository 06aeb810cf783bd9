"""Promises of encoders from runs: prompts only read, tuning starts at the frozen function and trains what it names and nothing else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Raw
from encoder_checks import check_prompts, difference, prompts_of

from mmtool.common.errors import DataError, UsageError
from mmtool.data.sample import Sample
from mmtool.data.shards import open_token_set
from mmtool.encoders import Encoder, open_encoder
from mmtool.imputation.imputer import Imputer
from mmtool.preprocessing.shard import shard
from mmtool.preprocessing.tokenize import tokenize
from mmtool.training.config import resolve
from mmtool.training.pretrain import pretrain

SHAPE = {"depth": 2, "width": 32}
TUNINGS = ("bitfit", "lora", "adapter")
Open = Callable[[str], Encoder]


@pytest.fixture(scope="module")
def runs(project: Path, raw: Raw, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """text/, lab/, image/: shards of one modality; text-run, lab-run: masked runs, the second one with biases; lab-causal; text-m3ae,
    image-m3ae (of raw patches)."""
    folder = tmp_path_factory.mktemp("unimodal")
    base = {"preset": "tiny", "steps": 3, "batch_tokens": 256, "compile": "off", "precision": "fp32", "learning_rate": 0.05}
    for name in ("text", "lab"):
        shard([project / f"{name}.tar"], folder / name)
        config = {**base, "method": "masked", "shape": {**SHAPE, "bias": name == "lab"}}
        pretrain(resolve(None, config), folder / name, folder / f"{name}-run")
    pretrain(resolve(None, {**base, "method": "causal", "shape": SHAPE}), folder / "lab", folder / "lab-causal")
    tokenize("image", [raw.images], folder / "image.tar", name="image", scheme="patches", settings={"patch": 4})
    shard([folder / "image.tar"], folder / "image")
    for name in ("text", "image"):
        pretrain(resolve(None, {**base, "method": "m3ae", "shape": SHAPE}), folder / name, folder / f"{name}-m3ae")
    return folder


@pytest.fixture(scope="module", params=["text-run", "lab-run", "lab-causal", "text-m3ae", "image-m3ae"])
def source(request: pytest.FixtureRequest, runs: Path) -> Path:
    return runs / request.param


def samples_of(source: Path) -> list[Sample]:
    return list(open_token_set(source.with_name(source.name.split("-")[0]), "train"))[:6]


def test_the_embedding_is_the_feature_of_the_run(source: Path) -> None:
    encoder, samples = open_encoder(source), samples_of(source)
    expected = Imputer.open(source, device="cpu").features(samples, [encoder.modality])
    embedding = encoder(encoder.prepare(samples)).embedding
    assert embedding.shape == (6, 32) and np.abs(embedding.detach().numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("deep", [False, True])
def test_prompts_read_and_are_read_by_nobody(source: Path, deep: bool) -> None:
    encoder = open_encoder(source)
    check_prompts(encoder, encoder.prepare(samples_of(source)), deep, (0, 1))


def test_padding_and_neighbours_change_nothing(source: Path) -> None:
    encoder, samples = open_encoder(source), samples_of(source)
    together = encoder(encoder.prepare(samples), prompts_of(encoder))
    for number, sample in enumerate(samples[:3]):
        inputs = encoder.prepare([sample])
        inputs = {name: torch.cat((value, value[:, -2:]), 1) if value.ndim > 1 else value for name, value in inputs.items()}
        alone = encoder(inputs, prompts_of(encoder))
        assert difference(alone.embedding[0], together.embedding[number]) < 1e-5
        assert difference(alone.prompts[0], together.prompts[number]) < 1e-5


def test_raw_values_give_what_their_tokens_give(source: Path) -> None:
    encoder, samples = open_encoder(source), samples_of(source)
    values = encoder.tokenizer.decode(encoder.tokens(samples))
    if encoder.tokenizer.kind == "table":
        values = [(value, encoder.tokenizer.features) for value in values]
    raw = encoder(encoder.prepare_raw(values)).embedding
    assert difference(raw, encoder(encoder.prepare(samples)).embedding) < 1e-5


@pytest.mark.parametrize("how", TUNINGS)
def test_tuning_starts_at_the_frozen_function_and_trains_what_it_names(source: Path, how: str) -> None:
    frozen, encoder = open_encoder(source), open_encoder(source)
    inputs = encoder.prepare(samples_of(source))
    count = encoder.tune(how, rank=2, adapter_width=3)
    trained = encoder.trained()
    assert count == sum(value.numel() for value in trained.values()) > 0
    assert difference(frozen(inputs).embedding, encoder(inputs).embedding) < 1e-6
    prompts = prompts_of(encoder)
    encoded = encoder(inputs, prompts)
    (encoded.prompts.square().sum() + encoded.embedding.square().sum()).backward()
    reached = {name for name, value in encoder.named_parameters() if value.grad is not None}
    assert reached == set(trained) and prompts.grad is not None
    words = {"bitfit": "bias", "lora": ("up", "down"), "adapter": ("up", "down", "up_bias", "down_bias")}[how]
    assert all(name.rpartition(".")[2] in words for name in trained)
    for value in trained.values():
        value.data.add_(0.1)
    assert difference(frozen(inputs).embedding, encoder(inputs).embedding) > 1e-4
    other = open_encoder(source)
    other.tune(how, rank=2, adapter_width=3)
    other.load_trained({name: value.detach() for name, value in trained.items()})
    assert difference(other(inputs).embedding, encoder(inputs).embedding) == 0


def test_bitfit_gives_a_run_without_biases_one_for_each_linear_layer(runs: Path) -> None:
    without, with_biases = open_encoder(runs / "text-run"), open_encoder(runs / "lab-run")
    inner = without.model.shape.inner
    assert without.tune("bitfit") == with_biases.tune("bitfit") == 2 * (3 * 32 + 32 + 2 * inner + 32)
    assert any(value.any() for value in with_biases.trained().values()), "biases train with the run where it has them"


def test_prompts_start_near_the_class_token(source: Path) -> None:
    encoder = open_encoder(source)
    prompts = encoder.prompt_init(200, torch.Generator().manual_seed(0))
    assert difference(prompts.mean(0), encoder.class_token()) < 0.05 and abs(float(prompts.std(0).mean()) - 0.1) < 0.01
    deep = encoder.prompt_init(200, torch.Generator().manual_seed(0), deep=True)
    assert deep.shape == (2, 200, 32) and difference(deep[0], prompts) == 0 and not deep[1:].any()


def test_frozen_until_tuned_and_never_in_training_mode(source: Path) -> None:
    encoder = open_encoder(source)
    assert not encoder.trained() and encoder.tune("none") == 0
    assert not any(module.training for module in encoder.train().modules())


def test_the_fingerprint_is_that_of_the_weights(runs: Path) -> None:
    same = [open_encoder(runs / "lab-run").fingerprint for _ in range(2)]
    assert same[0] == same[1] != open_encoder(runs / "lab-causal").fingerprint


def test_what_does_not_fit_is_refused(runs: Path, project: Path, tmp_path: Path) -> None:
    encoder = open_encoder(runs / "text-run")
    with pytest.raises(DataError, match="case99: the sample has no text"):
        encoder.prepare([Sample("case99", {})])
    with pytest.raises(UsageError, match="no tuning 'all'"):
        encoder.tune("all")
    encoder.tune("lora")
    with pytest.raises(UsageError, match="already"):
        encoder.tune("adapter")
    with pytest.raises(DataError, match="not those of this encoder"):
        encoder.load_trained({})
    with pytest.raises(UsageError, match="knows no modality 'sound'"):
        open_encoder(runs / "text-run", "sound")
    with pytest.raises(UsageError, match="modalities lab, text"):
        open_encoder(project / "run")
    with pytest.raises(DataError, match="was made by the tokenizer"):
        open_encoder(runs / "text-run", "text", open_token_set(runs / "lab", "train").tokenizers["lab"])
    assert open_encoder(project / "run", "lab", open_token_set(runs / "lab", "train").tokenizers["lab"]).modality == "lab"
    with pytest.raises(DataError, match="no encoder here"):
        open_encoder(tmp_path)


@pytest.mark.parametrize("deep", [False, True])
def test_in_bf16_prompts_are_read_by_nobody_either(source: Path, deep: bool) -> None:
    encoder = open_encoder(source)
    inputs, prompts = encoder.prepare(samples_of(source)), prompts_of(encoder, deep)
    exact = encoder(inputs, prompts)
    encoder.compute_dtype = torch.bfloat16
    alone, together = encoder(inputs), encoder(inputs, prompts)
    assert together.embedding.dtype == together.prompts.dtype == torch.float32
    assert difference(alone.embedding, together.embedding) < 0.02 * float(alone.embedding.detach().abs().max())
    assert difference(exact.prompts, together.prompts) < 0.1 * float(exact.prompts.detach().abs().max())
