"""Promises of M3AE: what a sample teaches does not depend on its neighbours, any mask ratio and any combination of modalities trains."""

from itertools import product

import numpy as np
import pytest
import torch
from test_training import settings

from mmtool.common.errors import UsageError
from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import layout_of
from mmtool.data.masking import MaskedShape, pack_all, pack_masked
from mmtool.data.packing import BatchShape
from mmtool.data.sample import Modality, Sample
from mmtool.data.sequence import NO_TARGET
from mmtool.methods.m3ae import M3AE, M3AEOptions
from mmtool.methods.protocols import ImputationRequest
from mmtool.model.sampling import Sampling
from mmtool.model.transformer import Shape
from mmtool.training.config import options_of, resolve

IMAGE = Modality("image", "image", 0, (2, 3, 12), "grid", "0" * 64, 6)
SOUND = Modality("sound", "audio", 0, None, "line", "1" * 64, 5, values=7)
TABLE = Modality("table", "table", 4, (3,), "set", "2" * 64, 3)
TEXT = Modality("text", "text", 3, None, "line", "3" * 64, 4)
LAYOUT = layout_of([IMAGE, SOUND, TABLE, TEXT])
GRAPH = CoOccurrence({frozenset(LAYOUT.names): 1})
NAMES = LAYOUT.names
LENGTHS = {"image": 6, "table": 3}
TINY = Shape(depth=2, width=32, head_width=16, bias=True, positions="both")


def a_sample(seed, names=NAMES, words=None):
    random = np.random.default_rng(seed)
    sizes = {"sound": 1 + seed % 5, "text": words or 1 + seed % 4, **LENGTHS}
    tokens = {}
    for modality in LAYOUT.modalities:
        if modality.name in names:
            shape = (sizes[modality.name], modality.patch_width) if modality.continuous else (sizes[modality.name],)
            high, dtype = (256, np.uint8) if modality.continuous else (modality.vocabulary_size, np.uint16)
            tokens[modality.name] = random.integers(high, size=shape).astype(dtype)
    return Sample(str(seed), tokens)


def method(**options):
    return M3AE(LAYOUT, GRAPH, options_of(M3AEOptions, options, "--set method"))


def untrained(own, shape=TINY):
    model = own.model(shape)
    model.init_weights(torch.Generator().manual_seed(0))
    own.prepare(model, [a_sample(i) for i in range(20)])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.eval()


def sums(own, model, batch):
    return own.forward(model, *own.inputs(batch, torch.device("cpu")))


def document(own, sample, seed=0):
    return own.document(sample, np.random.default_rng(seed))


def packed(own, documents, rows=6, length=64):
    """In rows with plenty of padding."""
    shape = BatchShape(rows, length, (rows * length,) * len(NAMES), own.widths)
    return pack_masked(documents, MaskedShape(shape, shape, 40, own.varying))


def test_a_sample_without_text_gives_the_same_image_loss_in_any_batch():
    own = method()
    model = untrained(own)
    alone = document(own, a_sample(0, ("image",)))
    others = [document(own, a_sample(i, names)) for i, names in enumerate([("text",), ("sound", "text"), NAMES, ("table",)], 1)]
    image = sums(own, model, pack_all([alone], own.widths, own.varying))[0]
    for place in range(len(others) + 1):
        together = sums(own, model, packed(own, [*others[:place], alone, *others[place:]]))
        without = sums(own, model, packed(own, others))
        assert torch.allclose(together[0] - without[0], image, rtol=1e-4)
        assert torch.allclose(together[1:], without[1:], rtol=1e-4), "and changes no loss of theirs"


def test_padding_and_other_samples_in_a_row_change_nothing():
    own = method()
    model = untrained(own)
    documents = [document(own, a_sample(i, NAMES if i % 3 else ("image", "text"))) for i in range(8)]
    apart = torch.stack([sums(own, model, pack_all([each], own.widths, own.varying)) for each in documents]).sum(0)
    for rows, length in ((4, 64), (8, 40), (2, 160)):
        batch = packed(own, documents, rows, length)
        assert batch.num_documents == 8
        assert torch.allclose(sums(own, model, batch), apart, rtol=1e-4)


def test_features_do_not_depend_on_the_batch_and_hidden_tokens_reach_no_encoder():
    own = method()
    model = untrained(own)
    samples = [a_sample(i) for i in range(7)]
    for pooling in own.poolings:
        together = own.features(model, samples, ["image", "text"], pooling)
        alone = np.concatenate([own.features(model, [sample], ["image", "text"], pooling) for sample in samples])
        assert np.allclose(together, alone, atol=1e-5) and together.shape == (7, 32)
    full = own.features(model, [a_sample(3)], ["image"])
    assert np.allclose(full, own.features(model, [a_sample(3, ("image",))], ["image"]), atol=1e-6), "what is not asked for is not seen"
    hidden = document(own, a_sample(3))
    batch = pack_all([hidden], own.widths, own.varying)
    assert batch.visible.num_tokens == 1 + (hidden.targets == NO_TARGET)[1:].sum()


def test_the_mask_ratio_holds_per_sample_and_modality_and_at_least_one_token_is_on_each_side():
    own = method(mask_ratio=0.75, mask_ratios={"text": 0.5}, hide_share=0.0)
    counts = {name: [] for name in NAMES}
    for seed in range(200):
        sample = a_sample(seed)
        made = document(own, sample, seed)
        for index, name in enumerate(NAMES):
            hidden = made.targets[made.modality == index] != NO_TARGET
            counts[name].append(hidden.mean())
            assert len(hidden) == 1 or 0 < hidden.sum() < len(hidden)
    assert np.mean(counts["image"]) == pytest.approx(0.75, abs=0.02)
    assert np.mean(counts["text"]) == pytest.approx(0.5, abs=0.04)
    again = document(own, a_sample(5), 7)
    assert (again.targets == document(own, a_sample(5), 7).targets).all(), "a mask follows from its seed alone"
    assert any((again.targets != document(own, a_sample(5), seed).targets).any() for seed in range(8, 12))


def test_a_caption_of_one_word_trains():
    own = method(hide_share=0.0)
    model = untrained(own)
    alone = [document(own, a_sample(i, ("text",), words=1), i) for i in range(5)]
    assert all((each.targets != NO_TARGET).sum() == 1 for each in alone), "told from nothing, as there is nothing else"
    beside = [document(own, a_sample(i, ("image", "text"), words=1), i) for i in range(400)]
    share = np.mean([(each.targets[each.modality == NAMES.index("text")] != NO_TARGET).any() for each in beside])
    assert share == pytest.approx(0.75, abs=0.07)
    batch = pack_all(alone, own.widths, own.varying)
    own.mean_loss(sums(own, model, batch), batch.num_targets).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.99, 1.0])
def test_extreme_mask_ratios_train(ratio):
    own = method(mask_ratio=ratio, mask_ratios={"image": 0.5} if ratio == 0 else {})
    model = untrained(own)
    documents = [document(own, a_sample(i, names)) for i, names in enumerate([NAMES, ("image",), ("text",), ("image", "text")])]
    batch = pack_all(documents, own.widths, own.varying)
    found = sums(own, model, batch)
    loss = own.mean_loss(found, batch.num_targets)
    loss.backward()
    assert torch.isfinite(loss) and loss > 0
    if ratio == 1:
        assert batch.visible.num_tokens == len(documents), "only CLS is left to see"
    if ratio == 0:
        assert found[NAMES.index("text")] == 0 and found[0] > 0


def test_nothing_to_predict_and_impossible_ratios_are_refused():
    for bad in ({"mask_ratio": 0.0}, {"mask_ratio": 1.5}, {"mask_ratios": {"text": -0.1}}, {"mask_ratios": {"smell": 0.5}}):
        with pytest.raises(UsageError):
            method(**bad)


def test_losses_are_divided_once_by_the_valid_targets_of_the_batch():
    own = method(weights={"table": 0.25})
    counts = np.array([10, 0, 4, 5, 3, 2])
    loss = own.mean_loss(torch.tensor([20.0, 0.0, 8.0, 10.0, 3.0, 4.0]), counts)
    assert float(loss) == pytest.approx(1.0 * 2 + 0.25 * 2 + 0.5 * 2 + 0.1 * 1 + 0.1 * 2)
    assert own.loss_names == ("image", "sound", "table", "text", "sound length", "text length")


def test_patch_loss_is_the_squared_error_of_standardised_patches_or_normalised_ones():
    sample, raw, normed = a_sample(1, ("image",)), method(), method(norm_pix=True)
    for own in (raw, normed):
        model = untrained(own)
        made = document(own, sample)
        batch = pack_all([made], own.widths, own.varying)
        given = own.inputs(batch, torch.device("cpu"))
        states = model.states(given)[1]
        hidden = np.flatnonzero(made.targets != NO_TARGET)
        said = model.patch_heads["m0"](states[batch.whole.starts[0] + hidden]).float()
        true = model.patches.standard(0, torch.from_numpy(sample.tokens["image"][hidden - 1]))
        if own is normed:
            mean, deviation = true.mean(1, keepdim=True), (true.var(1, keepdim=True, correction=0) + 1e-2).sqrt()
            wanted = ((said[:, :-2] - (true - mean) / deviation) ** 2).mean(1).sum() + (
                (said[:, -2:] - torch.cat((mean, deviation), 1)) ** 2
            ).sum()
        else:
            wanted = ((said - true) ** 2).mean(1).sum()
        assert torch.allclose(own.forward(model, *given)[0], wanted, rtol=1e-4)


def test_the_probabilities_of_all_texts_that_it_can_say_sum_to_one():
    own = method()
    model = untrained(own)
    image = a_sample(0).tokens["image"]
    texts = [np.array(codes, np.uint16) for size in range(1, 5) for codes in product(range(3), repeat=size)]
    nll, counts = own.score(model, [Sample(str(i), {"image": image, "text": text}) for i, text in enumerate(texts)], ["image"], "text")
    assert np.exp(-nll).sum() == pytest.approx(1, abs=1e-3)
    assert counts.tolist() == [len(text) + 1 for text in texts], "its length is told as well"
    tables = [np.array(codes, np.uint16) for codes in product(range(4), repeat=3)]
    nll, counts = own.score(model, [Sample(str(i), {"image": image, "table": codes}) for i, codes in enumerate(tables)], ["image"], "table")
    assert 0 < np.exp(-nll).sum() <= 1.001 and set(counts) == {3}
    with pytest.raises(UsageError, match="no likelihood"):
        own.score(model, [a_sample(0)], ["text"], "image")


@pytest.mark.parametrize("guidance", [0.0, 2.0])
@pytest.mark.parametrize("want", NAMES)
def test_every_modality_is_filled_from_the_others(want, guidance):
    own = method(decode_steps=3)
    model = untrained(own)
    have = [name for name in NAMES if name != want]
    samples = [a_sample(i) for i in range(5)]
    made = own.impute(model, samples, ImputationRequest(have, want, Sampling(guidance=guidance), 2), torch.Generator().manual_seed(0))
    assert len(made.codes) == len(made.log_likelihood) == 10 and np.isfinite(made.log_likelihood).all()
    modality = LAYOUT.modalities[LAYOUT.index(want)]
    for row in made.codes:
        assert 1 <= len(row) <= modality.max_length and (not modality.fixed_length or len(row) == modality.max_length)
        if modality.continuous:
            assert row.dtype == np.uint8 and row.shape[1] == modality.patch_width
        else:
            assert row.max() < modality.vocabulary_size
    coldly = ImputationRequest(have, want, Sampling(temperature=0))
    alone = own.impute(model, samples[:1], coldly, torch.Generator().manual_seed(0))
    beside = own.impute(model, samples, coldly, torch.Generator().manual_seed(0))
    assert (alone.codes[0] == beside.codes[0]).all()


def test_settings_of_single_modalities_are_written_with_dots():
    config = resolve(None, {}, ["method.mask_ratios.text=0.5", "method.mask_ratios.image=0.9", "method.norm_pix=true"])
    assert config.method_options == {"mask_ratios": {"text": 0.5, "image": 0.9}, "norm_pix": True}
    assert settings(method="m3ae").method == "m3ae"


def test_sizes_of_the_paper():
    from mmtool.model.transformer import PRESETS

    own = method()
    for name, (width, depth, heads) in {"vit-s": (384, 12, 6), "vit-b": (768, 12, 12), "vit-l": (1024, 24, 16)}.items():
        shape = PRESETS[name]
        assert (shape.width, shape.depth, shape.heads, shape.bias) == (width, depth, heads, True)
    with torch.device("meta"):
        big = own.model(Shape(**{**PRESETS["vit-b"].to_json(), "positions": "both"}))
    assert (big.decoder_shape.depth, big.decoder_shape.width, big.decoder_shape.heads) == (8, 512, 16)
