"""The pretraining step: one for every method."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmtool.common.log import log
from mmtool.data.corrupt import drop_values
from mmtool.data.loader import Loader, sample_seed
from mmtool.data.masking import AnyBatch
from mmtool.methods.base import Method, Step
from mmtool.model.masks import MakeMask, attention_mask, gpu_mask
from mmtool.model.transformer import Transformer
from mmtool.training.config import PretrainConfig
from mmtool.training.loop import TransformerLoop, Window
from mmtool.training.optimizer import max_lr


class Trainer(TransformerLoop):
    """Packs the documents of a method and asks its loss at their targets."""

    loader: Loader

    def __init__(
        self, model: Transformer, optimizer: torch.optim.Optimizer, method: Method, loader: Loader, config: PretrainConfig
    ) -> None:
        rate = max_lr(config, model.shape.width)
        super().__init__(model, optimizer, loader, config, max_lr=rate, losses=method.loss_names)
        self.method, self._value_dropout = method, config.value_dropout
        self.forward_loss: Callable[..., Tensor] = self._forward_loss
        self._make_mask: MakeMask = attention_mask

    def compile(self) -> None:
        """Run the forward, the loss and their backward as one compiled graph of static shapes."""
        self.forward_loss = torch.compile(self._forward_loss, dynamic=False)
        if self.device.type == "cuda" and self.model.takes_blocks:
            self._make_mask = gpu_mask

    def warm_up(self) -> None:
        """Compile before the clock starts, on a batch that is then forgotten: no weight and no state changes."""
        started, consumed = time.monotonic(), self.loader.consumed
        batch, _ = self.loader.next(lambda samples, seeds: self.method.documents(samples, seeds, self._context(progress=0.0)))
        self.backward(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.loader.consumed = consumed
        log(f"compiled the step in {time.monotonic() - started:.0f} s")

    def _context(self, progress: float) -> Step:
        return Step(self.step, progress, sample_seed(self.config.seed, self.step, "step"), self.model)

    def _one_step(self, window: Window) -> None:
        context = self._context(self.progress)
        batch, keys = self.loader.next(lambda samples, seeds: self.method.documents(samples, seeds, context))
        if self._value_dropout:
            batch = drop_values(batch, self.model.layout, self._value_dropout, context.seed)
        sums = self.backward(batch)
        self._update(sums, keys)
        window.loss, window.targets = window.loss + sums, window.targets + batch.num_targets
        window.tokens, window.flops = window.tokens + batch.num_tokens, window.flops + self.model.batch_flops(batch)

    def backward(self, batch: AnyBatch) -> Tensor:
        """Gradients of the mean loss over all targets of the batch; gives the sums per modality, (M,)."""
        sums = self.forward_loss(*self.method.inputs(batch, self.device, self._make_mask))
        self.method.mean_loss(sums, batch.num_targets).backward()
        return sums.detach()

    def _forward_loss(self, *inputs: Any) -> Tensor:
        return self.method.forward(self.model, *inputs)

    def _checkpoint(self, folder: Path) -> None:
        super()._checkpoint(folder)
        self.method.clear_cache()
