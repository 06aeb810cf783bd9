"""The settings of a training, light enough for the command line to import (no torch).

What a docstring under a field says, the help of its option says (see `common/options.py`). A config is resolved once, kept in the run as
`config.json`, and compared on resume.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

from mmtool.common.bounds import Count, Natural, NotNegative, Positive, Seed, Share, ShareBelowOne, check_range, plain
from mmtool.common.config_files import read_config
from mmtool.common.errors import UsageError
from mmtool.common.options import Option, unknown_setting

Preset = Literal["tiny", "small", "base", "large", "vit-s", "vit-b", "vit-l", "vit-h"]
Precision = Literal["auto", "fp32", "bf16"]
Schedule = Literal["cosine", "constant"]
LabelKind = Literal["auto", "classes", "number"]
PRESETS = get_args(Preset)
MODEL, BUDGET, TASK = "Method and model", "Budget and optimiser", "What is predicted, and from what"  # panels of the help
RUN_FORMAT, UNSEALED_RUN = "mmtool-run/2", "mmtool-run/1"  # the earlier one carries no digest
EXPORT_FORMAT = "mmtool-export/1"  # of a run without what only training needs
RUN_FORMATS = (RUN_FORMAT, UNSEALED_RUN, EXPORT_FORMAT)
JOINED_NAMES = re.compile(r"([\w-]+(\+[\w-]+)*)?")
AUTO = "auto"  # the method is chosen by the data
EXTENSIBLE = ("steps", "minutes", "patience")  # what may change when a training goes on (see `training/extension.py`)


@dataclass(frozen=True)
class Budget:
    """What every training has: how long, how fast, and from which seed.

    Steps or minutes, whichever end first, end the training; where minutes do, the result depends on the machine's speed. Minutes alone are
    given without a limit of steps. The learning rate warms up linearly and then follows its schedule.
    """

    steps: Annotated[Natural, Option(panel=BUDGET)] = 2000
    """Optimiser steps.

    0: no limit."""
    minutes: Annotated[NotNegative, Option(default="", panel=BUDGET)] = 0.0
    """Wall time of training; with --steps, whichever ends first.

    0: no limit."""
    learning_rate: Annotated[NotNegative, Option(default="from the width", panel=BUDGET)] = 0.0
    """At its peak.

    0: from the width of the model."""
    schedule: Annotated[str, Option(type=Schedule, panel=BUDGET)] = "cosine"
    """Of the learning rate after it has warmed up: it falls to the end as a cosine, or stays.

    A run of a constant rate that is extended equals one that was begun with the larger budget."""
    warmup_steps: Natural = 100
    """Steps in which the learning rate rises to its peak."""
    min_lr_share: Share = 0.05
    """Of the peak, at the end of a cosine."""
    weight_decay: NotNegative = 0.1
    """Of matrices, by AdamW or Muon."""
    betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.95)
    """Of AdamW."""
    clip_norm: Positive = 1.0
    """Longer gradients are scaled to this norm."""
    seed: Annotated[Seed, Option(panel=BUDGET)] = 0
    """Of weights, order and draws."""
    precision: Annotated[str, Option(type=Precision, panel=MODEL)] = "auto"
    """Of activations; weights stay fp32."""
    checkpoint_every: Annotated[Natural, Option(panel=BUDGET)] = 500
    """Steps between checkpoints; 0: only at the end."""
    keep: Count = 2
    """Checkpoints kept."""

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def spent(self, step: int, elapsed_s: float) -> float:
        """How much of the budget so many steps and seconds are, in steps or in minutes: from 0 to 1."""
        by_steps = step / self.steps if self.steps else 0.0
        by_minutes = elapsed_s / (60 * self.minutes) if self.minutes else 0.0
        return min(1.0, max(by_steps, by_minutes))

    def changes_from(self, begun: Mapping[str, Any], besides: Sequence[str] = ()) -> list[str]:
        """In words, what differs from the settings a training was begun with, but for those named in `besides`; one that its version did
        not know yet had its default."""
        usual = {item.name: _default(item) for item in dataclasses.fields(self)}
        old, new = json.loads(json.dumps({**usual, **begun})), self.to_json()
        return [f"{name} was {old[name]!r}, now {new[name]!r}" for name in sorted({*new} - {*besides}) if old[name] != new[name]]


@dataclass(frozen=True)
class PretrainConfig(Budget):
    """All that decides the weights of a run, given the data."""

    method: Annotated[str, Option(panel=MODEL)] = AUTO
    """loretta, commutative, cm3, causal, masked, contrastive or m3ae; auto: loretta where a modality links two that never occur together,
    else commutative, or masked for one modality.

    See `training.choice`; a run's config.json names the one that was chosen."""
    method_options: Mapping[str, Any] = field(default_factory=dict)
    """The method's settings (`--set method.warmup=0.3`, `--set method.mask_ratios.text=0.5`)."""
    optimizer: str = "adamw"
    """adamw, or muon (matrices of the blocks by Muon, the rest by AdamW)."""
    preset: Annotated[str, Option(type=Preset, panel=MODEL)] = "small"
    """Size of the transformer, the one dial."""
    shape: Mapping[str, Any] = field(default_factory=dict)
    """Overrides of single sizes (`--set shape.depth=6`)."""
    modalities: str = ""
    """Those to train on, joined by + (empty: all); others count as absent."""
    least_modalities: Count = 1
    """Samples with fewer are left out."""
    paired_share: ShareBelowOne = 0.0
    """Of the samples drawn, those that hold several modalities; they, or the rest, are repeated (0: as the data is)."""
    batch_tokens: Annotated[Count, Option(panel=BUDGET)] = 8192
    """Tokens in one step."""
    row_length: Annotated[Natural, Option(default="from the data", panel=MODEL)] = 0
    """Tokens in a packed row.

    0: from the data."""
    accumulate: Annotated[Count, Option(panel=BUDGET)] = 1
    """Batches that a step is split into, one after the other: less memory.

    They hold `batch_tokens` together; under `torchrun` so many of every process."""
    smoothing: NotNegative = 0.0
    """Targets among ordered levels (of tables) are spread this wide, in standard deviations of the quantity."""
    value_dropout: ShareBelowOne = 0.0
    """Share of the ordered levels that the model may not see as inputs, drawn anew in every step."""
    value_epochs: Natural = 40
    """Passes over the samples in which, after the last step, networks learn to predict expected values of tables (0: none)."""
    recompute: bool = False
    """The backward pass computes anew what is inside the blocks: much less memory, about a third more work."""
    compile: Annotated[str, Option(type=bool, read=lambda wanted: "on" if wanted else "off", panel=MODEL)] = "auto"
    """Compile the whole step.

    auto, on or off."""
    validation_samples: Natural = 256
    """Held-out samples scored at every checkpoint (by the masked method a quarter of them)."""
    patience: Annotated[Natural, Option(default="never", panel=BUDGET)] = 0
    """Validations without progress before it stops; the best weights count then.

    0: never. Progress is that of the geometric mean of what is validated."""

    @property
    def only(self) -> tuple[str, ...]:
        """The names in `modalities`."""
        return tuple(name for name in self.modalities.split("+") if name)


@dataclass(frozen=True)
class FinetuneConfig(Budget):
    """All that decides the weights of a finetuned run, given the pretrained one and the data."""

    label: Annotated[str, Option(default="the only one", panel=TASK)] = ""
    """The label to predict."""
    kind: Annotated[str, Option("--as", type=LabelKind, panel=TASK)] = "auto"
    """How the label is taken."""
    have: Annotated[tuple[str, ...], Option(metavar="NAME", default="all a sample holds", panel=TASK)] = ()
    """Given modalities; repeatable, or a,b."""
    pooling: Annotated[str, Option(panel=TASK)] = "auto"
    """How states become features: mean, or what else the method has.

    auto: as the method does by itself."""
    steps: Annotated[Natural, Option(panel=BUDGET)] = 500
    batch_samples: Annotated[Count, Option(panel=BUDGET)] = 64
    """Samples in one step."""
    layer_decay: Annotated[NotNegative, Option(panel=BUDGET)] = 0.75
    """Learning rate of a block as a share of the one above; 0: the head alone.

    1: all learn alike (Clark et al. 2020, arXiv 2003.10555)."""
    dropout: ShareBelowOne = 0.1
    """Share of features hidden from the head."""
    class_weights: Annotated[str, Option(metavar="NAME=W,...", panel=TASK)] = "none"
    """none, balanced, or weights by class.

    balanced: every class counts alike; NAME=WEIGHT,...: 1 for the others."""
    patience: Annotated[Natural, Option(panel=BUDGET)] = 5
    """Validations without progress before it stops; 0: never."""
    warmup_steps: Natural = 20
    weight_decay: NotNegative = 0.05
    checkpoint_every: Annotated[Natural, Option(panel=BUDGET)] = 50
    """Steps between validations."""


CHOICES: dict[str, tuple[str, ...]] = {
    "preset": PRESETS,
    "optimizer": ("adamw", "muon"),
    "precision": get_args(Precision),
    "schedule": get_args(Schedule),
    "compile": ("auto", "on", "off"),
    "kind": get_args(LabelKind),
}
Config = TypeVar("Config", bound=Budget)


def resolve(file: Path | None, options: Mapping[str, Any], assignments: Sequence[str] = ()) -> PretrainConfig:
    """The settings of a pretraining (see `resolve_as`)."""
    return resolve_as(PretrainConfig, file, options, assignments)


def check(values: Mapping[str, Any]) -> PretrainConfig:
    """The settings of a pretraining from plain values (see `check_as`)."""
    return check_as(PretrainConfig, values)


def resolve_as(cls: type[Config], file: Path | None, options: Mapping[str, Any], assignments: Sequence[str] = ()) -> Config:
    """Defaults, overlaid by a file (see `common/config_files.py`), by command-line options (None: not given), by `KEY=VALUE` assignments.

    Raises UsageError for unknown keys and impossible values, naming the key.
    """
    return check_as(cls, overlaid(file, options, assignments))


def overlaid(file: Path | None, options: Mapping[str, Any], assignments: Sequence[str] = ()) -> dict[str, Any]:
    """Settings of a file, overlaid by options (None: not given), by `KEY=VALUE` assignments (`method.KEY`: of the method)."""
    values: dict[str, Any] = {}
    if options.get("minutes") == 0:  # kept in a config it means that steps count
        raise UsageError("nothing is learned in 0 minutes.", where="--minutes", fix="Give more, or leave it out and give --steps.")
    for name, value in [*(read_config(file) if file else {}).items(), *options.items()]:
        if value is not None:
            values[name] = {**values.get(name, {}), **value} if isinstance(value, Mapping) else value
    for assignment in assignments:
        _assign(values, assignment)
    if values.get("minutes"):
        values.setdefault("steps", 0)
    numbers: dict[str, Any] = plain(values)
    return numbers


def check_as(cls: type[Config], values: Mapping[str, Any]) -> Config:
    """A config from plain values. Raises UsageError where a key is unknown, of the wrong type or out of range."""
    values = {"method_options" if name == "method" and isinstance(value, Mapping) else name: value for name, value in values.items()}
    usual = {item.name: _default(item) for item in dataclasses.fields(cls)}
    hints = get_type_hints(cls, include_extras=True)
    values = {name: _from_switch(hints.get(name), value) for name, value in values.items()}
    for name, value in values.items():
        if name not in usual:
            raise unknown_setting(name, usual, "config")
        if name == "modalities" and not (isinstance(value, str) and JOINED_NAMES.fullmatch(value)):
            raise UsageError(f"{value!r} names no modalities.", where=name, fix="Join their names by +, e.g. modalities=image+text.")
        _check_value(name, value, usual[name], hints[name], name)
        if name in CHOICES and value not in CHOICES[name]:
            raise UsageError(f"{value!r} is not possible.", where=name, fix=f"Choose from: {', '.join(CHOICES[name])}.")
    plain: dict[str, Any] = {name: tuple(value) if isinstance(usual[name], tuple) else value for name, value in values.items()}
    config = cls(**plain)
    if not config.steps and not config.minutes:
        raise UsageError("the training has no end.", where="steps", fix="Give a number of steps, or of minutes.")
    return config


def _default(item: dataclasses.Field[Any]) -> Any:
    return item.default if item.default_factory is dataclasses.MISSING else item.default_factory()


def _from_switch(hint: Any, value: Any) -> Any:
    """The value of a field that is a switch on the command line, from True or False; any other as it is."""
    for option in getattr(hint, "__metadata__", ()):
        if isinstance(option, Option) and option.type is bool and option.read and isinstance(value, bool):
            return option.read(value)
    return value


def _check_value(name: str, value: Any, default: Any, hint: Any, where: str) -> None:
    """Raise UsageError for a value of another type than the default, or outside of the bounds that its type declares."""
    wanted = {dict: (Mapping,), float: (int, float), tuple: (list, tuple)}.get(type(default), (type(default),))
    fits = isinstance(value, wanted) and (isinstance(default, bool) or not isinstance(value, bool))
    if default is not dataclasses.MISSING and not fits:
        raise UsageError(f"{name} must be a {type(default).__name__}, not {value!r}.", where=where, fix=f"Write it like {default!r}.")
    check_range(name, value, hint, where)


def _assign(values: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    if not equals:
        raise UsageError(f"{assignment!r} is not KEY=VALUE.", where="--set", fix="Write --set KEY=VALUE.")
    group, dot, name = key.partition(".")
    group = {"method": "method_options"}.get(group, group) if dot else group
    value = _parse(text)
    if dot:
        values[group] = _nested(values.get(group, {}), name, value)
    else:
        values[key] = value


def _nested(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """`values` with `a.b=value` as {"a": {..., "b": value}}."""
    name, dot, rest = key.partition(".")
    if not dot:
        return {**values, name: value}
    inner = values.get(name, {})
    return {**values, name: _nested(inner if isinstance(inner, Mapping) else {}, rest, value)}


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def options_of(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """An options dataclass from plain values. Raises UsageError for names it does not have and values of another type."""
    usual = {item.name: _default(item) for item in dataclasses.fields(cls)}
    hints = get_type_hints(cls, include_extras=True)
    for name, value in values.items():
        if name not in usual:
            raise unknown_setting(name, usual, where)
        _check_value(name, value, usual[name], hints[name], where)
    return cls(**values)
