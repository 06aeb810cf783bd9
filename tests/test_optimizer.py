"""Matrices of the blocks are stepped by Muon, everything else by AdamW, with one learning rate."""

import pytest
import torch

from mmtool.data.layout import layout_of
from mmtool.data.sample import Modality
from mmtool.model.transformer import Shape, Transformer
from mmtool.training.config import PretrainConfig
from mmtool.training.optimizer import ADAMW_SIZE, make_optimizer

RATE, DECAY = 1e-2, 0.1


@pytest.fixture
def model() -> Transformer:
    model = Transformer(Shape(depth=2, width=64), layout_of([Modality("text", "text", 40, None, "line", "f" * 64, 8, 0)]))
    generator = torch.Generator().manual_seed(0)
    model.init_weights(generator)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return model


def moved(model: Transformer, config: PretrainConfig) -> dict[str, torch.Tensor]:
    """What one step adds to each parameter, its decay apart."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    make_optimizer(model, config).step()
    decayed = {name for name, parameter in before.items() if parameter.ndim == 2 and "embedding" not in name}
    return {
        name: parameter.detach() - before[name] * (1 - RATE * DECAY * (name in decayed)) for name, parameter in model.named_parameters()
    }


def test_muon_moves_a_matrix_equally_in_all_directions(model: Transformer) -> None:
    steps = moved(model, PretrainConfig(learning_rate=RATE, weight_decay=DECAY, optimizer="muon"))
    step = steps["blocks.0.attention.qkv.weight"]
    sizes = torch.linalg.svdvals(step) / (RATE * ADAMW_SIZE * max(step.shape) ** 0.5)
    assert sizes.min() > 0.5 and sizes.max() < 1.3


def test_its_steps_are_as_large_as_those_of_adamw(model: Transformer) -> None:
    step = moved(model, PretrainConfig(learning_rate=RATE, weight_decay=DECAY, optimizer="muon"))["blocks.1.mlp.down.weight"]
    assert step.square().mean().sqrt() == pytest.approx(RATE * ADAMW_SIZE, rel=0.25)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_adamw_moves_everything_else(model: Transformer, optimizer: str) -> None:
    gradients = {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}
    steps = moved(model, PretrainConfig(learning_rate=RATE, weight_decay=DECAY, optimizer=optimizer))
    for name, step in steps.items():
        by_muon = optimizer == "muon" and name.startswith("blocks.") and step.ndim == 2
        first_step_of_adamw = -RATE * gradients[name].sign()
        assert torch.allclose(step, first_step_of_adamw, atol=RATE / 20) != by_muon, name


def test_a_parameter_without_gradient_stays(model: Transformer) -> None:
    idle = model.blocks[0].attention.out.weight
    idle.grad, before = None, idle.detach().clone()
    make_optimizer(model, PretrainConfig(optimizer="muon")).step()
    assert torch.equal(idle, before)
