"""Promise: a training ends when its steps or its minutes are spent, whichever comes first; minutes that are not needed change nothing."""

from types import SimpleNamespace

import pytest
from test_training import make_shards, same, settings, weights

from mmtool.common.errors import UsageError
from mmtool.training.config import PretrainConfig, check, resolve
from mmtool.training.early_stopping import EarlyStopping
from mmtool.training.loop import Loop
from mmtool.training.pretrain import pretrain


def progress(config: PretrainConfig, step: int, elapsed_s: float) -> float:
    state = SimpleNamespace(config=config, step=step, elapsed_s=elapsed_s, early_stopping=EarlyStopping(0, 0))
    return Loop.progress.fget(state)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("options", "step", "elapsed_s", "expected"),
    [
        ({"steps": 100}, 50, 1e6, 0.5),
        ({"minutes": 2}, 10_000, 60, 0.5),
        ({"steps": 100, "minutes": 2}, 50, 30, 0.5),
        ({"steps": 100, "minutes": 2}, 10, 60, 0.5),
        ({"steps": 100, "minutes": 2}, 10, 600, 1.0),
        ({"steps": 100, "minutes": 2}, 100, 1, 1.0),
    ],
)
def test_what_is_spent_first_counts(options: dict[str, float], step: int, elapsed_s: float, expected: float) -> None:
    assert progress(resolve(None, options), step, elapsed_s) == expected


def test_minutes_alone_set_no_limit_of_steps() -> None:
    assert resolve(None, {"minutes": 3}).steps == 0
    assert resolve(None, {"minutes": 3, "steps": 70}).steps == 70
    assert resolve(None, {}, ["minutes=3"]).steps == 0
    assert resolve(None, {}).steps == PretrainConfig().steps > 0


def test_a_training_without_an_end_is_refused() -> None:
    with pytest.raises(UsageError, match="no end"):
        check({"steps": 0})
    with pytest.raises(UsageError, match="no end"):
        resolve(None, {"steps": 0})


def test_minutes_that_are_not_needed_change_no_bit(tmp_path) -> None:
    shards = make_shards(tmp_path / "shards")
    pretrain(settings(steps=6), shards, tmp_path / "steps")
    pretrain(settings(steps=6, minutes=60), shards, tmp_path / "both")
    assert same(weights(tmp_path / "steps"), weights(tmp_path / "both"))


def test_a_cap_ends_the_training_before_its_steps(tmp_path) -> None:
    done = pretrain(settings(steps=1_000_000, minutes=0.01), make_shards(tmp_path / "shards"), tmp_path / "run")
    assert 0 < done.steps < 1_000_000
