"""Finetuning: a head on the features of a pretrained run, and the run itself with it, lower blocks the slower the deeper they lie."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from mmtool.common.errors import UsageError
from mmtool.data.loader import SampleLoader, sample_seed
from mmtool.data.sample import Sample
from mmtool.methods.protocols import Representing
from mmtool.model.transformer import Transformer
from mmtool.training.config import FinetuneConfig
from mmtool.training.labelled_task import ACCURACY, R2, balanced_weights
from mmtool.training.loop import TransformerLoop, Window
from mmtool.training.optimizer import max_lr
from mmtool.training.target import Target, head_outputs, predict

RATE_SHARE = 0.5  # of the rate of pretraining at the same width


class Finetuner(TransformerLoop):
    """Steps on labelled samples; validates on held-out ones, keeps the best step in mind and stops when there is no progress.

    Scores are accuracy, or R2 of a number, on the held-out samples.
    """

    loader: SampleLoader

    def __init__(
        self,
        model: Transformer,
        method: Representing,
        target: Target,
        loader: SampleLoader,
        held_out: Sequence[Sample],
        config: FinetuneConfig,
    ) -> None:
        rate = RATE_SHARE * max_lr(config, model.shape.width) if not config.learning_rate else config.learning_rate
        optimizer = make_optimizer(model, config, rate)
        super().__init__(model, optimizer, loader, config, max_lr=rate, losses=(target.label,))
        self.method, self.target, self.held_out, self._dropout = method, target, held_out, config.dropout
        self.task = target.task.weighted(class_weights(config, loader, target))

    def _gradients(self, window: Window) -> tuple[Tensor, Sequence[str]]:
        samples = self.loader.next()
        targets = torch.from_numpy(self.target.encode(samples)).to(self.device)
        outputs = head_outputs(self.model, self.method, self.target, samples, self._dropped(len(samples)))
        loss = self.task.loss(outputs, targets)
        loss.backward()
        window.loss, window.targets = window.loss + loss.detach()[None], window.targets + np.ones(1)
        sizes = [sum(len(sample.tokens[name]) for name in self.target.have if name in sample.tokens) for sample in samples]
        window.tokens += sum(sizes)
        window.flops += sum(sizes) * self.model.flops_per_token(max(sizes))
        return loss.detach()[None], [sample.key for sample in samples]

    def _dropped(self, count: int) -> Tensor | None:
        """(N, D) factors that hide a share of the features and keep their mean: a function of the seed and the step."""
        if not self._dropout:
            return None
        generator = torch.Generator().manual_seed(sample_seed(self.config.seed, self.step, "dropout") >> 1)
        assert self.model.task_head is not None
        kept = torch.rand(count, self.model.task_head.in_features, generator=generator) >= self._dropout
        return (kept / (1 - self._dropout)).to(self.device)

    def validate(self) -> dict[str, float]:
        """Loss and score on the held-out samples."""
        if not self.held_out:
            return {}
        return scores(self.target, predict(self.model, self.method, self.target, self.held_out), self.held_out)

    def _update_early_stopping(self, measured: Mapping[str, float]) -> None:
        self.early_stopping.update(measured[self.task.metric], self.step)


def scores(target: Target, outputs: np.ndarray, samples: Sequence[Sample]) -> dict[str, float]:
    """Loss, and accuracy or R2 (of samples that are all alike by the variance in training); a class that training never saw is always wrong
    and has no loss."""
    targets = target.encode(samples)
    loss = float(target.task.loss(torch.from_numpy(outputs), torch.from_numpy(targets)))
    if target.is_number:
        return {"loss": loss, R2: 1 - loss / (float(targets.var()) or 1.0)}
    return {"loss": loss, ACCURACY: float((outputs.argmax(1) == targets[:, 0]).mean())}


def make_optimizer(model: Transformer, config: FinetuneConfig, rate: float) -> torch.optim.AdamW:
    """AdamW whose groups carry the `share` of the learning rate that their layer has; matrices decay, the rest does not."""
    depth = model.shape.depth
    groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        share = config.layer_decay ** (depth + 1 - layer_of(name, depth))
        if share:
            groups.setdefault((share, parameter.ndim == 2 and "embedding" not in name), []).append(parameter)
        else:
            parameter.requires_grad_(False)
    listed = [
        {"params": parameters, "share": share, "weight_decay": config.weight_decay if decays else 0.0}
        for (share, decays), parameters in groups.items()
    ]
    return torch.optim.AdamW(listed, lr=rate, betas=config.betas, eps=1e-8, fused=True)


def layer_of(name: str, depth: int) -> int:
    """0 for what embeds tokens, 1 ... depth for the blocks from below (the last norm counts as of the last), depth + 1 for the head."""
    if name.startswith("task_head."):
        return depth + 1
    block = re.search(r"(?:^|\.)blocks\.(\d+)\.", name)
    if block:
        return int(block[1]) + 1
    return depth if "final_norm" in name else 0


def class_weights(config: FinetuneConfig, loader: SampleLoader, target: Target) -> list[float]:
    """One weight in the loss for each class, none where all are alike. Raises UsageError for classes that are not there."""
    if config.class_weights == "none":
        return []
    where = "--class-weights"
    if target.is_number:
        raise UsageError(f"{target.label} is a number, which has no classes.", where=where, fix="Leave it out.")
    if config.class_weights == "balanced":
        names = [str(loader.data.record(int(i))["labels"][target.label]) for i in loader.members]
        return balanced_weights(np.array([names.count(name) for name in target.classes])).tolist()
    weights = dict.fromkeys(target.classes, 1.0)
    for pair in config.class_weights.split(","):
        name, equals, text = pair.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if name not in weights or value < 0 or not equals:
            fix = f"Write balanced, or NAME=WEIGHT,... with classes among {', '.join(target.classes[:10])}."
            raise UsageError(f"{pair!r} is no class and its weight.", where=where, fix=fix)
        weights[name] = value
    return list(weights.values())
