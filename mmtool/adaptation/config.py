"""The settings of an adaptation, and the methods that can be compared, light enough for the command line to import (no torch)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mmtool.common.bounds import Count, Natural, NotNegative, Positive, Seed, Share, ShareBelowOne
from mmtool.common.errors import UsageError
from mmtool.training.config import Budget

ADAPTER_FORMAT, UNSEALED_ADAPTER = "mmtool-adapter/3", "mmtool-adapter/2"  # the earlier one carries no digest
ALONE = "alone:"  # followed by the name of the only modality that is used
Pool = Literal["auto", "mean", "class"]
POOLS = get_args(Pool)
TASKS = ("auto", "single", "multilabel", "binary", "regression", "survival")


@dataclass(frozen=True)
class Recipe:
    """One method: options that differ from the usual ones, and whether nothing is missing, in training and in tests."""

    about: str
    options: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = False


JOINT = "joint"
PLAIN: dict[str, Any] = {"objective": "none", "replace": 0.0}
RECIPES: dict[str, Recipe] = {
    JOINT: Recipe("absent embeddings are predicted from read-only prompts, trained by VICReg and the task"),
    "mse": Recipe("the same with plain mean squared error", {"objective": "mse"}),
    "ridge": Recipe("absent embeddings by ridge regression on the present ones", {"absent": "ridge", "objective": "none"}),
    "mean": Recipe("absent embeddings are the training mean", {**PLAIN, "absent": "mean"}),
    "zeros": Recipe("absent embeddings are zeros", {**PLAIN, "absent": "zeros"}),
    "dropout": Recipe("zeros, and modalities of training samples dropped at random", {**PLAIN, "absent": "zeros", "replace": 0.5}),
    "late": Recipe("mean of the logits of what is present", {**PLAIN, "absent": "left_out", "fusion": "logits"}),
    "complete": Recipe("nothing is missing: the upper bound", complete=True),
}


@dataclass(frozen=True)
class AdaptConfig(Budget):
    """All that decides an adapter, given encoders and data.

    pool: how encoders pool their states: auto (as each is known for), mean or class.
    method: one of the table, or alone:NAME. method_options: settings that differ from the method's usual ones (`--set method.prompts=16`).
    label: what is predicted. task: auto (by the label), single, multilabel, binary, regression or survival. survival: labels of a time and
    its event. balanced: rare classes weigh as much as frequent ones.
    missing_rate: share of training samples that lose modalities (eta in the paper). missing: which may be missing (none: any).
    num_missing: how many each such sample loses. missing_seed: which samples lose which modalities is drawn once, from this seed, and is
    the same for every seed of the training.
    train_samples: samples trained on at most (0: all). complete_only: only on samples that held every modality before any was removed.
    batch: samples in one step.
    """

    pool: Pool = "auto"
    method: str = JOINT
    method_options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    task: str = "auto"
    survival: tuple[str, ...] = ()
    balanced: bool = False
    missing_rate: Share = 0.0
    missing: tuple[str, ...] = ()
    num_missing: Count = 1
    missing_seed: Seed = 0
    train_samples: Natural = 0
    complete_only: bool = False
    steps: Natural = 1000
    batch: Count = 64
    learning_rate: Positive = 3e-3
    warmup_steps: Natural = 50
    weight_decay: NotNegative = 0.01
    betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.999)
    keep: Count = 1

    def __post_init__(self) -> None:
        recipe_of(self.method)
        if self.task not in TASKS:
            raise UsageError(f"there is no task {self.task!r}.", where="--task", fix=f"Choose from: {', '.join(TASKS)}.")
        if self.pool not in POOLS:
            raise UsageError(f"there is no pooling {self.pool!r}.", where="pool", fix=f"Choose from: {', '.join(POOLS)}.")
        if not self.label and not self.survival:
            raise UsageError("there is no label to learn.", where="--label", fix="Name one with --label, or times with --survival.")
        if self.survival and self.task not in ("auto", "survival"):
            raise UsageError(f"--survival is no task {self.task!r}.", where="--task", fix="Leave one of the two out.")

    @property
    def recipe(self) -> Recipe:
        return recipe_of(self.method)

    @property
    def target(self) -> str:
        """What is predicted, as reports call it."""
        return self.survival[0] if self.survival else self.label

    def modalities(self, names: Sequence[str]) -> tuple[str, ...]:
        """Those of `names` that the method uses. Raises UsageError where it names none of them."""
        if not self.method.startswith(ALONE):
            return tuple(names)
        only = self.method.removeprefix(ALONE)
        if only not in names:
            raise UsageError(f"there is no encoder of {only!r}.", where="--method", fix=f"Encoders: {', '.join(names)}.")
        return (only,)


def recipe_of(method: str) -> Recipe:
    """The recipe of a method. Raises UsageError where there is none."""
    if method.startswith(ALONE):
        return Recipe(f"{method.removeprefix(ALONE)} alone", {**PLAIN, "absent": "zeros"})
    if method not in RECIPES:
        fix = f"Methods: {', '.join(RECIPES)}, and {ALONE}NAME for one modality alone."
        raise UsageError(f"there is no method {method!r}.", where="--methods", fix=fix)
    return RECIPES[method]
