"""The stage `adapt`: frozen encoders and labelled shards with holes in, an adapter out; the same command continues an interrupted one."""

import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmtool.adapt.adapter import METRICS, RECORD, Kept, build, count, describe, open_encoders, read_record, save
from mmtool.adapt.batches import Labelled, Shuffled, as_tensor, encode, encode_all, holes, labelled
from mmtool.adapt.config import AdaptConfig
from mmtool.console import talk
from mmtool.data.loader import sample_seed
from mmtool.data.shards import open_token_set
from mmtool.errors import DataError, UsageError
from mmtool.methods.joint_embedding import JointEmbedding, Masks, draw_masks
from mmtool.methods.labelled import GOALS, Goal, suited
from mmtool.storage import atomic_directory, write_json
from mmtool.training.checkpoint import newest_checkpoint, restore_optimizer, save_checkpoint
from mmtool.training.hardware import be_deterministic, pick_device
from mmtool.training.loop import REPORT_EVERY, stop_requests
from mmtool.training.metrics import MetricsLog
from mmtool.training.optimizer import rate_share

CHECKPOINTS = "checkpoints"
TYPICAL_SAMPLES = 2000  # training samples that moments of embeddings are taken from
REFIT_EVERY = 100  # steps after which means and regressions follow the tuned encoders
TALK_EVERY_S = 10.0


@dataclass(frozen=True)
class AdaptSummary:
    """trained: parameters; share: of the encoders' parameters; bytes: of the adapter file; loss: means over the last steps."""

    adapter: str
    method: str
    steps: int
    seconds: float
    trained: int
    share: float
    bytes: int
    loss: dict[str, float]


def adapt(config: AdaptConfig, sources: Mapping[str, Path], data: Path, output: Path, *, force: bool = False) -> AdaptSummary:
    """Train on the train split of `data`; sources: modality -> run of this toolkit or directory in Hugging Face format.

    Raises UsageError where an adapter was begun here with other settings, DataError where a loss is not finite or the data does not fit.
    """
    tokens = open_token_set(data, split="train")
    device = pick_device()
    be_deterministic(device)
    encoders = open_encoders(sources, tokens.tokenizers, device, config)
    train = labelled(tokens, tuple(sorted(sources)), config, config.train_samples, config.whole)
    goal = goal_of(train, config)
    model = build(encoders, goal, config)
    record = describe(config, goal, encoders, sources, tokens.fingerprint)
    if _finished_before(output, record, force):
        talk(f"{output}: adapted to the end already, nothing to do")
        done = read_record(output)
        return AdaptSummary(str(output), config.method, config.steps, 0.0, done["trained"], done["share"], done["bytes"], {})
    counted = count(model)
    talk(f"training {counted['trained']:,} parameters, {counted['share']:.2%} of the encoders' {counted['frozen']:,} ({_parts(counted)})")
    held = train if config.recipe.complete else train.with_holes(holes(config, config.eta, config.missing))
    trainer = AdaptTrainer(model, goal, held, config, device)
    loss = trainer.run(output)
    size = save(output, model, record)
    shutil.rmtree(output / CHECKPOINTS, ignore_errors=True)
    return AdaptSummary(str(output), config.method, trainer.step, trainer.elapsed_s, counted["trained"], counted["share"], size, loss)


def goal_of(train: Labelled, config: AdaptConfig) -> Goal:
    """The task as the configuration names it, or as the labels call for it."""
    kind = "survival" if config.survival else suited(train.labels) if config.task == "auto" else config.task
    return GOALS[kind].of(train.labels, config.balanced)


def _parts(counted: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counted["parts"].items())


def _finished_before(output: Path, record: dict[str, Any], force: bool) -> bool:
    """Begin a new adapter, or find one that was begun in the same way; True where it is finished."""
    if (output / RECORD).exists() and not force:
        known = read_record(output)
        changed = [name for name in ("config", "encoders", "data", "goal") if _plain(known[name]) != _plain(record[name])]
        if changed:
            fix = "Continue with what it was begun with, choose another output, or pass --force to start anew."
            raise UsageError(f"this adapter was begun with other settings ({', '.join(changed)}).", where=output, fix=fix)
        return bool(known.get("finished"))
    with atomic_directory(output, force) as partial:
        write_json(partial / RECORD, {**record, "finished": False})
    return False


def _plain(value: Any) -> Any:
    """Settings without where encoders lie: one that was moved is the same."""
    if not isinstance(value, Mapping):
        return value
    return {name: own["fingerprint"] if isinstance(own, Mapping) and "fingerprint" in own else own for name, own in value.items()}


class AdaptTrainer:
    """The loop: `step`, `elapsed_s` and the batches' `consumed` are its whole state besides the tensors."""

    def __init__(self, model: JointEmbedding, goal: Goal, train: Labelled, config: AdaptConfig, device: torch.device) -> None:
        self.model, self.goal, self.train, self.config, self.device = model, goal, train, config, device
        self.targets = goal.targets(train.labels)
        self.batches = Shuffled(train, config.batch, config.seed)
        self.kept = Kept(model)
        self.optimizer = _optimizer(model, config)
        self.step, self.elapsed_s = 0, 0.0

    def run(self, output: Path) -> dict[str, float]:
        """Train to the end, with checkpoints under `output`; the first signal to stop saves and leaves. Gives the mean losses of the
        last report."""
        folder = output / CHECKPOINTS
        self._resume(folder)
        if self.step == 0:
            self._moments(first=True)
        log, window, last, spoken = MetricsLog(output / METRICS, self.step), _Window(), {}, time.monotonic()
        with stop_requests() as requests:
            while self.step < self.config.steps and not requests:
                started = time.monotonic()
                if self.step and self.step % REFIT_EVERY == 0:
                    self._moments(first=False)
                window.add(self._one_step())
                self.elapsed_s += time.monotonic() - started
                if self.step % REPORT_EVERY == 0 or self.step == self.config.steps:
                    last, window = window.means(), _Window()
                    log.append({"step": self.step, "elapsed_s": self.elapsed_s, "loss": last})
                    spoken = _say(self.step, self.config.steps, last, spoken)
                if self.config.checkpoint_every and self.step % self.config.checkpoint_every == 0 and self.step < self.config.steps:
                    self._checkpoint(folder)
        if requests:
            self._checkpoint(folder)
            talk(f"stopped at step {self.step}; the checkpoint is saved, the same command continues.")
            raise KeyboardInterrupt if requests[0] == signal.SIGINT else SystemExit(128 + requests[0])
        self._moments(first=False)
        self.model.eval()
        return last

    def losses(self, indices: np.ndarray, seeds: list[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and its parts."""
        encodings = encode(self.model, [self.train.samples[int(i)] for i in indices], self.device)
        masks = draw_masks(encodings.present.cpu().numpy(), seeds, self.model.options.replace)
        masks = Masks(masks.visible.to(self.device), masks.sources.to(self.device))
        outputs, predicted = self.model(encodings, masks)
        task = self.goal.loss(outputs, as_tensor(self.targets[indices], self.device))
        terms = self.model.joint_loss(encodings, masks, predicted)
        return task + self.model.weigh(terms), {"task": task, **terms}

    def _one_step(self) -> dict[str, float]:
        self.model.train()
        torch.manual_seed(sample_seed(self.config.seed, self.step, "step"))
        indices, seeds = self.batches.next()
        loss, parts = self.losses(indices, seeds)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.trained().values(), self.config.clip_norm)
        if not bool(torch.isfinite(norm) & torch.isfinite(loss)):
            keys = ", ".join(self.train.samples[int(i)].key for i in indices[:5])
            what = f"loss or gradient is not a finite number at step {self.step} (samples: {keys}, ...)."
            raise DataError(what, fix="The step was refused: lower --learning-rate, or try --precision fp32.")
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rate_share(self.step, self.step / self.config.steps, self.config)
        self.optimizer.step()
        self.step += 1
        return {name: float(part.detach()) for name, part in parts.items()}

    def _moments(self, first: bool) -> None:
        """Moments of the embeddings as they are now: at the start for every method, later for those that fill with them."""
        if not first and self.model.options.absent not in ("mean", "ridge"):
            return
        chosen = np.random.default_rng(self.config.seed).permutation(len(self.train.samples))[:TYPICAL_SAMPLES]
        samples = [self.train.samples[int(i)] for i in chosen]
        if first:
            self.model.calibrate(encode_all(self.model, samples, self.device))
        said = encode_all(self.model, samples, self.device)
        self.model.moments.fit(said.embedding, said.present)

    def _resume(self, folder: Path) -> None:
        checkpoint = newest_checkpoint(folder)
        if checkpoint is None:
            return
        self.kept.restore(checkpoint.model, checkpoint.path)
        restore_optimizer(checkpoint.path, self.kept, self.optimizer)
        self.step, self.elapsed_s = checkpoint.state["step"], checkpoint.state["elapsed_s"]
        self.batches.consumed = checkpoint.state["consumed"]
        talk(f"continuing from step {self.step}")

    def _checkpoint(self, folder: Path) -> None:
        state = {"step": self.step, "consumed": self.batches.consumed, "elapsed_s": self.elapsed_s}
        save_checkpoint(folder, self.kept, self.optimizer, state, keep=1)


class _Window:
    """Sums of losses since the last report; a part counts in the steps that had it."""

    def __init__(self) -> None:
        self._found: dict[str, list[float]] = {}

    def add(self, parts: Mapping[str, float]) -> None:
        for name, value in parts.items():
            self._found.setdefault(name, []).append(value)

    def means(self) -> dict[str, float]:
        return {name: float(np.mean(values)) for name, values in self._found.items()}


def _optimizer(model: JointEmbedding, config: AdaptConfig) -> torch.optim.AdamW:
    """AdamW; matrices outside the encoders decay, everything else does not."""
    trained = model.trained()
    decayed = [value for name, value in trained.items() if value.ndim == 2 and name.startswith(("fusion", "predictor"))]
    plain = [value for name, value in trained.items() if not (value.ndim == 2 and name.startswith(("fusion", "predictor")))]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def _say(step: int, steps: int, losses: Mapping[str, float], spoken: float) -> float:
    """A line every ten seconds."""
    if time.monotonic() - spoken < TALK_EVERY_S:
        return spoken
    talk(f"step {step}/{steps} | loss {' '.join(f'{name} {value:.3f}' for name, value in losses.items())}")
    return time.monotonic()
