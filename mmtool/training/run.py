"""The run: resolved config, tokenizers, metrics and checkpoints in one self-contained directory.

RUN/config.json                       format, settings, modalities, combinations seen, batch shape, fingerprint of the data; where its
                                      weights come from, and how its budget was changed
RUN/tokenizers/NAME.safetensors
RUN/metrics.jsonl
RUN/trained_on.safetensors            identities of the training samples' items (see data/identity.py)
RUN/gallery/                          training samples, where the method imputes by choosing among them
RUN/checkpoints/STEP/                 see training/checkpoint.py
RUN/tracking.json, RUN/tensorboard/    of --track (see training/trackers.py)
RUN/values.safetensors                networks that predict values of tables, learned at the end (see model/values.py)

A finetuned run is one whose config.json also has what its head predicts, and whose checkpoints hold that head. An export (see
training/exported.py) is opened as the run that it was.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mmtool.common.errors import DataError, UsageError
from mmtool.common.seal import check_seal, read_json, reading
from mmtool.common.storage import sha256_bytes
from mmtool.data.graph import CoOccurrence
from mmtool.data.identity import TrainingItems
from mmtool.data.layout import VocabularyLayout, layout_of
from mmtool.data.sample import Modality
from mmtool.data.shard_format import check_modalities
from mmtool.data.shards import TokenSet, open_token_set
from mmtool.methods import METHODS
from mmtool.methods.base import Method
from mmtool.methods.protocols import Retrieving
from mmtool.model.transformer import Shape, Transformer
from mmtool.model.values import ValueDecoder, code_values
from mmtool.tokenizers.base import Tokenizer, from_bytes
from mmtool.training.checkpoint import Checkpoint, best_of, list_checkpoints, newest_checkpoint, open_checkpoint
from mmtool.training.config import EXPORT_FORMAT, RUN_FORMATS, UNSEALED_RUN, PretrainConfig, check, options_of
from mmtool.training.exported import Export
from mmtool.training.extension import finished
from mmtool.training.hardware import check_memory
from mmtool.training.target import Target

CONFIG, TOKENIZERS, CHECKPOINTS, METRICS, GALLERY = "config.json", "tokenizers", "checkpoints", "metrics.jsonl", "gallery"
RESTORE = "Restore it from a copy of the run."
VALUES, TRAINED_ON = "values.safetensors", "trained_on.safetensors"
INIT_FROM = "init_from"  # in config.json: the run whose weights it was begun with


@dataclass(frozen=True)
class Run:
    """An opened run directory (`record` is its config.json). export: what an export says of itself, None of any other run."""

    path: Path
    record: dict[str, Any]
    export: Export | None = None

    def check(self) -> None:
        """Raise whatever reading the parts of the record raises, where one of them is not as it was written."""
        check_modalities(self.layout.modalities, self.path / CONFIG)
        check_memory(self.shape.parameters + 2 * self.layout.size * self.shape.width, self.path / CONFIG)
        _ = self.config, self.graph, self.target, self.record["data"], self.record["batch"], self.record["method_options"]

    @property
    def config(self) -> PretrainConfig:
        return check(self.record["config"])

    @property
    def layout(self) -> VocabularyLayout:
        return layout_of([Modality.from_json(item) for item in self.record["modalities"]])

    @property
    def shape(self) -> Shape:
        shape: Shape = options_of(Shape, self.record["shape"], "shape")
        return shape

    @property
    def graph(self) -> CoOccurrence:
        return CoOccurrence.from_json(self.record["co_occurrence"])

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def steps(self) -> list[int]:
        """Of its checkpoints, the oldest first."""
        return [self.export.step] if self.export else [int(checkpoint.name) for checkpoint in list_checkpoints(self.checkpoints)]

    def tokenizers(self) -> dict[str, Tokenizer]:
        """The run's copies, checked against the fingerprints its config names."""
        opened = {}
        for modality in self.layout.modalities:
            path = self.path / TOKENIZERS / f"{modality.name}.safetensors"
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DataError(f"the run lacks its tokenizer ({error.strerror}).", where=path, fix=RESTORE) from error
            if sha256_bytes(data) != modality.tokenizer:
                raise DataError("the tokenizer is not the one this run was trained with.", where=path, fix=RESTORE)
            opened[modality.name] = from_bytes(data, where=path)
        return opened

    @property
    def target(self) -> Target | None:
        """What the run was finetuned to predict; None for a pretrained one."""
        return Target.from_json(self.record["finetune"]["target"]) if "finetune" in self.record else None

    def checkpoint(self, name: str | None = None) -> Checkpoint:
        """The named checkpoint, or the newest that verifies (of a finetuned run the best). Raises DataError when there is none."""
        if self.export is not None:
            return self.export.weights(self.path, name)
        checkpoint = open_checkpoint(self.checkpoints / name) if name else newest_checkpoint(self.checkpoints)
        if checkpoint and not name and (best := best_of(checkpoint.path)) != checkpoint.path:
            checkpoint = open_checkpoint(best)
        if checkpoint is None:
            raise DataError("the run has no usable checkpoint yet.", where=self.path, fix="Train it with `mmtool pretrain`.")
        return checkpoint

    def model(self, device: torch.device) -> Transformer:
        """The untrained transformer of the run's shape, on a device."""
        with torch.device(device):
            model = make_method(self.config, self.layout, self.graph).model(self.shape)
            if self.target is not None:
                model.task_head = self.target.head(model.shape.width)
            return model

    @property
    def teaches_values(self) -> bool:
        """Whether networks for values of tables belong to the run: where at least two of its modalities are tables."""
        return (
            bool(self.config.value_epochs)
            and sum(modality.ordered > 0 and modality.fixed_length for modality in self.layout.modalities) > 1
        )

    def outdated(self) -> list[str]:
        """In words, settings of the method that had another default in the version which began the run."""
        begun = self.record["method_options"]
        now = json.loads(json.dumps(asdict(make_method(self.config, self.layout, self.graph).options)))
        return [f"method.{name} was {begun[name]!r}, now {now[name]!r}" for name in sorted(now) if begun.get(name, now[name]) != now[name]]

    @property
    def complete(self) -> bool:
        """Whether it was trained to the end, with everything that follows the last step."""
        if self.export is not None:
            return self.export.complete
        checkpoint = newest_checkpoint(self.checkpoints)
        done = checkpoint is not None and finished(self.config, checkpoint.state)
        return done and (not self.teaches_values or (self.path / VALUES).exists())

    @property
    def data_fingerprints(self) -> list[str]:
        """Of all that it was trained on: its data, what it was finetuned on, and the data of the run that it began with."""
        sources, origin = [self.record["data"]], self.record.get(INIT_FROM)
        sources += [self.record["finetune"]["data"]] if "finetune" in self.record else []
        while origin is not None:
            sources.append(origin["data"])
            origin = origin.get(INIT_FROM)
        return sources

    def training_items(self) -> TrainingItems:
        """What it was trained on; incomplete where an earlier version began it. Raises DataError where the file is missing or damaged."""
        return TrainingItems.read(self.path / TRAINED_ON, self.record.get("trained_on"))

    def values(self) -> ValueDecoder | None:
        """The networks that predict values of tables, None where the run has none (yet). Raises DataError where they are damaged."""
        path = self.path / VALUES
        return ValueDecoder.from_bytes(path.read_bytes(), code_values(self.tokenizers()), path) if path.exists() else None

    def method(self) -> Method:
        """The method as configured, with the gallery of training samples if it keeps one."""
        method = make_method(self.config, self.layout, self.graph)
        if isinstance(method, Retrieving):
            gallery = open_token_set(self.path / GALLERY)
            method.use_gallery([gallery[i] for i in range(len(gallery))])
        return method


def make_method(config: PretrainConfig, layout: VocabularyLayout, graph: CoOccurrence) -> Method:
    """The configured method. Raises UsageError for an unknown one or settings it does not have."""
    if config.method not in METHODS:
        raise UsageError(f"there is no method {config.method!r}.", where="--method", fix=f"Methods: {', '.join(METHODS)}.")
    method = METHODS[config.method]
    return method(layout, graph, options_of(method.Options, config.method_options, f"--set method ({config.method})"))


def open_run(path: Path, *, to_train: bool = False) -> Run:
    """Open a run directory, or an export of one. Raises DataError where it is none, UsageError for an export that is to be trained
    further in its place."""
    config = Path(path) / CONFIG
    if not config.is_file():
        raise DataError("this is not a run directory (no config.json in it).", where=path, fix="Give what `mmtool pretrain -o` wrote.")
    record = read_json(config, RESTORE)
    if record.get("format") not in RUN_FORMATS:
        raise DataError(f"this is not a run this version can read (it reads {', '.join(RUN_FORMATS)}).", where=path)
    check_seal(record, config, RESTORE, unsealed=record["format"] == UNSEALED_RUN)
    with reading(config, RESTORE):
        is_export = record["format"] == EXPORT_FORMAT
        run = Run(Path(path), record["run"], Export(**record["export"])) if is_export else Run(Path(path), record)
        run.check()
    if run.export is not None and to_train:
        fix = "Choose another output, and begin with its weights (`mmtool pretrain --init-from`, `mmtool finetune`)."
        raise UsageError("this is an export, which has nothing to go on from.", where=path, fix=fix)
    return run


def same_tokenizers(run: Run, data: TokenSet, where: object, *, more: bool = False) -> None:
    """Raise UsageError where `data` holds a modality that the run does not know (unless there may be `more`), DataError where another
    tokenizer made one."""
    known = {modality.name: modality.tokenizer for modality in run.layout.modalities}
    for modality in data.modalities:
        if modality.name not in known:
            if more:
                continue
            fix = f"It knows {', '.join(known)}; name the modality so in `mmtool tokenize --name`."
            raise UsageError(f"the run {run.path} knows no modality {modality.name!r}.", where=where, fix=fix)
        if modality.tokenizer != known[modality.name]:
            used, trained = modality.tokenizer[:12], known[modality.name][:12]
            what = f"its {modality.name} was made by the tokenizer {used}, but {run.path} was trained with {trained}."
            command = f"mmtool tokenize {modality.kind} PATH... --tokenizer {run.path} --name {modality.name}"
            fix = f"Tokenize the raw files again with `{command}`."
            raise DataError(what, where=where, fix=fix)
