"""The stage `adapt`: frozen encoders and labelled shards in, an adapter out; the same command continues an interrupted one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import or_
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmtool.adaptation.adapter import (
    METRICS,
    RECORD,
    TRAINED_ON,
    TrainedParts,
    adapter_record,
    build_model,
    count_parameters,
    open_encoders,
    read_record,
    save_adapter,
)
from mmtool.adaptation.batches import LabelledSamples, ShuffledBatches, as_tensor, encode, encode_all, labelled_samples, missingness
from mmtool.adaptation.config import AdaptConfig
from mmtool.adaptation.joint_embedding import JointEmbedding, Masks, draw_masks
from mmtool.common.lock import one_writer
from mmtool.common.log import log
from mmtool.common.output import OutputPath
from mmtool.common.seal import write_sealed
from mmtool.common.storage import clean_orphans, remove_directory, sha256_bytes, write_bytes
from mmtool.data.identity import TrainingItems
from mmtool.data.loader import sample_seed
from mmtool.data.shards import open_token_set
from mmtool.encoders import training_items_of
from mmtool.training.hardware import be_deterministic, pick_device
from mmtool.training.labelled_task import TASKS, LabelledTask, suited
from mmtool.training.lifecycle import begin_or_check, log_finished, other_inputs, resume
from mmtool.training.loop import Loop, Window
from mmtool.training.metrics import MetricsLog
from mmtool.training.progress import announce

CHECKPOINTS = "checkpoints"
TYPICAL_SAMPLES = 2000  # training samples that moments of embeddings are taken from
REFIT_EVERY = 100  # steps after which means and regressions follow the tuned encoders
PARTS = ("task", "invariance", "variance", "covariance")  # of the loss


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


@one_writer
def adapt(config: AdaptConfig, sources: Mapping[str, Path], data: Path, output: Path, *, force: bool = False) -> AdaptSummary:
    """Train on the train split of `data`; sources: modality -> run of this toolkit or directory in Hugging Face format.

    Raises UsageError where an adapter was begun here with other settings, DataError where a loss is not finite or the data does not fit.
    """
    place = OutputPath(output, force, [*sources.values(), data])
    begun = place.continues(RECORD)
    tokens = open_token_set(data, split="train")
    device = pick_device()
    be_deterministic(device)
    encoders = open_encoders(sources, tokens.tokenizers, device, config)
    train = labelled_samples(tokens, tuple(sorted(sources)), config, config.train_samples, config.complete_only)
    task = task_of(train, config)
    model = build_model(encoders, task, config)
    record = adapter_record(config, task, encoders, sources, tokens.fingerprint)
    begin_or_check(place, begun, "adapter", partial(_begin, record, train, sources), partial(_changes, config, record, output))
    done = read_record(output)
    if done["finished"]:
        _drop_checkpoints(output)
        log_finished(output, config.steps)
        return AdaptSummary(str(output), config.method, config.steps, 0.0, done["trained"], done["share"], done["bytes"], {})
    counted = count_parameters(model)
    log(f"training {counted['share']:.2%} of the encoders' {counted['frozen']:,} parameters ({_parts(counted)})")
    seen = train if config.recipe.complete else train.remove_modalities(missingness(config, config.missing_rate, config.missing))
    trainer = AdaptTrainer(model, task, seen, config, device)
    if not resume(trainer, output / CHECKPOINTS):
        trainer.fit_moments(first=True)
    announce(trainer, len(train.samples), None, output)
    trainer.train(output / CHECKPOINTS, MetricsLog(output / METRICS, trainer.step), dict)
    trainer.fit_moments(first=False)
    model.eval()
    size = save_adapter(output, model, {**record, "trained_on": done["trained_on"]})
    _drop_checkpoints(output)
    trained, share = counted["trained"], counted["share"]
    return AdaptSummary(str(output), config.method, trainer.step, trainer.elapsed_s, trained, share, size, trainer.last_losses)


def _drop_checkpoints(output: Path) -> None:
    """A finished adapter needs none; a process that was killed may have left some."""
    folder = output / CHECKPOINTS
    clean_orphans(folder)
    if folder.is_dir():
        remove_directory(folder)


def task_of(train: LabelledSamples, config: AdaptConfig) -> LabelledTask:
    """The task as the configuration names it, or as the labels call for it."""
    kind = "survival" if config.survival else suited(train.labels) if config.task == "auto" else config.task
    return TASKS[kind].of(train.labels, config.balanced)


def _parts(counted: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counted["parts"].items())


def _begin(record: Mapping[str, Any], train: LabelledSamples, sources: Mapping[str, Path], folder: Path) -> None:
    """Fill a new adapter directory; it was trained on what the adapter and its encoders see."""
    items = reduce(or_, (training_items_of(source) for source in sources.values()), TrainingItems.of(train.samples)).to_bytes()
    write_bytes(folder / TRAINED_ON, items)
    write_sealed(folder / RECORD, {**record, "trained_on": sha256_bytes(items), "finished": False})


def _changes(config: AdaptConfig, record: Mapping[str, Any], output: Path) -> list[str]:
    """What differs from what the adapter was begun with; an encoder that was moved is the same."""
    begun = read_record(output)
    return config.changes_from(begun["config"]) + other_inputs(_inputs(begun), _inputs(record))


def _inputs(record: Mapping[str, Any]) -> dict[str, Any]:
    fingerprints = {name: encoder["fingerprint"] for name, encoder in record["encoders"].items()}
    return {"encoders": fingerprints, "data": record["data"], "labels": record["task"]}


class AdaptTrainer(Loop):
    """Steps on the trained parameters of a model, which are all that its checkpoints hold."""

    loader: ShuffledBatches

    def __init__(
        self, model: JointEmbedding, task: LabelledTask, train: LabelledSamples, config: AdaptConfig, device: torch.device
    ) -> None:
        loader = ShuffledBatches(train, config.batch, config.seed)
        super().__init__(
            TrainedParts(model), _optimizer(model, config), loader, config, device=device, max_lr=config.learning_rate, losses=PARTS
        )
        self.joint, self.task, self.data = model, task, train
        self.targets = task.encode(train.labels)

    def losses_of(self, indices: np.ndarray, seeds: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and its parts."""
        encodings = encode(self.joint, [self.data.samples[int(i)] for i in indices], self.device)
        masks = draw_masks(encodings.present.cpu().numpy(), seeds, self.joint.options.replace)
        masks = Masks(masks.visible.to(self.device), masks.sources.to(self.device))
        outputs, predicted = self.joint(encodings, masks)
        task_loss = self.task.loss(outputs, as_tensor(self.targets[indices], self.device))
        terms = self.joint.joint_loss(encodings, masks, predicted)
        return task_loss + self.joint.weigh(terms), {"task": task_loss, **terms}

    def _gradients(self, window: Window) -> tuple[Tensor, Sequence[str]]:
        if self.step and self.step % REFIT_EVERY == 0:
            self.fit_moments(first=False)
        self.joint.train()
        torch.manual_seed(sample_seed(self.config.seed, self.step, "step"))
        indices, seeds = self.loader.next()
        loss, parts = self.losses_of(indices, seeds)
        loss.backward()
        values = torch.stack([parts[name].detach() if name in parts else loss.new_zeros(()) for name in self.losses])
        window.loss, window.targets = window.loss + values, window.targets + np.array([name in parts for name in self.losses])
        window.samples += len(indices)
        return values, [self.data.samples[int(i)].key for i in indices]

    def fit_moments(self, first: bool) -> None:
        """Moments of the embeddings as they are now: at the start for every method, later for those that impute by them."""
        if not first and self.joint.options.absent not in ("mean", "ridge"):
            return
        chosen = np.random.default_rng(self.config.seed).permutation(len(self.data.samples))[:TYPICAL_SAMPLES]
        samples = [self.data.samples[int(i)] for i in chosen]
        if first:
            self.joint.calibrate(encode_all(self.joint, samples, self.device))
        encodings = encode_all(self.joint, samples, self.device)
        self.joint.moments.fit(encodings.embedding, encodings.present)


def _optimizer(model: JointEmbedding, config: AdaptConfig) -> torch.optim.AdamW:
    """AdamW; matrices outside the encoders decay, everything else does not."""
    trained = model.trained()
    decayed = [value for name, value in trained.items() if value.ndim == 2 and name.startswith(("fusion", "predictor"))]
    plain = [value for name, value in trained.items() if not (value.ndim == 2 and name.startswith(("fusion", "predictor")))]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)
