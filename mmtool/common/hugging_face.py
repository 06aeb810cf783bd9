"""Local directories in Hugging Face format: the library that opens them, what is refused, and errors in words of ours."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError, UsageError

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
