"""The settings of an adaptation, and the methods that can be compared, light enough for the command line to import (no torch)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from mmtool.common.arguments import names, survival_labels
from mmtool.common.bounds import Count, Natural, NotNegative, Positive, Seed, Share, ShareBelowOne
from mmtool.common.errors import UsageError
from mmtool.common.options import Option
from mmtool.training.config import BUDGET, Budget

ADAPTER_FORMAT, UNSEALED_ADAPTER = "mmtool-adapter/3", "mmtool-adapter/2"  # the earlier one carries no digest
ALONE = "alone:"  # followed by the name of the only modality that is used
Pool = Literal["auto", "mean", "class"]
POOLS = get_args(Pool)
TaskKind = Literal["auto", "single", "multilabel", "binary", "regression", "survival"]
TASKS = get_args(TaskKind)
ENCODERS, TASK, MISSING = "Encoders and method", "What is predicted", "What is missing in training"  # panels of the help
BOTH = ("both", "any")


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


def removable(values: Sequence[str]) -> tuple[str, ...] | None:
    """--missing as names of modalities; none where it says that any may be missing."""
    named = names(values)
    return None if not named else () if set(named) <= set(BOTH) else named


@dataclass(frozen=True)
class AdaptConfig(Budget):
    """All that decides an adapter, given encoders and data."""

    pool: Pool = "auto"
    """How encoders pool their states: auto (as each is known for), mean or class."""
    method: Annotated[str, Option(panel=ENCODERS)] = JOINT
    """joint, or one it is compared with: mse, ridge, mean, zeros, dropout, late, complete, alone:NAME."""
    method_options: Mapping[str, Any] = field(default_factory=dict)
    """Settings that differ from the method's usual ones (`--set method.prompts=16`)."""
    label: Annotated[str, Option(panel=TASK)] = ""
    """Label to predict."""
    task: Annotated[str, Option("--kind", type=TaskKind, panel=TASK)] = "auto"
    """Kind of label."""
    survival: Annotated[tuple[str, ...], Option(metavar="TIME,EVENT", type=str, read=survival_labels, panel=TASK)] = ()
    """Predict survival: labels of a time and its event."""
    balanced: Annotated[bool, Option(panel=TASK)] = False
    """Rare classes weigh as much as frequent ones."""
    missing_rate: Annotated[Share, Option(alias="--eta", default="0", panel=MISSING)] = 0.0
    """Share of training samples that lose modalities (eta in the paper)."""
    missing: Annotated[tuple[str, ...], Option(metavar="NAME", default="any", read=removable, panel=MISSING)] = ()
    """Which may be missing; 'both': any, in equal parts."""
    num_missing: Annotated[Count, Option(panel=MISSING)] = 1
    """How many each such sample loses."""
    missing_seed: Seed = 0
    """Which samples lose which modalities is drawn once, from this seed, and is the same for every seed of the training."""
    train_samples: Annotated[Natural, Option(default="all", panel=BUDGET)] = 0
    """Train on so many samples at most."""
    complete_only: bool = False
    """Only on samples that held every modality before any was removed."""
    steps: Annotated[Natural, Option(panel=BUDGET)] = 1000
    batch: Annotated[Count, Option(panel=BUDGET)] = 64
    """Samples in one step."""
    learning_rate: Annotated[Positive, Option(panel=BUDGET)] = 3e-3
    """At its peak."""
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
