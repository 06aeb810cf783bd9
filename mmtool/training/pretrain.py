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
from mmtool.data.loader import Loader
from mmtool.data.prefetch import Prefetch
from mmtool.data.sample import Sample
from mmtool.data.shards import TokenSet, open_token_set, write_split
from mmtool.methods import METHODS
from mmtool.methods.base import Method
from mmtool.methods.protocols import Retrieving
from mmtool.model.transformer import PRESETS, Shape, Transformer
from mmtool.training.choice import with_method
from mmtool.training.config import AUTO, EXTENSIBLE, RUN_FORMAT, PretrainConfig, options_of
from mmtool.training.distributed import Processes, local_processes, processes
from mmtool.training.early_stopping import check_patience
from mmtool.training.extension import Extension, extend
from mmtool.training.fit_values import fit_values
from mmtool.training.hardware import be_deterministic, pick_compile, pick_device, pick_precision, pick_workers
from mmtool.training.initial import InitialRun, load_initial, unseen
from mmtool.training.lifecycle import begin_or_check, log_finished, other_inputs, resume_from, to_resume
from mmtool.training.memory import check_pretraining
from mmtool.training.metrics import MetricsLog, NoLog
from mmtool.training.optimizer import make_optimizer
from mmtool.training.progress import announce
from mmtool.training.run import CONFIG, GALLERY, INIT_FROM, METRICS, TOKENIZERS, TRAINED_ON, VALUES, Run, make_method, open_run
from mmtool.training.sample_choice import epoch_members, longest_samples, typical_samples
from mmtool.training.sample_pictures import shown
from mmtool.training.trackers import library_of, tracked
from mmtool.training.trainer import Parts, Trainer

GALLERY_SIZE = 4000  # training samples of each combination of modalities that a retrieving method may answer with


@dataclass(frozen=True)
class PretrainSummary:
    """validation: of the weights of `best_step`, which are those to use: the last step, unless early stopping keeps the best one. loss: of
    training, as reported last."""

    run: str
    method: str
    steps: int
    seconds: float
    parameters: int
    validation: dict[str, float]
    best_step: int
    loss: dict[str, float]


@one_writer
def pretrain(
    config: PretrainConfig,
    data: Path | None,
    output: Path,
    *,
    init_from: Path | None = None,
    force: bool = False,
    workers: int | None = None,
    track: str | None = None,
    extensible: bool = True,
    shard_model: bool = False,
) -> PretrainSummary:
    """Train on the train split of `data` (None: a stream on standard input) into the run directory `output`.

    init_from: a run with whose weights this one begins. workers: processes beside this one that make batches (None: some beside a GPU, none
    on a CPU); no batch depends on it. track: a tracker that is sent the metrics as well (see trackers.py). extensible: whether steps,
    minutes and patience of a run that is there may change (see extension.py). Under `torchrun` its processes train together; shard_model:
    each keeps its part of the model only (see sharding.py). Raises UsageError where the run was begun with other settings, data or weights
    or the tracker is not installed, DataError where a loss is not finite.
    """
    if track:
        library_of(track)
    with processes(shard_model) as here:
        if shard_model and here.size == 1:
            log("--shard-model: one process keeps the whole model; `torchrun` starts several")
        if data is None and here.size > 1:
            raise UsageError("several processes cannot read one stream.", where="-", fix="Write the token set to a file first.")
        return _pretrain(config, data, OutputPath(output, force, [data, init_from]), init_from, workers, track, here, extensible)


def _pretrain(
    config: PretrainConfig,
    data: Path | None,
    place: OutputPath,
    init_from: Path | None,
    workers: int | None,
    track: str | None,
    here: Processes,
    extensible: bool,
) -> PretrainSummary:
    """As one of the processes of the training."""
    output, initial = place.path, InitialRun.open(init_from) if init_from else None
    with _spooled(data) as path:
        train = open_token_set(path, split=TRAIN).only(config.only, config.least_modalities)
        config = with_method(config, train.modalities, _graph(train, initial)) if config.method == AUTO else config
        held_out = _validation_samples(path, config)
        check_patience(config, held_out, path)
        with here.first_ahead():
            if here.first:
                _begin_or_go_on(place, config, train, here, initial, EXTENSIBLE if extensible else ())
        run = open_run(output)
        if INIT_FROM in run.record:
            held_out = unseen(run, held_out)
            check_patience(config, held_out, path)
    device = pick_device()
    method = run.method()
    loader = _parts(run, method, train, here)
    prefetch = Prefetch(loader.loaders, method.plain_documents, pick_workers(workers, device, local_processes()))
    with contextlib.closing(prefetch), tracked(track if here.first else None, run.path, run.record["config"]) as tracking:
        be_deterministic(device)
        trainer = _trainer(run, _model(run, method, train, device), method, loader, prefetch, here, init_from)
        if trainer.progress >= 1.0:
            log_finished(output, trainer.step)
        else:
            if here.first:
                announce(trainer, len(train), train.num_tokens(), output)
            if pick_compile(config.compile, device):
                trainer.compile()
                trainer.warm_up()
        metrics = MetricsLog(run.path / METRICS, trainer.step, tracking) if here.first else NoLog()
        samples = held_out if here.first else []
        trainer.train(run.checkpoints, metrics, partial(shown, partial(_validate, trainer, samples), trainer, tracking, run, samples))
    best, measured = trainer.step, trainer.measured
    if here.first and trainer.early_stopping.best:
        best = trainer.early_stopping.best[1]
        measured = metrics.validation(best) or {}
    if here.first and run.teaches_values and not run.complete:
        with trainer.measured_model() as model:
            model.load_state_dict(run.checkpoint().model)
            model.eval()
            decoder = fit_values(model, trainer.method, run.tokenizers(), train, config.value_epochs, config.seed)
        write_bytes(run.path / VALUES, decoder.to_bytes())
    loss, parameters = trainer.last_losses or dict(metrics.losses), trainer.model.num_parameters()
    return PretrainSummary(str(output), config.method, trainer.step, trainer.elapsed_s, parameters, measured, best, loss)


def _trainer(
    run: Run, model: Transformer, method: Method, loader: Parts, prefetch: Prefetch, here: Processes, init_from: Path | None
) -> Trainer:
    """The trainer of a run, where its last checkpoint left off, or at the weights that it begins with."""
    with here.first_ahead():
        checkpoint = to_resume(run.checkpoints)
    if checkpoint is None and INIT_FROM in run.record:
        load_initial(model, run.record[INIT_FROM], init_from)
    if here.sharded:
        from mmtool.training.sharding import ShardedTrainer  # imports what takes seconds

        trainer: Trainer = ShardedTrainer(model, method, loader, run.config, pick_device(), prefetch=prefetch, processes=here)
    else:
        model.to(pick_device())
        trainer = Trainer(model, make_optimizer(model, run.config), method, loader, run.config, prefetch=prefetch, processes=here)
    trainer.extension = Extension.of(run.record)
    if checkpoint is not None:
        with here.first_ahead():
            resume_from(checkpoint, trainer)
    return trainer


def _model(run: Run, method: Method, train: TokenSet, device: torch.device) -> Transformer:
    """The untrained model, on the CPU, which computes as suits the device."""
    config = run.config
    model = run.model(torch.device("cpu"))
    model.init_weights(torch.Generator().manual_seed(config.seed))
    method.prepare(model, typical_samples(config, train))
    if model.ordinal is not None:
        model.ordinal.smoothing = config.smoothing
    model.compute_dtype, model.recompute = pick_precision(config.precision, device), config.recompute
    return model


def _graph(train: TokenSet, initial: InitialRun | None) -> CoOccurrence:
    """What occurred together in training, that of the run it begins with included."""
    graph = CoOccurrence.of(train.present(i) for i in range(len(train)))
    return graph | initial.run.graph if initial else graph


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


def _begin_or_go_on(
    place: OutputPath, config: PretrainConfig, train: TokenSet, here: Processes, initial: InitialRun | None, may_change: Sequence[str]
) -> None:
    """A new run directory, or the one that is there, if it was begun in the same way but for what may change."""
    begun, begin = place.continues(CONFIG), partial(_begin, config, train, here, initial)
    begin_or_check(place, begun, "run", begin, partial(_changes, config, train, place.path, initial, may_change))
    if begun:
        check_pretraining(open_run(place.path), typical_samples(config, train), here)
        _extend(config, place.path)


def _begin(config: PretrainConfig, train: TokenSet, here: Processes, initial: InitialRun | None, folder: Path) -> None:
    """Fill a new run directory."""
    record, items = _record(config, train, config.accumulate * here.size, initial), TrainingItems.of(train)
    check_pretraining(Run(folder, record), typical_samples(config, train), here)
    if initial is not None:
        initial.check(shape_of(config), config, train, "DATA")
        record, items = {**record, INIT_FROM: initial.to_json()}, initial.run.training_items() | items
    (folder / TOKENIZERS).mkdir()
    for modality in train.modalities:
        write_bytes(folder / TOKENIZERS / f"{modality.name}.safetensors", train.tokenizers[modality.name])
    if issubclass(METHODS[config.method], Retrieving):
        write_split(folder / GALLERY, train.modalities, train.tokenizers, _gallery(train, config.seed), split=TRAIN)
    data = items.to_bytes()
    write_bytes(folder / TRAINED_ON, data)
    write_sealed(folder / CONFIG, {**record, "trained_on": sha256_bytes(data)})


def _extend(config: PretrainConfig, output: Path) -> None:
    """Let the run go on under the budget of `config`, if that is another one. Networks of values are learned anew after the last step."""
    run = open_run(output)
    record = extend(run.record, config, run.checkpoints)
    if record is not None:
        if part := METHODS[config.method].of_progress:
            log(f"the {part} of {config.method} takes its share of the new budget")
        (output / VALUES).unlink(missing_ok=True)
        write_sealed(output / CONFIG, record)


def _changes(config: PretrainConfig, train: TokenSet, output: Path, initial: InitialRun | None, may_change: Sequence[str]) -> list[str]:
    """What differs from what the run was begun with. Raises UsageError for a finetuned one, or an export."""
    run = open_run(output, to_train=True)
    if run.target is not None:
        raise UsageError("this run was finetuned.", where=output, fix="Choose another output, or pass --force to start anew.")
    begun, now = {"data": run.record["data"]}, {"data": train.fingerprint}
    if initial is not None:
        begun["weights to begin with"] = run.record.get(INIT_FROM, {}).get("sha256", "none")
        now["weights to begin with"] = initial.fingerprint
    return other_inputs(begun, now) or config.changes_from(run.record["config"], may_change) or run.outdated()


def _gallery(train: TokenSet, seed: int) -> list[Sample]:
    """Random training samples, up to `GALLERY_SIZE` of each combination of modalities."""
    counts: Counter[tuple[str, ...]] = Counter()
    chosen = []
    for i in np.random.default_rng(seed).permutation(len(train)):
        counts[tuple(train.present(int(i)))] += 1
        if counts[tuple(train.present(int(i)))] <= GALLERY_SIZE:
            chosen.append(train[int(i)])
    return chosen


def _record(config: PretrainConfig, train: TokenSet, parts: int, initial: InitialRun | None) -> dict[str, Any]:
    """config.json: everything decided once, at the start."""
    layout, graph = layout_of(train.modalities), _graph(train, initial)
    method = make_method(config, layout, graph)
    samples, longest = typical_samples(config, train), longest_samples(config, train)
    batch = method.size_batches(samples, math.ceil(config.batch_tokens / parts), config.row_length, longest)
    if config.row_length and (tokens := method.most([*samples, *longest]).tokens) > config.row_length:
        log(f"rows of {config.row_length} tokens are shorter than samples may be ({tokens}): one that does not fit ends the training")
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


def _parts(run: Run, method: Method, train: TokenSet, here: Processes) -> Parts:
    """Loaders of the parts of a step that fall to this process. Raises UsageError where there are more processes than parts."""
    batch, config = run.record["batch"], run.config
    parts, members = batch.get("parts", 1), epoch_members(config, train)
    if here.size > parts:
        what = f"this run was begun with {parts} batch{'es' if parts > 1 else ''} in a step, too few for {here.size} processes."
        raise UsageError(what, where=run.path, fix=f"Continue it on {parts} at most, or begin another one.")
    if parts != config.accumulate * here.size:
        log(f"a step of this run has {parts} batches, as it was begun; each process takes {parts / here.size:.3g} of them in turn")
    pack, window = method.packer(batch), batch["window"]
    mine = range(here.rank, parts, here.size)
    return Parts([Loader(train, members, pack, window, config.seed, part=part, parts=parts) for part in mine], parts)


def _validation_samples(data: Path, config: PretrainConfig) -> list[Sample]:
    """A fixed, seeded choice of held-out samples; none where the data has no validation split."""
    held_out = open_validation(data)
    if held_out is None:
        return []
    held_out = held_out.only(config.only)
    return [held_out[int(i)] for i in np.random.default_rng(config.seed).permutation(len(held_out))[: config.validation_samples]]


def _validate(trainer: Trainer, samples: Sequence[Sample]) -> dict[str, float]:
    """What the method measures on held-out samples."""
    if not samples:
        return {}
    with trainer.measured_model() as model:
        return trainer.method.validate(model, samples)
