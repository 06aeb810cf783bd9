"""The life of an output directory, the same for every training: begun once, continued by the same command, refused to any other."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.common.output import OutputPath
from mmtool.common.storage import clean_folder
from mmtool.training.checkpoint import Checkpoint, drop_old, list_checkpoints, load_weights, newest_checkpoint, restore_optimizer
from mmtool.training.loop import Loop

SHOWN = 12  # digits of a fingerprint


def begin_or_check(output: OutputPath, begun: bool, kind: str, write: Callable[[Path], None], changes: Callable[[], Sequence[str]]) -> None:
    """Begin a new directory, or make sure that the one that is there was begun in the same way.

    begun: what `output.continues` gave. kind: of artefact, in words. write: fills a new directory, which appears whole or not at all.
    changes: in words, what differs from what it was begun with. Raises UsageError where anything does.
    """
    if not begun:
        with output.directory() as folder:
            write(folder)
    elif differing := changes():
        fix = "Continue with what it was begun with, choose another output, or pass --force to start anew."
        raise UsageError(f"this {kind} was begun otherwise: {'; '.join(differing)}.", where=output.path, fix=fix)


def other_inputs(begun: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In words, which inputs (name -> fingerprints) are not those that a training was begun with."""
    return [_other(name, begun[name], value) for name, value in now.items() if begun[name] != value]


def resume(loop: Loop, folder: Path) -> bool:
    """Continue from the newest checkpoint under `folder` that verifies; whether there is one."""
    checkpoint = to_resume(folder)
    if checkpoint is not None:
        resume_from(checkpoint, loop)
    return checkpoint is not None


def to_resume(folder: Path) -> Checkpoint | None:
    """The newest checkpoint under `folder` that verifies, behind which nothing is left that a killed process wrote."""
    clean_folder(folder)
    return newest_checkpoint(folder)


def resume_from(checkpoint: Checkpoint, loop: Loop) -> None:
    """Continue from a checkpoint that `to_resume` gave."""
    folder = checkpoint.path.parent
    load_weights(loop.model, checkpoint.model)
    restore_optimizer(checkpoint.path, loop.model, loop.optimizer)
    loop.restore(checkpoint.state)
    if checkpoint.path == list_checkpoints(folder)[-1]:  # who wrote it may have been killed before it dropped old ones
        drop_old(folder, loop.config.keep)
    log(f"continuing {folder.parent} from step {loop.step}")


def log_finished(path: Path, step: int) -> None:
    """Tell that the same command was given to a training that is at its end."""
    log(f"{path}: trained to the end already (step {step}), nothing to do")


def _other(name: str, old: Any, new: Any) -> str:
    shown = f" ({old[:SHOWN]}, now {new[:SHOWN]})" if isinstance(old, str) and isinstance(new, str) else ""
    return f"other {name}{shown}"
