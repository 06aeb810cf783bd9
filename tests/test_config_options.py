"""Options of the command line are fields of config dataclasses: name, type, default, help, and what was given of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner, Result

from mmtool.adaptation.config import AdaptConfig
from mmtool.cli.config_options import OptionsOf, docstring, with_config_options
from mmtool.common.bounds import Count
from mmtool.common.errors import UsageError
from mmtool.common.options import Option, assemble, check_bounds, settings_of
from mmtool.evaluation.config import EvaluationConfig
from mmtool.imputation.config import ImputeOptions
from mmtool.preprocessing.protocol import Alignment, MissingnessProtocol
from mmtool.preprocessing.readers.entries import SourceOptions
from mmtool.preprocessing.splits import Split
from mmtool.preprocessing.tokenizer_settings import TokenizerSettings
from mmtool.training.config import FinetuneConfig, PretrainConfig, check

CONFIGS = (PretrainConfig, FinetuneConfig, AdaptConfig, EvaluationConfig, ImputeOptions, SourceOptions, MissingnessProtocol, Alignment)
CONFIGS += (Split, TokenizerSettings)


@dataclass(frozen=True)
class Oven:
    """Lies in a cake."""

    degrees: Annotated[Count, Option("--heat")] = 180
    """How hot it is."""


@dataclass(frozen=True)
class Food:
    """What all food has."""

    servings: Annotated[Count, Option(default="as many as guests")] = 4
    """Who eats it.

    Nobody reads this in the help."""


@dataclass(frozen=True)
class Cake(Food):
    """A config with a field of every type."""

    layers: Annotated[tuple[str, ...], Option(metavar="NAME")] = ("dough",)
    """From below."""
    icing: Annotated[Literal["sugar", "chocolate"] | None, Option()] = None
    """On top."""
    candles: Annotated[bool, Option()] = False
    """Lit ones."""
    cherries: Annotated[bool, Option()] = True
    """Fresh ones."""
    recipe: Annotated[Path | None, Option(alias="--book")] = None
    """Where it is written."""
    size: Annotated[str, Option(type=int, read="{} inches".format)] = "8 inches"
    """Across."""
    oven: Oven = Oven()
    secret: str = "vanilla"
    """No option."""
    servings: Annotated[Count, Option(default="as many as guests")] = 6


def run(verb: Any, *words: str) -> Result:
    alone = typer.Typer()
    alone.command()(with_config_options(verb))
    return CliRunner().invoke(alone, list(words), env={"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"})


def read(*words: str) -> Cake:
    cakes: list[Cake] = []

    def verb(cake: Cake) -> None:
        cakes.append(cake)

    done = run(verb, *words)
    assert done.exit_code == 0, done.output
    return cakes[0]


def test_nothing_given_is_the_default() -> None:
    assert read() == Cake()


def test_options_fill_fields_of_every_type() -> None:
    words = ("--layers", "cream,jam", "--layers", "dough", "--icing", "sugar", "--candles", "--no-cherries", "--book", "a.txt")
    cake = read(*words, "--size", "9", "--heat", "200", "--servings", "2")
    assert cake == Cake(2, ("cream", "jam", "dough"), "sugar", True, False, Path("a.txt"), "9 inches", Oven(200))


def test_what_is_no_option_is_not_offered() -> None:
    def verb(cake: Cake) -> None: ...

    done = run(verb, "--secret", "salt")
    assert done.exit_code == 2 and "No such option" in done.output
    assert run(verb, "--icing", "salt").exit_code == 2


def test_help_is_the_first_paragraph_of_the_docstring_even_of_a_class_above() -> None:
    def verb(cake: Cake) -> None: ...

    shown = " ".join(run(verb, "--help").output.split())
    assert "Who eats it." in shown and "Nobody reads this" not in shown
    assert "How hot it is." in shown and "as many as guests" in shown and "--no-cherries" in shown and "--no-candles" not in shown


def test_what_was_given_is_kept_apart_from_defaults() -> None:
    given: list[dict[str, Any]] = []

    def verb(options: Annotated[dict[str, Any], OptionsOf(Cake, "candles", "servings", "size")]) -> None:
        given.append(options)

    assert run(verb).exit_code == 0 and run(verb, "--servings", "3", "--candles").exit_code == 0
    assert given == [
        {"candles": None, "servings": None, "size": None},
        {"candles": True, "servings": 3, "size": None},
    ]
    with pytest.raises(UsageError, match=r"--servings: servings is 0\. Give a whole number from 1 on"):
        raise run(verb, "--servings", "0").exception or AssertionError
    shown = run(verb, "--help").output
    assert shown.index("--candles") < shown.index("--servings") < shown.index("--size") and "--icing" not in shown


def test_a_config_is_made_of_its_keys_those_of_nested_ones_beside_the_others() -> None:
    assert assemble(Cake, {"heat": 100, "secret": "salt"}) == Cake(oven=Oven(100), secret="salt")
    with pytest.raises(UsageError, match=r"no setting 'degrees'.*heat"):
        assemble(Cake, {"degrees": 100})


def test_bounds_hold_in_nested_configs() -> None:
    check_bounds(Cake())
    with pytest.raises(UsageError, match=r"--heat: degrees is 0\. Give a whole number from 1 on"):
        check_bounds(Cake(oven=Oven(0)))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_every_field_of_a_config_has_a_docstring(config: type) -> None:
    assert [setting.name for setting in settings_of(config) if not docstring(setting)] == []


def test_a_switch_of_the_command_line_is_a_switch_in_python() -> None:
    assert [check({"compile": wanted}).compile for wanted in (True, False, "auto")] == ["on", "off", "auto"]
    for wrong in ({"steps": True}, {"compile": "never"}):
        with pytest.raises(UsageError):
            check(wrong)
