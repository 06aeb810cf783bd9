"""Levels of a quantity are neighbours to the model: it learns from a few thousand values what free bins would take far more for."""

import numpy as np
import pytest
import torch

from mmtool.data.layout import layout_of
from mmtool.data.packing import BatchShape, pack
from mmtool.data.sample import Modality, Sample
from mmtool.data.sequence import conditional_document
from mmtool.model.decode import generate, score
from mmtool.model.losses import loss_sums
from mmtool.model.ordinal import level_values
from mmtool.model.sampling import Sampling
from mmtool.model.transformer import Shape, Transformer
from mmtool.tokenizers.code_values import CodeValues

LENGTH, LEVELS = 6, 12


def modality(name: str, ordered: int) -> Modality:
    return Modality(name, "table", LEVELS, (LENGTH,), "set", "f" * 64, LENGTH, ordered)


def model_of(ordered: int, seed: int = 0) -> Transformer:
    model = Transformer(Shape(depth=1, width=64), layout_of([modality("a", ordered), modality("b", ordered)]))
    model.init_weights(torch.Generator().manual_seed(seed))
    return model


def linked_samples(count: int, seed: int) -> list[Sample]:
    """b is a rotation of a, both normal, in levels."""
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(np.random.default_rng(7).normal(size=(LENGTH, LENGTH)))[0]
    a = random.normal(size=(count, LENGTH))
    edges = (np.array(level_values(LEVELS))[1:] + np.array(level_values(LEVELS))[:-1]) / 2
    codes = [np.searchsorted(edges, values).astype(np.uint16) for values in (a, a @ turn)]
    return [Sample(f"{i}", {"a": codes[0][i], "b": codes[1][i]}) for i in range(count)]


def train(model: Transformer, samples: list[Sample], steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    shape = BatchShape(64, 2 * LENGTH + 2, (64 * LENGTH, 64 * LENGTH))
    random = np.random.default_rng(0)
    for _ in range(steps):
        chosen = [samples[i] for i in random.integers(0, len(samples), 64)]
        batch = pack([conditional_document(model.layout, sample, ["a"], "b") for sample in chosen], shape)
        arrays = (batch.tokens, batch.modality, batch.slot, batch.position)
        mask = torch.ones(1, 1, shape.length, shape.length, dtype=torch.bool).tril()
        hidden = model(*(torch.from_numpy(array) for array in arrays), mask)
        target_indices, targets = ([torch.from_numpy(array) for array in part] for part in (batch.target_indices, batch.targets))
        (loss_sums(model, hidden, target_indices, targets).sum() / batch.num_targets.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()


def nats(model: Transformer, samples: list[Sample]) -> float:
    total, counts = score(model, [conditional_document(model.layout, sample, ["a"], "b") for sample in samples])
    return float(total.sum() / counts.sum())


@pytest.mark.thorough
def test_ordered_levels_are_learned_from_little() -> None:
    samples, held = linked_samples(2000, 1), linked_samples(200, 2)
    losses = {}
    for ordered in (LEVELS, 0):
        model = model_of(ordered)
        train(model, samples, 100)
        losses[ordered] = nats(model, held)
    assert losses[LEVELS] < losses[0] - 0.3


def test_without_ordered_codes_nothing_is_added() -> None:
    assert model_of(0).ordinal is None and not any("ordinal" in name for name in model_of(0).state_dict())


def test_expectations_are_means_of_draws() -> None:
    model = model_of(LEVELS)
    values = np.tile(np.array(level_values(LEVELS), np.float32), (LENGTH, 1))
    values[0, -1] = np.nan
    prompts = [conditional_document(model.layout, linked_samples(1, 3)[0], [], "a")]
    sampling = Sampling(code_values=CodeValues.of_indices(values))
    made = generate(model, prompts, 1, sampling=sampling, generator=torch.Generator().manual_seed(0), draws=4000)
    assert made.expected is not None and made.expected.shape == (4000, LENGTH)
    drawn = np.array([values[np.arange(LENGTH), codes] for codes in made.codes])
    np.testing.assert_allclose(np.nanmean(drawn, 0), made.expected.mean(0), atol=0.15)
    assert made.expected.std(0).max() < np.nanstd(drawn, 0).min()


def test_a_modality_says_so_only_where_codes_are_ordered() -> None:
    assert "ordered" not in modality("a", 0).to_json()
    assert Modality.from_json(modality("a", 5).to_json()) == modality("a", 5)


def test_levels_ascend_around_zero() -> None:
    values = level_values(16)
    assert values == sorted(values) and sum(values) == pytest.approx(0, abs=1e-9)
