"""The verbs around adapters: train, continue, compare, measure, predict embeddings; each from the command line."""

import json

import numpy as np
import pytest
import torch
from test_training import make_shards, sample, settings

import mmtool as mmtool_package
from mmtool.adaptation.adapter import open_adapter, read_record
from mmtool.adaptation.batches import labelled_samples, missingness
from mmtool.adaptation.config import AdaptConfig
from mmtool.adaptation.train import AdaptTrainer, adapt
from mmtool.common.errors import DataError
from mmtool.common.output import OutputPath
from mmtool.data.sample import Sample
from mmtool.data.shards import open_token_set
from mmtool.training.pretrain import pretrain


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """shards of complete a, b; runs `a` and `b`, each on one of them."""
    folder = tmp_path_factory.mktemp("adapt")
    make_shards(folder / "shards", pairs=("ab",))
    for name in "ab":
        make_shards(folder / f"only-{name}", pairs=(name,))
        pretrain(settings(method="masked", steps=60, learning_rate=0.01, checkpoint_every=0), folder / f"only-{name}", folder / name)
    return folder


def encoders(world):
    return [part for name in "ab" for part in ("--encoder", f"{name}={world / name}")]


def common(world):
    return [world / "shards", *encoders(world), "--label", "class", "--missing-rate", "0.7", "--missing", "both"]


@pytest.mark.thorough
@pytest.mark.figures
def test_an_adapter_learns_is_measured_and_predicts_embeddings(world, tmp_path, mmtool):
    out = tmp_path / "adapter"
    done = mmtool("adapt", *common(world), "--steps", 150, "--set", "batch=32", "--set", "learning_rate=0.01", "--json", "-o", out)
    assert done.code == 0, done.err
    summary = json.loads(done.out.splitlines()[-1])
    assert summary["trained"] > 0 and summary["share"] > 0 and summary["bytes"] < 5e6
    assert "of the encoders'" in done.err
    assert mmtool("lint", out).code == 0
    assert "fingerprint" in mmtool("info", out, "--json").out

    done = mmtool("evaluate", out, world / "shards" / "validation", "--json", "-o", tmp_path / "report")
    assert done.code == 0, done.err
    rows = json.loads(done.out.splitlines()[-1])["results"]
    values = {(row["metric"], row["at"]): row["value"] for row in rows if "at" in row}
    assert values["accuracy, any missing", 0.0] > 0.8 and values["accuracy, any missing", 1.0] > 0.5
    assert {metric for metric, _ in values} == {f"accuracy, {kind} missing" for kind in ("a", "b", "any")}
    assert any(row["metric"] == "class recall@1" and row["given"] == ["a"] and row["target"] == "b" for row in rows)
    assert {"report.md", "report.json", "curves.png"} <= {path.name for path in (tmp_path / "report").iterdir()}

    trained = mmtool("evaluate", out, world / "shards" / "train", "-o", tmp_path / "none")
    assert trained.code == 2 and "training samples" in trained.err

    filled = tmp_path / "embeddings"
    wanted = ["--split", "validation", "--have", "a", "--want", "b", "--space", "embedding"]
    assert mmtool("impute", out, world / "shards", *wanted, "-o", filled).code == 0
    found = np.load(filled / "b.npz", allow_pickle=False)
    assert found["embedding"].shape == (48, 32) and found["predicted"].all() and set(found["given"]) == {"a"}
    for folder in (filled, tmp_path / "report"):
        OutputPath(folder, force=True).check_directory()  # nothing in it is foreign
    adapter = mmtool_package.load(out)
    samples = mmtool_package.open_shards(world / "shards", split="validation")
    predicted = adapter.embeddings([Sample(each.key, {"a": each.tokens["a"]}) for each in samples], want="b")
    np.testing.assert_allclose(
        predicted[np.argsort([each.key for each in samples])], found["embedding"][np.argsort(found["key"])], atol=1e-5
    )
    right = adapter.predict(samples) == np.array([str(each.labels["class"]) for each in samples])
    assert right.mean() == pytest.approx(values["accuracy, any missing", 0.0])
    with pytest.raises(DataError, match="none of a, b"):
        adapter.predict([Sample("empty", {})])
    lines = [json.loads(line) for line in (filled / "imputed.jsonl").read_text().splitlines()]
    assert len(lines) == 48 and lines[0]["files"] == ["b.npz"] and mmtool("lint", filled).code == 0


def test_embeddings_of_what_is_there_are_written_beside_predicted_ones(world, tmp_path, mmtool):
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    out = tmp_path / "adapter"
    assert mmtool("adapt", *common(world), "--steps", 3, "-o", out).code == 0
    done = mmtool("impute", out, world / "only-a", "--space", "embedding", "--json", "-o", tmp_path / "one")
    assert json.loads(done.out)["imputed"] == {"b": 208}, "the data need not know the modality"
    holed = tmp_path / "holed"
    make_shards(holed, pairs=("ab", "b"))
    done = mmtool("impute", out, holed, "--split", "train", "--space", "embedding", "--format", "parquet", "-o", tmp_path / "out")
    assert done.code == 0, done.err
    table = parquet.read_table(tmp_path / "out" / "a.parquet").to_pydict()
    assert len(table["key"]) == 320 and sum(table["predicted"]) == 160
    assert {key.partition("-")[0] for key, made in zip(table["key"], table["predicted"], strict=True) if made} == {"b"}
    assert len(table["embedding"][0]) == 32


def test_a_comparison_may_be_given_minutes(world, tmp_path, mmtool):
    done = mmtool("compare", *common(world), "--methods", "zeros", "--minutes", 0.01, "--limit", 20, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert read_record(tmp_path / "out/runs/zeros/seed-0")["config"]["minutes"] == 0.01
    elapsed = [json.loads(line)["elapsed_s"] for line in (tmp_path / "out/runs/zeros/seed-0/metrics.jsonl").read_text().splitlines()]
    assert 0.6 <= elapsed[-1] < 6, "not as long as 1,000 steps take"


@pytest.mark.thorough
def test_a_comparison_averages_seeds_and_continues(world, tmp_path, mmtool):
    columns = ["--methods", "joint,zeros,ridge,mean,dropout,late,mse,complete,alone:a", "--variant", "few:joint:prompts=2"]
    arguments = ["compare", *common(world), *columns, "--seeds", "0,1", "--steps", 4, "--set", "batch=16", "--limit", 20, "--json"]
    done = mmtool(*arguments, "-o", tmp_path / "out")
    assert done.code == 0, done.err
    document = json.loads(done.out.splitlines()[-1])
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {row["run"] for row in report["rows"]} == {*columns[1].split(","), "few"}
    assert {row["seed"] for row in document["results"]} == {0, 1}
    curve = [row for row in report["rows"] if row["run"] == "joint" and row["metric"] == "accuracy, any missing"]
    assert [row["at"] for row in curve] == [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0] and all(row["seeds"] == 2 for row in curve)
    flat = {row["value"] for row in report["rows"] if row["run"] == "complete" and row["metric"] == "accuracy, any missing"}
    assert len(flat) == 1
    weights = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("adapter.safetensors")}
    assert len(weights) == 20 and mmtool(*arguments, "-o", tmp_path / "out").code == 0
    assert all(path.stat().st_mtime_ns == time for path, time in weights.items()), "finished adapters are kept"
    (tmp_path / "out" / "comparison.json").write_text('{"format": "mmtool-comparison/1", "data": "x"}')
    assert mmtool(*arguments, "-o", tmp_path / "out").code == 2, "a comparison of another kind is not written into"
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report


def test_an_interrupted_adaptation_ends_as_an_uninterrupted_one(world, tmp_path, monkeypatch):
    config = AdaptConfig(label="class", missing_rate=0.5, steps=9, batch=16, checkpoint_every=4)
    sources = {name: world / name for name in "ab"}
    adapt(config, sources, world / "shards", tmp_path / "whole")
    step = AdaptTrainer._one_step

    def until_six(self, window):
        if self.step == 6:
            raise MemoryError
        return step(self, window)

    monkeypatch.setattr(AdaptTrainer, "_one_step", until_six)
    with pytest.raises(MemoryError):
        adapt(config, sources, world / "shards", tmp_path / "cut")
    monkeypatch.setattr(AdaptTrainer, "_one_step", step)
    OutputPath(tmp_path / "cut", force=True).check_directory()  # nothing in it is foreign, checkpoints included
    adapt(config, sources, world / "shards", tmp_path / "cut")
    OutputPath(tmp_path / "whole", force=True).check_directory()
    whole, cut = ((tmp_path / name / "adapter.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    left = tmp_path / "cut" / "checkpoints"
    assert not left.exists()
    left.mkdir()
    (left / "state.json").write_text("of a process that was killed while it removed them")
    adapt(config, sources, world / "shards", tmp_path / "cut")
    assert not left.exists()


def test_other_settings_wrong_labels_and_damage_are_refused_by_name(world, tmp_path, mmtool):
    out = tmp_path / "adapter"
    assert mmtool("adapt", *common(world), "--steps", 2, "-o", out).code == 0
    again = mmtool("adapt", *common(world), "--steps", 3, "-o", out)
    assert again.code == 2 and "steps was 2, now 3" in again.err
    for arguments, code, said in (
        (["--label", "nothing"], 1, "Labels here: class"),
        (["--label", "class", "--method", "magic"], 2, "there is no method 'magic'"),
        (["--label", "class", "--set", "method.predictor=forest"], 2, "mlp, linear, transformer"),
        (["--label", "class", "--set", "method.colour=1"], 2, "no setting 'colour'"),
        ([], 2, "--label"),
    ):
        done = mmtool("adapt", world / "shards", *encoders(world), *arguments, "-o", tmp_path / "other")
        assert done.code == code and said in done.err, done.err
        assert not (tmp_path / "other").exists()
    done = mmtool("adapt", world / "shards", "--encoder", f"z={world / 'a'}", "--label", "class", "-o", tmp_path / "other")
    assert done.code == 2 and "no such modality" in done.err
    (out / "adapter.safetensors").write_bytes((out / "adapter.safetensors").read_bytes()[:-1] + b"\1")
    assert "sha256" in mmtool("lint", out).out + mmtool("lint", out).err
    assert mmtool("evaluate", out, world / "shards" / "validation", "-o", tmp_path / "report").code == 1


def test_an_adapter_of_an_earlier_version_is_refused_with_the_way_out(world, tmp_path, mmtool):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "adapter.json").write_text(json.dumps({"format": "mmtool-adapter/1", "config": {"eta": 0.7}}))
    for command in (["evaluate", tmp_path / "old", world / "shards"], ["adapt", *common(world)]):
        done = mmtool(*command, "-o", tmp_path / ("old" if command[0] == "adapt" else "report"))
        assert done.code == 1 and "mmtool-adapter/1" in done.err and "mmtool-adapter/3" in done.err and "--force" in done.err
    assert mmtool("lint", tmp_path / "old").code == 1


def test_missing_modalities_in_training_are_those_of_the_protocol(world):
    config = AdaptConfig(label="class", missing_rate=0.7, missing=("b",))
    tokens = open_token_set(world / "shards", split="train")
    whole = labelled_samples(tokens, ("a", "b"), config)
    present = whole.remove_modalities(missingness(config, config.missing_rate, config.missing)).present
    assert present[:, 0].all() and 0.2 < present[:, 1].mean() < 0.4
    assert (present == whole.remove_modalities(missingness(config, config.missing_rate, config.missing)).present).all()
    nothing = AdaptConfig(label="class", complete_only=True)
    few, again = (labelled_samples(tokens, ("a", "b"), nothing, limit=10).samples for _ in range(2))
    assert len(few) == 10 and [sample.key for sample in few] == [sample.key for sample in again]


def test_encoders_may_have_been_moved(world, tmp_path):
    tokenizers = open_token_set(world / "shards", split="train").tokenizers
    moved = {name: tmp_path / name for name in "ab"}
    for name, path in moved.items():
        path.symlink_to(world / name)
    adapt(AdaptConfig(label="class", steps=2, batch=8), moved, world / "shards", tmp_path / "adapter")
    for path in moved.values():
        path.unlink()
    with pytest.raises(DataError, match="--encoder a=PATH"):
        open_adapter(tmp_path / "adapter", tokenizers, torch.device("cpu"))
    adapter = open_adapter(tmp_path / "adapter", tokenizers, torch.device("cpu"), {name: world / name for name in "ab"})
    assert adapter.names == ("a", "b") and sample("x", 0, "a").tokens
