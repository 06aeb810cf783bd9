"""The training loop: one for every method."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmtool.console import talk
from mmtool.data.corrupt import drop_values
from mmtool.data.loader import Loader, sample_seed
from mmtool.data.packing import Batch
from mmtool.errors import DataError
from mmtool.methods.base import Method, Step
from mmtool.model.masks import attention_mask
from mmtool.model.transformer import Transformer
from mmtool.training.checkpoint import save_checkpoint
from mmtool.training.config import PretrainConfig
from mmtool.training.hardware import matmul_limit
from mmtool.training.metrics import LiveLine, MetricsLog
from mmtool.training.optimizer import peak_rate, rate_share

REPORT_EVERY = 20  # steps between records in metrics.jsonl


@dataclass
class Window:
    """What happened since the last report."""

    start: float = field(default_factory=time.monotonic)
    loss: np.ndarray | float = 0.0
    targets: np.ndarray | float = 0.0
    tokens: int = 0


class Trainer:
    """Runs steps until the budget is spent. `step`, `elapsed_s` and the loader's `consumed` are its whole state besides the tensors."""

    def __init__(
        self, model: Transformer, optimizer: torch.optim.Optimizer, method: Method, loader: Loader, config: PretrainConfig
    ) -> None:
        self.model, self.optimizer, self.method, self.loader, self.config = model, optimizer, method, loader, config
        self.device = model.head.device
        self.step, self.elapsed_s = 0, 0.0
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

    @property
    def progress(self) -> float:
        if self.config.minutes:
            return min(1.0, self.elapsed_s / (60 * self.config.minutes))
        return min(1.0, self.step / self.config.steps)

    def train(self, folder: Path, log: MetricsLog, validate: Callable[[], dict[str, float]]) -> None:
        """Train to the end of the budget, with checkpoints under `folder`. A first signal to stop saves and leaves."""
        live, window = LiveLine(), Window()
        with stop_requests() as requests:
            while self.progress < 1.0 and not requests:
                started = time.monotonic()
                self._one_step(window)
                self.elapsed_s += time.monotonic() - started
                if self.step % REPORT_EVERY == 0 or self.progress >= 1.0:
                    record = self._report(window)
                    log.append(record)
                    live.show(record, self._left_s())
                    window = Window()
                if self.config.checkpoint_every and self.step % self.config.checkpoint_every == 0 and self.progress < 1.0:
                    self._checkpoint(folder, log, validate)
                    window.start = time.monotonic()
            live.end()
            self._checkpoint(folder, log, validate if not requests else None)
        if requests:
            talk(f"stopped at step {self.step}; the checkpoint is saved, the same command continues.")
            raise KeyboardInterrupt if requests[0] == signal.SIGINT else SystemExit(128 + requests[0])

    def _one_step(self, window: Window) -> None:
        context = self._context(self.progress)
        batch, keys = self.loader.next(lambda samples, seeds: self.method.documents(samples, seeds, context))
        if self.config.value_dropout:
            batch = drop_values(batch, self.model.layout, self.config.value_dropout, context.seed)
        sums = self.backward(batch)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        if not bool(torch.isfinite(norm) & torch.isfinite(sums).all()):
            self._refuse(sums, keys)
        rate = peak_rate(self.config, self.model.shape.width) * rate_share(self.step, self.progress, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        window.loss, window.targets = window.loss + sums.cpu().numpy(), window.targets + batch.num_targets
        window.tokens += batch.num_tokens

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

    def _refuse(self, sums: Tensor, keys: Sequence[str]) -> None:
        names = [name for name, value in zip(self.model.layout.names, sums.tolist(), strict=True) if not np.isfinite(value)]
        culprit = f"modality {', '.join(names)}" if names else "every loss is finite, the gradient is not"
        listed = ", ".join(keys[:5]) + (", ..." if len(keys) > 5 else "")
        raise DataError(
            f"loss or gradient is not a finite number at step {self.step} ({culprit}; samples: {listed}).",
            fix="The step was refused and the last checkpoint is intact: lower --learning-rate, or try --precision fp32.",
        )

    def _report(self, window: Window) -> dict[str, Any]:
        seconds = time.monotonic() - window.start
        names, targets = self.model.layout.names, np.asarray(window.targets)
        loss = {name: float(total / count) for name, total, count in zip(names, np.asarray(window.loss), targets, strict=True) if count}
        speed = window.tokens / seconds
        limit = matmul_limit(self.device, self.model.compute_dtype)
        return {
            "step": self.step,
            "progress": self.progress,
            "elapsed_s": self.elapsed_s,
            "loss": loss,
            "tokens_per_s": speed,
            "hardware_share": speed * self.model.flops_per_token(self.loader.shape.length) / limit,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
        }

    def _left_s(self) -> float:
        return self.elapsed_s * (1 - self.progress) / max(self.progress, 1e-9)

    def _checkpoint(self, folder: Path, log: MetricsLog, validate: Callable[[], dict[str, float]] | None) -> None:
        if validate is not None and (measured := validate()):
            log.append({"step": self.step, "elapsed_s": self.elapsed_s, "validation": measured})
        state = {"step": self.step, "consumed": self.loader.consumed, "elapsed_s": self.elapsed_s, "progress": self.progress}
        save_checkpoint(folder, self.model, self.optimizer, state, self.config.keep)
        self.method.forget()


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM instead of dying of them; the second one acts as usual."""
    requests: list[int] = []
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        requests.append(number)
        talk("finishing the step and saving a checkpoint; once more to stop at once")
        for each, handler in old.items():
            signal.signal(each, handler)

    try:
        for number in old:
            signal.signal(number, note)
        yield requests
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
