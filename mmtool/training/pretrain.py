"""The pretrain stage: token shards in, a run out; the same command continues an interrupted one."""

import dataclasses
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from mmtool.data.graph import CoOccurrence
from mmtool.data.held_out import TRAIN, open_validation
from mmtool.data.identity import TrainingItems
from mmtool.data.layout import layout_of
from mmtool.data.loader import Loader, mixture
from mmtool.data.sample import Sample
from mmtool.data.shards import TokenSet, open_token_set, write_split
from mmtool.methods import METHODS
from mmtool.methods.base import Method
from mmtool.methods.protocols import Retrieving
from mmtool.model.transformer import PRESETS, Shape
from mmtool.training.choice import choose_method
from mmtool.training.config import AUTO, RUN_FORMAT, PretrainConfig, options_of
from mmtool.training.fit_values import fit_values
from mmtool.training.hardware import be_deterministic, pick_compile, pick_device, pick_precision
from mmtool.training.lifecycle import begin_or_check, log_finished, other_inputs, resume
from mmtool.training.metrics import MetricsLog
from mmtool.training.optimizer import make_optimizer
from mmtool.training.run import CONFIG, GALLERY, METRICS, TOKENIZERS, TRAINED_ON, VALUES, Run, make_method, open_run
from mmtool.training.trainer import Trainer

TYPICAL_SAMPLES = 512  # looked at to size rows and target room
GALLERY_SIZE = 4000  # training samples of each combination of modalities that a retrieving method may answer with


@dataclass(frozen=True)
class PretrainSummary:
    run: str
    method: str
    steps: int
    seconds: float
    parameters: int
    validation: dict[str, float]


@one_writer
def pretrain(config: PretrainConfig, data: Path | None, output: Path, *, force: bool = False) -> PretrainSummary:
    """Train on the train split of `data` (None: a stream on standard input) into the run directory `output`.

    Raises UsageError where the run was begun with other settings or data, DataError where a loss is not finite.
    """
    place = OutputPath(output, force, [data])
    begun = place.continues(CONFIG)
    with _spooled(data) as path:
        train = open_token_set(path, split=TRAIN).only(config.only, config.least_modalities)
        config = _with_method(config, train)
        begin_or_check(place, begun, "run", partial(_begin, config, train), partial(_changes, config, train, output))
        run = open_run(output)
        held_out = _validation_samples(path, config)
    device = pick_device()
    be_deterministic(device)
    model = run.model(torch.device("cpu"))
    model.init_weights(torch.Generator().manual_seed(config.seed))
    method = run.method()
    method.prepare(model, _typical(config, train))
    if model.ordinal is not None:
        model.ordinal.smoothing = config.smoothing
    model.to(device).compute_dtype = pick_precision(config.precision, device)
    model.recompute = config.recompute
    trainer = Trainer(model, make_optimizer(model, config), method, _loader(run, method, train), config)
    resume(trainer, run.checkpoints)
    if trainer.progress >= 1.0:
        log_finished(output, trainer.step)
    elif pick_compile(config.compile, device):
        trainer.compile()
        trainer.warm_up()
    trainer.train(run.checkpoints, MetricsLog(run.path / METRICS, trainer.step), partial(_validate, trainer, held_out))
    if run.teaches_values and not run.complete:
        model.eval()
        decoder = fit_values(model, trainer.method, run.tokenizers(), train, config.value_epochs, config.seed)
        write_bytes(run.path / VALUES, decoder.to_bytes())
    return PretrainSummary(str(output), config.method, trainer.step, trainer.elapsed_s, model.num_parameters(), trainer.measured)


def _with_method(config: PretrainConfig, train: TokenSet) -> PretrainConfig:
    """The settings with the method that suits the data where none is named; says which one, and why."""
    if config.method != AUTO:
        return config
    name, reason = choose_method(train.modalities, CoOccurrence.of(train.present(i) for i in range(len(train))))
    log(f"method: {name}, because {reason} (--method names another)")
    return dataclasses.replace(config, method=name)


@contextmanager
def _spooled(data: Path | None) -> Iterator[Path]:
    """The path of the data; a stream is first copied to a temporary file, to be read as often as needed."""
    if data is not None:
        yield data
        return
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
        file.flush()
        try:
            yield Path(file.name)
        except DataError as error:
            if str(error.where) != file.name:
                raise
            fix = "The command upstream probably failed: see what it said."
            raise DataError(error.what, where="standard input", fix=fix) from error


def _begin(config: PretrainConfig, train: TokenSet, folder: Path) -> None:
    """Fill a new run directory."""
    record = _record(config, train)
    (folder / TOKENIZERS).mkdir()
    for modality in train.modalities:
        write_bytes(folder / TOKENIZERS / f"{modality.name}.safetensors", train.tokenizers[modality.name])
    if issubclass(METHODS[config.method], Retrieving):
        write_split(folder / GALLERY, train.modalities, train.tokenizers, _gallery(train, config.seed), split=TRAIN)
    items = TrainingItems.of(train).to_bytes()
    write_bytes(folder / TRAINED_ON, items)
    write_sealed(folder / CONFIG, {**record, "trained_on": sha256_bytes(items)})


def _changes(config: PretrainConfig, train: TokenSet, output: Path) -> list[str]:
    """What differs from what the run was begun with. Raises UsageError for a finetuned one."""
    run = open_run(output)
    if run.target is not None:
        raise UsageError("this run was finetuned.", where=output, fix="Choose another output, or pass --force to start anew.")
    other_data = other_inputs({"data": run.record["data"]}, {"data": train.fingerprint})
    return other_data or config.changes_from(run.record["config"]) or run.outdated()


def _gallery(train: TokenSet, seed: int) -> list[Sample]:
    """Random training samples, up to `GALLERY_SIZE` of each combination of modalities."""
    counts: Counter[tuple[str, ...]] = Counter()
    chosen = []
    for i in np.random.default_rng(seed).permutation(len(train)):
        counts[tuple(train.present(int(i)))] += 1
        if counts[tuple(train.present(int(i)))] <= GALLERY_SIZE:
            chosen.append(train[int(i)])
    return chosen


def _record(config: PretrainConfig, train: TokenSet) -> dict[str, Any]:
    """config.json: everything decided once, at the start."""
    layout, graph = layout_of(train.modalities), CoOccurrence.of(train.present(i) for i in range(len(train)))
    method = make_method(config, layout, graph)
    return {
        "format": RUN_FORMAT,
        "version": __version__,
        "config": config.to_json(),
        "method_options": dataclasses.asdict(method.options),
        "shape": shape_of(config).to_json(),
        "modalities": [modality.to_json() for modality in train.modalities],
        "co_occurrence": graph.to_json(),
        "data": train.fingerprint,
        "batch": method.size_batches(_typical(config, train), config.batch_tokens, config.row_length),
    }


def shape_of(config: PretrainConfig) -> Shape:
    """The size of the transformer: what the preset, the method and the settings say, in this order. Raises UsageError where it is none."""
    if config.preset not in PRESETS:
        raise UsageError(f"there is no preset {config.preset!r}.", where="--preset", fix=f"Presets: {', '.join(PRESETS)}.")
    sizes = {**PRESETS[config.preset].to_json(), **METHODS[config.method].shape_defaults, **config.shape}
    shape: Shape = options_of(Shape, sizes, "--set shape")
    return shape


def _typical(config: PretrainConfig, train: TokenSet) -> list[Sample]:
    """A seeded choice of training samples."""
    chosen = np.random.default_rng(config.seed).permutation(_members(config, train))[:TYPICAL_SAMPLES]
    return [train[int(i)] for i in chosen]


def _loader(run: Run, method: Method, train: TokenSet) -> Loader:
    batch = run.record["batch"]
    return Loader(train, _members(run.config, train), method.packer(batch), batch["window"], run.config.seed)


def _members(config: PretrainConfig, train: TokenSet) -> np.ndarray:
    """Indices of the samples of an epoch."""
    if not config.paired_share:
        return np.arange(len(train))
    return mixture(np.array([len(train.present(i)) > 1 for i in range(len(train))]), config.paired_share)


def _validation_samples(data: Path, config: PretrainConfig) -> list[Sample]:
    """A fixed, seeded choice of held-out samples; none where the data has no validation split."""
    held_out = open_validation(data)
    if held_out is None:
        return []
    held_out = held_out.only(config.only)
    return [held_out[int(i)] for i in np.random.default_rng(config.seed).permutation(len(held_out))[: config.validation_samples]]


def _validate(trainer: Trainer, samples: Sequence[Sample]) -> dict[str, float]:
    """What the method measures on held-out samples."""
    return trainer.method.validate(trainer.model, samples) if samples else {}
