"""AdamW with linear warm-up and cosine decay."""

import math
from typing import Protocol

import torch

from mmtool.model.transformer import Transformer
from mmtool.training.config import PretrainConfig


class Schedule(Protocol):
    """What the learning rate of any training depends on besides its progress."""

    @property
    def warmup_steps(self) -> int: ...

    @property
    def min_lr_share(self) -> float: ...


def make_optimizer(model: Transformer, config: PretrainConfig) -> torch.optim.AdamW:
    """Fused AdamW; matrices decay, embeddings, norms and biases do not."""
    matrices = {name for name, parameter in model.named_parameters() if parameter.ndim == 2 and "embedding" not in name}
    decayed = [parameter for name, parameter in model.named_parameters() if name in matrices]
    plain = [parameter for name, parameter in model.named_parameters() if name not in matrices]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=peak_rate(config, model.shape.width), betas=config.betas, eps=1e-8, fused=True)


def peak_rate(config: PretrainConfig, width: int) -> float:
    """The set learning rate, or 3e-3 at a width of 128 falling with the width (muP's rule for matrices, arXiv 2203.03466)."""
    return config.learning_rate or 3e-3 * 128 / width


def rate_share(step: int, progress: float, config: Schedule) -> float:
    """Share of the peak rate at a step; progress runs from 0 to 1 over the training."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    cosine = config.min_lr_share + (1 - config.min_lr_share) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return warm * cosine
