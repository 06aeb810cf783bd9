"""`pretrain --track`: a tracker is sent what metrics.jsonl holds, each step once, however often the training is interrupted."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from test_training import make_shards, same, settings, weights

from mmtool.common.errors import UsageError
from mmtool.common.output import OutputPath
from mmtool.training.metrics import MetricsLog, read_metrics
from mmtool.training.pretrain import pretrain
from mmtool.training.trackers import TRACKING, Tracking, numbers_of

STEPS, EVERY = 40, 20


class FakeWandb(ModuleType):
    """Notes what it is asked: `runs`, the settings of each `init`, and `logged`, (step, values) in order."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.runs: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.finished = 0

    def init(self, **options: Any) -> "FakeWandb":
        self.runs.append(options)
        return self

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1

    def Image(self, picture: np.ndarray) -> np.ndarray:
        return picture

    @property
    def numbers(self) -> list[tuple[int, dict[str, float]]]:
        return [(step, values) for step, values in self.logged if all(isinstance(value, float) for value in values.values())]

    @property
    def pictures(self) -> list[tuple[int, dict[str, np.ndarray]]]:
        return [(step, values) for step, values in self.logged if all(isinstance(value, np.ndarray) for value in values.values())]


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_shards(tmp_path_factory.mktemp("tracked") / "shards")


def train(shards: Path, run: Path, track: str | None = None) -> None:
    pretrain(settings(method="commutative", steps=STEPS, checkpoint_every=EVERY), shards, run, track=track)


def records(run: Path) -> list[dict[str, Any]]:
    return [record for _, record in read_metrics((run / "metrics.jsonl").read_bytes()) if record is not None]


def sent(run: Path) -> list[tuple[int, dict[str, float]]]:
    """What a tracker should have been sent."""
    return [(record["step"], dict(numbers_of(record))) for record in records(run)]


def test_a_tracker_is_sent_what_metrics_jsonl_holds_and_weights_do_not_change(shards: Path, tmp_path: Path, wandb: FakeWandb) -> None:
    train(shards, tmp_path / "tracked", "wandb")
    train(shards, tmp_path / "plain")
    assert wandb.numbers == sent(tmp_path / "tracked") and {step for step, _ in wandb.numbers} == {EVERY, STEPS}
    assert {"loss/a", "validation/a->b", "learning_rate"} <= {name for _, values in wandb.numbers for name in values}
    assert [step for step, _ in wandb.pictures] == [EVERY, STEPS] and wandb.finished == 1
    assert {name for _, values in wandb.pictures for name in values} == {"imputed/b+c->a", "imputed/a+c->b", "imputed/a+b->c"}
    assert all(picture.dtype == np.uint8 and picture.shape[2] == 3 for _, values in wandb.pictures for picture in values.values())
    assert same(weights(tmp_path / "tracked"), weights(tmp_path / "plain"))
    assert not (tmp_path / "plain" / TRACKING).exists()


def test_a_training_that_goes_on_continues_the_trackers_run_and_repeats_no_step(shards: Path, tmp_path: Path, wandb: FakeWandb) -> None:
    run = tmp_path / "run"
    train(shards, run, "wandb")
    whole = list(wandb.logged)
    for _ in range(2):  # as if it had been killed between its last record and its last checkpoint
        shutil.rmtree(run / "checkpoints" / f"{STEPS:08d}")
        train(shards, run, "wandb")
    assert wandb.logged == whole and len(records(run)) == len(wandb.numbers)
    assert {options["id"] for options in wandb.runs} == {wandb.runs[0]["id"]} and len(wandb.runs) == 3
    assert all(options["resume"] == "allow" and options["config"]["steps"] == STEPS for options in wandb.runs)


def test_a_step_that_was_sent_before_two_interruptions_is_not_sent_again(tmp_path: Path, wandb: FakeWandb) -> None:
    for kept, steps in ((0, (20, 40, 60)), (20, (40,)), (20, (40, 60, 80))):
        log = MetricsLog(tmp_path / "metrics.jsonl", kept, Tracking("wandb", tmp_path, {}))
        for step in steps:
            log.append({"step": step, "loss": {"a": 0.5}})
    log.append({"step": 80, "validation": {"a": 2.0}})
    assert [step for step, _ in wandb.logged] == [20, 40, 60, 80, 80]
    assert [record["step"] for record in records(tmp_path)] == [20, 40, 60, 80, 80]


def test_a_tracker_that_is_new_to_a_run_is_sent_its_past(shards: Path, tmp_path: Path, wandb: FakeWandb) -> None:
    train(shards, tmp_path / "run")
    train(shards, tmp_path / "run", "wandb")
    assert wandb.numbers == sent(tmp_path / "run")


def test_another_beginning_is_another_run_of_the_tracker(tmp_path: Path, wandb: FakeWandb) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        MetricsLog(tmp_path / name / "metrics.jsonl", 0, Tracking("wandb", tmp_path / name, {}))
    assert wandb.runs[0]["id"] != wandb.runs[1]["id"] and [options["name"] for options in wandb.runs] == ["a", "b"]


def test_a_project_that_the_user_named_is_kept(tmp_path: Path, wandb: FakeWandb, monkeypatch: pytest.MonkeyPatch) -> None:
    Tracking("wandb", tmp_path, {})
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    Tracking("wandb", tmp_path, {})
    assert [options.get("project") for options in wandb.runs] == ["mmtool", None]


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "trackio"])
def test_a_tracker_that_is_not_installed_is_named_before_anything_is_written(mmtool, shards, tmp_path, monkeypatch, tracker: str) -> None:
    for module in ("torch.utils.tensorboard", "wandb", "trackio"):
        monkeypatch.setitem(sys.modules, module, None)
    done = mmtool("pretrain", shards, "-o", tmp_path / "run", "--track", tracker)
    assert done.code == 2 and f"pip install 'mmtool[{tracker}]'" in " ".join(done.err.split())
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_does_not_start_says_why(tmp_path: Path, wandb: FakeWandb, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("No API key\nconfigured")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(UsageError, match=r"wandb did not start \(No API key configured\)"):
        Tracking("wandb", tmp_path, {})
    assert not (tmp_path / TRACKING).exists()


def test_a_tracker_that_does_not_exist_is_refused(mmtool, shards: Path, tmp_path: Path) -> None:
    assert mmtool("pretrain", shards, "-o", tmp_path / "run", "--track", "paper").code == 2
    with pytest.raises(UsageError, match="tensorboard, wandb, trackio"):
        train(shards, tmp_path / "run", "paper")


def test_trackio_gets_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "trackio", fake)
    tracking = Tracking("trackio", tmp_path / "run", {"steps": 3})
    tracking.send({"step": 2, "loss": {"a": 0.5}})
    tracking.pictures(2, {"imputed/a->b": np.zeros((2, 2, 3), np.uint8)})
    tracking.close()
    assert fake.runs[0]["project"] == "mmtool" and fake.runs[0]["name"].startswith("run-") and fake.runs[0]["resume"] == "allow"
    assert fake.numbers == [(2, {"loss/a": 0.5})] and [step for step, _ in fake.pictures] == [2] and fake.finished == 1


class FakeWriter:
    """A SummaryWriter that writes its calls down."""

    def __init__(self, folder: str) -> None:
        Path(folder).mkdir(exist_ok=True)
        self.file = open(Path(folder) / "events.out.tfevents.fake", "a")  # noqa: SIM115 (closed by close)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.file.write(json.dumps([step, name, value]) + "\n")

    def add_image(self, name: str, picture: np.ndarray, step: int, dataformats: str) -> None:
        assert dataformats == "HWC" and picture.ndim == 3
        self.file.write(json.dumps([step, name, None]) + "\n")

    def close(self) -> None:
        self.file.close()


def test_tensorboard_writes_into_the_run_and_force_may_replace_it(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = FakeWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    run = tmp_path / "run"
    train(shards, run, "tensorboard")
    lines = [json.loads(line) for line in (run / "tensorboard/events.out.tfevents.fake").read_text().splitlines()]
    numbers = {(step, name): value for step, name, value in lines if value is not None}
    assert numbers == {(step, name): value for step, values in sent(run) for name, value in values.items()}
    assert (STEPS, "imputed/a+b->c", None) in map(tuple, lines)
    OutputPath(run, force=True).check_directory()  # nothing in it is foreign


def test_real_event_files_hold_every_record(shards: Path, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="the extra `tensorboard`")
    train(shards, tmp_path / "run", "tensorboard")
    events = reader.EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    for step, values in sent(tmp_path / "run"):
        for name, value in values.items():
            assert value == pytest.approx(next(event.value for event in events.Scalars(name) if event.step == step), rel=1e-5)
    assert [event.step for event in events.Images("imputed/a+b->c")] == [EVERY, STEPS]
    OutputPath(tmp_path / "run", force=True).check_directory()
