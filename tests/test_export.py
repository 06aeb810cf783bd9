"""An export opens anywhere, gives what the run gives, and holds neither optimizer nor paths; what people wrote in its card stays."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL, Result
from safetensors.numpy import load_file
from test_artefacts import flip
from test_extension import make_tables, setting
from test_training import CLASSES, make_shards, sample, settings

import mmtool as package
from mmtool.common.errors import DataError, UsageError
from mmtool.encoders import open_encoder
from mmtool.training.pretrain import pretrain
from mmtool.training.run import open_run

Mmtool = Callable[..., Result]
METHODS = ("loretta", "masked", "contrastive", "m3ae")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards, a run of each method, and a finetuned one that began with a run that began with another."""
    folder = tmp_path_factory.mktemp("world")
    make_shards(folder / "shards")
    for method in METHODS:
        pretrain(settings(method=method, steps=4), folder / "shards", folder / method)
    pretrain(settings(method="masked", steps=2), folder / "shards", folder / "later", init_from=folder / "masked")
    tuning = {"label": "class", "steps": 12, "checkpoint_every": 4, "batch_samples": 16}
    package.finetune(folder / "later", folder / "shards", folder / "tuned", **tuning)
    return folder


def answers(path: Path) -> list[np.ndarray]:
    """Imputed values and features."""
    run, samples = package.load(path), [sample(f"new-{i}", i % CLASSES, "ab") for i in range(6)]
    assert isinstance(run, package.Run)
    return [run.features(samples, "a"), np.stack([imputed.values[0] for imputed in run.impute(samples, have="b", want="c", seed=3)])]


@pytest.mark.parametrize("method", METHODS)
def test_it_opens_elsewhere_and_answers_as_the_run(world: Path, tmp_path: Path, method: str) -> None:
    run = Path(shutil.copytree(world / method, tmp_path / "run"))
    package.export(run, tmp_path / "export")
    expected = answers(run)
    shutil.rmtree(run)
    elsewhere = Path(shutil.move(tmp_path / "export", tmp_path / "elsewhere"))
    assert all(np.array_equal(*pair, equal_nan=True) for pair in zip(answers(elsewhere), expected, strict=True))


def test_every_verb_that_takes_a_run_takes_it(mmtool: Mmtool, project: Path, tmp_path: Path) -> None:
    run, out = project / "run", tmp_path / "export"
    done = mmtool("export", run, "-o", out, "--json")
    assert done.code == 0 and json.loads(done.out)["step"] == 2 and "step 2" in done.err
    assert mmtool("lint", out).out == f"ok: {out}\n"
    described = json.loads(mmtool("info", out, "--json").out)
    assert described["artefact"] == "run" and described["exported"] == "step 2" and described["checkpoints"] == [2]
    assert described | {"path": ""} == json.loads(mmtool("info", run, "--json").out) | {"path": "", "exported": "step 2"}
    assert "Trained: 2 steps.\n" in mmtool("info", out, "--card").out
    for name, source in (("run", run), ("export", out)):
        assert mmtool("impute", source, project / "shards", "--want", "lab", "--have", "text", "-o", tmp_path / f"{name}-lab").code == 0
    assert (tmp_path / "run-lab/lab.csv").read_bytes() == (tmp_path / "export-lab/lab.csv").read_bytes()
    done = mmtool("evaluate", run, out, project / "shards", "-o", tmp_path / "report", "--json")
    assert done.code == 0, done.err
    rows = [row for row in json.loads(done.out.splitlines()[-1])["results"] if row["metric"] == "perplexity"]
    assert rows and len({row["value"] for row in rows}) * 2 == len(rows)
    raw = tmp_path / "new.csv"
    raw.write_text("key,text\nk1,a red thing\nk2,a blue thing\n")
    command = ("tokenize", "text", raw, "--text-column", "text", "--tokenizer", out, "-o", tmp_path / "new.tar")
    assert mmtool(*command).code == 0


def test_it_refuses_what_it_was_trained_on_as_the_run_does(mmtool: Mmtool, project: Path, tmp_path: Path) -> None:
    assert mmtool("export", project / "run", "-o", tmp_path / "export").code == 0
    sets = (project / "text.tar", project / "lab.tar")
    assert mmtool("shard", *sets, "--seed", 5, "-o", tmp_path / "shards").code == 0
    refused = [mmtool("evaluate", run, tmp_path / "shards", "-o", tmp_path / "report") for run in (project / "run", tmp_path / "export")]
    assert [done.code for done in refused] == [2, 2] and "trained on" in refused[0].err
    assert refused[1].err.replace(str(tmp_path / "export"), str(project / "run")) == refused[0].err


def test_weights_are_named_and_nothing_else_of_the_training_is_there(world: Path, tmp_path: Path) -> None:
    package.export(world / "loretta", tmp_path / "export")
    config = json.loads((tmp_path / "export/config.json").read_text())
    assert config["model_type"] == "mmtool" and config["architectures"] == ["Transformer"]
    assert (config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]) == (32, 1, 1)
    weights = load_file(tmp_path / "export/model.safetensors")
    assert weights["token_embedding.weight"].shape == (config["vocab_size"], config["hidden_size"])
    assert {"blocks.0.attention.qkv.weight", "final_norm.weight"} <= set(weights)
    files = {str(file.relative_to(tmp_path / "export")) for file in (tmp_path / "export").rglob("*") if file.is_file()}
    top = {"README.md", "config.json", "metrics.jsonl", "model.safetensors", "trained_on.safetensors"}
    assert files == top | {f"tokenizers/{name}.safetensors" for name in "abc"}
    card = (tmp_path / "export/README.md").read_text()
    assert "# loretta\n" in card and 'mmtool.load("loretta/")' in card and "[fill in: licence]" in card and "gallery" not in card


def test_networks_of_values_go_with_it(tmp_path: Path) -> None:
    make_tables(tmp_path / "shards", ("ab",))
    pretrain(setting(steps=2, value_epochs=1), tmp_path / "shards", tmp_path / "run")
    package.export(tmp_path / "run", tmp_path / "export")
    assert open_run(tmp_path / "export").values() is not None
    (tmp_path / "export/values.safetensors").unlink()
    with pytest.raises(DataError, match=r"values\.safetensors"):
        package.load(tmp_path / "export")


def test_training_samples_that_are_passed_on_are_named(world: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    package.export(world / "contrastive", tmp_path / "export")
    assert "gallery/ holds training samples" in capfd.readouterr().err
    assert "`gallery`: **training samples**" in (tmp_path / "export/README.md").read_text()


def test_a_finetuned_run_keeps_its_head_and_its_best_weights(world: Path, tmp_path: Path) -> None:
    done = package.export(world / "tuned", tmp_path / "export")
    assert done.step == open_run(world / "tuned").checkpoint().state["step"]
    samples = [sample(f"new-{i}", i % CLASSES, "b") for i in range(8)]
    before, now = (package.load(path).predict(samples) for path in (world / "tuned", tmp_path / "export"))
    assert before.tolist() == now.tolist()


def test_no_path_of_this_machine_is_in_it(world: Path, tmp_path: Path) -> None:
    package.export(world / "tuned", tmp_path / "export")
    path = str(world).encode()
    assert path in (world / "tuned/config.json").read_bytes(), "which it begins with"
    assert not [file for file in (tmp_path / "export").rglob("*") if file.is_file() and path in file.read_bytes()]


def test_other_trainings_begin_with_it_as_with_the_run(world: Path, tmp_path: Path) -> None:
    package.export(world / "masked", tmp_path / "export")
    pretrain(settings(method="masked", steps=2), world / "shards", tmp_path / "later", init_from=tmp_path / "export")
    first, second = (load_file(path / "checkpoints/00000002/model.safetensors") for path in (world / "later", tmp_path / "later"))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    tuning = {"label": "class", "steps": 2, "checkpoint_every": 0, "batch_samples": 8}
    package.finetune(tmp_path / "export", world / "shards", tmp_path / "tuned", **tuning)
    assert open_run(tmp_path / "tuned").export is None
    fingerprints = {open_encoder(path, "a").fingerprint for path in (world / "masked", tmp_path / "export")}
    assert len(fingerprints) == 1, "an adapter of one goes on with the other"


def test_it_is_not_trained_further(mmtool: Mmtool, project: Path, tmp_path: Path) -> None:
    assert mmtool("export", project / "run", "-o", tmp_path / "export").code == 0
    before = {file: file.read_bytes() for file in (tmp_path / "export").rglob("*") if file.is_file()}
    words = ("--method", SMALL["method"], "--preset", "tiny", "--steps", 4)
    done = mmtool("pretrain", project / "shards", *words, "-o", tmp_path / "export")
    assert done.code == 2 and "this is an export" in done.err and "--init-from" in done.err
    done = mmtool("finetune", project / "run", project / "shards", "--label", "colour", "-o", tmp_path / "export")
    assert done.code == 2 and "this is an export" in done.err
    assert before == {file: file.read_bytes() for file in (tmp_path / "export").rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["model.safetensors", "trained_on.safetensors", "config.json", "tokenizers/a.safetensors"])
def test_a_damaged_file_is_found_and_named(mmtool: Mmtool, world: Path, tmp_path: Path, name: str) -> None:
    package.export(world / "loretta", tmp_path / "export")
    flip(tmp_path / "export" / name)
    done = mmtool("lint", tmp_path / "export")
    assert done.code == 1 and str(tmp_path / "export" / name) in done.out
    with pytest.raises(DataError, match=Path(name).name):
        package.load(tmp_path / "export")
    (tmp_path / "export" / name).unlink()
    assert mmtool("lint", tmp_path / "export").code == 1


def test_it_has_one_set_of_weights(world: Path, tmp_path: Path) -> None:
    package.export(world / "loretta", tmp_path / "export")
    assert package.load(tmp_path / "export", checkpoint="00000004")
    with pytest.raises(UsageError, match="one set of weights, those of step 4"):
        package.load(tmp_path / "export", checkpoint="00000002")


def test_force_keeps_a_card_that_was_filled_in(mmtool: Mmtool, world: Path, tmp_path: Path) -> None:
    command = ("export", world / "loretta", "-o", tmp_path / "export")
    assert mmtool(*command).code == 0
    assert mmtool(*command).code == 2
    assert mmtool(*command, "--force").code == 0
    card = tmp_path / "export/README.md"
    card.write_text(card.read_text().replace("[fill in: licence]", "CC-BY-4.0"))
    assert mmtool("lint", tmp_path / "export").code == 0
    done = mmtool(*command, "--force")
    assert done.code == 2 and "README.md" in done.err and "CC-BY-4.0" in card.read_text()


def test_an_adapter_is_refused(mmtool: Mmtool, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter.json").write_text("{}")
    done = mmtool("export", tmp_path / "adapter", "-o", tmp_path / "export")
    assert done.code == 2 and "Export the runs that are its encoders" in done.err and not (tmp_path / "export").exists()


def test_a_run_without_a_checkpoint_is_refused(mmtool: Mmtool, world: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(world / "loretta", tmp_path / "run"))
    shutil.rmtree(run / "checkpoints")
    done = mmtool("export", run, "-o", tmp_path / "export")
    assert done.code == 1 and "no usable checkpoint" in done.err and not (tmp_path / "export").exists()
