"""Promises of the rivals: masked modelling is a distribution and fills what is asked for, contrastive modelling answers with real data."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_training import make_shards, sample, settings

from mmtool.common.errors import UsageError
from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import layout_of
from mmtool.data.sample import Modality, Sample
from mmtool.data.sequence import NO_TARGET
from mmtool.imputation.imputer import Imputer
from mmtool.imputation.sampling_params import SamplingParams
from mmtool.methods import METHODS
from mmtool.methods.base import Step
from mmtool.methods.contrastive import Contrastive, ContrastiveOptions
from mmtool.methods.loretta import LoReTTa, LoReTTaOptions
from mmtool.methods.masked import Masked, MaskedOptions
from mmtool.methods.protocols import (
    ImputationRequest,
    Imputing,
    Matching,
    Reconstructing,
    Representing,
    Retrieving,
    Scoring,
    Transitive,
    imputing,
    matching,
    reconstructing,
    representing,
    scoring,
)
from mmtool.model.sampling import Sampling
from mmtool.model.transformer import Shape, Transformer
from mmtool.training.pretrain import pretrain

SHORT = Modality("short", "text", 2, None, "line", "0" * 64, 3)
GRID = Modality("grid", "image", 3, (1, 2), "grid", "1" * 64, 2)
LAYOUT = layout_of([SHORT, GRID])
GRAPH = CoOccurrence({frozenset(LAYOUT.names): 1})


def untrained(layout=LAYOUT):
    model = Transformer(Shape(depth=1, width=32), layout)
    model.init_weights(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
    return model.eval()


def codes(*values):
    return np.array(values, np.uint16)


def test_the_probabilities_of_all_that_a_masked_model_can_say_sum_to_one():
    model, method = untrained(), Masked(LAYOUT, GRAPH, MaskedOptions())
    short = codes(0, 1)
    grids = [Sample(str(pair), {"short": short, "grid": codes(*pair)}) for pair in product(range(3), repeat=2)]
    nll, counts = method.score(model, grids, ["short"], "grid")
    from_start_token = np.exp(-nll).sum()
    assert (counts == 2).all()
    assert 0 < from_start_token <= 1, "END, which a fixed length never holds, keeps the rest"
    texts = [Sample(str(text), {"grid": codes(0, 1), "short": codes(*text)}) for n in range(4) for text in product(range(2), repeat=n)]
    nll, counts = method.score(model, texts, ["grid"], "short")
    assert [*counts] == [len(text.tokens["short"]) + 1 for text in texts]
    assert 0 < np.exp(-nll).sum() <= 1


def test_a_masked_document_hides_tokens_and_asks_for_exactly_those():
    method = Masked(LAYOUT, GRAPH, MaskedOptions(mask_ratio=0.5))
    document = method.document(Sample("x", {"short": codes(0, 1, 1), "grid": codes(2, 0)}), np.random.default_rng(0))
    hidden = document.tokens == LAYOUT.sentinel(0)
    assert (hidden == (document.targets != NO_TARGET)).all() and hidden.sum() == 2 + 1
    whole = method.canvas("short", codes(0, 1, 1))
    assert (whole.targets == NO_TARGET).all() and len(whole) == SHORT.max_length + 2, "the canvas has room for an END"


@pytest.mark.parametrize("want", ["short", "grid"])
def test_iterative_decoding_fills_every_place_within_the_range(want):
    method = Masked(LAYOUT, GRAPH, MaskedOptions(decode_steps=3))
    have = "grid" if want == "short" else "short"
    samples = [Sample(str(i), {have: codes(0, 1)}) for i in range(4)]
    generator = torch.Generator().manual_seed(0)
    made = method.impute(untrained(), samples, ImputationRequest([have], want, draws=2), generator)
    assert len(made.codes) == 8 and np.isfinite(made.log_likelihood).all()
    modality = LAYOUT.modalities[LAYOUT.index(want)]
    for row in made.codes:
        assert row.max() < modality.vocabulary_size
        assert len(row) == 2 if modality.fixed_length else 1 <= len(row) <= SHORT.max_length + 1


def test_contrastive_loss_is_infonce_over_pairs_present():
    method = Contrastive(LAYOUT, GRAPH, ContrastiveOptions(scale=0.5))
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, 6, 8, generator=generator)
    places = [torch.tensor([0, 1, 2]), torch.tensor([3, 4, 0])]
    targets = [torch.tensor([7, 8, 9]), torch.tensor([8, 7, NO_TARGET])]
    a, b = F.normalize(hidden[0, :3], dim=-1), F.normalize(hidden[0, 3:5], dim=-1)
    wanted = F.cross_entropy(a[:2] @ b.T / 0.5, torch.tensor([1, 0]), reduction="sum")
    back = F.cross_entropy(b @ a.T / 0.5, torch.tensor([1, 0]), reduction="sum")
    assert torch.allclose(method.loss_sums(None, hidden, places, targets), torch.stack([wanted, back]))


def test_segments_of_a_contrastive_document_do_not_see_each_other():
    method, model = Contrastive(LAYOUT, GRAPH, ContrastiveOptions()), untrained()
    one = Sample("x", {"short": codes(0, 1), "grid": codes(0, 1)})
    other = Sample("x", {"short": codes(0, 1), "grid": codes(2, 2)})
    assert (method.features(model, [one], ["short"]) == method.features(model, [other], ["short"])).all()
    with pytest.raises(UsageError, match="no likelihood"):
        scoring(method)


def test_a_gallery_is_encoded_once_for_the_weights_as_they_are(monkeypatch):
    method, model = Contrastive(LAYOUT, GRAPH, ContrastiveOptions()), untrained()
    gallery = [Sample(str(pair), {"short": codes(pair[0] % 2), "grid": codes(*pair)}) for pair in product(range(3), repeat=2)]
    method.use_gallery(gallery)
    encoded, real = [], method.features
    monkeypatch.setattr(method, "features", lambda model, samples, *rest: encoded.append(len(samples)) or real(model, samples, *rest))

    def ask():
        coldly = ImputationRequest(["short"], "grid", Sampling(temperature=0))
        return method.impute(model, [Sample("x", {"short": codes(0, 1, 1)})], coldly, torch.Generator().manual_seed(0)).log_likelihood

    first = ask()
    assert ask() == first and encoded == [1, 9, 1]
    with torch.no_grad():
        model.token_embedding.weight.mul_(-1)
    assert ask() != first and encoded == [1, 9, 1, 1, 9]
    method.use_gallery(gallery[:4])
    ask()
    assert encoded[5:] == [1, 4]


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["masked", "contrastive", "commutative", "m3ae"])
def test_every_baseline_trains_and_imputes_a_seen_pair(tmp_path, method):
    shards = make_shards(tmp_path / "shards")
    steps = 200 if method == "m3ae" else 60
    pretrain(settings(method=method, steps=steps, learning_rate=0.01), shards, tmp_path / "run")
    imputer = Imputer.open(tmp_path / "run")
    given = [sample(f"x{i}", i % 4, "a") for i in range(80)]
    made = imputer.impute(given, ["a"], "b", draws=2, consistency=True)
    right = np.mean([(made[i].tokens[0][:3] == (i % 4 + ord("b")) % 4).all() for i in range(80)])
    assert right > 0.5
    assert (made[0].consistency is None) == (method == "contrastive")
    assert imputer.features(given, ["a"]).shape == (80, 32)
    cold, by_name = (imputer.impute(given, ["a"], "b", params=SamplingParams(asked)) for asked in (0, {"*": 5.0, "b": 0}))
    assert [each.tokens[0].tolist() for each in cold] == [each.tokens[0].tolist() for each in by_name]
    if method in ("masked", "commutative"):  # m3ae hardly ever saw data of which nothing was shown
        assert _right(imputer, given, 3.0) > _right(imputer, given, 0.0) + 0.02
    if method == "contrastive":
        assert _right(imputer, given, 3.0) == _right(imputer, given, 0.0)


def _right(imputer, given, guidance):
    """How many of hot draws begin with the code that the given modality calls for."""
    made = imputer.impute(given, ["a"], "b", params=SamplingParams(12.0, guidance=guidance), draws=8)
    return np.mean([tokens[0] == (i % 4 + ord("b")) % 4 for i, row in enumerate(made) for tokens in row.tokens])


def test_a_pseudo_modality_is_used_again_until_it_is_too_old():
    names = [Modality(name, "image", 4, (1, 2), "grid", name * 64, 2) for name in "abc"]
    layout = layout_of(names)
    graph = CoOccurrence({frozenset("ab"): 1, frozenset("bc"): 1})
    method = LoReTTa(layout, graph, LoReTTaOptions(warmup=0.0, transitive_share=1.0, all_share=0.0, distillation=0.0, refresh=10))
    model, pair = untrained(layout), Sample("x", {"a": codes(0, 1), "b": codes(2, 3)})

    def made(step):
        return method.documents([pair], [0], Step(step, 0.5, step, model))[0].tokens[1:3].tolist()

    first = made(0)
    assert all(made(step) == first for step in range(1, 10))
    assert any(made(step) != first for step in range(10, 200, 10))
    kept = made(300)
    assert all(made(step) == kept for step in range(301, 305))

    def made_anew(step):
        method.clear_cache()
        return made(step)

    assert any(made_anew(step) != kept for step in range(305, 310)), "young enough to be used again, were they not dropped"


def test_of_many_draws_the_pseudo_modality_is_the_one_that_predicts_its_source_best():
    layout = layout_of([Modality(name, "image", 4, (1, 2), "grid", name * 64, 2) for name in "abc"])
    graph = CoOccurrence({frozenset("ab"): 1, frozenset("bc"): 1})
    method = LoReTTa(layout, graph, LoReTTaOptions(warmup=0.0, transitive_share=1.0, all_share=0.0, distillation=0.0, draws=256))
    model, pair = untrained(layout), Sample("x", {"a": codes(0, 1), "b": codes(2, 3)})
    (document,) = method.documents([pair], [0], Step(0, 0.5, 0, model))

    every = [Sample("x", {"b": pair.tokens["b"], "c": codes(*drawn)}) for drawn in product(range(4), repeat=2)]
    nll, _ = method.score(model, every, ["c"], "b")
    assert len(set(nll.round(6).tolist())) > 4
    best = every[int(nll.argmin())].tokens["c"] + layout.first_code(layout.index("c"))
    assert document.tokens[1:3].tolist() == best.tolist()


PREDICTS = {Imputing, Scoring, Matching, Representing}
ABILITIES = {
    "causal": PREDICTS,
    "cm3": PREDICTS,
    "commutative": PREDICTS,
    "loretta": {*PREDICTS, Transitive},
    "masked": {*PREDICTS, Reconstructing},
    "m3ae": {*PREDICTS, Reconstructing},
    "contrastive": {Imputing, Retrieving, Matching, Representing},
}
ASKED = {Imputing: imputing, Scoring: scoring, Matching: matching, Representing: representing, Reconstructing: reconstructing}


@pytest.mark.parametrize("name", METHODS)
def test_a_method_claims_what_it_can_do_and_nothing_else(name):
    graph = CoOccurrence({frozenset("ab"): 1, frozenset("bc"): 1})
    layout = layout_of([Modality(modality, "image", 4, (1, 2), "grid", modality * 64, 2) for modality in "abc"])
    method = METHODS[name](layout, graph, METHODS[name].Options())
    for ability in {*ASKED, Retrieving, Transitive}:
        assert isinstance(method, ability) == (ability in ABILITIES[name]), ability
    for ability, asked in ASKED.items():
        if ability in ABILITIES[name]:
            assert asked(method) is method
        else:
            with pytest.raises(UsageError, match=name):
                asked(method)


@pytest.mark.parametrize(("name", "documents"), [("causal", 2), ("masked", 3 + 4), ("contrastive", 0)])
def test_what_matching_reads_is_known_beforehand(name, documents):
    """Of each pair, a segment for each modality that is scored, or each of its tokens."""
    method = METHODS[name](LAYOUT, GRAPH, METHODS[name].Options())
    assert matching(method).match_passes(10, [3, 4]) == 10 * documents
