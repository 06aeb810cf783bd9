"""Promise: what the options of a verb say, a file says as well, in TOML, YAML or JSON; options win, and what is printed can be fed back."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmtool.adaptation.joint_embedding import JointOptions
from mmtool.cli.config_options import docstring
from mmtool.cli.main import app
from mmtool.cli.settings import settings_named
from mmtool.common.config_files import to_toml
from mmtool.common.options import settings_of
from mmtool.methods import METHODS
from mmtool.model.transformer import Shape

RECIPES = sorted((Path(__file__).parents[1] / "examples/recipes").glob("*.toml"))
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
CALLS: dict[str, tuple[str, ...]] = {
    "tokenize": (
        "text",
        "notes.csv",
        "--fit",
        "--label",
        "colour",
        "--set",
        "vocabulary_size=300",
        "--fractions",
        "0.5",
        "0.25",
        "0.25",
        "-o",
        "a.tar",
    ),
    "shard": ("a.tar", "b.tar", "--pair", "image,text", "--missing-rate", "image=0.5", "--apply-to", "train,test", "-o", "shards/"),
    "pretrain": ("shards/", "--method", "loretta", "--set", "method.warmup=0.3", "--set", "shape.depth=2", "--minutes", "3", "-o", "run/"),
    "finetune": ("run/", "shards/", "--label", "digit", "--have", "a,b", "--as", "number", "--set", "dropout=0", "-o", "digits/"),
    "adapt": ("shards/", "--encoder", "a=run/", "--survival", "time,event", "--missing", "a", "--eta", "0.5", "-o", "adapter/"),
    "impute": (
        "run/",
        "shards/",
        "--have",
        "text",
        "--want",
        "image,speech",
        "--draws",
        "8",
        "--temperature",
        "0.5,text=0.2",
        "-o",
        "out/",
    ),
    "evaluate": (
        "a/",
        "b/",
        "shards/",
        "--task",
        "probe,ood",
        "--ood",
        "digit=7,9",
        "--survival",
        "time,event",
        "--guidance",
        "1",
        "-o",
        "r/",
    ),
    "compare": ("shards/", "--methods", "cm3,causal", "--variant", "x:cm3:mean_spans=2", "--steps", "9", "--top-k", "3", "-o", "out/"),
    "export": ("run/", "-o", "digits/"),
    "info": ("run/",),
    "lint": ("run/", "shards/"),
    "peek": ("shards/", "--split", "train", "--samples", "3", "-o", "look/"),
    "bench": ("--preset", "small", "--compile"),
}


def printed(mmtool: Callable[..., Any], *words: object) -> str:
    done = mmtool(*words, "--print-config")
    assert done.code == 0, done.err
    return str(done.out)


@pytest.mark.parametrize("verb", CALLS)
def test_what_is_printed_can_be_fed_back(verb: str, mmtool: Callable[..., Any], tmp_path: Path) -> None:
    first, file = printed(mmtool, verb, *CALLS[verb]), tmp_path / "printed.toml"
    assert {*tomllib.loads(first)} <= {*json.loads(mmtool("settings", verb, "--json").out)["properties"]}
    file.write_text(first)
    assert printed(mmtool, verb, "--config", file) == first
    (tmp_path / "printed.json").write_text(json.dumps(tomllib.loads(first)))
    assert printed(mmtool, verb, "--config", tmp_path / "printed.json") == first
    assert tomllib.loads(first) != tomllib.loads(printed(mmtool, verb, *(("--label", "x") if verb in ("finetune", "adapt") else ())))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_say_what_their_verb_knows(path: Path, mmtool: Callable[..., Any]) -> None:
    verb = path.stem.partition("_")[0]
    assert path.read_text().startswith(f"# mmtool {verb} ")
    assert tomllib.loads(path.read_text()).items() <= tomllib.loads(printed(mmtool, verb, "--config", path)).items() or verb == "evaluate"


def test_pairs_with_shares_and_rates_are_texts_or_values(mmtool: Callable[..., Any], tmp_path: Path) -> None:
    written = [{"pair": ["a,b", "b,c=0.1"], "missing_rate": ["a=0.5"]}, {"pair": [["a", "b"], ["b", "c", 0.1]], "missing_rate": {"a": 0.5}}]
    for file, values in zip((tmp_path / "text.json", tmp_path / "values.json"), written, strict=True):
        file.write_text(json.dumps(values))
        values = tomllib.loads(printed(mmtool, "shard", "--config", file))
        assert values["pairs"] == [["a", "b"], ["b", "c", 0.1]] and values["missing_rate"] == {"a": 0.5}
    (tmp_path / "wrong.json").write_text(json.dumps({"missing_rate": {"a": "x"}}))
    done = mmtool("shard", "a.tar", "--config", tmp_path / "wrong.json", "-o", tmp_path / "out")
    assert done.code == 2 and "Give a number or a number by name" in done.err
    schema = json.loads(mmtool("settings", "shard", "--json").out)["properties"]["pairs"]
    assert {"type": "number"} in schema["items"]["anyOf"][1]["prefixItems"]


def test_every_verb_has_it() -> None:
    assert {*VERBS} - {*CALLS} == {"settings"}


def test_files_say_what_options_say_and_options_win(mmtool: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    values = {"method": "cm3", "batch_tokens": 512, "minutes": 0, "shape": {"depth": 1, "width": 32}, "weight-decay": 0}
    (tmp_path / "a.toml").write_text(to_toml(values))
    (tmp_path / "a.json").write_text(json.dumps(values))
    (tmp_path / "a.yaml").write_text("method: cm3\nbatch_tokens: 512\nminutes: 0\nshape: {depth: 1, width: 32}\nweight-decay: 0\n")
    options = ("--method", "cm3", "--batch-tokens", 512, "--set", "shape.depth=1", "--set", "shape.width=32", "--set", "weight_decay=0")
    wanted = printed(mmtool, "pretrain", *options, "--seed", 3)
    for suffix in ("toml", "json", "yaml"):
        assert printed(mmtool, "pretrain", "--config", tmp_path / f"a.{suffix}", "--seed", 3) == wanted
    over = tomllib.loads(printed(mmtool, "pretrain", "--config", tmp_path / "a.toml", "--method", "masked", "--set", "shape.depth=4"))
    assert (over["method"], over["shape"], over["weight_decay"]) == ("masked", {"depth": 4, "width": 32}, 0)


def test_a_file_may_hold_the_whole_command(mmtool: Callable[..., Any], raw: Any, tmp_path: Path) -> None:
    file = tmp_path / "tokenize.toml"
    whole = {"kind": "text", "paths": str(raw.notes), "output": str(tmp_path / "file.tar"), "fit": True, "label": ["colour"]}
    file.write_text(to_toml({**whole, "set": {"vocabulary_size": 300}}))
    assert mmtool("tokenize", "--config", file).code == 0
    options = ("--fit", "--label", "colour", "--set", "vocabulary_size=300", "-o", tmp_path / "options.tar")
    assert mmtool("tokenize", "text", raw.notes, *options).code == 0
    assert (tmp_path / "file.tar").read_bytes() == (tmp_path / "options.tar").read_bytes()
    assert mmtool("tokenize", "--config", file, "--set", "vocabulary_size=280", "-o", tmp_path / "other.tar").code == 0
    assert (tmp_path / "other.tar").read_bytes() != (tmp_path / "file.tar").read_bytes()


@pytest.mark.parametrize(
    ("verb", "name", "text", "said"),
    [
        ("pretrain", "a.toml", "stepps = 3", "no setting 'stepps'. Did you mean 'steps'?"),
        ("impute", "a.toml", "drawss = 3", "no setting 'drawss'. Did you mean 'draws'?"),
        ("evaluate", "a.toml", "force = true", "no setting 'force'"),
        ("impute", "a.toml", 'draws = "many"', "draws: 'many' is not possible. Give a whole number from 1 on"),
        ("impute", "a.toml", "draws = 0", "draws is 0. Give a whole number from 1 on"),
        ("shard", "a.toml", 'apply_to = ["train", 3]', "is not possible"),
        ("tokenize", "a.toml", 'channel = "middle"', "Give left, right or mean"),
        ("pretrain", "a.toml", "steps = ", "not valid TOML"),
        ("pretrain", "a.toml", 'steps = "many"', "steps must be a int"),
        ("pretrain", "a.json", '{"steps": 3, "steps": 4}', "a.json: the setting 'steps' stands twice. Leave one of them out."),
        ("pretrain", "a.json", '{"shape": {"depth": 1, "depth": 2}}', "the setting 'depth' stands twice"),
        ("pretrain", "a.yaml", "steps: 3\nseed: 1\nsteps: 4\n", "a.yaml:3: the setting 'steps' stands twice. Leave one of them out."),
        ("pretrain", "a.yaml", "shape:\n  depth: 1\n  depth: 2\n", "a.yaml:3: the setting 'depth' stands twice"),
        ("pretrain", "a.yaml", "shape: {depth: 1, depth: 2}\n", "a.yaml:1: the setting 'depth' stands twice"),
        ("pretrain", "a.yaml", "steps: 010\n", "a.yaml:1: YAML reads 010 as 8. Write 8"),
        ("pretrain", "a.yaml", "steps: 1:30\n", "a.yaml:1: YAML reads 1:30 as 90. Write 90"),
        ("pretrain", "a.yaml", "output: 123\n", "a.yaml: output: 123 is no path. Write a path in quotes."),
        ("pretrain", "a.toml", "output = {a = 1}\n", "a.toml: output: {'a': 1} is no path. Write a path in quotes."),
        ("pretrain", "a.yaml", "minutes: 1:30.5\n", "a.yaml:1: YAML reads 1:30.5 as 90.5. Write 90.5"),
        ("pretrain", "a.toml", "batch-tokens = 4\nbatch_tokens = 8\n", "'batch-tokens' and 'batch_tokens' are the same setting"),
        ("tokenize", "a.yaml", "n-bins: 4\nn_bins: 8\n", "'n-bins' and 'n_bins' are the same setting"),
        ("tokenize", "a.toml", "seed = true\n", "is no switch here"),
        ("tokenize", "a.yaml", "column_type: {a: no}\n", "False is no type of a column"),
        ("tokenize", "a.json", '{"column_type": {"a": 1}}', "1 is no type of a column"),
    ],
)
def test_what_a_file_cannot_say_is_refused(verb: str, name: str, text: str, said: str, mmtool: Callable[..., Any], tmp_path: Path) -> None:
    if name.endswith("yaml"):
        pytest.importorskip("yaml")
    (tmp_path / name).write_text(text)
    done = mmtool(verb, "--config", tmp_path / name, "--print-config")
    assert done.code in (1, 2) and said in done.err.replace("\n", " "), done.err


def test_tables_of_yaml_may_be_merged(mmtool: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (tmp_path / "b.yaml").write_text("shape: {<<: {depth: 1, width: 16}, width: 32}\nsteps: 3\nseed: 0x10\n")
    shown = tomllib.loads(printed(mmtool, "pretrain", "shards/", "--config", tmp_path / "b.yaml"))
    assert (shown["shape"], shown["steps"], shown["seed"]) == ({"depth": 1, "width": 32}, 3, 16)


def test_a_setting_of_a_tokenizer_is_refused_likewise(mmtool: Callable[..., Any], raw: Any, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("[set]\nvocabulary = 300\n")
    done = mmtool("tokenize", "text", raw.notes, "--fit", "--config", tmp_path / "a.toml", "-o", tmp_path / "a.tar")
    assert done.code == 2 and "unknown tokenizer setting 'vocabulary'. Did you mean 'vocabulary_size'?" in done.err


def test_settings_of_a_file_count_as_given(mmtool: Callable[..., Any], project: Path, tmp_path: Path) -> None:
    """What has no effect is refused from a file as from the command line, defaults apart."""
    (tmp_path / "a.toml").write_text("encoder = {a = 'x'}\n")
    (tmp_path / "b.toml").write_text("candidates = 100\n")
    command = ("evaluate", project / "run", project / "shards", "-o", tmp_path / "out", "--limit", 10)
    refused = mmtool(*command, "--config", tmp_path / "a.toml")
    assert refused.code == 2 and "--encoder has no effect" in refused.err
    assert mmtool(*command, "--config", tmp_path / "b.toml").code == 0


def test_without_pyyaml_it_says_what_to_install(mmtool: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "a.yaml").write_text("steps: 3\n")
    done = mmtool("pretrain", "--config", tmp_path / "a.yaml", "--print-config")
    assert done.code == 2 and "PyYAML is not installed. Install it" in done.err


plain = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text('ab"\\\n\x00\x7f é\u2028', max_size=6)
)
names = st.text("ab.\"' é\n\x7f", max_size=4)
flat = plain | st.lists(plain, max_size=3) | st.dictionaries(names, plain, max_size=2)
values = flat | st.lists(flat, max_size=3) | st.dictionaries(names, flat, max_size=3)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(names, values, max_size=3))
def test_toml_says_what_it_was_given(table: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(table)) == table


@pytest.mark.parametrize("options", [*(method.Options for method in METHODS.values()), JointOptions, Shape])
def test_every_setting_of_a_method_says_what_it_means(options: type) -> None:
    assert [setting.name for setting in settings_of(options) if not docstring(setting)] == []


@pytest.mark.parametrize("name", [*METHODS, "joint", "mse", "shape", *CALLS])
def test_settings_are_listed_with_default_range_and_meaning(name: str, mmtool: Callable[..., Any]) -> None:
    listed = list(settings_named(name))
    assert all(each.meaning for each in listed)
    if name in METHODS:
        assert [each.key for each in listed] == [item.name for item in fields(METHODS[name].Options)]
    described = json.loads(mmtool("settings", name, "--json").out)
    assert [*described["properties"]] == sorted(each.key for each in listed) and described["additionalProperties"] is False


def test_a_schema_says_types_bounds_choices_and_defaults(mmtool: Callable[..., Any]) -> None:
    known = json.loads(mmtool("settings", "pretrain", "--json").out)["properties"]
    assert known["steps"] == {"type": "integer", "minimum": 0, "default": 2000, "description": "Optimiser steps."}
    assert known["schedule"]["enum"] == ["cosine", "constant"] and known["compile"]["enum"] == ["auto", "on", "off"]
    assert known["betas"]["items"] == {"type": "number", "minimum": 0, "exclusiveMaximum": 1} and known["betas"]["maxItems"] == 2
    assert json.loads(mmtool("settings", "mse", "--json").out)["properties"]["objective"]["default"] == "mse"


def test_the_list_fits_a_terminal() -> None:
    command = [sys.executable, "-m", "mmtool", "settings", "loretta"]
    shown = subprocess.run(command, env={**os.environ, "COLUMNS": "80"}, capture_output=True, text=True, check=True).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "--set method.transitive_share = 0.25 (a number from 0 to 1)" in shown
    assert "--set method.top_k = 0 (a whole number from 0 on)" in shown


def test_a_name_that_there_is_not_is_refused(mmtool: Callable[..., Any]) -> None:
    done = mmtool("settings", "lorretta")
    assert done.code == 2 and "no verb or method 'lorretta'. Did you mean 'loretta'?" in done.err


def test_a_byte_order_mark_is_no_part_of_a_file(mmtool: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + b'{"steps": 3}')
    done = mmtool("pretrain", "shards/", "--config", tmp_path / "a.json", "--print-config")
    assert done.code == 0 and "steps = 3" in done.out
