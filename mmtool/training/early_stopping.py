"""The best validation of a training so far, and whether it is time to stop for want of a better one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.data.sample import Sample
from mmtool.methods import METHODS
from mmtool.methods.base import Method
from mmtool.training.config import PretrainConfig


@dataclass
class EarlyStopping:
    """patience: validations without progress before a training stops (0: never). every: steps between two of them.

    best: (score, step), the higher the better. judged: the step that was scored last. elsewhere: another process of a distributed training
    has come to this end.
    """

    patience: int
    every: int
    best: tuple[float, int] | None = None
    judged: int = 0
    elsewhere: bool = False

    @property
    def exhausted(self) -> bool:
        """Whether so many validations in a row were no better than the best one that it is time to stop."""
        waited = self.patience * self.every
        return self.elsewhere or bool(self.best and waited and self.judged - self.best[1] >= waited)

    def update(self, score: float, step: int) -> None:
        """Remember the step where it is the best so far."""
        self.judged = step
        if self.best is None or score > self.best[0]:
            self.best = score, step
        elif self.exhausted:
            log(f"no progress since step {self.best[1]}: stopping early")

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it (its `best_step` names the checkpoint with the weights to use)."""
        return {} if self.best is None else {"best_score": self.best[0], "best_step": self.best[1], "judged": self.judged}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        if "best_step" in state:
            self.best, self.judged = (state["best_score"], state["best_step"]), state["judged"]


def check_patience(config: PretrainConfig, held_out: Sequence[Sample], where: Path) -> None:
    """Raise UsageError where a training is to stop early by a validation that there is not."""
    if not config.patience:
        return
    silent = config.method in METHODS and METHODS[config.method].validate is Method.validate
    why = "no steps between checkpoints" if not config.checkpoint_every else "no validation samples" if not held_out else ""
    if why or silent:
        why = why or f"nothing that the method {config.method} measures on them"
        fix = "Leave --patience out, or give what it needs: a validation split, and --checkpoint-every."
        raise UsageError(f"there are {why}, so nothing says when to stop early.".replace("are nothing", "is nothing"), where=where, fix=fix)
