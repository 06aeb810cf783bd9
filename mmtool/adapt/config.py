"""The settings of an adaptation, and the methods that can be compared, light enough for the command line to import (no torch)."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from mmtool.errors import UsageError
from mmtool.training.config import overlaid

ADAPTER_FORMAT = "mmtool-adapter/1"
ALONE = "alone:"  # followed by the name of the only modality that is looked at
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
class AdaptConfig:
    """All that decides an adapter, given encoders and data.

    pool: how encoders pool their states: auto (as each is known for), mean or class.
    method: one of the table, or alone:NAME. method_options: settings that differ from the method's own (`--set method.prompts=16`).
    label: what is told. task: auto (by the label), single, multilabel, binary, regression or survival. survival: labels of a time and its
    event. balanced: rare classes weigh as much as frequent ones.
    eta: share of training samples that lose modalities, missing: which they may lose (none: any), lose: how many each loses, hole_seed:
    of the holes; they are drawn once and are the same for every seed.
    train_samples: samples trained on at most (0: all). whole: only on samples that held every modality before any was lost.
    steps, batch: optimiser steps and samples in each. learning_rate, warmup_steps, min_lr_share, weight_decay, clip_norm: AdamW with linear
    warm-up and cosine decay. seed: of weights, order and draws. precision: auto, fp32 or bf16. checkpoint_every: steps (0: only the end).
    """

    pool: Pool = "auto"
    method: str = JOINT
    method_options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    task: str = "auto"
    survival: tuple[str, ...] = ()
    balanced: bool = False
    eta: float = 0.0
    missing: tuple[str, ...] = ()
    lose: int = 1
    hole_seed: int = 0
    train_samples: int = 0
    whole: bool = False
    steps: int = 1000
    batch: int = 64
    learning_rate: float = 3e-3
    warmup_steps: int = 50
    min_lr_share: float = 0.05
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    seed: int = 0
    precision: str = "auto"
    checkpoint_every: int = 500

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
        if not 0 <= self.eta <= 1:
            raise UsageError(f"{self.eta} is no share.", where="--eta", fix="Give a number from 0 to 1.")
        if min(self.steps, self.batch) < 1 or self.learning_rate <= 0:
            raise UsageError("steps, batch and learning rate must be above 0.", where="config", fix="Give positive numbers.")

    @property
    def recipe(self) -> Recipe:
        return recipe_of(self.method)

    @property
    def target(self) -> str:
        """What is told, as reports call it."""
        return self.survival[0] if self.survival else self.label

    def modalities(self, names: Sequence[str]) -> tuple[str, ...]:
        """Those of `names` that the method looks at. Raises UsageError where it names none of them."""
        if not self.method.startswith(ALONE):
            return tuple(names)
        only = self.method.removeprefix(ALONE)
        if only not in names:
            raise UsageError(f"there is no encoder of {only!r}.", where="--method", fix=f"Encoders: {', '.join(names)}.")
        return (only,)

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "AdaptConfig":
        return cls(**{**record, "missing": tuple(record["missing"]), "survival": tuple(record["survival"])})


def resolve(file: Path | None, options: Mapping[str, Any], assignments: Sequence[str] = ()) -> AdaptConfig:
    """Defaults, overlaid by a TOML or JSON file, by command-line options (None: not given), by `KEY=VALUE` assignments.

    Raises UsageError for unknown keys and impossible values, naming the key.
    """
    values, known = overlaid(file, options, assignments), {item.name: item.default for item in dataclasses.fields(AdaptConfig)}
    for name, value in values.items():
        if name not in known:
            raise UsageError(f"there is no setting {name!r}.", where="config", fix=f"Settings: {', '.join(known)}.")
        default = getattr(AdaptConfig(label="label"), name)
        wanted = {dict: (Mapping,), float: (int, float), tuple: (list, tuple)}.get(type(default), (type(default),))
        if not isinstance(value, wanted) or (isinstance(value, bool) and not isinstance(default, bool)):
            raise UsageError(f"{name} must be a {type(default).__name__}, not {value!r}.", where=name, fix=f"Write it like {default!r}.")
        values[name] = tuple(value) if isinstance(default, tuple) else value
    return AdaptConfig(**values)


def recipe_of(method: str) -> Recipe:
    """The recipe of a method. Raises UsageError where there is none."""
    if method.startswith(ALONE):
        return Recipe(f"{method.removeprefix(ALONE)} alone", {**PLAIN, "absent": "zeros"})
    if method not in RECIPES:
        fix = f"Methods: {', '.join(RECIPES)}, and {ALONE}NAME for one modality alone."
        raise UsageError(f"there is no method {method!r}.", where="--methods", fix=fix)
    return RECIPES[method]
