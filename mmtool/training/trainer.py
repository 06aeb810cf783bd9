"""The pretraining step: one for every method."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmtool.console import talk
from mmtool.data.corrupt import drop_values
from mmtool.data.loader import Loader, sample_seed
from mmtool.data.packing import Batch
from mmtool.methods.base import Method, Step
from mmtool.model.masks import attention_mask
from mmtool.model.transformer import Transformer
from mmtool.training.config import PretrainConfig
from mmtool.training.loop import Loop, Window
from mmtool.training.metrics import MetricsLog
from mmtool.training.optimizer import peak_rate


class Trainer(Loop):
    """Packs the documents of a method and asks its loss at their targets."""

    loader: Loader

    def __init__(
        self, model: Transformer, optimizer: torch.optim.Optimizer, method: Method, loader: Loader, config: PretrainConfig
    ) -> None:
        rate, losses = peak_rate(config, model.shape.width), model.layout.names
        super().__init__(model, optimizer, loader, config, peak_rate=rate, losses=losses)
        self.method, self._value_dropout = method, config.value_dropout
        self.forward_loss: Callable[..., Tensor] = self._forward_loss

    def compile(self) -> None:
        """Run the forward, the loss and their backward as one compiled graph of static shapes."""
        self.forward_loss = torch.compile(self._forward_loss, dynamic=False)

    def warm_up(self) -> None:
        """Compile before the clock starts, on a batch that is then forgotten: no weight and no state changes."""
        started, consumed = time.monotonic(), self.loader.consumed
        batch, _ = self.loader.next(lambda samples, seeds: self.method.documents(samples, seeds, self._context(progress=0.0)))
        self.backward(batch)
        self.optimizer.zero_grad(set_to_none=True)
        self.loader.consumed = consumed
        talk(f"compiled the step in {time.monotonic() - started:.0f} s")

    def _context(self, progress: float) -> Step:
        return Step(self.step, progress, sample_seed(self.config.seed, self.step, "step"), self.model)

    def _one_step(self, window: Window) -> None:
        context = self._context(self.progress)
        batch, keys = self.loader.next(lambda samples, seeds: self.method.documents(samples, seeds, context))
        if self._value_dropout:
            batch = drop_values(batch, self.model.layout, self._value_dropout, context.seed)
        sums = self.backward(batch)
        self._update(sums, keys)
        window.loss, window.targets = window.loss + sums.cpu().numpy(), window.targets + batch.num_targets
        window.tokens += batch.num_tokens
        window.flops += batch.num_tokens * self.model.flops_per_token(self.loader.shape.length)

    def backward(self, batch: Batch) -> Tensor:
        """Gradients of the mean loss over all targets of the batch; gives the sums per modality, (M,)."""
        arrays = (batch.tokens, batch.modality, batch.slot, batch.position, batch.document)
        tokens, modality, slot, position, document = (self._to_device(array) for array in arrays)
        places, targets = ([self._to_device(array) for array in arrays] for arrays in (batch.places, batch.targets))
        mask = attention_mask(document, modality, self.method.view)
        sums = self.forward_loss(tokens, modality, slot, position, mask, places, targets)
        (sums.sum() / max(1, int(batch.num_targets.sum()))).backward()
        return sums.detach()

    def _forward_loss(
        self,
        tokens: Tensor,
        modality: Tensor,
        slot: Tensor,
        position: Tensor,
        mask: Tensor,
        places: Sequence[Tensor],
        targets: Sequence[Tensor],
    ) -> Tensor:
        return self.method.loss_sums(self.model, self.model(tokens, modality, slot, position, mask), places, targets)

    def _to_device(self, array: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def _checkpoint(self, folder: Path, log: MetricsLog, validate: Callable[[], dict[str, float]] | None) -> None:
        super()._checkpoint(folder, log, validate)
        self.method.forget()
