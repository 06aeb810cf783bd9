"""The pretraining step: one for every method."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmtool.common.log import log
from mmtool.data.corrupt import drop_values
from mmtool.data.loader import Loader, sample_seed
from mmtool.data.masking import AnyBatch
from mmtool.data.prefetch import Prefetch
from mmtool.methods.base import Method, Step
from mmtool.model.masks import MakeMask, attention_mask, gpu_mask
from mmtool.model.transformer import Transformer
from mmtool.training.config import PretrainConfig
from mmtool.training.distributed import Processes
from mmtool.training.loop import TransformerLoop, Validate, Window
from mmtool.training.metrics import MetricsLog
from mmtool.training.optimizer import max_lr

TINY = 1e-12  # in place of a loss of 0, which has no logarithm


class Parts:
    """The loaders of the parts of a step, of which this process has some.

    consumed: samples that each part has used, a number where there is one part; of other processes' parts as last exchanged.
    """

    def __init__(self, loaders: Sequence[Loader], total: int) -> None:
        self.loaders, self._consumed = loaders, np.zeros(total, np.int64)

    @property
    def consumed(self) -> Any:
        for loader in self.loaders:
            self._consumed[loader.part] = loader.consumed
        return self._consumed.tolist() if len(self._consumed) > 1 else int(self._consumed[0])

    @consumed.setter
    def consumed(self, consumed: Any) -> None:
        self._consumed = np.array(np.atleast_1d(consumed), np.int64)
        for loader in self.loaders:
            loader.consumed = int(self._consumed[loader.part])

    def most(self, processes: int) -> int:
        """Parts of the one that has the most, of so many processes."""
        return -(-len(self._consumed) // processes)

    def here(self) -> np.ndarray:
        """Samples that the parts of this process have used, 0 for all others."""
        counts = np.zeros(len(self._consumed))
        for loader in self.loaders:
            counts[loader.part] = loader.consumed
        return counts


class Trainer(TransformerLoop):
    """Packs the documents of a method and asks its loss at their targets.

    A step has one part or several, each a batch with a stream of samples for itself; gradients are summed over them before the weights
    change. The processes of a training share the parts. drawn_with: the model with which a method draws what it trains on.
    """

    loader: Parts
    config: PretrainConfig

    def __init__(
        self,
        model: Transformer,
        optimizer: torch.optim.Optimizer,
        method: Method,
        loader: Parts,
        config: PretrainConfig,
        *,
        prefetch: Prefetch | None = None,
        processes: Processes | None = None,
    ) -> None:
        rate = max_lr(config, model.shape.width)
        super().__init__(model, optimizer, loader, config, max_lr=rate, losses=method.loss_names)
        self.method, self._value_dropout = method, config.value_dropout
        self.processes = processes or Processes()
        self.drawn_with = model
        self._prefetch = prefetch or Prefetch(loader.loaders, method.plain_documents)
        self._waited_s = 0.0
        self.forward_loss: Callable[..., Tensor] = self._forward_loss
        self._make_mask: MakeMask = attention_mask

    def compile(self) -> None:
        """Run the step compiled, in static shapes."""
        self._compile()
        if self.device.type == "cuda" and self.model.takes_blocks:
            self._make_mask = gpu_mask

    def _compile(self) -> None:
        """The forward, the loss and their backward as one graph."""
        self.forward_loss = torch.compile(self._forward_loss, dynamic=False)

    def warm_up(self) -> None:
        """Compile before the clock starts, on a batch that is then forgotten: no weight and no state changes."""
        started, consumed = time.monotonic(), self.loader.consumed
        log("compiling the step, which takes seconds to minutes (--no-compile does without)")
        batch, _ = self._prefetch.next(0)
        self.backward(batch, batch.num_targets)
        self.optimizer.zero_grad(set_to_none=True)
        self.loader.consumed = consumed
        log(f"compiled the step in {time.monotonic() - started:.0f} s")

    def next_batch(self, number: int = 0) -> tuple[AnyBatch, list[str]]:
        """The batch of one of the parts of this process, and keys of its samples."""
        loader = self.loader.loaders[number]
        context = self._context(f"step/{loader.part}" if loader.part else "step")
        if self.method.makes_own_documents(context):
            batch, keys = loader.next(lambda samples, seeds: self.method.documents(samples, seeds, context))
        else:
            started = time.monotonic()
            batch, keys = self._prefetch.next(number)
            self._waited_s += time.monotonic() - started
        if self._value_dropout:
            batch = drop_values(batch, self.model.layout, self._value_dropout, context.seed)
        return batch, keys

    def _context(self, name: str) -> Step:
        """What the method may know of this step; the name is that of its random numbers."""
        return Step(self.step, self.progress, sample_seed(self.config.seed, self.step, name), self.drawn_with)

    def _gradients(self, window: Window) -> tuple[Tensor, Sequence[str]]:
        parts = self._next_batches()
        batches = [batch for batch, _ in parts]
        counted = [np.array([*batch.num_targets, batch.num_tokens, self.model.batch_flops(batch)]) for batch in batches]
        *targets, tokens, flops = self.processes.sum(np.sum(counted, 0))
        counts = np.array(targets)
        sums = self._summed_gradients(batches, counts)
        window.loss, window.targets = window.loss + sums, window.targets + counts
        window.tokens, window.flops = window.tokens + int(tokens), window.flops + int(flops)
        return sums, [key for _, keys in parts for key in keys]

    def _next_batches(self) -> list[tuple[AnyBatch, list[str]]]:
        """Of all parts of this process."""
        return [self.next_batch(number) for number in range(len(self.loader.loaders))]

    def _summed_gradients(self, batches: Sequence[AnyBatch], counts: np.ndarray) -> Tensor:
        """Gradients of all parts of a step, those of other processes included; gives the sums of losses."""
        sums = torch.stack([self.backward(batch, counts) for batch in batches]).sum(0)
        return self.processes.sum_gradients(self.model, sums)

    @property
    def _can_abandon(self) -> bool:
        """Not one of several processes, for the others would wait for its gradients."""
        return self.processes.size == 1

    def backward(self, batch: AnyBatch, counts: np.ndarray, weight: float = 1.0) -> Tensor:
        """Gradients of the mean loss over all targets of the step, of whose numbers `counts` the batch has a part; gives the sums per
        modality, (M,)."""
        sums = self.forward_loss(*self.method.inputs(batch, self.device, self._make_mask))
        (self.method.mean_loss(sums, counts) * weight).backward()
        return sums.detach()

    def _forward_loss(self, *inputs: Any) -> Tensor:
        return self.method.forward(self.model, *inputs)

    def _agree(self) -> bool:
        """The first process keeps the time, any of them may be asked to stop: all take the same steps."""
        if self.processes.size == 1:
            return super()._agree()
        elapsed_s = self.elapsed_s if self.processes.first else 0.0
        mine = np.array([elapsed_s, bool(self._requests.signals), *self.loader.here()])
        elapsed_s, stopping, *consumed = self.processes.sum(mine).tolist()
        self.elapsed_s, self.loader.consumed = elapsed_s, [int(count) for count in consumed]
        return stopping > 0

    def _validate(self, folder: Path, metrics_log: MetricsLog, validate: Validate) -> None:
        """The first process validates; that it is time to stop early all learn."""
        super()._validate(folder, metrics_log, validate)
        if self.processes.size > 1 and self.config.patience:
            self.early_stopping.elsewhere = bool(self.processes.sum(np.array([self.early_stopping.exhausted]))[0])

    def _update_early_stopping(self, measured: Mapping[str, float]) -> None:
        if self.config.patience:
            score = -float(np.mean(np.log(np.maximum(list(measured.values()), TINY))))
            self.early_stopping.update(score, self.step)

    def _speed(self, window: Window, seconds: float) -> dict[str, float]:
        speed = super()._speed(window, seconds)
        waited, self._waited_s = self._waited_s, 0.0
        return {**speed, "hardware_share": speed["hardware_share"] / self.processes.size, "loading_share": waited / seconds}

    @contextmanager
    def measured_model(self) -> Iterator[Transformer]:
        """The model as it was saved last, on the process that measures it."""
        yield self.model

    def _save(self, folder: Path) -> None:
        if self.processes.first:
            super()._save(folder)

    def _checkpoint(self, folder: Path) -> None:
        super()._checkpoint(folder)
        self.method.clear_cache()
