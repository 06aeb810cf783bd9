"""A training that goes on under another budget than it was begun with.

Steps, minutes and patience may change at any time, as long as the new ones leave something to do. From there on all that follows the
progress of a training follows the new budget. A learning rate that had fallen by then rises again in as many steps as in the warm-up
(Ibrahim et al. 2024, arXiv 2403.08763, found that better than to go on with a small one); a constant one goes on as it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.training.checkpoint import newest_checkpoint
from mmtool.training.config import EXTENSIBLE, Budget
from mmtool.training.early_stopping import EarlyStopping

EXTENDED = "extended"  # in a record: every change of the budget


@dataclass(frozen=True)
class Extension:
    """The last change of a budget. step: how many were done before it; progress: what they were of the earlier budget, 0 to 1."""

    step: int
    progress: float

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Extension | None":
        """That of a record, None where its budget is the one that it was begun with."""
        changes = record.get(EXTENDED)
        return cls(changes[-1]["step"], changes[-1]["progress"]) if changes else None


def finished(config: Budget, state: Mapping[str, Any]) -> bool:
    """Whether there is nothing left to do behind a checkpoint of this state."""
    return config.spent(state["step"], state["elapsed_s"]) >= 1 or _stopping(config, state).exhausted


def extend(record: Mapping[str, Any], config: Budget, checkpoints: Path) -> dict[str, Any] | None:
    """The record of a training (its `config` and `extended`) under the budget of `config`; None where that is the one it has.

    Says what follows. Raises UsageError where the new budget leaves nothing to do.
    """
    old, new = ({name: settings[name] for name in EXTENSIBLE if name in settings} for settings in (record["config"], config.to_json()))
    if new == {**dict.fromkeys(new, 0), **old}:
        return None
    checkpoint = newest_checkpoint(checkpoints)
    state = checkpoint.state if checkpoint else {"step": 0, "elapsed_s": 0.0, "progress": 0.0}
    _check(config, state, checkpoints.parent)
    earlier, step = Extension.of(record), state["step"]
    progress = earlier.progress if earlier and earlier.step == step else state["progress"]
    _log(record["config"], config, state, checkpoints.parent)
    change = {"step": step, "progress": progress, "from": old, "to": new}
    changes = [*record.get(EXTENDED, []), change] if step else []
    return {**record, "config": config.to_json(), **({EXTENDED: changes} if changes else {})}


def _stopping(config: Budget, state: Mapping[str, Any]) -> EarlyStopping:
    stopping = EarlyStopping(getattr(config, "patience", 0), config.checkpoint_every)
    stopping.restore(state)
    return stopping


def _check(config: Budget, state: Mapping[str, Any], where: Path) -> None:
    """Raise UsageError where nothing is left to do."""
    step, minutes = state["step"], state["elapsed_s"] / 60
    if config.spent(step, state["elapsed_s"]) >= 1:
        what = f"{step} steps are done in {minutes:.3g} minutes, so {_words(config)} leave nothing to do."
        raise UsageError(what, where=where, fix="Ask for more, choose another output, or pass --force to start anew.")
    stopping = _stopping(config, state)
    if stopping.exhausted and stopping.best:
        what = f"the training stopped early: it made no progress from step {stopping.best[1]} to {stopping.judged}."
        raise UsageError(what, where=where, fix=f"Let it go on with --patience above {config.patience}.")  # type: ignore[attr-defined]


def _log(begun: Mapping[str, Any], config: Budget, state: Mapping[str, Any], where: Path) -> None:
    rate = {
        "constant": "the learning rate stays as it is",
        "cosine": f"the learning rate goes over to the cosine of the new budget within {config.warmup_steps} steps",
    }[config.schedule]
    minutes = f" and {begun['minutes']:g} minutes" if begun["minutes"] else ""
    old = f"{begun['steps'] or 'no limit of'} steps{minutes}"
    log(f"{where}: begun with {old}, goes on from step {state['step']} to {_words(config)}; {rate}")


def _words(config: Budget) -> str:
    parts = [f"{config.steps} steps"] if config.steps else []
    parts += [f"{config.minutes:g} minutes"] if config.minutes else []
    patience = getattr(config, "patience", 0)
    return " or ".join(parts) + (f" (patience {patience})" if patience else "")
