"""Outside of training a model reads in passes of a bounded size, and what it says of a sample does not depend on how they are cut."""

from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import layout_of
from mmtool.data.sample import Modality, Sample
from mmtool.methods import METHODS
from mmtool.methods.protocols import ImputationRequest, Reconstructing
from mmtool.model import decode, passes
from mmtool.model.sampling import Sampling
from mmtool.model.transformer import Shape

TABLE, LONGEST = 6, 30
LAYOUT = layout_of(
    [
        Modality("lab", "table", 5, (TABLE,), "set", "1" * 64, TABLE, ordered=4),
        Modality("text", "text", 40, None, "line", "2" * 64, LONGEST),
    ]
)
GRAPH = CoOccurrence({frozenset(("lab", "text")): 10})
SHAPE = Shape(depth=2, width=32)


def make_samples(count: int, seed: int = 0) -> list[Sample]:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, LONGEST + 1, count)
    texts = [random.integers(40, size=length).astype(np.uint16) for length in lengths]
    return [Sample(f"s{i}", {"lab": random.integers(5, size=TABLE).astype(np.uint16), "text": text}) for i, text in enumerate(texts)]


def opened(name: str):
    """A method, and a model in which every part has a say."""
    method = METHODS[name](LAYOUT, GRAPH, METHODS[name].Options())
    model = method.model(Shape(**{**SHAPE.to_json(), **METHODS[name].shape_defaults}))
    model.init_weights(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    return method, model.eval()


@contextmanager
def limits(tokens: int, pairs: int = 1 << 24):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "PASS_TOKENS", tokens)
        patch.setattr(passes, "PASS_PAIRS", pairs)
        yield


def drawn(method, model, samples: list[Sample]) -> list[np.ndarray]:
    made = method.impute(model, samples, ImputationRequest(["text"], "lab", draws=2), torch.Generator().manual_seed(3))
    return [np.stack(made.codes), made.log_likelihood]


def masks(samples: list[Sample]) -> list[dict[str, np.ndarray]]:
    return [{name: np.arange(len(codes)) % 2 == 0 for name, codes in sample.tokens.items()} for sample in samples]


ASKED: dict[str, Callable] = {
    "score of a table": lambda method, model, samples: method.score(model, samples, ["text"], "lab"),
    "score of a text": lambda method, model, samples: method.score(model, samples[:5], ["lab"], "text"),
    "features": lambda method, model, samples: [method.features(model, samples, ["lab", "text"])],
    "validation": lambda method, model, samples: [np.array(list(method.validate(model, samples[:8]).values()))],
    "consistency": lambda method, model, samples: [
        method.consistency(model, samples[:4], ["text"], "lab", [[other.tokens["lab"] for other in samples[4:6]]] * 4)
    ],
    "match": lambda method, model, samples: [
        method.match(model, samples[:3], ["text"], "lab", [each.tokens["lab"] for each in samples[3:6]])
    ],
    "imputation": drawn,
    "reconstruction": lambda method, model, samples: [
        np.concatenate([made[name] for made in method.reconstruct(model, samples, ["lab", "text"], masks(samples)) for name in made])
    ],
}
HAVE_NOT = {
    "contrastive": ("score of a table", "score of a text", "validation", "consistency", "imputation"),
}
CASES = [
    (method, asked)
    for method in ("causal", "masked", "m3ae", "contrastive")
    for asked in ASKED
    if asked not in HAVE_NOT.get(method, ()) and (asked != "reconstruction" or issubclass(METHODS[method], Reconstructing))
]


@pytest.mark.parametrize(("method", "asked"), CASES)
def test_predictions_do_not_depend_on_the_passes(method: str, asked: str) -> None:
    built, samples = opened(method), make_samples(12)
    with limits(1 << 20):
        whole = ASKED[asked](*built, samples)

    @settings(max_examples=4, deadline=None)
    @given(st.integers(30, 400), st.integers(1000, 20_000))
    def check(tokens: int, pairs: int) -> None:
        with limits(tokens, pairs):
            for one, other in zip(whole, ASKED[asked](*built, samples), strict=True):
                np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)

    check()


@pytest.mark.parametrize("method", ["causal", "masked", "m3ae", "contrastive"])
def test_no_pass_is_larger_than_allowed(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (built, model), samples, seen = opened(method), make_samples(40), []
    places = len(model.ordinal.bridge.weights_embedding) if model.ordinal is not None else 0
    attention = type(model.blocks[0]).forward

    def noting(self, x, cos_sin, mask, cache):
        seen.append((*x.shape[:2], mask.shape[-1]))
        return attention(self, x, cos_sin, mask, cache)

    monkeypatch.setattr(type(model.blocks[0]), "forward", noting)
    for asked in [asked for name, asked in CASES if name == method]:
        with limits(200, 4000):
            ASKED[asked](built, model, samples)
    assert max(rows for rows, _, _ in seen) > 1
    for rows, length, reach in seen:
        if length > 1:  # a step of decoding reads one token of each row
            assert rows == 1 or (rows * length <= 200 and rows * length * max(length, reach, places) <= 4000), (rows, length, reach)


def test_no_more_rows_are_decoded_together_than_their_cache_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the most probable value of a sample is the same, with whatever others it is decoded."""
    (method, model), samples = opened("causal"), make_samples(7)
    longest = max(len(sample.tokens["text"]) for sample in samples) + 1 + TABLE + 1  # each segment is opened by a token
    monkeypatch.setattr(passes, "CACHE_BYTES", 4 * 2 * SHAPE.depth * SHAPE.width * 4 * longest)  # two samples, of two draws each
    caches, make = list[int](), decode.KVCache

    def noting(depth: int, rows: int, *sizes: int, **kinds: object) -> decode.KVCache:
        caches.append(rows)
        return make(depth, rows, *sizes, **kinds)

    monkeypatch.setattr(decode, "KVCache", noting)
    request = ImputationRequest(["text"], "lab", Sampling(top_k=1), draws=2)
    made = method.impute(model, samples, request, torch.Generator())
    assert caches == [2, 2, 2, 1]
    monkeypatch.undo()
    whole = method.impute(model, samples, request, torch.Generator())
    assert len(made.codes) == 14 and all(map(np.array_equal, made.codes, whole.codes))
    np.testing.assert_allclose(made.log_likelihood, whole.log_likelihood, rtol=1e-4)
    np.testing.assert_array_equal(made.num_tokens, whole.num_tokens)


def test_limits_count_tokens_pairs_and_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = opened("causal")
    places = len(model.ordinal.bridge.weights_embedding)
    assert places == TABLE + 2
    with limits(100, 1 << 30):
        assert passes.Limits(model).allow(10, 10) and not passes.Limits(model).allow(11, 10)
        assert passes.Limits(model).allow(1, 10_000), "one row has to be read, however long it is"
        monkeypatch.setattr(passes, "PASS_LOGITS", 41 * 50)
        assert passes.Limits(model).allow(5, 10) and not passes.Limits(model).allow(6, 10)
    with limits(1 << 30, 400):
        monkeypatch.setattr(passes, "PASS_LOGITS", 1 << 40)
        assert passes.Limits(model).allow(4, 10) and not passes.Limits(model).allow(5, 10)
        assert passes.Limits(model).allow(400 // (4 * places), 4) and not passes.Limits(model).allow(1 + 400 // (4 * places), 4)


def test_documents_of_similar_lengths_are_read_together_and_none_is_lost() -> None:
    _, model = opened("causal")
    lengths = np.random.default_rng(0).integers(1, 60, 300).tolist()
    with limits(240):
        parts = passes.passes(model, lengths)
        assert sorted(np.concatenate(parts).tolist()) == list(range(300)) and len(parts) > 1
        padded = sum(len(part) * max(lengths[i] for i in part) for part in parts)
        assert padded < 1.2 * sum(lengths)
        assert [list(part) for part in passes.passes(model, [3, 1, 2])] == [[0, 1, 2]], "one pass keeps the order"
        assert passes.passes(model, []) == []
        assert passes.slices(model, 5, 100) == [slice(0, 2), slice(2, 4), slice(4, 5)]
