"""Promise: a pretraining stops when validation makes no progress, keeps the best weights, and does so to the bit after any end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from test_extension import make_tables, setting
from test_training import same, weights

from mmtool.common.errors import UsageError
from mmtool.imputation.imputer import Imputer
from mmtool.training.checkpoint import list_checkpoints
from mmtool.training.early_stopping import EarlyStopping
from mmtool.training.pretrain import pretrain
from mmtool.training.run import open_run
from mmtool.training.trainer import Trainer

PERPLEXITIES = {4: 3.0, 8: 2.0, 12: 2.5, 16: 2.2}  # of the steps; 2.1 later


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tables(tmp_path_factory.mktemp("stopping") / "shards", ("ab", "bc"))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Validation as the table has it; the steps that were validated."""
    steps: list[int] = []

    def validate(trainer: Trainer, samples: Any) -> dict[str, float]:
        steps.append(trainer.step)
        return {"a->b": PERPLEXITIES.get(trainer.step, 2.1), "b->a": 5.0}

    monkeypatch.setattr("mmtool.training.pretrain._validate", validate)
    return steps


def stopping(**options: Any) -> Any:
    return setting(steps=40, checkpoint_every=4, patience=2, **options)


def test_it_stops_and_the_best_weights_are_those_to_use(shards: Path, tmp_path: Path, scripted: list[int], capsys: Any) -> None:
    done = pretrain(stopping(), shards, tmp_path / "run")
    assert scripted == [4, 8, 12, 16] and (done.steps, done.best_step, done.validation["a->b"]) == (16, 8, 2.0)
    assert "no progress since step 8: stopping early" in capsys.readouterr().err
    assert set(done.loss) == {"a", "b", "c"} and all(value > 0 for value in done.loss.values()), "of steps that no report was due for"
    run = open_run(tmp_path / "run")
    assert run.complete and run.checkpoint().path.name == "00000008"
    assert [path.name for path in list_checkpoints(run.checkpoints)] == ["00000008", "00000012", "00000016"]
    model = Imputer.open(tmp_path / "run", device="cpu").model.state_dict()
    best = load_file(run.checkpoints / "00000008/model.safetensors")
    assert all((model[name].numpy() == tensor).all() for name, tensor in best.items())
    assert pretrain(stopping(), shards, tmp_path / "run") == done and len(scripted) == 4, "there is nothing left to do"


def test_killed_anywhere_it_stops_at_the_same_step_with_the_same_bits(
    shards: Path, tmp_path: Path, scripted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, real = pretrain(stopping(), shards, tmp_path / "whole"), Trainer._one_step
    for last in (6, 10, 14):

        def dying(self: Any, window: Any, last: int = last) -> None:
            if self.step == last:
                raise MemoryError
            real(self, window)

        with monkeypatch.context() as patch, pytest.raises(MemoryError):
            patch.setattr(Trainer, "_one_step", dying)
            pretrain(stopping(), shards, tmp_path / "killed")
    done = pretrain(stopping(), shards, tmp_path / "killed")
    assert (done.steps, done.best_step) == (whole.steps, whole.best_step)
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    checkpoints = [open_run(tmp_path / name).checkpoint() for name in ("killed", "whole")]
    assert {name: checkpoints[0].state[name] for name in ("best_score", "best_step", "judged")} == {
        name: checkpoints[1].state[name] for name in ("best_score", "best_step", "judged")
    }


def test_more_patience_lets_it_go_on(shards: Path, tmp_path: Path, scripted: list[int]) -> None:
    pretrain(stopping(), shards, tmp_path / "run")
    with pytest.raises(UsageError, match=r"stopped early: it made no progress from step 8 to 16\. Let it go on with --patience above 2"):
        pretrain(setting(steps=60, checkpoint_every=4, patience=2), shards, tmp_path / "run")
    more = pretrain(setting(steps=40, checkpoint_every=4, patience=4), shards, tmp_path / "run")
    assert (more.steps, more.best_step) == (24, 8)


def test_networks_of_values_belong_to_the_best_weights(shards: Path, tmp_path: Path, scripted: list[int]) -> None:
    """A run that is stopped at step 8 has the same, where the learning rate knows nothing of the end."""
    options = {"checkpoint_every": 4, "schedule": "constant", "value_epochs": 2}
    pretrain(setting(steps=40, patience=1, **options), shards, tmp_path / "run")
    pretrain(setting(steps=8, **options), shards, tmp_path / "short")
    values = [(tmp_path / name / "values.safetensors").read_bytes() for name in ("run", "short")]
    assert values[0] == values[1]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"checkpoint_every": 0}, "there are no steps between checkpoints"),
        ({"validation_samples": 0}, "there are no validation samples"),
        ({"method": "contrastive"}, "there is nothing that the method contrastive measures"),
    ],
)
def test_without_a_validation_nothing_can_stop_early(shards: Path, tmp_path: Path, options: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        pretrain(setting(patience=2, **options), shards, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_process_that_does_not_validate_hears_of_the_end() -> None:
    assert not EarlyStopping(2, 4).exhausted and EarlyStopping(2, 4, elsewhere=True).exhausted


def test_the_command_line_stops_early(mmtool: Callable[..., Any], shards: Path, tmp_path: Path, scripted: list[int]) -> None:
    small = ("--set", "shape.depth=1", "--set", "shape.width=32", "--batch-tokens", 512, "--no-compile", "--set", "value_epochs=0")
    done = mmtool(
        *("pretrain", shards, "--method", "cm3", "--steps", 40, "--checkpoint-every", 4, "--patience", 2, *small), "-o", tmp_path / "run"
    )
    assert done.code == 0 and "16 steps (best at step 8)" in done.err
