"""A finetuned run predicts a label: it learns, resumes bit for bit, stops when it should, and is read by whatever reads runs."""

import csv
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_training import CLASSES, make_shards, same, sample, settings, weights

from mmtool.common.errors import DataError, UsageError
from mmtool.common.output import OutputPath
from mmtool.data.shards import write_split
from mmtool.imputation.imputer import Imputer
from mmtool.training import finetuner
from mmtool.training.checkpoint import list_checkpoints
from mmtool.training.config import FinetuneConfig, resolve_as
from mmtool.training.finetune import finetune
from mmtool.training.finetuner import Finetuner, layer_of
from mmtool.training.pretrain import pretrain
from mmtool.training.run import open_run


def tuning(**options) -> FinetuneConfig:
    usual = {"label": "class", "steps": 30, "batch_samples": 32, "learning_rate": 0.01, "warmup_steps": 2, "checkpoint_every": 10}
    return resolve_as(FinetuneConfig, None, {**usual, **options})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    make_shards(folder / "shards")
    for method in ("masked", "cm3", "contrastive", "m3ae"):
        pretrain(settings(method=method), folder / "shards", folder / method)
    return folder


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["masked", "cm3", "contrastive", "m3ae"])
def test_it_learns_the_label_of_every_combination(base: Path, tmp_path: Path, method: str) -> None:
    done = finetune(tuning(steps=120), base / method, base / "shards", tmp_path / "out")
    OutputPath(tmp_path / "out", force=True).check_directory()  # nothing in it is foreign
    measured = {row["metric"]: row for row in done.results}
    assert set(measured) == {"prediction accuracy", "prediction macro f1"}
    assert measured["prediction accuracy"]["value"] > 0.8 and measured["prediction accuracy"]["n"] == 48
    imputer = Imputer.open(tmp_path / "out")
    alone = [sample(f"new-{i}", i % CLASSES, "b") for i in range(20)]
    said = imputer.target.decode(imputer.predict(alone))
    assert np.mean(said == [str(i % CLASSES) for i in range(20)]) > 0.6
    assert imputer.features(alone, ["b"]).shape == (20, 32), "it is still a run"


def test_interrupted_it_continues_to_the_same_bits(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tuning(checkpoint_every=5, steps=15)
    finetune(config, base / "cm3", base / "shards", tmp_path / "whole")
    real = Finetuner._one_step

    def dying(self, window):
        if self.step == 8:
            raise MemoryError
        real(self, window)

    monkeypatch.setattr(Finetuner, "_one_step", dying)
    with pytest.raises(MemoryError):
        finetune(config, base / "cm3", base / "shards", tmp_path / "killed")
    monkeypatch.setattr(Finetuner, "_one_step", real)
    finetune(config, base / "cm3", base / "shards", tmp_path / "killed")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    again = finetune(config, base / "cm3", base / "shards", tmp_path / "killed")
    assert again == finetune(config, base / "cm3", base / "shards", tmp_path / "killed")


def test_it_stops_without_progress_and_keeps_the_best_step(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = {5: 0.5, 10: 0.9}
    steps: list[int] = []
    real = Finetuner.validate

    def scripted(target, outputs, samples):
        return {"loss": 1.0, "accuracy": accuracies.get(steps[-1], 0.1)}

    def noting(self):
        steps.append(self.step)
        return real(self)

    monkeypatch.setattr(finetuner, "scores", scripted)
    monkeypatch.setattr(Finetuner, "validate", noting)
    config = tuning(checkpoint_every=5, patience=3, steps=100)
    done = finetune(config, base / "cm3", base / "shards", tmp_path / "out")
    assert steps == [5, 10, 15, 20, 25] and (done.steps, done.best_step) == (25, 10)
    run = open_run(tmp_path / "out")
    assert run.checkpoint().path.name == "00000010", "what is used is the best, though later ones exist"
    assert [path.name for path in list_checkpoints(run.checkpoints)] == ["00000010", "00000020", "00000025"]
    assert finetune(config, base / "cm3", base / "shards", tmp_path / "out") == done and len(steps) == 5


def test_numbers_are_predicted_in_their_own_unit(base: Path, tmp_path: Path) -> None:
    def amounted(key, label, names, split):
        made = sample(key, label, names, split)
        made.labels["amount"] = 100 + 10 * float(made.tokens[names[0]][3]) + label / 7
        return made

    shards = tmp_path / "shards"
    tokens = open_run(base / "cm3")
    for split, count in (("train", 160), ("validation", 60)):
        (shards / split).mkdir(parents=True)
        samples = [amounted(f"{split}{i:03d}", i % CLASSES, "ab", split) for i in range(count)]
        tokenizers = {name: (base / "cm3/tokenizers" / f"{name}.safetensors").read_bytes() for name in "ab"}
        write_split(shards / split, tokens.layout.modalities[:2], tokenizers, samples, {}, split=split)
    done = finetune(tuning(label="amount", kind="number", steps=150), base / "cm3", shards, tmp_path / "out")
    assert [row["metric"] for row in done.results] == ["prediction r2"] and done.results[0]["value"] > 0.8
    imputer = Imputer.open(tmp_path / "out")
    said = imputer.target.decode(imputer.predict([sample("new", 0, "ab")]))
    with pytest.raises(UsageError, match=r"none-of-it.*holds none of"):
        imputer.predict([sample("new", 0, "ab"), sample("none-of-it", 0, "")])
    assert 90 < said[0] < 140
    for amount in (100.0, "unknown"):
        last = sample("last", 0, "ab", "validation")
        last.labels["amount"] = amount
        shutil.rmtree(shards / "validation")
        (shards / "validation").mkdir()
        write_split(shards / "validation", tokens.layout.modalities[:2], tokenizers, [last], {}, split="validation")
        tuned = partial(finetune, tuning(label="amount", kind="number", steps=2), base / "cm3", shards, tmp_path / str(amount))
        if amount == 100.0:
            assert tuned().results == [], "of one sample there is no R2"
    with pytest.raises(DataError, match=r"last.*amount is 'unknown'"):
        tuned()
    with pytest.raises(UsageError, match="no classes"):
        finetune(tuning(label="amount", kind="number", class_weights="balanced"), base / "cm3", shards, tmp_path / "weighted")


def test_lower_layers_learn_slower_and_not_at_all_where_frozen(base: Path, tmp_path: Path) -> None:
    assert [layer_of(name, 4) for name in ("token_embedding.weight", "blocks.0.mlp.down.weight", "blocks.3.attention.out.weight")] == [
        0,
        1,
        4,
    ]
    assert (layer_of("final_norm.weight", 4), layer_of("task_head.bias", 4)) == (4, 5)
    pretrained = open_run(base / "cm3").checkpoint().model
    finetune(tuning(layer_decay=0.0, steps=10), base / "cm3", base / "shards", tmp_path / "head")
    tuned = open_run(tmp_path / "head").checkpoint().model
    assert all(torch.equal(pretrained[name], tuned[name]) for name in pretrained)
    finetune(tuning(layer_decay=0.5, steps=10), base / "cm3", base / "shards", tmp_path / "all")
    tuned = open_run(tmp_path / "all").checkpoint().model
    moved = [float((tuned[name] - pretrained[name]).abs().mean()) for name in ("token_embedding.weight", "blocks.0.mlp.down.weight")]
    assert 0 < moved[0] < moved[1]


def test_class_weights_shift_predictions(base: Path, tmp_path: Path) -> None:
    def share_of(name, weights):
        finetune(tuning(steps=20, class_weights=weights), base / "cm3", base / "shards", tmp_path / name)
        imputer = Imputer.open(tmp_path / name)
        blank = [sample(f"x{i}", i % CLASSES, "c") for i in range(80)]
        return np.mean(imputer.target.decode(imputer.predict(blank)) == "2")

    assert share_of("even", "balanced") < share_of("more", "2=50")
    with pytest.raises(UsageError, match="NAME=WEIGHT"):
        finetune(tuning(class_weights="7=2"), base / "cm3", base / "shards", tmp_path / "wrong")


def test_what_does_not_fit_is_refused(base: Path, tmp_path: Path) -> None:
    shards = base / "shards"
    finetune(tuning(steps=2), base / "cm3", shards, tmp_path / "out")
    with pytest.raises(UsageError, match=r"dropout was 0\.1, now 0\.2"):
        finetune(tuning(steps=2, dropout=0.2), base / "cm3", shards, tmp_path / "out")
    with pytest.raises(UsageError, match="other pretrained weights"):
        finetune(tuning(steps=2), base / "masked", shards, tmp_path / "out")
    with pytest.raises(UsageError, match="pretrained run already"):
        finetune(tuning(), base / "cm3", shards, base / "masked")
    with pytest.raises(UsageError, match="was finetuned"):
        pretrain(settings(method="cm3"), shards, tmp_path / "out")
    with pytest.raises(UsageError, match="no sample has the label"):
        finetune(tuning(label="weight"), base / "cm3", shards, tmp_path / "other")
    with pytest.raises(UsageError, match="no pooling"):
        finetune(tuning(pooling="cls"), base / "cm3", shards, tmp_path / "other")
    with pytest.raises(UsageError, match="no modality"):
        finetune(tuning(have=("z",)), base / "cm3", shards, tmp_path / "other")
    with pytest.raises(DataError, match=r"config\.json"):
        finetune(tuning(), shards, shards, tmp_path / "other")


@pytest.mark.thorough
def test_the_command_line_finetunes_evaluates_and_predicts(mmtool, base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = mmtool(
        *("finetune", base / "masked", base / "shards", "--label", "class", "--have", "a,b", "--steps", 40, "--learning-rate", 0.01),
        *("--checkpoint-every", 10, "--class-weights", "balanced", "--set", "dropout=0", "--json", "-o", out),
    )
    assert done.code == 0, done.err
    summary = json.loads(done.out.splitlines()[-1])
    assert summary["label"] == "class" and summary["results"][0]["split"] == "validation"
    judged = mmtool("evaluate", out, base / "shards", "-o", tmp_path / "report")
    assert judged.code == 0, judged.err
    report = json.loads((tmp_path / "report/report.json").read_text())
    found = {("".join(row["given"]), row["run"]): row for row in report["rows"] if row["metric"] == "prediction accuracy"}
    assert set(found) == {(given, run) for given in ("a", "b", "ab") for run in ("masked", "most frequent class")}
    assert found["ab", "masked"]["value"] == summary["results"][0]["value"] > 0.8
    for folder in ("report", "filled"):
        OutputPath(tmp_path / folder, force=True).check_directory()
    lines = list(csv.DictReader((tmp_path / "report/predictions.csv").read_text().splitlines()))
    assert len(lines) == 48 and np.mean([line["class"] == line["predicted class"] for line in lines]) == found["ab", "masked"]["value"]
    assert "prediction_accuracy.png" in (tmp_path / "report/report.md").read_text()
    filled = mmtool("impute", out, base / "shards/validation", "--want", "class", "-o", tmp_path / "filled")
    assert filled.code == 0, filled.err
    assert (tmp_path / "filled/class.csv").read_bytes() == (tmp_path / "report/predictions.csv").read_bytes()
    assert mmtool("lint", tmp_path / "filled").code == 0 and mmtool("lint", out).code == 0
    assert "predicts" in mmtool("info", out).out
    refused = mmtool("evaluate", base / "masked", base / "shards", "--task", "predict", "-o", tmp_path / "none")
    assert refused.code == 2 and "mmtool finetune" in refused.err


def test_settings_of_a_file_hold_unless_an_option_says_otherwise(base: Path, tmp_path: Path, mmtool: Any) -> None:
    (tmp_path / "own.toml").write_text("seed = 3\nsteps = 2\ncheckpoint_every = 0\n")
    common = ["finetune", base / "cm3", base / "shards", "--label", "class", "--config", tmp_path / "own.toml"]
    assert mmtool(*common, "-o", tmp_path / "file").code == 0
    assert mmtool(*common, "--seed", 5, "-o", tmp_path / "option").code == 0
    records = [json.loads((tmp_path / name / "config.json").read_text()) for name in ("file", "option")]
    assert [record["finetune"]["config"]["seed"] for record in records] == [3, 5]
    refused = mmtool(*common, "--set", "optimizer=muon", "-o", tmp_path / "muon")
    assert refused.code == 2 and "no setting 'optimizer'" in refused.err
