"""Promise: a training goes on under a larger budget; with a constant learning rate it is the one that was begun with it, to the bit."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_training import CLASSES, TOKENIZER, modality, same, sample, settings, weights

from mmtool.artefacts import describe
from mmtool.common.errors import UsageError
from mmtool.data.sample import Modality
from mmtool.data.shards import write_split
from mmtool.training.config import FinetuneConfig, PretrainConfig, resolve_as
from mmtool.training.extension import Extension
from mmtool.training.finetune import finetune
from mmtool.training.optimizer import lr_multiplier
from mmtool.training.pretrain import pretrain
from mmtool.training.run import open_run
from mmtool.training.trainer import Trainer

TIMES = ("elapsed_s", "progress", "tokens_per_s", "hardware_share", "loading_share", "digest")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tables(tmp_path_factory.mktemp("extension") / "shards", ("ab", "bc"))


def setting(**options: Any) -> PretrainConfig:
    """Small, and without networks of values, unless asked for them."""
    return settings(**{"value_epochs": 0, "validation_samples": 8, **options})


def table(name: str) -> Modality:
    """A modality of ordered codes, so that a run of several learns networks of their values."""
    return replace(modality(name), ordered=CLASSES)


def make_tables(folder: Path, pairs: tuple[str, ...]) -> Path:
    """As `make_shards` does, of tables."""
    names = sorted(set("".join(pairs)))
    train = [sample(f"{pair}-{i:03d}", i % CLASSES, pair) for pair in pairs for i in range(160)]
    held_out = [sample(f"v-{i:03d}", i % CLASSES, "".join(names), "validation") for i in range(48)]
    for split, samples in (("train", train), ("validation", held_out)):
        (folder / split).mkdir(parents=True)
        write_split(folder / split, [table(name) for name in names], dict.fromkeys(names, TOKENIZER), samples, {}, split=split)
    return folder


def records(run: Path) -> list[dict[str, Any]]:
    """What was logged, but for times and how far the training was."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


MUON = pytest.param({"method": "cm3", "optimizer": "muon"}, marks=pytest.mark.slow)


@pytest.mark.thorough
@pytest.mark.parametrize("options", [{"method": "commutative"}, MUON], ids=["commutative", "muon"])
def test_a_run_of_half_the_steps_that_goes_on_is_one_of_all_to_the_bit(shards: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    config = {**options, "schedule": "constant", "checkpoint_every": 10, "value_epochs": 1}
    pretrain(setting(**config, steps=40), shards, tmp_path / "whole")
    pretrain(setting(**config, steps=20), shards, tmp_path / "extended")
    done = pretrain(setting(**config, steps=40), shards, tmp_path / "extended")
    assert done.steps == 40 and same(weights(tmp_path / "whole"), weights(tmp_path / "extended"))
    assert records(tmp_path / "whole") == records(tmp_path / "extended") and len(records(tmp_path / "whole")) == 6
    values = [(tmp_path / name / "values.safetensors").read_bytes() for name in ("whole", "extended")]
    assert values[0] == values[1], "networks of values are learned anew"


def test_a_training_that_was_extended_is_told_so_and_may_be_killed_and_extended_again(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"schedule": "constant"}
    run, real = tmp_path / "run", Trainer._one_step
    pretrain(setting(**config, steps=4), shards, run)
    capsys.readouterr()

    def dying(self: Any, window: Any) -> None:
        if self.step == 6:
            raise MemoryError
        real(self, window)

    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(Trainer, "_one_step", dying)
        pretrain(setting(**config, steps=8), shards, run)
    assert "begun with 4 steps, goes on from step 4 to 8 steps; the learning rate stays as it is" in capsys.readouterr().err
    assert not open_run(run).complete
    pretrain(setting(**config, steps=8), shards, run)
    assert open_run(run).complete and "goes on" not in capsys.readouterr().err
    pretrain(setting(**config, steps=9), shards, run)
    pretrain(setting(**config, steps=9), shards, tmp_path / "whole")
    assert same(weights(run), weights(tmp_path / "whole"))
    changes = describe(run)["extended"]
    assert [(change["step"], change["from"]["steps"], change["to"]["steps"]) for change in changes] == [(4, 4, 8), (8, 8, 9)]


def test_minutes_are_extended_as_well(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = pretrain(setting(steps=0, minutes=0.005), shards, tmp_path / "run")
    done = pretrain(setting(steps=0, minutes=0.01), shards, tmp_path / "run")
    assert done.steps > first.steps and done.seconds >= 0.6 > first.seconds
    with pytest.raises(UsageError, match=r"so 0.001 minutes leave nothing to do"):
        pretrain(setting(steps=0, minutes=0.001), shards, tmp_path / "run")
    assert pretrain(setting(steps=done.steps + 2), shards, tmp_path / "run").steps == done.steps + 2


def test_fewer_steps_than_are_done_are_refused_and_nothing_else_may_change(shards: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pretrain(setting(steps=4), shards, run)
    before = (run / "config.json").read_bytes()
    for steps in (3, 2):
        with pytest.raises(UsageError, match=rf"4 steps are done in .* minutes, so {steps} steps leave nothing to do"):
            pretrain(setting(steps=steps), shards, run)
    with pytest.raises(UsageError, match="learning_rate was 0"):
        pretrain(setting(steps=8, learning_rate=1e-3), shards, run)
    with pytest.raises(UsageError, match="schedule was 'cosine', now 'constant'"):
        pretrain(setting(steps=8, schedule="constant"), shards, run)
    assert (run / "config.json").read_bytes() == before


def test_a_cosine_rises_again_to_that_of_the_new_budget(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtool.training.loop.REPORT_EVERY", 1)
    config = {"warmup_steps": 3, "learning_rate": 0.01}
    pretrain(setting(**config, steps=10), shards, tmp_path / "run")
    pretrain(setting(**config, steps=20), shards, tmp_path / "run")
    pretrain(setting(**config, steps=20), shards, tmp_path / "whole")
    rates, whole = (
        {line["step"]: line["learning_rate"] for line in records(tmp_path / name) if "learning_rate" in line} for name in ("run", "whole")
    )
    assert rates[10] < rates[11] < rates[12] < rates[13], "it rises for as many steps as in the warm-up"
    assert [rates[step] for step in range(13, 21)] == [whole[step] for step in range(13, 21)]
    assert rates[20] < rates[13] < 0.01


def test_a_method_with_stages_says_so(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for steps in (2, 4):
        pretrain(setting(method="loretta", steps=steps), shards, tmp_path / "run")
    assert "the warm-up of loretta takes its share of the new budget" in capsys.readouterr().err


def test_a_constant_rate_warms_up_and_stays() -> None:
    config = PretrainConfig(warmup_steps=4, schedule="constant")
    assert [lr_multiplier(step, step / 10, config) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert lr_multiplier(9, 0.1, config, Extension(8, 1.0)) == 1


def test_a_finetuned_run_is_extended_as_well(shards: Path, tmp_path: Path) -> None:
    pretrain(setting(steps=2), shards, tmp_path / "base")

    def tuning(steps: int) -> FinetuneConfig:
        options = {"label": "class", "steps": steps, "schedule": "constant", "checkpoint_every": 5, "patience": 0}
        return resolve_as(FinetuneConfig, None, options)

    for steps in (5, 10):
        finetune(tuning(steps), tmp_path / "base", shards, tmp_path / "extended")
    finetune(tuning(10), tmp_path / "base", shards, tmp_path / "whole")
    assert same(weights(tmp_path / "extended"), weights(tmp_path / "whole"))
    with pytest.raises(UsageError, match="10 steps are done"):
        finetune(tuning(5), tmp_path / "base", shards, tmp_path / "extended")
