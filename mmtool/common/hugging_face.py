"""Local directories in Hugging Face format: the library that opens them, what is refused, and errors in words of ours."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.common.errors import DataError, UsageError

PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
WHOLE = "Give the whole directory that `save_pretrained` wrote."


def library(where: object) -> Any:
    """The package transformers. Raises UsageError where it is not installed."""
    try:
        import transformers
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[hf]'`."
        raise UsageError("Hugging Face models need transformers.", where=where, fix=fix) from error
    return transformers


def load_model(path: Path, model_class: Any, prefix: str | None = None, optional: Collection[str] = (), **options: Any) -> Any:
    """The model of a directory with all of its weights, fp32, in evaluation mode; nothing is downloaded and no code of the directory run.

    prefix: pattern of what names of its weights begin with, where it is a part of a larger model. optional: names of weights that may be
    missing. Raises DataError where others are, or weights are damaged or pickled.
    """
    refuse_pickles(path)
    with complaints(path), silence(library(path)):
        model, loaded = model_class.from_pretrained(
            path,
            local_files_only=True,
            use_safetensors=True,
            dtype="float32",
            output_loading_info=True,
            key_mapping={prefix: ""} if prefix else None,
            **options,
        )
    refuse_missing(set(loaded["missing_keys"]) - set(optional), path)
    return model


def read_preparation(path: Path) -> dict[str, Any]:
    """What a directory says of pictures, in a file of its own or in that of a processor of several modalities; empty where it says
    nothing."""
    if (path / PREPROCESSOR).exists():
        settings = json.loads((path / PREPROCESSOR).read_text())
    elif (path / PROCESSOR).exists():
        settings = json.loads((path / PROCESSOR).read_text()).get("image_processor", {})
    else:
        settings = {}
    return {name: value for name, value in settings.items() if value is not None}


def pixel_scale(preparation: Mapping[str, Any], channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (channels,) by which uint8 pixels are normalised; 0.5 of their range where nothing is said."""
    rescale = preparation.get("rescale_factor", 1 / 255) if preparation.get("do_rescale", True) else 1.0
    normalize = preparation.get("do_normalize", True)
    mean, std = (preparation.get("image_mean", 0.5), preparation.get("image_std", 0.5)) if normalize else (0.0, 1.0)
    return np.broadcast_to(mean, channels) / rescale, np.broadcast_to(std, channels) / rescale


def refuse_pickles(path: Path) -> None:
    """Raise DataError where a directory has no weights, or pickled ones alone."""
    if any(path.glob("*.safetensors")):
        return
    pickled = sorted(file.name for pattern in PICKLES for file in path.glob(pattern))
    if pickled:
        fix = "Convert it: load it where you trust it and call `model.save_pretrained(DIR)`."
        raise DataError("pickled weights can run code when they are opened; they are refused.", where=path / pickled[0], fix=fix)
    raise DataError("there are no weights here (*.safetensors).", where=path, fix=WHOLE)


def refuse_missing(names: Collection[str], path: Path) -> None:
    """Raise DataError where weights of a model are not in its directory."""
    if names:
        raise DataError(f"{len(names)} weights are missing, the first is {min(names)}.", where=path, fix=WHOLE)


@contextmanager
def silence(transformers: Any) -> Iterator[None]:
    """No bars and reports of loading: what matters of them is checked."""
    log = transformers.utils.logging
    before, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        yield
    finally:
        log.set_verbosity(before)
        if bars:
            log.enable_progress_bar()


@contextmanager
def complaints(path: Path) -> Iterator[None]:
    """What the library raises over a directory, as one clear error."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError, ImportError, SafetensorError) as error:
        if isinstance(error, DataError | UsageError):
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        fix = "Give the whole directory that `save_pretrained` wrote, processor files included."
        raise DataError(f"the model cannot be opened ({first}).", where=path, fix=fix) from error
