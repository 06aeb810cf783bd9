"""The adapter: what was trained on top of frozen encoders, and which encoders these are.

ADAPTER/adapter.json          format, settings, encoders (source and fingerprint), task, what was trained and how much
ADAPTER/adapter.safetensors   trained parameters and the moments of embeddings, under 5 MB at usual sizes
ADAPTER/metrics.jsonl
ADAPTER/trained_on.safetensors  identities of what it and its encoders were trained on (see data/identity.py)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as safetensors_bytes
from torch import Tensor, nn

from mmtool.adaptation.config import ADAPTER_FORMAT, UNSEALED_ADAPTER, AdaptConfig
from mmtool.adaptation.joint_embedding import CHOICES, JointEmbedding, JointOptions
from mmtool.common.errors import DataError, UsageError
from mmtool.common.seal import check_seal, read_json, write_sealed
from mmtool.common.storage import sha256_file, write_bytes
from mmtool.data.identity import TrainingItems
from mmtool.encoders import open_encoder
from mmtool.model.encoder import Encoder
from mmtool.training.config import check_as, options_of
from mmtool.training.hardware import pick_precision
from mmtool.training.labelled_task import TASKS, LabelledTask

RECORD, WEIGHTS, METRICS = "adapter.json", "adapter.safetensors", "metrics.jsonl"
TRAINED_ON = "trained_on.safetensors"


@dataclass
class Adapter:
    """A model with its task. record: adapter.json."""

    model: JointEmbedding
    task: LabelledTask
    config: AdaptConfig
    record: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Every modality that has an encoder, whether the method uses it or not."""
        return tuple(sorted(self.record["encoders"]))

    @property
    def method(self) -> str:
        return self.config.method

    @property
    def seed(self) -> int:
        return self.config.seed


def open_encoders(
    sources: Mapping[str, Path], tokenizers: Mapping[str, bytes], device: torch.device, config: AdaptConfig, needed: bool = True
) -> list[Encoder]:
    """The encoder of every modality in order of their names, frozen, on a device.

    needed: whether the data must know every modality, as in training. Raises UsageError for one that it lacks, and what `open_encoder`
    raises.
    """
    opened = []
    for name, source in sorted(sources.items()):
        if name not in tokenizers and needed:
            fix = f"The data holds {', '.join(tokenizers)}."
            raise UsageError(f"there is an encoder of {name!r}, but no such modality in the data.", where="--encoder", fix=fix)
        encoder = open_encoder(Path(source), name, tokenizers.get(name), config.pool).to(device)
        encoder.compute_dtype = pick_precision(config.precision, device)
        opened.append(encoder)
    return opened


def options_for(config: AdaptConfig) -> JointOptions:
    """The method's options with those of the configuration over them. Raises UsageError for names and values that do not exist."""
    options = options_of(JointOptions, {**config.recipe.options, **config.method_options}, f"--set method ({config.method})")
    for name, choices in CHOICES.items():
        if getattr(options, name) not in choices:
            fix = f"Choose from: {', '.join(choices)}."
            raise UsageError(f"{getattr(options, name)!r} is not possible.", where=f"method.{name}", fix=fix)
    return options


def build_model(encoders: list[Encoder], task: LabelledTask, config: AdaptConfig) -> JointEmbedding:
    """The untrained model of a method on the encoders that it uses."""
    names = config.modalities([encoder.modality for encoder in encoders])
    used = [encoder for encoder in encoders if encoder.modality in names]
    return JointEmbedding(used, task.num_outputs, options_for(config), config.seed).to(next(used[0].parameters()).device)


def adapter_record(
    config: AdaptConfig, task: LabelledTask, encoders: list[Encoder], sources: Mapping[str, Path], data: str
) -> dict[str, Any]:
    """adapter.json as it is known before training."""
    origins = {
        encoder.modality: {"source": str(Path(sources[encoder.modality]).absolute()), "fingerprint": encoder.fingerprint}
        for encoder in encoders
    }
    return {
        "format": ADAPTER_FORMAT,
        "config": config.to_json(),
        "encoders": origins,
        "task": {"kind": task.kind, "state": task.state},
        "data": data,
    }


def count_parameters(model: JointEmbedding) -> dict[str, Any]:
    """How much is trained, in all and beside the parameters of the encoders."""
    trained = {name: parameter.numel() for name, parameter in model.trained().items()}
    frozen = model.num_frozen()
    parts: dict[str, int] = {}
    for name, number in trained.items():
        part = name.partition(".")[0]
        parts[part] = parts.get(part, 0) + number
    return {"trained": sum(trained.values()), "frozen": frozen, "share": sum(trained.values()) / max(1, frozen), "parts": parts}


class TrainedParts(nn.Module):
    """What an adapter stores of a model, as a module: its trained parameters and its buffers outside the encoders."""

    def __init__(self, model: JointEmbedding) -> None:
        super().__init__()
        self._names = {name.replace(".", "/"): name for name in model.trained()}
        for plain, name in self._names.items():
            self.register_parameter(plain, model.get_parameter(name))
        self.moments, self.scales, self.reading_scales = model.moments, model.scales, model.reading_scales

    def restore(self, tensors: Mapping[str, Tensor], where: object) -> None:
        """Put saved tensors back. Raises DataError where they are not those of this model."""
        if {name: value.shape for name, value in self.state_dict().items()} != {name: value.shape for name, value in tensors.items()}:
            fix = "Use the encoders it was trained on, or adapt again."
            raise DataError("the stored parameters do not fit the encoders.", where=where, fix=fix)
        self.load_state_dict(dict(tensors))


def save_adapter(folder: Path, model: JointEmbedding, record: Mapping[str, Any]) -> int:
    """Write weights, then the record that names them; gives their size in bytes."""
    path = folder / WEIGHTS
    tensors = {name: value.detach().cpu().contiguous() for name, value in TrainedParts(model).state_dict().items()}
    write_bytes(path, safetensors_bytes(tensors))
    size = path.stat().st_size
    stored = {"bytes": size, "sha256": sha256_file(path), "finished": True}
    write_sealed(folder / RECORD, {**record, **count_parameters(model), **stored})
    return size


def read_record(path: Path) -> dict[str, Any]:
    """adapter.json of a directory. Raises DataError where it is none or of another format."""
    fix, file = "Give what `mmtool adapt -o` wrote.", Path(path) / RECORD
    if not file.is_file():
        raise DataError("this is no adapter.", where=path, fix=fix)
    record = read_json(file, fix)
    known = record.get("format")
    if known not in (ADAPTER_FORMAT, UNSEALED_ADAPTER):
        what = f"this adapter has the format {known}, this version reads {ADAPTER_FORMAT} (whose settings have other names)."
        raise DataError(what, where=path, fix="Adapt again: repeat its `mmtool adapt` command with --force.")
    check_seal(record, file, fix, unsealed=known == UNSEALED_ADAPTER)
    return record


def training_items(path: Path) -> TrainingItems:
    """What an adapter and its encoders were trained on; incomplete where an earlier version made any of them."""
    return TrainingItems.read(Path(path) / TRAINED_ON, read_record(path).get("trained_on"))


def is_adapter(path: Path) -> bool:
    return (Path(path) / RECORD).is_file()


def open_adapter(path: Path, tokenizers: Mapping[str, bytes], device: torch.device, sources: Mapping[str, Path] | None = None) -> Adapter:
    """A finished adapter on its encoders. tokenizers: of the data it will see. sources: where encoders lie now, if they were moved.

    Raises DataError where the encoders are not those it was trained on, and names both fingerprints.
    """
    record = read_record(path)
    config = check_as(AdaptConfig, record["config"])
    if not record.get("finished"):
        raise DataError("this adapter is not trained to its end.", where=path, fix="Run the same `mmtool adapt` command again.")
    paths = {name: Path((sources or {}).get(name, origin["source"])) for name, origin in record["encoders"].items()}
    for name, encoder_path in paths.items():
        if not encoder_path.is_dir():
            fix = f"Give its path with --encoder {name}=PATH."
            raise DataError(f"the encoder of {name} is no longer here.", where=encoder_path, fix=fix)
    encoders = open_encoders(paths, tokenizers, device, config, needed=False)
    for encoder in encoders:
        wanted = record["encoders"][encoder.modality]["fingerprint"]
        if encoder.fingerprint != wanted:
            what = f"the encoder of {encoder.modality} is {encoder.fingerprint[:12]}, the adapter {path} was trained on {wanted[:12]}."
            raise DataError(what, where=paths[encoder.modality], fix=f"Give the right one with --encoder {encoder.modality}=PATH.")
    task = TASKS[record["task"]["kind"]](record["task"]["state"])
    model = build_model(encoders, task, config)
    if sha256_file(Path(path) / WEIGHTS) != record["sha256"]:
        raise DataError("the file's sha256 is not the one recorded.", where=Path(path) / WEIGHTS, fix="Adapt again.")
    try:
        tensors = load_file(Path(path) / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise DataError(f"the adapter cannot be read ({error}).", where=Path(path) / WEIGHTS, fix="Adapt again.") from error
    TrainedParts(model).restore(tensors, path)
    return Adapter(model.eval(), task, config, record)
