"""The best validation of a training so far, and whether it is time to stop for want of a better one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmtool.common.log import log


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
