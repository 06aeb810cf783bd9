"""Values of one table move the scores of another directly, and only from where they may be seen."""

import numpy as np
import pytest
import torch

from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import VocabularyLayout, layout_of
from mmtool.data.packing import BatchShape, pack
from mmtool.data.sample import Modality, Sample
from mmtool.data.sequence import Document, conditional_document
from mmtool.methods import METHODS
from mmtool.methods.protocols import ImputationRequest, Retrieving
from mmtool.model.bridge import ValueBridge
from mmtool.model.decode import generate, hidden_states, score
from mmtool.model.masks import attention_mask
from mmtool.model.ordinal import level_values
from mmtool.model.sampling import Sampling
from mmtool.model.transformer import Shape, Transformer
from mmtool.tokenizers.code_values import CodeValues

LENGTH, LEVELS = 5, 8


def layout() -> VocabularyLayout:
    tables = [Modality(name, "table", LEVELS, (LENGTH,), "set", "f" * 64, LENGTH, LEVELS) for name in ("a", "b")]
    return layout_of([*tables, Modality("note", "text", 4, None, "line", "0" * 64, 6)])


def model_of(weights: float) -> Transformer:
    model = Transformer(Shape(depth=1, width=32), layout())
    model.init_weights(torch.Generator().manual_seed(0))
    assert model.ordinal is not None
    torch.nn.init.normal_(model.ordinal.bridge.weights_embedding, std=weights, generator=torch.Generator().manual_seed(1))
    return model.eval()


def samples(count: int = 6) -> list[Sample]:
    random = np.random.default_rng(0)
    sizes = {"a": LEVELS, "b": LEVELS, "note": 4}
    return [
        Sample(f"{i}", {name: random.integers(0, size, LENGTH).astype(np.uint16) for name, size in sizes.items()}) for i in range(count)
    ]


def test_a_new_model_is_one_without_a_bridge() -> None:
    model = Transformer(Shape(depth=1, width=32), layout())
    model.init_weights(torch.Generator().manual_seed(0))
    assert model.ordinal is not None and not model.ordinal.bridge.weights_embedding.any()


def test_a_sum_runs_over_the_visible_values_of_tables_alone() -> None:
    bridge = ValueBridge(layout(), 2 * (LENGTH + 1) + 1)
    weights = torch.randn(bridge.weights_embedding.shape)
    bridge.weights_embedding.data = weights
    slot, value = torch.tensor([[2, 3, 7, 8]]), torch.tensor([[1.0, -2.0, 0.0, 0.5]])
    mask = torch.ones(4, 4, dtype=torch.bool).tril()[None, None]
    expected = [weights[s, 2] * 1.0 + (weights[s, 3] * -2.0 if row > 0 else 0) for row, s in enumerate((2, 3, 7, 8))]
    expected[3] = expected[3] + weights[8, 8] * 0.5
    torch.testing.assert_close(bridge(slot, value, slot, mask)[0], torch.stack(expected))


def test_the_other_documents_of_a_row_and_what_comes_later_change_nothing() -> None:
    model, (one, two, *_) = model_of(0.5), samples()
    documents = [conditional_document(model.layout, sample, ["a"], "b") for sample in (one, two)]
    alone = [score(model, [document])[0][0] for document in documents]
    batch = pack(documents, BatchShape(1, 30, (1, 2 * LENGTH, 1)))
    arrays = [torch.from_numpy(array) for array in (batch.tokens, batch.modality, batch.slot, batch.position, batch.document)]
    with torch.no_grad():
        hidden = model(*arrays[:4], attention_mask(arrays[4], arrays[1], "past")).flatten(0, 1)
        places, targets = torch.from_numpy(batch.target_indices[1]), torch.from_numpy(batch.targets[1])
        log_p = torch.log_softmax(model.logits(hidden[places], 1), -1).gather(1, targets[:, None])[:, 0]
    np.testing.assert_allclose([-log_p[:LENGTH].sum(), -log_p[LENGTH:].sum()], alone, rtol=1e-4)


@pytest.mark.parametrize("have", [["a"], ["note", "a"]])
def test_decoding_step_by_step_gives_the_likelihood_of_one_pass(have: list[str]) -> None:
    model, method = model_of(0.5), METHODS["commutative"]
    method = method(model.layout, CoOccurrence({frozenset(model.layout.names): 1}), method.Options())
    prompts = [method.segments(sample, have, loss=()) for sample in samples()]
    made = generate(model, prompts, 1, sampling=Sampling(), generator=torch.Generator().manual_seed(0), draws=2)
    drawn = [Sample("x", {**sample.tokens, "b": made.codes[2 * i + j]}) for i, sample in enumerate(samples()) for j in range(2)]
    whole = [allowed_log_p(model, conditional_document(model.layout, sample, have, "b")) for sample in drawn]
    np.testing.assert_allclose(whole, made.log_likelihood, rtol=1e-4)


def allowed_log_p(model: Transformer, document: Document) -> float:
    """log p of the targets of table b in one pass, without END, which decoding never draws where the length is fixed."""
    with torch.no_grad():
        hidden, _ = hidden_states(model, [document], "past")
        places = np.flatnonzero(document.targets >= 0)
        log_p = torch.log_softmax(model.logits(hidden[0, places], 1)[:, 1:], -1)
    return float(log_p[range(LENGTH), document.targets[places] - 1].sum())


@pytest.mark.parametrize("name", ["commutative", "masked", "contrastive"])
def test_every_method_gives_expected_values(name: str) -> None:
    model, method = model_of(0.5), METHODS[name]
    made = method(model.layout, CoOccurrence({frozenset(model.layout.names): 1}), method.Options())
    if isinstance(made, Retrieving):
        made.use_gallery(samples(4))
    values = np.tile(np.array(level_values(LEVELS), np.float32), (LENGTH, 1))
    request = ImputationRequest(["a"], "b", Sampling(code_values=CodeValues.of_indices(values)), 3)
    found = made.impute(model, samples(), request, torch.Generator().manual_seed(0))
    assert found.expected is not None and found.expected.shape == (18, LENGTH)
    assert np.abs(found.expected).max() < values.max()
