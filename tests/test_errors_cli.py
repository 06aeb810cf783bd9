"""Wrong use: one paragraph that names the file or option, the reason and the next step; exit code 2 for usage, 1 for data."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Raw, Result
from test_training import make_shards, settings

from mmtool.data.shards import open_token_set
from mmtool.training.pretrain import pretrain

Mmtool = Callable[..., Result]


def assert_refused(done: Result, code: int, *words: object) -> None:
    """One paragraph on standard error, nothing on standard output, and the words in it."""
    assert done.code == code, done.err
    assert done.out == ""
    paragraph = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(paragraph) == 1 and done.err.splitlines()[-1] == paragraph[0]
    assert "Traceback" not in done.err
    for word in words:
        assert str(word) in paragraph[0]
    assert re.search(r"[.?] [A-Z].*\.$", paragraph[0]), f"no next step: {paragraph[0]}"


def test_missing_file(mmtool: Mmtool, tmp_path: Path) -> None:
    missing = tmp_path / "none"
    target = tmp_path / "out"
    assert_refused(mmtool("tokenize", "text", missing, "--fit", "-o", target), 1, missing)
    assert_refused(mmtool("tokenize", "text", missing, "--tokenizer", missing, "-o", target), 1, missing)
    assert_refused(mmtool("shard", missing, "-o", target), 1, missing)
    assert_refused(mmtool("pretrain", missing, "-o", target), 1, missing)
    assert_refused(mmtool("impute", missing, missing, "-o", target), 1, missing)
    assert_refused(mmtool("evaluate", missing, missing, "-o", target), 1, missing)
    assert_refused(mmtool("info", missing), 1, missing)
    assert mmtool("lint", missing).code == 1
    assert not target.exists()


def test_missing_config_file(mmtool: Mmtool, tmp_path: Path) -> None:
    assert_refused(mmtool("pretrain", "shards", "-o", tmp_path / "run", "--config", tmp_path / "none.toml"), 2, "none.toml")


@pytest.mark.parametrize(("kind", "name"), [("image", "scan.png"), ("audio", "clip.wav")])
def test_unreadable_file(mmtool: Mmtool, tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(b"not what its name says")
    assert_refused(mmtool("tokenize", kind, tmp_path / "in", "--fit", "-o", tmp_path / "out.tar"), 1, name)
    assert not (tmp_path / "out.tar").exists()


def test_empty_folder(mmtool: Mmtool, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(mmtool("tokenize", "image", tmp_path / "empty", "--fit", "-o", tmp_path / "out.tar"), 1, "empty", ".png")
    assert_refused(mmtool("pretrain", tmp_path / "empty", "-o", tmp_path / "run"), 1, "empty", "mmtool shard")
    assert_refused(mmtool("info", tmp_path / "empty"), 1, "empty")


def test_which_tokenizer(mmtool: Mmtool, raw: Raw, tmp_path: Path) -> None:
    assert_refused(mmtool("tokenize", "text", raw.notes, "-o", tmp_path / "out.tar"), 2, "--fit", "--tokenizer")


def test_unknown_column(mmtool: Mmtool, raw: Raw, tmp_path: Path) -> None:
    done = mmtool("tokenize", "text", raw.notes, "--fit", "--text-column", "note", "-o", tmp_path / "out.tar")
    assert_refused(done, 1, raw.notes, "note", "text")


def test_unknown_scheme_and_setting(mmtool: Mmtool, raw: Raw, tmp_path: Path) -> None:
    command = ["tokenize", "text", raw.notes, "--fit", "-o", tmp_path / "out.tar"]
    assert_refused(mmtool(*command, "--scheme", "letters"), 2, "letters", "pieces")
    assert_refused(mmtool(*command, "--set", "bins=3"), 2, "bins", "vocabulary_size")
    assert_refused(mmtool(*command, "--set", "vocabulary_size=many"), 2, "vocabulary_size", "many", "int")
    assert_refused(mmtool(*command, "--set", "vocabulary_size=-1"), 2, "vocabulary_size", "-1")
    assert_refused(mmtool(*command, "--set", "bins"), 2, "--set", "KEY=VALUE")


def test_impossible_settings_of_learned_tokenizers(mmtool: Mmtool, raw: Raw, tmp_path: Path) -> None:
    image = ["tokenize", "image", raw.images, "--fit", "-o", tmp_path / "out.tar"]
    assert_refused(mmtool(*image, "--set", "width=wide"), 2, "width", "wide")
    assert_refused(mmtool(*image, "--set", "levels=8"), 2, "levels", "8")
    assert_refused(mmtool(*image, "--patch", 3), 2, "3 pixels", "8 x 8")
    assert_refused(mmtool(*image, "--as", "patches", "--size", 99999999, "--patch", 9), 2, "99999999", "4096")
    assert_refused(mmtool(*image, "--set", "learning_rate=NaN"), 2, "learning_rate", "nan", "above 0")
    assert_refused(mmtool(*image, "--value-range", 5, 5), 2, "--value-range", "5.0 to 5.0")
    audio = ["tokenize", "audio", raw.clips, "--fit", "-o", tmp_path / "out.tar"]
    assert_refused(mmtool(*audio, "--set", "size=3"), 2, "size", "sample_rate_hz")
    assert_refused(mmtool(*audio, "--codebook", 999), 2, "999", "512")
    assert_refused(mmtool(*audio, "--sample-rate-hz", 0), 2, "sample_rate_hz", "0", "from 1 to 384000")
    for name, value, words in (("sample_rate_hz", "fast", "int"), ("hop_ms", 0, "above 0"), ("floor_db", 3, "below 0")):
        assert_refused(mmtool(*audio, "--set", f"{name}={value}"), 2, name, value, words)


def test_a_tokenizer_of_another_kind(mmtool: Mmtool, raw: Raw, project: Path, tmp_path: Path) -> None:
    done = mmtool("tokenize", "table", raw.values, "--name", "text", "--tokenizer", project / "run", "-o", tmp_path / "out.tar")
    assert_refused(done, 2, project / "run", "text", "table")


def test_output_exists(mmtool: Mmtool, raw: Raw, project: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.tar"
    kept.write_text("mine")
    run, shards = project / "run", project / "shards"
    assert_refused(mmtool("tokenize", "text", raw.notes, "--fit", "-o", kept), 2, kept, "--force")
    assert_refused(mmtool("shard", project / "text.tar", "-o", kept), 2, kept, "--force")
    assert_refused(mmtool("pretrain", shards, "--method", "cm3", "-o", tmp_path), 2, tmp_path, "--force")
    assert_refused(mmtool("impute", run, shards, "--have", "text", "--want", "lab", "-o", tmp_path), 2, tmp_path, "--force")
    assert_refused(mmtool("evaluate", run, shards, "-o", tmp_path), 2, tmp_path, "--force")
    assert kept.read_text() == "mine"


@pytest.mark.parametrize("verb", ["pretrain", "impute", "evaluate", "compare", "peek"])
def test_a_directory_is_not_written_to_standard_output(verb: str, mmtool: Mmtool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = mmtool(verb, *(["run/"] if verb in ("impute", "evaluate") else []), "shards/", "-o", "-")
    assert done.code == 2 and "a directory cannot be written to standard output" in done.err
    assert not any(tmp_path.iterdir())


def test_unknown_modality(mmtool: Mmtool, project: Path, tmp_path: Path) -> None:
    command = ["impute", project / "run", project / "shards", "-o", tmp_path / "out"]
    assert_refused(mmtool(*command, "--have", "speech", "--want", "lab"), 2, "speech", "lab, text")
    assert_refused(mmtool(*command, "--have", "text", "--want", "video"), 2, "video", "lab, text")
    assert_refused(mmtool("impute", project / "run", "--raw", "speech=x.wav", "-o", tmp_path / "out"), 2, "speech", "lab, text")
    assert_refused(mmtool("shard", project / "text.tar", "--pair", "text,image", "-o", tmp_path / "out"), 2, "image", "text")
    assert not (tmp_path / "out").exists()


def test_a_modality_that_is_given_and_wanted(mmtool: Mmtool, project: Path, tmp_path: Path) -> None:
    done = mmtool("impute", project / "run", project / "shards", "--have", "text", "--want", "text", "-o", tmp_path / "out")
    assert_refused(done, 2, "text", "--want")


def test_nothing_to_impute_from(mmtool: Mmtool, project: Path, tmp_path: Path) -> None:
    run = project / "run"
    assert_refused(mmtool("impute", run, "-o", tmp_path / "out"), 2, "DATA", "--raw")
    done = mmtool("impute", run, project / "text.tar", "--have", "lab", "--want", "text", "-o", tmp_path / "out")
    assert_refused(done, 2, "--have", "text")


def test_tokenizer_of_another_run(mmtool: Mmtool, raw: Raw, project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("key,text\n" + "".join(f"case{i:02d},entirely different words {i * i}\n" for i in range(40)))
    assert mmtool("tokenize", "text", other, "--fit", "-o", tmp_path / "other.tar").code == 0
    assert mmtool("shard", tmp_path / "other.tar", project / "lab.tar", "-o", tmp_path / "shards").code == 0
    run = project / "run"
    done = mmtool("impute", run, tmp_path / "other.tar", "--have", "text", "--want", "lab", "-o", tmp_path / "out")
    assert_refused(done, 1, run, tmp_path / "other.tar", "text", f"mmtool tokenize text PATH... --tokenizer {run} --name text")
    assert_refused(mmtool("tokenize", "text", other, "--tokenizer", run, "--name", "note", "-o", tmp_path / "again.tar"), 1, "lab, text")
    assert_refused(mmtool("evaluate", run, tmp_path / "shards", "-o", tmp_path / "out"), 1, "text", "tokenizer")
    again = mmtool("pretrain", tmp_path / "shards", "-o", run, "--method", "cm3", "--steps", 2)
    assert_refused(again, 2, run, "other data", "--force")
    assert_refused(mmtool("shard", tmp_path / "other.tar", project / "shards", "-o", tmp_path / "mixed"), 1, "text", "tokenizer")
    assert not (tmp_path / "out").exists()


def test_training_samples_are_not_held_out(mmtool: Mmtool, project: Path, tmp_path: Path) -> None:
    done = mmtool("evaluate", project / "run", project / "shards" / "train", "-o", tmp_path / "out")
    assert_refused(done, 2, project / "shards" / "train", "training samples", "shards/test")
    done = mmtool("evaluate", project / "run", project / "shards", "--train", project / "shards" / "test", "-o", tmp_path / "out")
    assert_refused(done, 2, project / "shards", "training samples")
    other = ("--train", project / "shards" / "validation")
    done = mmtool("evaluate", project / "run", project / "shards" / "train", *other, "-o", tmp_path / "out")
    assert_refused(done, 2, project / "shards" / "train", "training samples")


def test_the_splits_of_one_file_are_not_the_same_samples(mmtool: Mmtool, project: Path, tmp_path: Path) -> None:
    assert mmtool("shard", project / "text.tar", project / "lab.tar", "-o", tmp_path / "all.tar").code == 0
    pretrain(settings(method="causal", steps=2), tmp_path / "all.tar", tmp_path / "run")
    done = mmtool("evaluate", tmp_path / "run", tmp_path / "all.tar", "-o", tmp_path / "report")
    assert done.code == 0, done.err


def test_only_components_of_tables_are_guided(mmtool: Mmtool, raw: Raw, project: Path, tmp_path: Path) -> None:
    guided = ["--fit", "--guide", project / "shards", "-o", tmp_path / "out.tar"]
    assert_refused(mmtool("tokenize", "table", raw.values, *guided), 2, "--guide", "--scheme codec")
    assert_refused(mmtool("tokenize", "image", raw.images, "--scheme", "codec", *guided), 2, "--guide", "table")
    assert not (tmp_path / "out.tar").exists()


def test_other_settings_than_the_run_was_begun_with(mmtool: Mmtool, project: Path) -> None:
    assert_refused(
        mmtool("pretrain", project / "shards", "-o", project / "run", "--steps", 9), 2, project / "run", "batch_tokens was", "--force"
    )


def test_no_path_from_have_to_want(mmtool: Mmtool, project: Path, tmp_path: Path) -> None:
    command = ["impute", project / "run-unlinked", project / "unlinked", "--have", "text", "--want", "lab", "-o", tmp_path / "out"]
    assert_refused(mmtool(*command), 2, "text", "lab", "--have", "Train on data that links them")
    assert not (tmp_path / "out").exists()
    every_hole = ["impute", project / "run-unlinked", project / "unlinked", "-o", tmp_path / "out"]
    assert_refused(mmtool(*every_hole), 2, "text", "lab", "Train on data that links them")


def test_modalities_that_nothing_links_stay_missing_and_others_are_imputed(mmtool: Mmtool, tmp_path: Path) -> None:
    make_shards(tmp_path / "shards", pairs=("ab", "a", "c"))
    pretrain(settings(method="causal", steps=2), tmp_path / "shards", tmp_path / "run")
    done = mmtool("impute", tmp_path / "run", tmp_path / "shards", "--split", "train", "--json", "-o", tmp_path / "out")
    assert done.code == 0 and set(json.loads(done.out)["imputed"]) == {"b"}
    for hole, given in (("a", "c"), ("b", "c"), ("c", "a"), ("c", "a and b")):
        assert f"nothing in training links it with {given}\n" in done.err and f"{hole} of " in done.err


def test_impossible_settings(mmtool: Mmtool, raw: Raw, project: Path, tmp_path: Path) -> None:
    command = ["pretrain", project / "shards", "-o", tmp_path / "run"]
    assert_refused(mmtool(*command, "--method", "gpt5"), 2, "gpt5", "loretta")
    assert_refused(mmtool(*command, "--steps", 0), 2, "steps")
    assert_refused(mmtool(*command, "--set", "colour=red"), 2, "colour", "batch_tokens")
    assert_refused(mmtool(*command, "--set", "method.colour=red"), 2, "colour", "mean_spans")
    assert_refused(mmtool(*command, "--learning-rate", "nan"), 2, "learning_rate", "nan", "from 0 on")
    assert_refused(mmtool(*command, "--minutes", 0), 2, "--minutes", "--steps")
    masked = [*command, "--method", "masked"]
    assert_refused(mmtool(*masked, "--set", "shape.width=33"), 2, "shape.width", "33", "32")
    assert_refused(mmtool(*masked, "--set", "method.mask_ratio=-1"), 2, "mask_ratio", "-1", "from 0 to 1")
    assert_refused(mmtool(*masked, "--set", "method.decode_steps=0"), 2, "decode_steps", "0", "from 1 on")
    assert_refused(mmtool("tokenize", "text", raw.notes, "--fit", "--fractions", 1, 1, 1, "-o", tmp_path / "out.tar"), 2, "--fractions")
    assert_refused(mmtool("shard", project / "text.tar", "--missing-rate", "half", "-o", tmp_path / "out"), 2, "--missing-rate")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ["tokenize", "shard"])
def test_a_labels_file_is_read_alike_by_both_stages(mmtool: Mmtool, raw: Raw, project: Path, tmp_path: Path, stage: str) -> None:
    inputs, out = {"tokenize": ["text", raw.notes, "--fit"], "shard": [project / "text.tar"]}[stage], tmp_path / "out.tar"
    ages, others = tmp_path / "ages.csv", tmp_path / "others.csv"
    ages.write_text("key,age\n case00 ,61\n")
    others.write_text("key,age\nnobody,61\n")
    assert_refused(mmtool(stage, *inputs, "--labels", ages, "--key-column", "nosuch", "-o", out), 2, "nosuch", "--key-column", "key, age")
    assert_refused(mmtool(stage, *inputs, "--labels", others, "-o", out), 1, others, "no sample")
    assert_refused(mmtool(stage, *inputs, "--labels", tmp_path / "none.csv", "-o", out), 1, "none.csv")
    assert not out.exists()
    done = mmtool(stage, *inputs, "--labels", ages, "-o", out)
    assert done.code == 0, done.err
    labels = {sample.key: sample.labels.get("age") for sample in open_token_set(out)}
    assert labels["case00"] == 61 and set(labels.values()) == {61, None}


def test_no_artefact(mmtool: Mmtool, raw: Raw) -> None:
    assert_refused(mmtool("info", raw.notes), 1, raw.notes)
    assert mmtool("lint", raw.notes).out.startswith(f"problem: {raw.notes}")
