"""Checkpoints: safetensors and JSON in one directory, committed by one rename, verified when opened."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmtool.common.errors import DataError
from mmtool.common.log import log
from mmtool.common.seal import check_seal, read_json, reading, write_sealed
from mmtool.common.storage import atomic_directory, clean_orphans, remove_directory, sha256_file

FORMAT = "mmtool-checkpoint/2"
UNSEALED = {"step", "consumed", "elapsed_s", "sha256"}  # fields of an earlier one, which said no format and carried no digest of its state
ALSO_UNSEALED = {"progress", "best_score", "best_step", "judged"}  # which it might have
ADVICE = "Use another checkpoint of the run, or train it again."
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """An opened, verified checkpoint. state: step, samples consumed, seconds trained."""

    path: Path
    model: dict[str, Tensor]
    state: dict[str, Any]

    @property
    def weights(self) -> str:
        """The sha256 of the model's file."""
        return str(self.state["sha256"][MODEL])


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any], keep: int) -> Path:
    """Write `folder/STEP`, then drop old ones (see `drop_old`)."""
    path = folder / f"{state['step']:08d}"
    with atomic_directory(path, force=True) as partial:
        _save({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}, partial / MODEL)
        _save(dict(_optimizer_tensors(model, optimizer)), partial / OPTIMIZER)
        digests = {name: sha256_file(partial / name) for name in (MODEL, OPTIMIZER)}
        write_sealed(partial / STATE, {**state, "format": FORMAT, "sha256": digests})
    drop_old(folder, keep)
    return path


def drop_old(folder: Path, keep: int) -> None:
    """Drop all but the newest `keep` checkpoints and those that a kept one calls the best (`best_step` in its state)."""
    checkpoints = list_checkpoints(folder)
    best = {best_of(kept) for kept in checkpoints[-keep:]}
    for old in checkpoints[:-keep]:
        if old not in best:
            remove_directory(old)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors. Raises OSError where the disk refuses, which the library words otherwise."""
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        raise OSError(None, f"the checkpoint cannot be written, {error}", str(path)) from error
    path.chmod(path.parent.stat().st_mode & 0o666)  # the library makes files that their owner alone can read


def amend_checkpoint(folder: Path, state: dict[str, Any]) -> None:
    """Bring the state of a checkpoint up to date with what was learned after it was saved."""
    path = folder / f"{state['step']:08d}" / STATE
    old = read_state(path.parent)
    if (new := {**old, **json.loads(json.dumps(state))}) != old:
        write_sealed(path, {**new, "format": FORMAT})


def best_of(path: Path) -> Path:
    """The checkpoint with the weights to use, as seen from the one at `path`: itself, unless its state names a better one."""
    try:
        step = read_state(path).get("best_step")
    except DataError:
        return path
    return path if step is None else path.with_name(f"{step:08d}")


def read_state(path: Path) -> dict[str, Any]:
    """state.json of a checkpoint. Raises DataError where it is missing, or not as it was written."""
    state = read_json(path / STATE, ADVICE)
    check_seal(state, path / STATE, ADVICE, unsealed=UNSEALED <= state.keys() <= UNSEALED | ALSO_UNSEALED)
    digests = state.get("sha256")
    if state.get("format", FORMAT) != FORMAT or not isinstance(digests, dict) or set(digests) != {MODEL, OPTIMIZER}:
        raise DataError(f"this is no state of a checkpoint that this version can read (it reads {FORMAT}).", where=path / STATE, fix=ADVICE)
    return state


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints by step, oldest first; leftovers of killed writers are not among them."""
    return sorted(path for path in folder.glob("*") if path.name.isdigit() and path.is_dir()) if folder.is_dir() else []


def open_checkpoint(path: Path) -> Checkpoint:
    """Verify and read one checkpoint. Raises DataError where anything is missing or damaged."""
    state = read_state(path)
    for name, digest in state["sha256"].items():
        with reading(path / name, ADVICE):
            intact = sha256_file(path / name) == digest
        if not intact:
            raise DataError("the file's sha256 is not the one recorded.", where=path / name, fix=ADVICE)
    with reading(path / MODEL, ADVICE):
        return Checkpoint(path, load_file(path / MODEL), state)


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that verifies; logs which it passed over."""
    for path in reversed(list_checkpoints(folder)):
        clean_orphans(path)
        try:
            return open_checkpoint(path)
        except DataError as error:
            log(f"passing over a damaged checkpoint: {error}")
    return None


def restore_optimizer(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the saved moments back, by parameter name (a parameter that the method never uses has none)."""
    tensors = load_file(path / OPTIMIZER)
    parameters = dict(model.named_parameters())
    for key, tensor in tensors.items():
        name, _, moment = key.rpartition("/")
        parameter = parameters[name]
        optimizer.state[parameter][moment] = tensor.to(parameter.device)


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        for key, tensor in optimizer.state[parameter].items():
            yield f"{name}/{key}", tensor.detach().cpu().contiguous()
