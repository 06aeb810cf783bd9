"""The finetune stage: a pretrained run and labelled samples in, a run of its own with a head out; the same command continues it.

The new run holds all that a run holds, so that whatever reads runs reads it: `evaluate` (which also scores its predictions), `impute`,
`info`, and `finetune` again, for another label. See training/run.py for its files.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmtool import __version__
from mmtool.common.errors import DataError, UsageError
from mmtool.common.lock import one_writer
from mmtool.common.log import log
from mmtool.common.output import OutputPath
from mmtool.common.seal import write_sealed
from mmtool.common.storage import sha256_bytes, write_bytes
from mmtool.data.held_out import TRAIN, VALIDATION, open_validation
from mmtool.data.identity import TrainingItems
from mmtool.data.labels import choose_label, is_number
from mmtool.data.loader import SampleLoader
from mmtool.data.sample import Sample
from mmtool.data.shards import TokenSet, open_token_set
from mmtool.methods import METHODS
from mmtool.methods.protocols import Retrieving, representing
from mmtool.model.transformer import Transformer
from mmtool.training.checkpoint import Checkpoint
from mmtool.training.config import EXTENSIBLE, RUN_FORMAT, FinetuneConfig
from mmtool.training.extension import Extension, extend
from mmtool.training.finetuner import Finetuner
from mmtool.training.hardware import be_deterministic, pick_device, pick_precision
from mmtool.training.lifecycle import begin_or_check, log_finished, other_inputs, resume
from mmtool.training.memory import check_finetuning
from mmtool.training.metrics import MetricsLog
from mmtool.training.progress import announce
from mmtool.training.run import CONFIG, GALLERY, METRICS, TOKENIZERS, TRAINED_ON, Run, make_method, open_run, same_tokenizers
from mmtool.training.target import Target, predict


@dataclass(frozen=True)
class FinetuneSummary:
    """results: metrics on the validation samples, each with its 95 % interval, of the weights at `best_step`; empty without such
    samples. steps: how many there were."""

    run: str
    label: str
    steps: int
    best_step: int
    seconds: float
    parameters: int
    results: list[dict[str, Any]]


@one_writer
def finetune(config: FinetuneConfig, base: Path, data: Path, output: Path, *, force: bool = False) -> FinetuneSummary:
    """Finetune the run `base` on the train split of `data` into the run directory `output`, and keep the step that is best on the
    validation split.

    Raises UsageError where samples have no such label, or where `output` was begun with other settings, data or weights.
    """
    place = OutputPath(output, force, [base, data])
    begun = place.continues(CONFIG)
    pretrained = open_run(base)
    train = open_token_set(data, split=TRAIN)
    same_tokenizers(pretrained, train, data)
    weights = pretrained.checkpoint()
    config = replace(config, label=config.label or _only_label(train))
    inputs = {"data": train.fingerprint, "base": {"path": str(pretrained.path), **weights.state["sha256"]}}
    begin_or_check(
        place, begun, "finetuned run", partial(_begin, config, pretrained, inputs, train), partial(_changes, config, inputs, output)
    )
    run = open_run(output)
    target = run.target
    assert target is not None
    if begun:
        check_finetuning(run, config, _first(train, target, config.batch_samples))
        _extend(config, output)
        run = open_run(output)
    device = pick_device()
    be_deterministic(device)
    model = _model(run, weights, config.seed)
    model.to(device).compute_dtype = pick_precision(config.precision, device)
    members = _members(train, target)
    loader = SampleLoader(train, members, config.batch_samples, config.seed)
    held_out = _held_out(data, target)
    trainer = Finetuner(model, representing(run.method()), target, loader, held_out, config)
    trainer.extension = Extension.of(run.record["finetune"])
    resume(trainer, run.checkpoints)
    if trainer.progress >= 1.0:
        log_finished(output, trainer.step)
    else:
        announce(trainer, len(members), train.num_tokens(members), output)
    trainer.train(run.checkpoints, MetricsLog(run.path / METRICS, trainer.step), trainer.validate)
    model.load_state_dict(run.checkpoint().model)
    results = target.measure(predict(model, trainer.method, target, held_out), held_out, config.seed) if held_out else {}
    rows = [{"metric": metric, "split": VALIDATION, **asdict(estimate)} for metric, estimate in results.items()]
    best = trainer.early_stopping.best[1] if trainer.early_stopping.best else trainer.step
    return FinetuneSummary(str(output), target.label, trainer.step, best, trainer.elapsed_s, model.num_parameters(), rows)


def _only_label(train: TokenSet) -> str:
    """The only label that could be meant. Raises UsageError where there is none or more than one."""
    label = choose_label([train[i] for i in range(len(train))], None)
    if label is None:
        raise UsageError("no label was named.", where="--label", fix="Choose what shall be predicted, e.g. --label digit.")
    return label


def _begin(config: FinetuneConfig, base: Run, inputs: Mapping[str, Any], train: TokenSet, folder: Path) -> None:
    """Fill a new run directory."""
    target = _target(config, base, train)
    shutil.copytree(base.path / TOKENIZERS, folder / TOKENIZERS)
    if issubclass(METHODS[base.config.method], Retrieving):
        shutil.copytree(base.path / GALLERY, folder / GALLERY)
    items = (base.training_items() | TrainingItems.of(train[int(i)] for i in _members(train, target))).to_bytes()
    write_bytes(folder / TRAINED_ON, items)
    finetuned = {"config": config.to_json(), **inputs, "target": target.to_json()}
    begun = {"format": RUN_FORMAT, "version": __version__, "trained_on": sha256_bytes(items), "finetune": finetuned}
    run = Run(folder, {**base.record, **begun})
    check_finetuning(run, config, _first(train, target, config.batch_samples))
    write_sealed(folder / CONFIG, run.record)


def _changes(config: FinetuneConfig, inputs: Mapping[str, Any], output: Path) -> list[str]:
    """What differs from what the run was begun with. Raises UsageError for a pretrained one, or an export."""
    begun = open_run(output, to_train=True).record.get("finetune")
    if begun is None:
        raise UsageError("there is a pretrained run already.", where=output, fix="Choose another output, or pass --force to replace it.")
    named = ({"data": record["data"], "pretrained weights": record["base"]} for record in (begun, inputs))
    return config.changes_from(begun["config"], EXTENSIBLE) + other_inputs(*named)


def _extend(config: FinetuneConfig, output: Path) -> None:
    """Let the run go on under the budget of `config`, if that is another one."""
    run = open_run(output)
    record = extend(run.record["finetune"], config, run.checkpoints)
    if record is not None:
        write_sealed(output / CONFIG, {**run.record, "finetune": record})


def _target(config: FinetuneConfig, base: Run, train: TokenSet) -> Target:
    """What is to be predicted, as the training samples have it. Raises UsageError for what they have not."""
    have = config.have or tuple(modality.name for modality in train.modalities)
    for name in have:
        base.layout.index(name)
    poolings = representing(make_method(base.config, base.layout, base.graph)).poolings
    pooling = poolings[0] if config.pooling == "auto" else config.pooling
    if pooling not in poolings:
        fix = f"Choose from: {', '.join(poolings)}."
        raise UsageError(f"the method {base.config.method} has no pooling {pooling!r}.", where="--pooling", fix=fix)
    bare = [Sample(record["key"], {}, record["labels"]) for record in map(train.record, range(len(train)))]
    choose_label(bare, config.label)
    values = [bare[i].labels[config.label] for i in _labelled(train, config.label, have)]
    if len({str(value) for value in values}) < 2:
        what = f"training samples with {' or '.join(have)} have fewer than two values of {config.label!r}."
        raise DataError(what, where="--label", fix="Choose another label or other modalities.")
    number = is_number(bare, config.label) if config.kind == "auto" else config.kind == "number"
    try:
        return Target.of(config.label, values, number, have, pooling)
    except ValueError as error:
        raise UsageError(f"{config.label!r} is no number ({error}).", where="--as", fix="Predict it as classes.") from error


def _labelled(train: TokenSet, label: str, have: Sequence[str]) -> list[int]:
    """The samples that carry the label and one of the modalities at least."""
    return [i for i in range(len(train)) if set(have) & set(train.present(i)) and train.record(i)["labels"].get(label) is not None]


def _members(train: TokenSet, target: Target) -> np.ndarray:
    return np.array(_labelled(train, target.label, target.have))


def _first(train: TokenSet, target: Target, count: int) -> list[Sample]:
    """As many samples as a step has."""
    return [train[int(i)] for i in _members(train, target)[:count]]


def _held_out(data: Path, target: Target) -> list[Sample]:
    """The validation samples that can be scored; none where the data has no such split."""
    held_out = open_validation(data)
    if held_out is None:
        log("there is no validation split: training ends after its steps, and the last one counts as the best.")
        return []
    return [held_out[i] for i in _labelled(held_out, target.label, target.have)]


def _model(run: Run, weights: Checkpoint, seed: int) -> Transformer:
    """The pretrained transformer with a fresh head."""
    model = run.model(torch.device("cpu"))
    model.init_weights(torch.Generator().manual_seed(seed))
    assert model.task_head is not None
    head = {f"task_head.{name}": tensor for name, tensor in model.task_head.state_dict().items()}
    model.load_state_dict({**weights.model, **head})
    return model
