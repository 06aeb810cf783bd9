"""The pretrain stage: token shards in, a run out; the same command continues an interrupted one."""

import contextlib
import dataclasses
import math
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
from mmtool.data.prefetch import Prefetch
from mmtool.data.sample import Sample
from mmtool.data.shards import TokenSet, open_token_set, write_split
from mmtool.methods import METHODS
from mmtool.methods.base import Method
from mmtool.methods.protocols import Retrieving
from mmtool.model.transformer import PRESETS, Shape, Transformer
from mmtool.training.choice import choose_method
from mmtool.training.config import AUTO, RUN_FORMAT, PretrainConfig, options_of
from mmtool.training.distributed import Processes, local_processes, processes
from mmtool.training.fit_values import fit_values
from mmtool.training.hardware import be_deterministic, pick_compile, pick_device, pick_precision, pick_workers
from mmtool.training.lifecycle import begin_or_check, log_finished, other_inputs, resume
from mmtool.training.metrics import MetricsLog, NoLog
from mmtool.training.optimizer import make_optimizer
from mmtool.training.run import CONFIG, GALLERY, METRICS, TOKENIZERS, TRAINED_ON, VALUES, Run, make_method, open_run
from mmtool.training.sample_pictures import imputed_pictures
from mmtool.training.trackers import Tracking, library_of, tracked
from mmtool.training.trainer import Parts, Trainer

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
def pretrain(
    config: PretrainConfig, data: Path | None, output: Path, *, force: bool = False, workers: int | None = None, track: str | None = None
) -> PretrainSummary:
    """Train on the train split of `data` (None: a stream on standard input) into the run directory `output`.

    workers: processes beside this one that make batches (None: some beside a GPU, none on a CPU); no batch depends on it. track: a tracker
    that is sent the metrics as well (see trackers.py). Under `torchrun` its processes train together. Raises UsageError where the run was
    begun with other settings or data or the tracker is not installed, DataError where a loss is not finite.
    """
    if track:
        library_of(track)
    with processes() as here:
        if data is None and here.size > 1:
            raise UsageError("several processes cannot read one stream.", where="-", fix="Write the token set to a file first.")
        return _pretrain(config, data, OutputPath(output, force, [data]), workers, track if here.first else None, here)


def _pretrain(
    config: PretrainConfig, data: Path | None, place: OutputPath, workers: int | None, track: str | None, here: Processes
) -> PretrainSummary:
    output = place.path
    with _spooled(data) as path:
        train = open_token_set(path, split=TRAIN).only(config.only, config.least_modalities)
        config = _with_method(config, train)
        with here.first_ahead():
            if here.first:
                begin = partial(_begin, config, train, config.accumulate * here.size)
                begin_or_check(place, place.continues(CONFIG), "run", begin, partial(_changes, config, train, output))
        run = open_run(output)
        held_out = _validation_samples(path, config) if here.first else []
    device = pick_device()
    method = run.method()
    loader = _parts(run, method, train, here)
    prefetch = Prefetch(loader.loaders, method.plain_documents, pick_workers(workers, device, local_processes()))
    with contextlib.closing(prefetch), tracked(track, run.path, run.record["config"]) as tracking:
        be_deterministic(device)
        model = _model(run, method, train, device)
        trainer = Trainer(model, make_optimizer(model, config), method, loader, config, prefetch=prefetch, processes=here)
        with here.first_ahead():
            resume(trainer, run.checkpoints)
        if trainer.progress >= 1.0:
            log_finished(output, trainer.step)
        elif pick_compile(config.compile, device):
            trainer.compile()
            trainer.warm_up()
        metrics = MetricsLog(run.path / METRICS, trainer.step, tracking) if here.first else NoLog()
        trainer.train(run.checkpoints, metrics, partial(_measure, trainer, held_out, tracking, run))
    if here.first and run.teaches_values and not run.complete:
        model.eval()
        decoder = fit_values(model, trainer.method, run.tokenizers(), train, config.value_epochs, config.seed)
        write_bytes(run.path / VALUES, decoder.to_bytes())
    return PretrainSummary(str(output), config.method, trainer.step, trainer.elapsed_s, model.num_parameters(), trainer.measured)


def _model(run: Run, method: Method, train: TokenSet, device: torch.device) -> Transformer:
    """The untrained model, on its device."""
    config = run.config
    model = run.model(torch.device("cpu"))
    model.init_weights(torch.Generator().manual_seed(config.seed))
    method.prepare(model, _typical(config, train))
    if model.ordinal is not None:
        model.ordinal.smoothing = config.smoothing
    model.to(device).compute_dtype = pick_precision(config.precision, device)
    model.recompute = config.recompute
    return model


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


def _begin(config: PretrainConfig, train: TokenSet, parts: int, folder: Path) -> None:
    """Fill a new run directory. parts: of a step."""
    record = _record(config, train, parts)
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


def _record(config: PretrainConfig, train: TokenSet, parts: int) -> dict[str, Any]:
    """config.json: everything decided once, at the start."""
    layout, graph = layout_of(train.modalities), CoOccurrence.of(train.present(i) for i in range(len(train)))
    method = make_method(config, layout, graph)
    batch = method.size_batches(_typical(config, train), math.ceil(config.batch_tokens / parts), config.row_length)
    return {
        "format": RUN_FORMAT,
        "version": __version__,
        "config": config.to_json(),
        "method_options": dataclasses.asdict(method.options),
        "shape": shape_of(config).to_json(),
        "modalities": [modality.to_json() for modality in train.modalities],
        "co_occurrence": graph.to_json(),
        "data": train.fingerprint,
        "batch": {**batch, "parts": parts} if parts > 1 else batch,
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


def _parts(run: Run, method: Method, train: TokenSet, here: Processes) -> Parts:
    """Loaders of the parts of a step that fall to this process. Raises UsageError where there are more processes than parts."""
    batch, config = run.record["batch"], run.config
    parts, members = batch.get("parts", 1), _members(config, train)
    if here.size > parts:
        what = f"this run was begun with {parts} batch{'es' if parts > 1 else ''} in a step, too few for {here.size} processes."
        raise UsageError(what, where=run.path, fix=f"Continue it on {parts} at most, or begin another one.")
    if parts != config.accumulate * here.size:
        log(f"a step of this run has {parts} batches, as it was begun; each process takes {parts / here.size:.3g} of them in turn")
    pack, window = method.packer(batch), batch["window"]
    mine = range(here.rank, parts, here.size)
    return Parts([Loader(train, members, pack, window, config.seed, part=part, parts=parts) for part in mine], parts)


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


def _measure(trainer: Trainer, samples: Sequence[Sample], tracking: Tracking | None, run: Run) -> dict[str, float]:
    """The same; a tracker is also shown what is imputed of some samples."""
    measured = _validate(trainer, samples)
    if tracking and tracking.wants_pictures(trainer.step):
        pictures = imputed_pictures(trainer.method, trainer.model, run.tokenizers(), samples, trainer.config.seed)
        tracking.pictures(trainer.step, pictures)
    return measured
