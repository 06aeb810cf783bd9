"""One configuration of an evaluation: numbers within bounds, and the options of the command line are its fields."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from mmtool.cli.config_options import with_config_options
from mmtool.cli.main import app
from mmtool.common.errors import UsageError
from mmtool.evaluation.config import (
    DEFAULTS,
    SETTINGS,
    DonorOptions,
    EvaluationConfig,
    ImputeOptions,
    OodOptions,
    ReconstructOptions,
    RetrievalOptions,
)
from mmtool.evaluation.tasks import TASKS, Task, open_task
from mmtool.imputation.sampling_params import SamplingParams

VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def read(*words: object) -> EvaluationConfig:
    """The configuration of a command line that takes nothing but the options of an evaluation."""
    configs: list[EvaluationConfig] = []

    @with_config_options
    def verb(evaluation: EvaluationConfig) -> None:
        configs.append(evaluation)

    alone = typer.Typer()
    alone.command()(verb)
    done = CliRunner().invoke(alone, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return configs[0]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: EvaluationConfig(draws=0), r"--draws: draws is 0\. Give a whole number from 1 on"),
        (lambda: EvaluationConfig(limit=0), "--limit"),
        (lambda: EvaluationConfig.of(top_k=1.5), "top_k is 1.5"),
        (lambda: EvaluationConfig.of(temperature=-1.0), "temperature is -1.0"),
        (lambda: EvaluationConfig.of(guidance={"text": float("nan")}), r"guidance\.text is nan"),
        (lambda: EvaluationConfig(retrieval=RetrievalOptions(1)), "--candidates: candidates is 1. Give a whole number from 2 on"),
        (lambda: EvaluationConfig(reconstruct=ReconstructOptions(1.5)), "--mask-ratio.*from 0 to 1"),
        (lambda: dataclasses.replace(DEFAULTS, seed=-1), "--seed"),
    ],
)
def test_numbers_out_of_bounds_are_refused(build: Callable[[], EvaluationConfig], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build()


def test_nothing_given_is_the_default() -> None:
    assert read() == DEFAULTS == EvaluationConfig()


def test_options_fill_the_fields() -> None:
    config = read(
        *("--task", "ood,donors", "--task", "impute", "--label", "class", "--limit", 7, "--train-limit", 8, "--contact-samples", 0),
        *("--chain", "a,b", "--candidates", 9, "--max-donors", 10, "--ood", "class=1", "--mask-ratio", 0.5, "--survival", "days,died"),
        *("--draws", 3, "--temperature", "0.5,text=0", "--top-k", 4, "--guidance", 1, "--seed", 5),
    )
    assert config == EvaluationConfig(
        tasks=("ood", "donors", "impute"),
        label="class",
        limit=7,
        train_limit=8,
        contact_samples=0,
        impute=ImputeOptions(chain=("a", "b")),
        retrieval=RetrievalOptions(candidates=9),
        donors=DonorOptions(max_donors=10),
        ood=OodOptions(samples="class=1"),
        reconstruct=ReconstructOptions(mask_ratio=0.5),
        survival=("days", "died"),
        draws=3,
        params=SamplingParams(temperature={"*": 0.5, "text": 0.0}, top_k=4, guidance=1.0),
        seed=5,
    )


def test_settings_of_tasks_may_be_given_beside_the_others() -> None:
    config = EvaluationConfig.of(tasks=("retrieval",), candidates=40, ood="class=1", chain=("a",))
    assert config.retrieval == RetrievalOptions(40) and config.ood == OodOptions("class=1") and config.impute == ImputeOptions(("a",))
    assert config.tasks == ("retrieval",) and config.donors == DonorOptions()
    with pytest.raises(UsageError, match=r"no setting 'samples'.*candidates"):
        EvaluationConfig.of(samples=3)


def test_an_option_out_of_bounds_is_refused_by_its_name() -> None:
    with pytest.raises(UsageError, match="--draws: draws is 0"):
        read("--draws", 0)


@pytest.mark.parametrize("verb", ["evaluate", "compare"])
def test_every_field_is_an_option_with_help(verb: str) -> None:
    options = {flag: option for option in VERBS[verb].params for flag in option.opts}
    for setting in SETTINGS:
        assert options[setting.flag].help, setting.flag
    assert len({setting.flag for setting in SETTINGS}) == len(SETTINGS)


@pytest.mark.parametrize("verb", ["impute", "evaluate", "compare"])
def test_draws_are_not_called_samples(verb: str, mmtool: Callable[..., Any], tmp_path: Path) -> None:
    assert "--draws" in {flag for option in VERBS[verb].params for flag in option.opts}
    done = mmtool(verb, "run", "shards", "--samples", 2, "-o", tmp_path / "out")
    assert done.code == 2 and "No such option: --samples" in done.err


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_a_file_that_holds_it(name: str) -> None:
    assert isinstance(open_task(name), Task)


def test_options_of_a_task_bear_its_name() -> None:
    assert {setting.group for setting in SETTINGS} - {None, "params"} <= set(TASKS)  # params: how the draws of every task are drawn
