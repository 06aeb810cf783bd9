"""Guidance: draws that fit what is given better than the model's own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from test_model import LAYOUT, make_model

from mmtool.common.arguments import by_modality
from mmtool.common.errors import UsageError
from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import layout_of
from mmtool.data.sample import Modality, Sample
from mmtool.data.sequence import concatenate, segment
from mmtool.imputation.imputer import Imputer
from mmtool.imputation.sampling_params import SamplingParams
from mmtool.methods.base import Step
from mmtool.methods.loretta import LoReTTa, LoReTTaOptions
from mmtool.model.decode import generate
from mmtool.model.sampling import Sampling, guided
from mmtool.training.config import options_of


def test_what_the_given_speaks_for_counts_more_than_once() -> None:
    told, alone = torch.tensor([0.5, 0.3, 0.2]).log(), torch.tensor([0.6, 0.2, 0.2]).log()
    wanted = torch.tensor([0.5 * (0.5 / 0.6), 0.3 * (0.3 / 0.2), 0.2]).log()
    assert torch.allclose(guided(told + 3, alone - 7, 1.0), wanted), "scores need not be normalised"
    assert torch.allclose(guided(told, alone, 0.0), told)


def test_what_must_not_be_drawn_is_not_drawn() -> None:
    told = torch.tensor([-torch.inf, 0.0, 1.0])
    assert guided(told, told.flip(0).masked_fill(told.isneginf(), -torch.inf), 2.0).isneginf().tolist() == [True, False, False]


@pytest.mark.parametrize("index", [0, 1])
def test_greedy_guided_codes_are_those_of_two_readers_without_a_cache(index: int) -> None:
    model, guidance = make_model(), 1.5
    with torch.no_grad():
        model.head.mul_(3)
    changed = 0
    for length in (2, 5, 7):
        prompt = segment(LAYOUT, 1 - index, np.random.default_rng(length).integers(16, size=6 if index else length), loss=False)
        led, plain = (
            generate(model, [prompt], index, sampling=Sampling(0.0, guidance=asked), generator=torch.Generator()).codes[0].tolist()
            for asked in (guidance, 0.0)
        )
        for place, code in enumerate(led):
            told, alone = (_next(model, prompts, led[:place], index) for prompts in ([prompt], []))
            assert int(guided(told, alone, guidance).argmax()) - 1 == code
        changed += led != plain
    assert changed


def _next(model, prompts, codes, index):  # type: ignore[no-untyped-def]
    """Scores of the next place by one full forward, END left out."""
    whole = concatenate([*prompts, segment(LAYOUT, index, np.array([*codes, 0]))])
    tensors = [torch.from_numpy(array)[None] for array in (whole.tokens, whole.modality, whole.slot, whole.position)]
    with torch.no_grad():
        hidden = model(*tensors, torch.ones(len(whole), len(whole), dtype=torch.bool).tril()[None, None])[0]
    scores = model.logits(hidden[sum(map(len, prompts)) + len(codes)][None], index)[0]
    if LAYOUT.modalities[index].fixed_length or not codes:
        scores[0] = -torch.inf
    return scores


def test_guidance_is_of_all_modalities_or_of_some() -> None:
    asked = SamplingParams(by_modality(["0.5"], "--temperature", 1.0), 5, by_modality(["1,text=0"], "--guidance", 0.0))
    assert asked == SamplingParams(0.5, 5, {"*": 1.0, "text": 0.0})
    assert asked.of("image") == Sampling(0.5, 5, 1.0) and asked.of("text") == Sampling(0.5, 5, 0.0)
    assert SamplingParams(guidance={"text": 2.0}).of("image").guidance == 0
    with pytest.raises(UsageError, match=r"--guidance.*no modality 'smell'"):
        SamplingParams(guidance=by_modality(["smell=1"], "--guidance", 0.0)).check(["text", "image"])
    with pytest.raises(UsageError, match="--guidance"):
        by_modality(["-1"], "--guidance", 0.0)
    for wrong in (SamplingParams(-1.0), SamplingParams(guidance={"text": -1.0})):
        with pytest.raises(UsageError, match="0 or more"):
            wrong.check(["text"])


def test_pseudo_modalities_are_drawn_with_guidance() -> None:
    pairs = CoOccurrence({frozenset({"a", "b"}): 1, frozenset({"b", "c"}): 1})
    layout = layout_of([Modality(name, "image", 4, (1, 2), "grid", name * 64, 2) for name in "abc"])
    asked = []

    class Listening(LoReTTa):
        def impute(self, model, samples, request, generator):  # type: ignore[no-untyped-def]
            asked.append(request.sampling)
            return super().impute(model, samples, request, generator)

    method = Listening(layout, pairs, LoReTTaOptions(warmup=0.0, transitive_share=1.0, guidance=1.5))
    codes = np.array([0, 1], np.uint16)
    method.documents([Sample("x", {"a": codes, "b": codes})], [0], Step(0, 0.5, 0, make_model(layout)))
    assert {sampling.guidance for sampling in asked} == {1.5}
    with pytest.raises(UsageError, match="guidance"):
        options_of(LoReTTaOptions, {"guidance": -1.0}, "--set method")


def test_features_of_nothing_are_refused(toy: Path) -> None:
    with pytest.raises(UsageError, match="nothing is given"):
        Imputer.open(toy / "commutative").features([Sample("x", {"a": np.array([0, 1], np.uint16)})], [])


def test_guided_draws_come_with_the_likelihood_that_the_model_finds_them_to_have(mmtool, project: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    told, command = {}, ["impute", project / "run", project / "shards", "--split", "test", "--have", "lab", "--want", "text"]
    for guidance in ("0", "3"):
        done = mmtool(*command, "--guidance", guidance, "-o", tmp_path / guidance)
        assert done.code == 0, done.err
        lines = [json.loads(line) for line in (tmp_path / guidance / "imputed.jsonl").read_text().splitlines()]
        told[guidance] = [line["log_likelihood"][0] for line in lines]
    assert np.mean(told["3"]) < np.mean(told["0"])
    done = mmtool(*command, "--guidance", "lungs=1", "-o", tmp_path / "none")
    assert done.code == 2 and "--guidance" in done.err and not (tmp_path / "none").exists()
    done = mmtool("evaluate", project / "run", project / "shards", "--task", "probe", "--guidance", "lungs=1", "-o", tmp_path / "none")
    assert done.code == 2 and "--guidance" in done.err and not (tmp_path / "none").exists()
