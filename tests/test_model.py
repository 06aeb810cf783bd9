"""Promises of the transformer: packed = unpacked, cached decode = full forward, padding and neighbours change nothing."""

import numpy as np
import pytest
import torch

from mmtool.data.layout import layout_of
from mmtool.data.packing import BatchShape, pack
from mmtool.data.sample import Modality
from mmtool.data.sequence import Document, concatenate, segment
from mmtool.model import attention
from mmtool.model.decode import generate, score
from mmtool.model.losses import loss_sums
from mmtool.model.masks import attention_mask
from mmtool.model.sampling import Sampling
from mmtool.model.transformer import Shape, Transformer

IMAGE = Modality("image", "image", 16, (2, 3), "grid", "0" * 64, 6)
TEXT = Modality("text", "text", 30, None, "line", "1" * 64, 9)
LAYOUT = layout_of([IMAGE, TEXT])


def make_model(layout=LAYOUT, seed=0):
    model = Transformer(Shape(depth=2, width=64), layout)
    model.init_weights(torch.Generator().manual_seed(seed))
    with torch.no_grad():  # larger weights, so that differences would show
        for parameter in model.parameters():
            parameter.mul_(3)
    return model.eval()


def documents(count=6):
    random = np.random.default_rng(0)
    return [
        concatenate([segment(LAYOUT, 0, random.integers(16, size=6), loss=i % 2 == 0), segment(LAYOUT, 1, random.integers(30, size=1 + i))])
        for i in range(count)
    ]


def packed_loss(model, docs, shape):
    batch = pack(docs, shape)
    assert batch.num_documents == len(docs)
    tokens, modality, slot, position, document = (
        torch.from_numpy(array) for array in (batch.tokens, batch.modality, batch.slot, batch.position, batch.document)
    )
    hidden = model(tokens, modality, slot, position, attention_mask(document, modality, "past"))
    return loss_sums(model, hidden, [torch.from_numpy(p) for p in batch.target_indices], [torch.from_numpy(t) for t in batch.targets])


def test_packed_equals_unpacked():
    model, docs = make_model(), documents()
    together = packed_loss(model, docs, BatchShape(3, 48, (128, 128)))
    apart = sum(packed_loss(model, [doc], BatchShape(1, len(doc), (32, 32))) for doc in docs)
    assert torch.allclose(together, apart, rtol=1e-4)
    assert torch.allclose(together, packed_loss(model, docs, BatchShape(5, 96, (256, 256))), rtol=1e-4), "more padding changes nothing"


def test_teacher_forced_score_equals_the_training_loss():
    model, docs = make_model(), documents()
    nll, counts = score(model, docs)
    assert np.isclose(nll.sum(), float(packed_loss(model, docs, BatchShape(3, 48, (128, 128))).sum().detach()), rtol=1e-4)
    assert counts.sum() == sum((doc.targets >= 0).sum() for doc in docs)


def test_permuting_samples_permutes_scores():
    model, docs = make_model(), documents()
    order = np.random.default_rng(1).permutation(len(docs))
    assert np.allclose(score(model, docs)[0][order], score(model, [docs[i] for i in order])[0], rtol=1e-5)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("sampling", [Sampling(0.0), Sampling(1.0), Sampling(1.0, guidance=2.0)])
def test_cached_decode_gives_the_likelihood_of_the_full_forward(index, sampling):
    model = make_model()
    random = np.random.default_rng(0)
    prompts = [segment(LAYOUT, 1 - index, random.integers(16, size=6 if index else n), loss=False) for n in (1, 4, 9)]
    made = generate(model, prompts, index, sampling=sampling, generator=torch.Generator().manual_seed(0), draws=3)
    assert len(made.codes) == 9 and all(len(codes) >= 1 for codes in made.codes)
    whole = [concatenate([prompts[i // 3], segment(LAYOUT, index, codes)]) for i, codes in enumerate(made.codes)]
    assert np.allclose(-made.log_likelihood, [allowed_nll(model, document, index) for document in whole], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("guidance", [0.0, 0.5])
def test_rows_that_end_and_leave_the_batch_change_nothing_for_those_that_go_on(guidance):
    layout = layout_of([IMAGE, Modality("text", "text", 30, None, "line", "1" * 64, 60)])
    model = make_model(layout)
    with torch.no_grad():  # END is as likely as any code
        model.head[layout.target_range(1)[0]] = 0
    prompts = [segment(layout, 0, np.random.default_rng(i).integers(16, size=6), loss=False) for i in range(10)]
    made = generate(model, prompts, 1, sampling=Sampling(guidance=guidance), generator=torch.Generator().manual_seed(0), draws=4)
    lengths = [len(codes) for codes in made.codes]
    assert min(lengths) < 16 and max(lengths) > 48 and len(set(lengths)) > 10, "rows leave at several looks"
    whole = [concatenate([prompts[i // 4], segment(layout, 1, codes)]) for i, codes in enumerate(made.codes)]
    assert np.allclose(-made.log_likelihood, [allowed_nll(model, document, 1) for document in whole], rtol=1e-3, atol=1e-3)


def allowed_nll(model, document, index):
    """Score of a segment by one full forward, END (local 0) being allowed and forced exactly where decoding does so."""
    tensors = [torch.from_numpy(array)[None] for array in (document.tokens, document.modality, document.slot, document.position)]
    with torch.no_grad():
        hidden = model(*tensors, torch.ones(len(document), len(document), dtype=torch.bool).tril()[None, None])[0]
    places = np.flatnonzero((document.targets >= 0) & (document.modality == index))
    scores = model.logits(hidden[places], index).detach()
    modality = model.layout.modalities[index]
    scores[: len(places) if modality.fixed_length else 1, 0] = -torch.inf
    if not modality.fixed_length and len(places) > modality.max_length:
        scores[-1, 1:] = -torch.inf
    return -float(torch.log_softmax(scores, -1)[range(len(places)), document.targets[places]].sum())


def test_prompts_of_other_rows_and_draws_change_nothing():
    model = make_model()
    prompts = [segment(LAYOUT, 1, np.arange(n), loss=False) for n in (2, 9, 5)]
    greedy = Sampling(0.0)
    together = generate(model, prompts, 0, sampling=greedy, generator=torch.Generator().manual_seed(0), draws=2).codes
    for i, prompt in enumerate(prompts):
        alone = generate(model, [prompt], 0, sampling=greedy, generator=torch.Generator().manual_seed(0)).codes[0]
        assert (together[2 * i] == alone).all() and (together[2 * i + 1] == alone).all()


def test_codes_stay_in_the_modality_and_its_lengths():
    model = make_model()
    made = generate(
        model, [segment(LAYOUT, 1, np.arange(3), loss=False)] * 50, 0, sampling=Sampling(1.0, 4), generator=torch.Generator().manual_seed(0)
    )
    assert all(len(codes) == 6 and codes.max() < 16 for codes in made.codes)
    made = generate(
        model, [segment(LAYOUT, 0, np.arange(6), loss=False)] * 50, 1, sampling=Sampling(), generator=torch.Generator().manual_seed(0)
    )
    assert all(1 <= len(codes) <= 9 and codes.max() < 30 for codes in made.codes)


def test_the_order_of_segments_is_the_only_thing_order_changes():
    """Positions restart per segment, so a bidirectional model sees the same sample in any order of its segments."""
    model = make_model()
    parts = [segment(LAYOUT, 0, np.arange(6)), segment(LAYOUT, 1, np.arange(4))]
    hidden = []
    for order in (parts, parts[::-1]):
        doc = concatenate(order)
        tensors = [torch.from_numpy(array)[None] for array in (doc.tokens, doc.modality, doc.slot, doc.position)]
        hidden.append(model(*tensors, torch.ones(1, 1, len(doc), len(doc), dtype=torch.bool))[0])
    assert torch.allclose(hidden[0], torch.cat((hidden[1][5:], hidden[1][:5])), atol=1e-4)


def test_both_attention_kernels_agree(monkeypatch):
    model, docs = make_model(), documents()
    explicit = score(model, docs)[0]
    monkeypatch.setattr(attention, "EXPLICIT_MAX_LENGTH", 0)
    assert np.allclose(explicit, score(model, docs)[0], rtol=1e-4)


def test_a_modality_without_targets_contributes_zero_not_nan():
    model = make_model()
    sums = packed_loss(model, [segment(LAYOUT, 1, np.arange(4))], BatchShape(1, 16, (8, 8)))
    assert sums[0] == 0 and torch.isfinite(sums).all()
    sums.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_modality_never_seen_in_a_batch_changes_nothing_for_the_others():
    small, wide = layout_of([IMAGE]), layout_of([IMAGE, TEXT])
    one, two = make_model(small), make_model(wide)
    state = one.state_dict()
    for name, tensor in state.items():
        two.state_dict()[name][: len(tensor)].copy_(tensor)
    codes = np.arange(6)
    assert np.allclose(score(one, [segment(small, 0, codes)])[0], score(two, [segment(wide, 0, codes)])[0], rtol=1e-5)


def test_two_axes_have_half_of_the_frequencies_each_and_a_line_is_a_line_on_any_number_of_axes():
    position = torch.randint(0, 9, (2, 5, 2))
    frequency = 1000.0 ** (-torch.arange(8, dtype=torch.float32) / 8)
    cos, sin = attention.rope(position, 32, 1000.0, torch.float32)
    angle = (position.float()[..., None] * frequency).flatten(-2)[:, None]
    assert torch.equal(cos, angle.cos()) and torch.equal(sin, angle.sin())
    assert attention.axis_shares(16, 3) == [6, 5, 5]
    three = attention.rope(torch.arange(5)[None, :, None].expand(1, 5, 3), 32, 1000.0, torch.float32)
    assert three[0].shape == (1, 1, 5, 16)
    q, k = torch.randn(2, 1, 1, 1, 32).expand(2, 1, 1, 5, 32)
    scores = attention.apply_rope(q, *three) @ attention.apply_rope(k, *three).transpose(-2, -1)
    assert torch.allclose(scores[0, 0, 0, 1], scores[0, 0, 3, 4], atol=1e-5), "distances decide"


@pytest.mark.parametrize("positions", ["rotary", "fixed", "both"])
def test_three_axes_score_and_generate_like_two(positions):
    video = Modality("video", "video", 16, (2, 2, 3), "grid", "4" * 64, 12)
    layout = layout_of([video, IMAGE, TEXT])
    model = Transformer(Shape(depth=2, width=64, positions=positions), layout)
    model.init_weights(torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    random = np.random.default_rng(0)
    docs = [
        concatenate([segment(layout, 2, random.integers(30, size=1 + i), loss=False), segment(layout, 0, random.integers(16, size=12))])
        for i in range(4)
    ]
    nll, _ = score(model.eval(), docs)
    assert np.isclose(nll.sum(), float(packed_loss(model, docs, BatchShape(3, 48, (128,) * 3)).sum().detach()), rtol=1e-4)
    prompts = [concatenate([]), *(segment(layout, 2, random.integers(30, size=3), loss=False) for _ in range(2))]
    drawn = generate(model, prompts, 0, sampling=Sampling(), generator=torch.Generator().manual_seed(0))
    assert all(len(codes) == 12 for codes in drawn.codes)
    whole = segment(layout, 0, np.tile(np.arange(6), 2))
    still = np.minimum(whole.position, (1, 9, 9))  # as if both frames were the first
    moved = [whole, Document.of(whole.tokens, whole.targets, whole.modality, whole.slot, still)]
    first, second = score(model, moved)[0]
    assert abs(first - second) > 1e-5 * first
