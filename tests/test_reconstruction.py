"""Reconstructions: only what is hidden is told, from what is visible alone, and the sheet shows it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_training import CLASSES, make_shards, sample, settings
from toy_study import found

from mmtool.common.output import OutputPath
from mmtool.evaluation.figures.reconstruction_sheet import pieces
from mmtool.evaluation.figures.thumbnails import font
from mmtool.evaluation.tasks.reconstruction import score
from mmtool.imputation.imputer import Imputer
from mmtool.tokenizers.text import TextTokenizer
from mmtool.training.pretrain import pretrain


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_shards(folder / "shards")
    for method, steps in (("masked", 150), ("m3ae", 300), ("cm3", 4)):
        pretrain(settings(method=method, steps=steps, learning_rate=0.01, checkpoint_every=0), folder / "shards", folder / method)
    return folder


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["masked", "m3ae"])
def test_masked_tokens_are_predicted_and_visible_ones_kept(runs: Path, method: str) -> None:
    imputer = Imputer.open(runs / method)
    samples = [sample(f"x{i}", i % CLASSES, "ab") for i in range(40)]
    hidden = imputer.hide(samples, 0.5, seed=1)
    assert all(2 <= masks[name].sum() <= 3 for masks in hidden for name in "ab")
    told = imputer.reconstruct(samples, ["a", "b"], hidden)
    for each, masks, said in zip(samples, hidden, told, strict=True):
        assert all((said[name][~masks[name]] == each.tokens[name][~masks[name]]).all() for name in "ab")
    assert score(samples, told, hidden, "a", 0)["masked accuracy"].value > 0.4, "chance is 0.25, and two of five codes are noise"
    blind = [sample(f"x{i}", i % CLASSES, "ab") for i in range(40)]
    for each, masks in zip(blind, hidden, strict=True):
        each.tokens = {name: np.where(masks[name], 0, codes).astype(codes.dtype) for name, codes in each.tokens.items()}
    again = imputer.reconstruct(blind, ["a", "b"], hidden)
    assert all((one[name] == other[name]).all() for one, other in zip(told, again, strict=True) for name in "ab"), "nobody looks below"


@pytest.mark.thorough
def test_what_is_hidden_is_a_function_of_seed_and_key(runs: Path) -> None:
    imputer = Imputer.open(runs / "m3ae")
    samples = [sample(f"x{i}", 0, "ab") for i in range(5)]
    one, other = imputer.hide(samples), imputer.hide(samples[::-1])[::-1]
    assert all((a["a"] == b["a"]).all() for a, b in zip(one, other, strict=True))
    assert any((a["a"] != b["a"]).any() for a, b in zip(one, imputer.hide(samples, seed=1), strict=True))


def test_values_of_patches_are_measured_by_explained_variance() -> None:
    random = np.random.default_rng(0)
    samples = [sample(f"p{i}", 0, "a") for i in range(30)]
    for each in samples:
        each.tokens = {"a": random.integers(0, 256, (6, 4), np.uint8)}
    hidden = [{"a": np.arange(6) < 3} for _ in samples]
    perfect = score(samples, [dict(each.tokens) for each in samples], hidden, "a", 0)
    assert perfect["masked r2"].value == 1
    grey = score(samples, [{"a": np.full((6, 4), 127, np.uint8)} for _ in samples], hidden, "a", 0)
    assert grey["masked r2"].value == pytest.approx(0, abs=0.05)


@pytest.mark.slow
def test_the_sheet_and_the_table_are_in_the_report(mmtool, runs: Path, tmp_path: Path) -> None:
    command = ["evaluate", runs / "masked", runs / "m3ae", runs / "cm3", runs / "shards", "--label", "class", "--task", "probe"]
    done = mmtool(*command, "--reconstructions", "--mask-ratio", 0.5, "--contact-samples", 3, "-o", tmp_path / "report")
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["meta"]["tasks"] == ["probe", "reconstruct"]
    rows = [row for row in report["rows"] if row["metric"] == "masked accuracy"]
    assert {row["run"] for row in rows} == {"masked", "m3ae", "most frequent code"}
    asked = {("".join(row["given"]), row["target"]) for row in rows}
    assert asked == {(given, target) for given in ("a", "b", "c", "ab", "bc") for target in given}
    assert found(rows, run="m3ae", given="a", target="a")["value"] > found(rows, run="most frequent code", given="a", target="a")["value"]
    text = (tmp_path / "report/report.md").read_text()
    OutputPath(tmp_path / "report", force=True).check_directory()  # nothing in it is foreign
    for name in ("reconstructions-1.png", "reconstructions-2.png"):
        assert f"({name})" in text and Image.open(tmp_path / "report" / name).width > 300
    refused = mmtool("evaluate", runs / "cm3", runs / "shards", "--reconstructions", "--label", "class", "-o", tmp_path / "none")
    assert refused.code == 2 and "masked tokens" in refused.err


def test_every_byte_that_a_model_may_say_can_be_drawn() -> None:
    tokenizer = TextTokenizer.fit(["face with tears", "red face"], {}, 0)
    said = pieces(tokenizer, np.arange(256))
    assert said[ord("\n")] == "↵"
    assert all(font(12).getlength(text) >= 0 for text in said)
