"""Pretrained codecs from local directories in Hugging Face format: how one is opened, and how a tokenizer's file holds it whole."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmtool.common.errors import DataError
from mmtool.common.hugging_face import complaints, library, load_model, silence
from mmtool.common.log import log


def model_type(path: Path, supported: Mapping[str, Any], what: str) -> str:
    """Which of the supported types the model in a directory is. Raises DataError where it is none of them. what: they are all."""
    with complaints(path):
        kind = json.loads((path / "config.json").read_text()).get("model_type")
    if kind not in supported:
        raise DataError(f"a model of the type {kind!r} is no {what}.", where=path, fix=f"Supported: {', '.join(supported)}.")
    return str(kind)


def open_codec(path: Path, name: str, prefix: str | None = None) -> Any:
    """The model of a directory by the name of its class; prefix: see `load_model`. The config of a larger model has that of its codec
    under `vq_config`, and completes it."""
    transformers = library(path)
    with complaints(path), silence(transformers):
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    return load_model(path, getattr(transformers, name), prefix, config=getattr(config, "vq_config", config))


def state_of(model: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Weights and config of a model: nothing of where it came from, and of the version that opened it."""
    config = json.loads(model.config.to_json_string(use_diff=False))
    known = {name: value for name, value in config.items() if name not in ("_name_or_path", "transformers_version")}
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}, known


def from_state(name: str, tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> Any:
    """The model of what `state_of` gave, by the name of its class."""
    model_class = getattr(library("tokenizer"), name)
    model = model_class(model_class.config_class.from_dict(dict(config)))
    model.load_state_dict({key: torch.from_numpy(np.array(tensor)) for key, tensor in tensors.items()})
    return model


def log_size(model: Any, path: Path, what: str) -> None:
    """Say what of a codec is used, and how large it makes all that holds it."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    log(f"{path}: {what}; every token set and run keeps the codec, {size / 1e6:,.1f} MB")
