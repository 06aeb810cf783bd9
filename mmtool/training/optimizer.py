"""Muon for the matrices of the blocks, AdamW for the rest; linear warm-up, then a cosine or a constant rate.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) with a step as large as AdamW's, so that one learning rate
serves both (Liu et al. 2025, arXiv 2502.16982, equation 4).
"""

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmtool.model.transformer import Transformer
from mmtool.tokenizers.muon import MOMENTUM, orthogonal
from mmtool.training.config import Budget, PretrainConfig
from mmtool.training.distributed import part_like, whole
from mmtool.training.extension import Extension

ADAMW_SIZE = 0.2  # root mean square of the entries of a typical step of AdamW


class Schedule(Protocol):
    """What the learning rate of any training depends on besides its progress."""

    @property
    def schedule(self) -> str: ...

    @property
    def warmup_steps(self) -> int: ...

    @property
    def min_lr_share(self) -> float: ...


class MuonAdamW(torch.optim.AdamW):
    """AdamW in which the groups marked `muon` are stepped by Muon: one optimizer, one state, one schedule. A matrix that is sharded is
    gathered for its step, one at a time.

    dtype: of the orthogonalisation, the dearest part of the step.
    """

    def __init__(self, groups: list[dict[str, Any]], dtype: torch.dtype, **settings: Any) -> None:
        super().__init__(groups, **settings)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        every = self.param_groups
        self.param_groups = [group for group in every if not group["muon"]]
        try:
            super().step()
        finally:
            self.param_groups = every
        for group in every:
            if group["muon"]:
                self._muon_step(group)

    def _muon_step(self, group: dict[str, Any]) -> None:
        for weight in group["params"]:
            if weight.grad is None:
                continue
            momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
            momentum.lerp_(weight.grad, 1 - MOMENTUM)
            step = orthogonal(whole(weight.grad.lerp(momentum, MOMENTUM)), self.dtype)
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(part_like(step, weight), alpha=-group["lr"] * ADAMW_SIZE * max(weight.shape) ** 0.5)


def make_optimizer(model: Transformer, config: PretrainConfig) -> MuonAdamW:
    """Muon or AdamW for the matrices of the blocks, fused AdamW for all else. Matrices decay; embeddings, norms and biases do not."""
    named = dict(model.named_parameters())
    matrices = {name for name, parameter in named.items() if parameter.ndim == 2 and "embedding" not in name}
    inner = {name for name in matrices if name.startswith("blocks.")} if config.optimizer == "muon" else set()
    groups = [
        {"params": _chosen(named, matrices - inner), "weight_decay": config.weight_decay, "muon": False},
        {"params": _chosen(named, set(named) - matrices), "weight_decay": 0.0, "muon": False},
        {"params": _chosen(named, inner), "weight_decay": config.weight_decay, "muon": True},
    ]
    rate = max_lr(config, model.shape.width)
    present = [group for group in groups if group["params"]]
    return MuonAdamW(present, model.compute_dtype, lr=rate, betas=config.betas, eps=1e-8, fused=True)


def _chosen(named: dict[str, nn.Parameter], names: set[str]) -> list[Tensor]:
    return [parameter for name, parameter in named.items() if name in names]


def max_lr(config: Budget, width: int) -> float:
    """The set learning rate, or 3e-3 at a width of 128 falling with the width (muP's rule for matrices, arXiv 2203.03466)."""
    return config.learning_rate or 3e-3 * 128 / width


def lr_multiplier(step: int, progress: float, config: Schedule, extension: Extension | None = None) -> float:
    """Share of the peak rate at a step; progress runs from 0 to 1 over the training. extension: where the budget was another one before."""
    warm, share = _ramp(step, config), _share(progress, config)
    if extension is not None and step >= extension.step:
        before = _share(extension.progress, config)
        share = before + (share - before) * _ramp(step - extension.step, config)
    return warm * share


def _ramp(step: int, config: Schedule) -> float:
    return min(1.0, (step + 1) / max(1, config.warmup_steps))


def _share(progress: float, config: Schedule) -> float:
    if config.schedule == "constant":
        return 1.0
    return config.min_lr_share + (1 - config.min_lr_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
