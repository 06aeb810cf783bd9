"""Numbers that cannot be are refused where a setting is read: the setting, the value and what is possible are named."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from mmtool.adaptation.config import AdaptConfig
from mmtool.adaptation.joint_embedding import JointOptions
from mmtool.common.bounds import Bounds
from mmtool.common.errors import UsageError
from mmtool.methods import METHODS
from mmtool.model.transformer import PRESETS, Shape
from mmtool.preprocessing.readers.entries import SourceOptions
from mmtool.training.config import Budget, FinetuneConfig, PretrainConfig, check_as, options_of, overlaid, resolve

NAN, INFINITE = float("nan"), float("inf")
OPTIONS = [*dict.fromkeys(method.Options for method in METHODS.values()), JointOptions]


@pytest.mark.parametrize(
    ("bounds", "text", "inside", "outside"),
    [
        (Bounds(0, 1), "from 0 to 1", (0, 0.5, 1), (-0.1, 1.1, NAN, "half", True)),
        (Bounds(0, 1, open_high=True), "from 0 to below 1", (0, 0.99), (1,)),
        (Bounds(0, open_low=True), "above 0", (1e-9, 7), (0, -1, INFINITE)),
        (Bounds(1), "from 1 on", (1, 9.5), (0, INFINITE)),
        (Bounds(high=0, open_high=True), "below 0", (-60,), (0, -INFINITE)),
        (Bounds(), "that is finite", (-3, 0), (NAN, INFINITE)),
    ],
)
def test_bounds_hold_what_they_say(bounds: Bounds, text: str, inside: tuple[Any, ...], outside: tuple[Any, ...]) -> None:
    assert str(bounds) == text
    assert all(bounds.hold(value, whole=False) for value in inside) and not any(bounds.hold(value, whole=False) for value in outside)
    assert not bounds.hold(0.5, whole=True)


@pytest.mark.parametrize(
    ("cls", "wrong", "words"),
    [
        (PretrainConfig, {"learning_rate": NAN}, r"learning_rate is nan\. Give a number from 0 on"),
        (PretrainConfig, {"steps": 0}, "training has no end"),
        (PretrainConfig, {"steps": -1}, r"steps is -1\. Give a whole number from 0 on"),
        (PretrainConfig, {"betas": [0.9, 1.0]}, r"betas is 1\.0.*from 0 to below 1"),
        (PretrainConfig, {"betas": [0.9]}, r"betas is \[0\.9\]\. Give 2 numbers"),
        (PretrainConfig, {"min_lr_share": 2}, "from 0 to 1"),
        (PretrainConfig, {"method_options": {"scale": NAN}}, r"method_options\.scale is nan"),
        (FinetuneConfig, {"dropout": 1.0}, "from 0 to below 1"),
        (AdaptConfig, {"label": "age", "learning_rate": 0.0}, "above 0"),
        (AdaptConfig, {"label": "age", "missing_rate": 1.5}, "from 0 to 1"),
    ],
)
def test_configs(cls: type[Budget], wrong: Mapping[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_as(cls, wrong)


@pytest.mark.parametrize(
    ("method", "wrong", "words"),
    [
        ("masked", {"mask_ratio": -1.0}, r"mask_ratio is -1\.0\. Give a number from 0 to 1"),
        ("masked", {"mask_ratio": 2}, "from 0 to 1"),
        ("masked", {"decode_steps": 0}, "from 1 on"),
        ("cm3", {"mean_spans": -1}, "from 0 on"),
        ("loretta", {"top_k": -3}, "from 0 on"),
        ("loretta", {"temperature": -1}, "from 0 on"),
        ("loretta", {"draws": True}, "draws must be a int"),
        ("contrastive", {"scale": 0}, "above 0"),
        ("m3ae", {"mask_ratios": {"text": 1.5}}, r"mask_ratios\.text is 1\.5"),
        ("m3ae", {"weights": {"text": "much"}}, r"weights\.text is 'much'"),
    ],
)
def test_options_of_methods(method: str, wrong: Mapping[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        options_of(METHODS[method].Options, wrong, "--set method")


@pytest.mark.parametrize("cls", OPTIONS)
def test_every_number_of_a_method_has_bounds_that_hold_its_default(cls: type) -> None:
    usual = dataclasses.asdict(cls())
    assert options_of(cls, usual, "--set method") == cls()
    for name, value in usual.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            with pytest.raises(UsageError, match=name):
                options_of(cls, {name: type(value)(-1)}, "--set method")


@pytest.mark.parametrize(
    "written", ['["image","text"]', "[image,text]", "image,text", "image text", "'image+text'", "[]", "image+", "7", "null"]
)
def test_modalities_say_how_they_are_written(written: str) -> None:
    with pytest.raises(UsageError, match=r"^modalities: .* names no modalities\. Join their names by \+, e\.g\. modalities=image\+text\.$"):
        resolve(None, {}, [f"modalities={written}"])


@pytest.mark.parametrize(
    ("written", "names"), [("image+text", ("image", "text")), ('"image+text"', ("image", "text")), ("a", ("a",)), ("", ())]
)
def test_modalities_are_joined_by_a_plus(written: str, names: tuple[str, ...]) -> None:
    assert resolve(None, {}, [f"modalities={written}"]).only == names


def test_values_that_turn_something_off_stay_possible() -> None:
    off = {"warmup": 0, "all_share": 0, "transitive_share": 0, "temperature": 0, "top_k": 0, "draws": 1, "refresh": 0, "mean_spans": 0}
    assert vars(options_of(METHODS["loretta"].Options, off, "--set method")).items() >= off.items()
    usual = check_as(PretrainConfig, {})
    assert check_as(PretrainConfig, usual.to_json()) == usual


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"width": 33}, r"33 is not divided by heads of 32"),
        ({"width": -64}, r"width is -64"),
        ({"depth": "two"}, r"depth is 'two'\. Give a whole number from 1 on"),
        ({"depth": 1.5}, r"depth is 1\.5"),
        ({"head_width": 0}, r"head_width is 0"),
        ({"width": 60, "head_width": 6}, "multiple of 4"),
        ({"rope_base": 0}, "above 0"),
        ({"positions": "polar"}, "rotary, fixed, both"),
    ],
)
def test_shapes(wrong: Mapping[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        options_of(Shape, {**PRESETS["tiny"].to_json(), **wrong}, "--set shape")


def test_no_time_is_no_number_of_steps() -> None:
    with pytest.raises(UsageError, match=r"--minutes.*0 minutes"):
        overlaid(None, {"minutes": 0.0})


@pytest.mark.parametrize("wrong", [(5, 5), (9, 5), (0, NAN), (-INFINITE, 3)])
def test_ranges_of_values(wrong: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match="--value-range"):
        SourceOptions(value_range=wrong)
