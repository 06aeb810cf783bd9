"""Promises of the joint embedding: what is trained, what the objective is, and that no pattern of absence breaks it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_training import make_shards, sample, settings
from torch import nn

from mmtool.adaptation.adapter import build_model, count_parameters, open_adapter, open_encoders
from mmtool.adaptation.batches import LabelledSamples, encode, encode_all
from mmtool.adaptation.config import AdaptConfig
from mmtool.adaptation.imputed_embeddings import Moments
from mmtool.adaptation.joint_embedding import CHOICES, Masks, draw_masks, masks_of, off_diagonal, variance_hinge
from mmtool.adaptation.measure import predicted_embeddings
from mmtool.adaptation.train import AdaptTrainer, adapt
from mmtool.data.shards import open_token_set
from mmtool.training.labelled_task import TASKS
from mmtool.training.loop import Window
from mmtool.training.pretrain import pretrain

CPU = torch.device("cpu")
NAMES = ("a", "b", "c")
LABEL = {"label": "class"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """shards of complete samples of a, b, c (make_shards' tables), and a run on each of these modalities alone."""
    folder = tmp_path_factory.mktemp("joint")
    make_shards(folder / "shards", pairs=("abc",))
    for name in NAMES:
        make_shards(folder / f"only-{name}", pairs=(name,))
        pretrain(settings(method="masked", steps=30, learning_rate=0.01, checkpoint_every=0), folder / f"only-{name}", folder / name)
    return folder


def tokenizers(world):
    return open_token_set(world / "shards", split="train").tokenizers


def encoders(world, names=NAMES):
    return open_encoders({name: world / name for name in names}, tokenizers(world), CPU, AdaptConfig(**LABEL, precision="fp32"))


def trainer_of(world, samples, labels, names=NAMES, **options):
    config = AdaptConfig(**{**LABEL, "batch": len(samples), "method_options": options})
    task = TASKS["single"].of([0, 1, 2, 3], balanced=False)
    trainer = AdaptTrainer(build_model(encoders(world, names), task, config), task, LabelledSamples(names, samples, labels), config, CPU)
    trainer.fit_moments(first=True)
    return trainer


def some(kinds, number=8):
    return [sample(f"{kind}-{i}", i % 4, kind) for kind in kinds for i in range(number)], [i % 4 for _ in kinds for i in range(number)]


def losses_of(trainer):
    trainer.joint.train()
    return trainer.losses_of(np.arange(len(trainer.data.samples)), list(range(len(trainer.data.samples))))


@pytest.mark.parametrize(
    "options", [{}, {"predictor": "transformer", "prompts": 16}, {"stop_gradient": False, "deep": True}, {"prompts": 0}]
)
def test_the_gradient_reaches_prompts_predictor_fusion_and_biases_and_nothing_else(world, options):
    trainer = trainer_of(world, *some(["abc", "a", "bc"]), **options)
    model, before = trainer.joint, {name: value.clone() for name, value in trainer.joint.state_dict().items()}
    losses_of(trainer)[0].backward()
    reached = {name for name, value in model.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0}
    trained = set(model.trained())
    assert reached <= trained
    assert {name.partition(".")[0] for name in trained} == {"encoders", "predictor", "fusion", *(["prompts"] if model.prompts else [])}
    assert all(name.endswith("bias") for name in trained if name.startswith("encoders"))
    parts = {"fusion", "predictor", "prompts"} & {name.partition(".")[0] for name in trained}
    for start in parts:
        assert any(name.startswith(start) for name in reached), start
    for place in range(len(NAMES)):
        assert any(name.startswith(f"encoders.{place}.") for name in reached)
    trainer._one_step(Window())
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed <= trained and changed & reached


def test_prompts_change_no_embedding_and_nothing_else_reads_them(world):
    trainer = trainer_of(world, *some(["abc"]))
    own = trainer.data.samples
    alone = build_model(encoders(world), trainer.task, AdaptConfig(**LABEL, method="zeros"))
    alone.scales.load_state_dict(trainer.joint.scales.state_dict())
    plain = encode_all(alone, own, CPU)
    read = encode_all(trainer.joint, own, CPU)
    with torch.no_grad():
        for prompts in trainer.joint.prompts:
            prompts.add_(3.0)
    moved = encode_all(trainer.joint, own, CPU)
    for m in range(len(NAMES)):
        assert torch.allclose(plain.embedding[m], read.embedding[m], atol=1e-5) and torch.equal(read.embedding[m], moved.embedding[m])
        assert not torch.allclose(read.reading[m], moved.reading[m], atol=1e-3)


def test_a_stopped_gradient_leaves_the_predicted_side_alone(world):
    for stop in (True, False):
        trainer = trainer_of(world, *some(["ab"]), names=("a", "b"), stop_gradient=stop, replace=0.0)
        encodings = encode(trainer.joint, trainer.data.samples, CPU)
        leaves = [own.detach().requires_grad_() for own in encodings.embedding]
        encodings.embedding[:] = leaves
        masks = masks_of(encodings.present)
        _, predicted = trainer.joint(encodings, masks)
        trainer.joint.weigh(trainer.joint.joint_loss(encodings, masks, predicted)).backward()
        assert all((own.grad is None or not own.grad.any()) == stop for own in leaves)


@pytest.mark.parametrize("kinds", [["a"], ["a", "b"], ["a", "bc"], ["abc"], ["ab", "c"]])
@pytest.mark.parametrize("absent", CHOICES["absent"])
def test_no_pattern_of_absence_gives_nan_and_one_sample_is_enough(world, kinds, absent):
    for number in (8, 1):
        trainer = trainer_of(world, *some(kinds, number), absent=absent)
        loss, parts = losses_of(trainer)
        loss.backward()
        assert torch.isfinite(loss) and all(torch.isfinite(part) for part in parts.values())
        for value in trainer.joint.trained().values():
            assert value.grad is None or torch.isfinite(value.grad).all()
        assert ("invariance" in parts) == (absent == "predicted" and any(len(kind) > 1 for kind in kinds))


def test_a_batch_without_a_complete_sample_still_trains_on_its_task(world):
    trainer = trainer_of(world, *some(["a", "b"]), names=("a", "b"))
    first = float(losses_of(trainer)[0].detach())
    for _ in range(20):
        trainer._one_step(Window())
    trainer.joint.eval()
    assert float(losses_of(trainer)[1]["task"].detach()) < first


def test_a_class_that_never_shows_a_modality_in_training_is_predicted_from_it_or_from_the_others(world, tmp_path):
    train, labels = some(["ab"], 64)
    train = [one if label else sample(one.key, label, "a") for one, label in zip(train, labels, strict=True)]
    trainer = trainer_of(world, train, labels, names=("a", "b"))
    for _ in range(60):
        trainer._one_step(Window())
    held = [sample(f"t{i}", 0, kind) for i in range(20) for kind in ("a", "ab", "b")]
    encodings = encode_all(trainer.joint.eval(), held, CPU)
    with torch.no_grad():
        outputs = trainer.joint(encodings, masks_of(encodings.present))[0]
    assert torch.isfinite(outputs).all()
    assert (outputs.argmax(1) == 0)[0::3].float().mean() > 0.8, "from the modality it was seen with"
    assert (outputs.argmax(1) == 0)[1::3].float().mean() > 0.5


def test_predictions_come_from_the_sources_alone(world):
    trainer = trainer_of(world, *some(["abc"]))
    encodings = encode_all(trainer.joint.eval(), trainer.data.samples, CPU)
    other = encode_all(trainer.joint, [sample(f"o{i}", (i + 1) % 4, "bc") for i in range(8)], CPU)
    mixed = type(encodings)([encodings.embedding[0], *other.embedding[1:]], [encodings.reading[0], *other.reading[1:]], encodings.present)
    sources = torch.zeros(8, 3, 3, dtype=torch.bool)
    sources[:, 1:, 0] = True
    with torch.no_grad():
        one, two = (trainer.joint.predictor(each.reading, sources) for each in (encodings, mixed))
    assert all(torch.equal(one[m], two[m]) for m in (1, 2))


def test_masks_hide_never_all_and_predict_from_what_is_visible():
    present = np.array([[True, True, True], [True, False, False], [False, True, True], [False, False, False]] * 50)
    masks = draw_masks(present, list(range(200)), replace=0.5)
    visible, sources = masks.visible.numpy(), masks.sources.numpy()
    assert (visible <= present).all() and (visible.any(1) == present.any(1)).all()
    assert 0.3 < (visible != present)[::4].any(1).mean() < 0.7
    assert not sources[:, range(3), range(3)].any() and (sources <= visible[:, None]).all()
    hidden = present & ~visible
    assert (sources.any(-1)[hidden]).all()
    again = draw_masks(present[::-1], list(range(200))[::-1], replace=0.5)
    assert (again.visible.numpy()[::-1] == visible).all(), "a function of the sample's seed alone"


def test_the_objective_is_that_of_vicreg():
    rows = torch.randn(64, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 0.5, 1.0, 2.0, 0.0])
    wanted = torch.relu(1 - torch.sqrt(rows.var(0) + 1e-4)).mean()
    assert torch.allclose(variance_hinge(rows, 1.0), wanted)
    covariance = torch.cov(rows.T)
    assert torch.allclose(off_diagonal(rows), (covariance - covariance.diag().diag()).square().sum() / 5, atol=1e-6)
    assert variance_hinge(rows[:1], 1.0) == 0 == off_diagonal(rows[:1])


def test_ridge_finds_a_linear_link_between_embeddings_without_a_complete_sample():
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(400, 3, generator=generator)
    maps = [torch.randn(3, width, generator=generator) for width in (4, 5, 6)]
    real = [latent @ each + 1 for each in maps]
    present = torch.ones(400, 3, dtype=torch.bool)
    present[torch.arange(400), torch.arange(400) % 3] = False
    moments = Moments((4, 5, 6), covariances=True)
    moments.fit([own * present[:, m, None] for m, own in enumerate(real)], present)
    for m, filled in enumerate(moments.ridge(real, present)):
        gone = ~present[:, m]
        error = (filled[gone] - real[m][gone]).square().mean() / real[m].var()
        assert error < 0.2


def test_an_adapter_gives_the_answers_it_was_saved_with_and_names_wrong_encoders(world, tmp_path, monkeypatch):
    sources = {name: world / name for name in ("b", "a")}
    config = AdaptConfig(**LABEL, steps=6, batch=16, missing_rate=0.7)
    trained = []
    train = AdaptTrainer.train
    monkeypatch.setattr(AdaptTrainer, "train", lambda self, *rest: (trained.append(self.joint), train(self, *rest))[1])
    done = adapt(config, sources, world / "shards", tmp_path / "adapter")
    assert done.bytes < 5e6 and (tmp_path / "adapter" / "adapter.safetensors").stat().st_size == done.bytes
    one, two = (open_adapter(tmp_path / "adapter", tokenizers(world), CPU) for _ in range(2))
    held = [sample(f"t{i}", i % 4, "a") for i in range(5)]
    said = [predicted_embeddings(each, encode_all(each.model, held, CPU), ["a"], "b")[1] for each in (one, two)]
    known = encode_all(trained[0], held, CPU)
    assert trained[0].names == one.model.names == ("a", "b"), "whatever the order in which encoders were named"
    with torch.no_grad():
        wanted, given = (model(known, masks_of(known.present))[0] for model in (trained[0], one.model))
    assert torch.equal(wanted, given)
    assert torch.equal(*said) and said[0].shape == (5, 32)
    with pytest.raises(Exception, match=r"encoder of a is \w+, the adapter .* was trained on"):
        pretrain(settings(method="masked", steps=2, checkpoint_every=0), world / "only-a", tmp_path / "other")
        open_adapter(tmp_path / "adapter", tokenizers(world), CPU, {"a": tmp_path / "other"})


@pytest.mark.parametrize("tune", ["lora", "adapter", "none"])
def test_other_ways_of_tuning_train_what_they_name_and_are_stored(world, tmp_path, tune):
    sources = {name: world / name for name in ("a", "b")}
    config = AdaptConfig(**LABEL, steps=3, batch=8, missing_rate=0.5, method_options={"tune": tune})
    adapt(config, sources, world / "shards", tmp_path / "adapter")
    adapter = open_adapter(tmp_path / "adapter", tokenizers(world), CPU)
    inside = [name for name in adapter.model.trained() if name.startswith("encoders")]
    assert bool(inside) == (tune != "none") and not any(name.endswith("qkv.bias") for name in inside)
    if tune == "lora":
        assert any(adapter.model.get_parameter(name).abs().sum() > 0 for name in inside if name.endswith("up"))


def test_the_trained_share_is_small_at_the_base_preset():
    from test_training import modality

    from mmtool.data.graph import CoOccurrence
    from mmtool.data.layout import layout_of
    from mmtool.encoders.run_encoder import RunEncoder
    from mmtool.methods.masked import Masked, MaskedOptions
    from mmtool.model.transformer import PRESETS, Transformer

    made = []
    for name in ("a", "b", "c"):
        layout = layout_of([modality(name)])
        with torch.device("meta"):
            model = Transformer(PRESETS["base"], layout)
        model = model.to_empty(device="cpu")
        method = Masked(layout, CoOccurrence({frozenset(name): 1}), MaskedOptions())
        made.append(RunEncoder(model, method, name, name * 64, None, "mean"))
    task = TASKS["single"].of(list(range(10)), balanced=False)
    for number in (2, 3):
        counted = count_parameters(build_model(made[:number], task, AdaptConfig(**LABEL)))
        parts = counted["parts"]
        assert sum(size for name, size in parts.items() if name != "fusion") < 0.02 * counted["frozen"], parts
        assert 4 * counted["trained"] < 5e6


def test_the_masks_of_inference_use_all_that_is_there():
    masks = masks_of(torch.tensor([[True, False, True]]))
    assert isinstance(masks, Masks)
    assert masks.sources[0].tolist() == [[False, False, True], [True, False, True], [True, False, False]]


def test_encoders_stay_in_evaluation_mode(world):
    model = trainer_of(world, *some(["abc"])).joint
    model.train()
    assert model.training and not any(encoder.training for encoder in model.encoders)
    assert isinstance(model.fusion.dropout, nn.Dropout) and model.fusion.dropout.training
    assert Path(world).exists()
