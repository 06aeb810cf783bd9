"""Parameter-efficient tuning of a frozen encoder: biases, low-rank changes, bottleneck adapters; one implementation for all encoders.

All start at the function of the frozen encoder: what is added is 0 until it is trained.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def free_biases(modules: Iterable[nn.Module]) -> None:
    """Let the biases of these modules train (BitFit, Ben Zaken et al. 2022, arXiv 2106.10199); linear layers without one get one of 0."""
    for module in modules:
        for linear in module.modules():
            if isinstance(linear, nn.Linear) and linear.bias is None:
                linear.bias = nn.Parameter(linear.weight.new_zeros(linear.out_features))
        for name, parameter in module.named_parameters():
            if name.rpartition(".")[2] == "bias":
                parameter.requires_grad_(True)


def add_lora(layers: nn.ModuleList, sites: Sequence[str], rank: int, generator: torch.Generator) -> None:
    """A low-rank change on every linear layer that lies at one of `sites` in its layer."""
    _wrap(layers, sites, lambda linear: LowRank(linear, rank, generator))


def add_adapters(layers: nn.ModuleList, sites: Sequence[str], width: int, generator: torch.Generator) -> None:
    """An adapter behind every linear layer that lies at one of `sites` in its layer."""
    _wrap(layers, sites, lambda linear: Bottleneck(linear, width, generator))


def is_wrapped(layers: nn.Module) -> bool:
    """Whether LoRA or adapters are there already."""
    return any(isinstance(module, LowRank | Bottleneck) for module in layers.modules())


class LowRank(nn.Module):
    """base(x) + up(down(x)) (LoRA, Hu et al. 2021, arXiv 2106.09685); up starts at 0. Its scale is 1 (alpha = rank)."""

    def __init__(self, base: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(torch.randn(rank, base.in_features, generator=generator) / math.sqrt(base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))


class Bottleneck(nn.Module):
    """y + up(gelu(down(y))) for y = base(x) (adapter, Pfeiffer et al. 2021, arXiv 2005.00247); up starts at 0."""

    def __init__(self, base: nn.Linear, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Parameter(torch.randn(width, base.out_features, generator=generator) / math.sqrt(base.out_features))
        self.down_bias, self.up_bias = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(base.out_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.base(x)
        inner = F.gelu(F.linear(y, self.down.to(y.dtype), self.down_bias.to(y.dtype)))
        return y + F.linear(inner, self.up.to(y.dtype), self.up_bias.to(y.dtype))


def _wrap(layers: nn.ModuleList, sites: Sequence[str], around: Callable[[nn.Linear], nn.Module]) -> None:
    """Replace every linear layer at one of the sites by what `around` makes of it."""
    wrapped = [name for name, module in layers.named_modules() if isinstance(module, nn.Linear) and name.partition(".")[2] in sites]
    assert wrapped, f"no linear layer at {sites}"
    for name in wrapped:
        parent, _, attribute = name.rpartition(".")
        linear = layers.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        setattr(layers.get_submodule(parent), attribute, around(linear))
