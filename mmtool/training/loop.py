"""The loop of every training: steps until the budget is spent, checkpoints, a report now and then, and a clean end on request."""

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mmtool.common.errors import DataError
from mmtool.common.log import log
from mmtool.model.transformer import Transformer
from mmtool.training.checkpoint import amend_checkpoint, save_checkpoint
from mmtool.training.checks import Checks
from mmtool.training.config import Budget
from mmtool.training.distributed import whole
from mmtool.training.early_stopping import EarlyStopping
from mmtool.training.extension import Extension
from mmtool.training.hardware import matmul_limit
from mmtool.training.metrics import MetricsLog
from mmtool.training.optimizer import lr_multiplier
from mmtool.training.progress import LiveLine
from mmtool.training.stopping import Stopped, StopRequests, heard_in_backward, stop_requests

REPORT_EVERY = 20  # steps between records in metrics.jsonl
GRACE_S = 5.0  # that a step still has after a request to stop
Validate = Callable[[], dict[str, float]]


@dataclass
class Window:
    """What happened since the last report."""

    start: float = field(default_factory=time.monotonic)
    loss: Tensor | float = 0.0
    targets: np.ndarray | float = 0.0
    samples: int = 0
    tokens: int = 0
    flops: int = 0


class Counting(Protocol):
    """A loader: `consumed`, the samples used so far (of each part, where it has several), is its whole state."""

    consumed: Any


class Loop(ABC):
    """What all trainings share; a subclass says what a step is. `step`, `elapsed_s` and the loader's `consumed` are the state.

    model: what is trained, and what checkpoints hold. max_lr: of the learning rate. losses: names of the entries of a loss vector.
    last_losses: their means in the last report. measured: the last validation. early_stopping: the best one, and whether to stop for want
    of a better. extension: where its budget was another one before. advice: what helps where a loss is not finite.
    """

    advice: ClassVar[str] = "lower --learning-rate, or try --precision fp32."

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loader: Counting,
        config: Budget,
        *,
        device: torch.device,
        max_lr: float,
        losses: Sequence[str],
    ) -> None:
        self.model, self.optimizer, self.loader, self.config = model, optimizer, loader, config
        self.device, self.max_lr, self.losses = device, max_lr, tuple(losses)
        self.step, self.elapsed_s, self._saved, self._validated = 0, 0.0, -1, -1
        self._checks, self._stopping, self._requests, self._folder = Checks(device), False, StopRequests(), Path()
        self.early_stopping = EarlyStopping(getattr(config, "patience", 0), config.checkpoint_every)
        self.extension: Extension | None = None
        self.last_losses: dict[str, float] = {}
        self.measured: dict[str, float] = {}

    @property
    def progress(self) -> float:
        """0 at the start, 1 when there is nothing left to do: how much of the budget, in steps or in minutes, is spent."""
        return 1.0 if self.early_stopping.exhausted else self.config.spent(self.step, self.elapsed_s)

    def train(self, folder: Path, metrics_log: MetricsLog, validate: Validate) -> None:
        """Train to the end of the budget, with checkpoints under `folder`. A first signal to stop finishes the step, saves and leaves; a
        step that is not done after `GRACE_S` is abandoned, a validation is left at once: both are made up for when the training goes on."""
        live = LiveLine()
        with heard_in_backward(self.model.parameters()), stop_requests(GRACE_S) as requests, suppress(Stopped):
            self._requests, self._folder = requests, folder
            try:
                self._train(folder, metrics_log, validate, live)
            finally:
                live.end()
        if self._stopping and not requests.signals:
            raise SystemExit(128 + signal.SIGTERM)  # as another process of the training was asked to
        if requests.signals:
            log(f"stopped at step {self.step}; the checkpoint is saved, the same command continues.")
            raise KeyboardInterrupt if requests.signals[0] == signal.SIGINT else SystemExit(128 + requests.signals[0])

    def _train(self, folder: Path, metrics_log: MetricsLog, validate: Validate, live: LiveLine) -> None:
        window = Window()
        self._validate(folder, metrics_log, validate)  # which the process that saved the checkpoint may not have reached
        self._stopping = self._agree()
        record = None
        while self.progress < 1.0 and not self._stopping:
            live.show(self.step, self.progress, self._left_s(), record)
            started = time.monotonic()
            try:
                self._one_step(window)
            except Stopped:
                self._stopping = True
                break
            self.elapsed_s += time.monotonic() - started
            self._stopping, record = self._agree(), None
            if self.step % REPORT_EVERY == 0 or self.progress >= 1.0:
                self._checks.settle()
                record = self._report(window)
                metrics_log.append(record)
                window = Window()
            if self.config.checkpoint_every and self.step % self.config.checkpoint_every == 0 and self.progress < 1.0:
                live.hide()
                paused = time.monotonic()
                self._checkpoint(folder)
                self._validate(folder, metrics_log, validate)
                window.start += time.monotonic() - paused
        if self.progress >= 1.0 and isinstance(window.loss, Tensor):  # it stopped early, between two reports
            record = self._report(window)
            metrics_log.append(record)
        if record is not None:
            live.show(self.step, self.progress, self._left_s(), record)
        live.hide()
        if self._saved != self.step:
            self._checkpoint(folder)
        self._validate(folder, metrics_log, validate)

    def _one_step(self, window: Window) -> None:
        """Train on one batch. Raises Stopped where the step is abandoned: what it had changed is as before, but for the window.

        That can happen until the weights begin to change. Python handles a signal between two of its own instructions: where one operation
        of PyTorch takes long, another thread saves the checkpoint and ends the process.
        """
        consumed = self.loader.consumed

        def save() -> None:
            self.loader.consumed = consumed
            if self._saved != self.step:
                self._checkpoint(self._folder)

        try:
            work = partial(self._gradients, window)
            sums, keys = self._requests.interrupting(work, GRACE_S, save) if self._can_abandon else work()
        except Stopped:
            self.optimizer.zero_grad(set_to_none=True)
            self.loader.consumed = consumed
            raise
        self._update(sums, keys)

    @abstractmethod
    def _gradients(self, window: Window) -> tuple[Tensor, Sequence[str]]:
        """Compute the gradients of one batch and add what was done to the window; gives the losses, as `losses` names them, and the keys of
        the samples. It changes nothing else but the loader's `consumed`."""

    @property
    def _can_abandon(self) -> bool:
        """Whether a step may be left before it is done."""
        return True

    def _agree(self) -> bool:
        """Between two steps: whether to stop."""
        return bool(self._requests.signals)

    def _update(self, sums: Tensor, keys: Sequence[str]) -> None:
        """Step along the gradients, unless they or the losses `sums` of the samples `keys` are not finite (then DataError)."""
        norm = whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm))
        finite = torch.isfinite(norm) & torch.isfinite(sums).all()
        self._checks.add(finite, partial(self._refuse, self.step, sums, keys))
        rate = self.max_lr * lr_multiplier(self.step, self.progress, self.config, self.extension)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1

    def _refuse(self, step: int, sums: Tensor, keys: Sequence[str]) -> None:
        names = [name for name, value in zip(self.losses, sums.tolist(), strict=True) if not np.isfinite(value)]
        culprit = f"loss of {', '.join(names)}" if names else "every loss is finite, the gradient is not"
        listed = ", ".join(keys[:5]) + (", ..." if len(keys) > 5 else "")
        raise DataError(
            f"loss or gradient is not a finite number at step {step} ({culprit}; samples: {listed}).",
            fix=f"The step was refused and the last checkpoint is intact: {self.advice}",
        )

    def _report(self, window: Window) -> dict[str, Any]:
        loss = window.loss.cpu().numpy() if isinstance(window.loss, Tensor) else np.asarray(window.loss)
        targets = np.asarray(window.targets)
        sums = zip(self.losses, loss, targets, strict=True)
        self.last_losses = {name: float(total / count) for name, total, count in sums if count}
        return {
            "step": self.step,
            "progress": self.progress,
            "elapsed_s": self.elapsed_s,
            "loss": self.last_losses,
            **self._speed(window, time.monotonic() - window.start),
            "learning_rate": max(group["lr"] for group in self.optimizer.param_groups),
        }

    def _speed(self, window: Window, seconds: float) -> dict[str, float]:
        """Throughput, as reports have it."""
        return {"samples_per_s": window.samples / seconds}

    def _left_s(self) -> float | None:
        """None as long as nothing is known of it."""
        return self.elapsed_s * (1 - self.progress) / self.progress if self.progress else None

    def _checkpoint(self, folder: Path) -> None:
        self._checks.settle()
        self._save(folder)
        self._saved = self.step

    def _save(self, folder: Path) -> None:
        save_checkpoint(folder, self.model, self.optimizer, self.state(), self.config.keep)

    def _validate(self, folder: Path, metrics_log: MetricsLog, validate: Validate) -> None:
        """Measure a checkpoint that has just been saved, where it is time, and note what follows from it in the checkpoint.

        Saved first, since validation may take minutes in which the process can be killed. The log shows then what is missing: the record
        of the checkpoint is written once, whenever the training continues.
        """
        on_time = self.config.checkpoint_every and self.step % self.config.checkpoint_every == 0
        if self.step in (0, self._validated) or not (on_time or self.progress >= 1.0):
            return
        measured = metrics_log.validation(self.step)
        if measured is None and self._requests.signals:
            return
        if measured is None and (measured := self._requests.interrupting(validate)):
            metrics_log.append({"step": self.step, "elapsed_s": self.elapsed_s, "validation": measured})
        self._validated, self.measured = self.step, measured or {}
        if measured:
            self._update_early_stopping(measured)
            amend_checkpoint(folder, self.state())

    def _update_early_stopping(self, measured: Mapping[str, float]) -> None:
        """Learn from a validation; the state may change, but need not."""
        return

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds besides tensors."""
        counted = {"step": self.step, "consumed": self.loader.consumed, "elapsed_s": self.elapsed_s, "progress": self.progress}
        return {**counted, **self.early_stopping.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.step, self.elapsed_s, self.loader.consumed = state["step"], state["elapsed_s"], state["consumed"]
        self.early_stopping.restore(state)
        self._saved = self.step


class TransformerLoop(Loop):
    """The same for a transformer, whose throughput is counted in tokens."""

    model: Transformer

    def __init__(
        self,
        model: Transformer,
        optimizer: torch.optim.Optimizer,
        loader: Counting,
        config: Budget,
        *,
        max_lr: float,
        losses: Sequence[str],
    ) -> None:
        super().__init__(model, optimizer, loader, config, device=model.head.device, max_lr=max_lr, losses=losses)

    def _speed(self, window: Window, seconds: float) -> dict[str, float]:
        reached = window.flops / seconds
        limit = matmul_limit(self.device, self.model.compute_dtype, reached)
        return {"tokens_per_s": window.tokens / seconds, "hardware_share": reached / limit}
