"""The settings of a training, light enough for the command line to import (no torch).

Every field's docstring line is what `mmtool pretrain --help` and the README say of it. A config is resolved once, kept in the run
as `config.json`, and compared on resume.
"""

import dataclasses
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from mmtool.common.bounds import Count, Natural, NotNegative, Positive, Seed, Share, ShareBelowOne, check_range
from mmtool.common.errors import DataError, UsageError

PRESETS = ("tiny", "small", "base", "large", "vit-s", "vit-b", "vit-l", "vit-h")
RUN_FORMAT, UNSEALED_RUN = "mmtool-run/2", "mmtool-run/1"  # the earlier one carries no digest
RUN_FORMATS = (RUN_FORMAT, UNSEALED_RUN)
AUTO = "auto"  # the method is chosen by the data


@dataclass(frozen=True)
class Budget:
    """What every training has: how long, how fast, and from which seed.

    steps: optimiser steps (0: no limit). minutes: wall time (0: no limit). Whichever ends first ends the training; where minutes do, the
    result depends on the machine's speed. Minutes alone are given without a limit of steps.
    learning_rate (0: from the width), warmup_steps, min_lr_share (of the peak, at the end), weight_decay, betas, clip_norm: with
    linear warm-up and cosine decay.
    seed: of all randomness. precision: auto, fp32 or bf16. checkpoint_every: steps between checkpoints (0: only the end).
    keep: checkpoints kept.
    """

    steps: Natural = 2000
    minutes: NotNegative = 0.0
    learning_rate: NotNegative = 0.0
    warmup_steps: Natural = 100
    min_lr_share: Share = 0.05
    weight_decay: NotNegative = 0.1
    betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.95)
    clip_norm: Positive = 1.0
    seed: Seed = 0
    precision: str = "auto"
    checkpoint_every: Natural = 500
    keep: Count = 2

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(dataclasses.asdict(self)))

    def changes_from(self, begun: Mapping[str, Any]) -> list[str]:
        """In words, what differs from the settings a training was begun with; one that its version did not know yet had its default."""
        usual = {item.name: _default(item) for item in dataclasses.fields(self)}
        old, new = json.loads(json.dumps({**usual, **begun})), self.to_json()
        return [f"{name} was {old[name]!r}, now {new[name]!r}" for name in sorted(new) if old[name] != new[name]]


@dataclass(frozen=True)
class PretrainConfig(Budget):
    """All that decides the weights of a run, given the data.

    method: loretta, commutative, cm3, causal, masked, contrastive, m3ae, or auto (see `training.choice`; a run's config.json names the one
    that was chosen). method_options: the method's own settings
    (`--set method.warmup=0.3`, `--set method.mask_ratios.text=0.5`).
    optimizer: adamw, or muon (matrices of the blocks by Muon, the rest by AdamW).
    preset: size of the transformer, the one dial. shape: overrides of single sizes (`--set shape.depth=6`).
    modalities: those to train on, joined by + (empty: all); others count as absent. least_modalities: samples with fewer are left out.
    paired_share: of the samples drawn, those that hold several modalities; they, or the rest, are repeated (0: as the data is).
    batch_tokens: tokens in one step. row_length: tokens in a packed row (0: from the data).
    smoothing: targets among ordered levels (of tables) are spread this wide, in standard deviations of the quantity.
    value_dropout: share of the ordered levels that the model may not see as inputs, drawn anew in every step.
    value_epochs: passes over the samples in which, after the last step, networks learn to predict expected values of tables (0: none).
    recompute: the backward pass computes anew what is inside the blocks: much less memory, about a third more work.
    compile: auto, on or off. validation_samples: held-out samples scored at every checkpoint (by
    the masked method a quarter of them).
    """

    method: str = AUTO
    method_options: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str = "adamw"
    preset: str = "small"
    shape: Mapping[str, Any] = field(default_factory=dict)
    modalities: str = ""
    least_modalities: Count = 1
    paired_share: ShareBelowOne = 0.0
    batch_tokens: Count = 8192
    row_length: Natural = 0
    smoothing: NotNegative = 0.0
    value_dropout: ShareBelowOne = 0.0
    value_epochs: Natural = 40
    recompute: bool = False
    compile: str = "auto"
    validation_samples: Natural = 256

    @property
    def only(self) -> tuple[str, ...]:
        """The names in `modalities`."""
        return tuple(name for name in self.modalities.split("+") if name)


@dataclass(frozen=True)
class FinetuneConfig(Budget):
    """All that decides the weights of a finetuned run, given the pretrained one and the data.

    label: what is predicted. kind: auto, classes or number. have: modalities it is predicted from (empty: all that a sample holds).
    pooling: how the states of a sample become its features (auto: as the method does by itself).
    batch_samples: samples in one step. layer_decay: each block learns at this share of the rate of the one above it (1: all alike, 0: the
    head alone; Clark et al. 2020, arXiv 2003.10555). dropout: share of features hidden from the head.
    class_weights: none, balanced (each class counts alike), or NAME=WEIGHT,... (1 for the others).
    patience: checkpoints without progress on validation samples after which training stops (0: never).
    """

    label: str = ""
    kind: str = "auto"
    have: tuple[str, ...] = ()
    pooling: str = "auto"
    steps: Natural = 500
    batch_samples: Count = 64
    layer_decay: NotNegative = 0.75
    dropout: ShareBelowOne = 0.1
    class_weights: str = "none"
    patience: Natural = 5
    warmup_steps: Natural = 20
    weight_decay: NotNegative = 0.05
    checkpoint_every: Natural = 50


CHOICES: dict[str, tuple[str, ...]] = {
    "preset": PRESETS,
    "optimizer": ("adamw", "muon"),
    "precision": ("auto", "fp32", "bf16"),
    "compile": ("auto", "on", "off"),
    "kind": ("auto", "classes", "number"),
}
Config = TypeVar("Config", bound=Budget)


def resolve(file: Path | None, options: Mapping[str, Any], assignments: Sequence[str] = ()) -> PretrainConfig:
    """The settings of a pretraining (see `resolve_as`)."""
    return resolve_as(PretrainConfig, file, options, assignments)


def check(values: Mapping[str, Any]) -> PretrainConfig:
    """The settings of a pretraining from plain values (see `check_as`)."""
    return check_as(PretrainConfig, values)


def resolve_as(cls: type[Config], file: Path | None, options: Mapping[str, Any], assignments: Sequence[str] = ()) -> Config:
    """Defaults, overlaid by a TOML or JSON file, by command-line options (None: not given), by `KEY=VALUE` assignments.

    Raises UsageError for unknown keys and impossible values, naming the key.
    """
    return check_as(cls, overlaid(file, options, assignments))


def overlaid(file: Path | None, options: Mapping[str, Any], assignments: Sequence[str] = ()) -> dict[str, Any]:
    """Settings of a TOML or JSON file, overlaid by options (None: not given), by `KEY=VALUE` assignments (`method.KEY`: of the method)."""
    values: dict[str, Any] = {}
    if options.get("minutes") == 0:  # kept in a config it means that steps count
        raise UsageError("nothing is learned in 0 minutes.", where="--minutes", fix="Give more, or leave it out and give --steps.")
    for name, value in [*_read(file).items(), *options.items()]:
        if value is not None:
            values[name] = {**values.get(name, {}), **value} if isinstance(value, Mapping) else value
    for assignment in assignments:
        _assign(values, assignment)
    if values.get("minutes"):
        values.setdefault("steps", 0)
    return values


def check_as(cls: type[Config], values: Mapping[str, Any]) -> Config:
    """A config from plain values. Raises UsageError where a key is unknown, of the wrong type or out of range."""
    values = {"method_options" if name == "method" and isinstance(value, Mapping) else name: value for name, value in values.items()}
    usual = {item.name: _default(item) for item in dataclasses.fields(cls)}
    hints = get_type_hints(cls, include_extras=True)
    for name, value in values.items():
        if name not in usual:
            raise UsageError(f"there is no setting {name!r}.", where="config", fix=f"Settings: {', '.join(usual)}.")
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


def _check_value(name: str, value: Any, default: Any, hint: Any, where: str) -> None:
    """Raise UsageError for a value of another type than the default, or outside of the bounds that its type declares."""
    wanted = {dict: (Mapping,), float: (int, float), tuple: (list, tuple)}.get(type(default), (type(default),))
    fits = isinstance(value, wanted) and (isinstance(default, bool) or not isinstance(value, bool))
    if default is not dataclasses.MISSING and not fits:
        raise UsageError(f"{name} must be a {type(default).__name__}, not {value!r}.", where=where, fix=f"Write it like {default!r}.")
    check_range(name, value, hint, where)


def _read(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        text = file.read_text()
        values = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"cannot read the config ({error.strerror}).", where=file, fix="Check the path given to --config.") from error
    except ValueError as error:
        format_name = "JSON" if file.suffix == ".json" else "TOML"
        raise DataError(f"this is not valid {format_name} ({error}).", where=file, fix="Mend that line.") from error
    if not isinstance(values, dict):
        raise DataError("a config is a table of settings.", where=file, fix="Write NAME = VALUE lines (TOML) or one JSON object.")
    return values


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
            raise UsageError(f"there is no setting {name!r}.", where=where, fix=f"Settings: {', '.join(usual) or 'none'}.")
        _check_value(name, value, usual[name], hints[name], where)
    return cls(**values)
