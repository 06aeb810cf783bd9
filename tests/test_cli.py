"""The command line: every verb explains itself, data goes to stdout and talk to stderr, one JSON line ends a verb on request."""

import ast
import functools
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import get_args

import pytest
from conftest import Raw, Result
from typer.main import get_command

import mmtool as package
from mmtool.cli.main import VERBS, app
from mmtool.common.arguments import assignments, by_modality, names
from mmtool.common.errors import UsageError
from mmtool.model.transformer import PRESETS
from mmtool.training.config import Preset

Mmtool = Callable[..., Result]
NAMES = [verb.__name__ for _, verb, _ in VERBS]


def test_help_lists_every_verb(mmtool: Mmtool) -> None:
    shown = mmtool("--help")
    assert shown.code == 0
    stages = ["tokenize", "shard", "pretrain", "finetune", "adapt", "impute", "evaluate", "compare", "export"]
    assert [*stages, "info", "peek", "lint", "settings", "bench"] == NAMES
    assert all(f" {name} " in shown.out for name in NAMES)
    assert mmtool("-h").out == shown.out


@pytest.mark.parametrize("name", NAMES)
def test_every_verb_has_help_with_examples(mmtool: Mmtool, name: str) -> None:
    shown = mmtool(name, "-h")
    assert shown.code == 0
    assert "Examples" in shown.out
    assert f"$ mmtool {name}" in shown.out


def test_options_of_the_same_meaning_have_the_same_name() -> None:
    writers = [verb for _, verb, _ in VERBS if verb.__name__ not in ("info", "lint", "settings", "bench", "export")]
    for verb in writers:
        assert {"output", "seed", "force", "as_json", "quiet"} <= set(verb.__annotations__), verb.__name__


def test_version(mmtool: Mmtool) -> None:
    assert mmtool("--version").out == f"mmtool {package.__version__}\n"


def test_wrong_use_exits_with_2(mmtool: Mmtool) -> None:
    assert mmtool("tokenise").code == 2
    assert "tokenize" in mmtool("tokenise").err
    assert mmtool("pretrain", "data.tar").code == 2
    assert mmtool("pretrain", "data.tar", "-o", "run", "--steps", "many").code == 2


def test_completion_is_offered_for_shells() -> None:
    environment = {**os.environ, "_MMTOOL_COMPLETE": "complete_bash", "COMP_WORDS": "mmtool pre", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-m", "mmtool"], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["pretrain"]


def test_help_costs_little_more_than_the_libraries_that_print_it() -> None:
    """Median of five ratios of processor time, taken in turn: neither the machine nor other work on it changes them much."""

    def seconds(*arguments: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    libraries = ("-c", "import typer.main, typer.rich_utils, rich.markdown, dataclasses, json")
    seconds("-m", "mmtool", "--help")
    assert median(seconds("-m", "mmtool", "--help") / seconds(*libraries) for _ in range(5)) < 3


def test_tokenize_reports_on_stderr_and_ends_with_json(mmtool: Mmtool, raw: Raw, tmp_path: Path) -> None:
    done = mmtool("tokenize", "text", raw.notes, "--fit", "--label", "colour", "-o", tmp_path / "text.tar", "--json")
    assert done.code == 0, done.err
    assert "40 samples" in done.err
    summary = json.loads(done.out.splitlines()[-1])
    assert summary["samples"] == 40 and summary["modality"] == "text"
    assert len(done.out.splitlines()) == 1


def test_quiet_says_nothing_but_errors(mmtool: Mmtool, raw: Raw, tmp_path: Path) -> None:
    done = mmtool("tokenize", "text", raw.notes, "--fit", "-o", tmp_path / "text.tar", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    again = mmtool("tokenize", "text", raw.notes, "--fit", "-o", tmp_path / "text.tar", "--quiet")
    assert again.code == 2 and again.err.startswith("error: ")


def test_force_replaces_and_the_same_input_gives_the_same_bytes(mmtool: Mmtool, raw: Raw, tmp_path: Path) -> None:
    target = tmp_path / "text.tar"
    command = ["tokenize", "text", raw.notes, "--fit", "-o", target]
    assert mmtool(*command).code == 0
    first = target.read_bytes()
    assert mmtool(*command, "--force").code == 0
    assert target.read_bytes() == first


def test_a_tokenizer_is_found_in_a_token_set(mmtool: Mmtool, raw: Raw, tmp_path: Path) -> None:
    assert mmtool("tokenize", "table", raw.values, "--fit", "--name", "lab", "-o", tmp_path / "a.tar").code == 0
    again = mmtool("tokenize", "table", raw.values, "--tokenizer", tmp_path / "a.tar", "--name", "lab", "-o", tmp_path / "b.tar")
    assert again.code == 0, again.err
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_info_describes_and_lint_verifies(mmtool: Mmtool, raw: Raw, tmp_path: Path) -> None:
    tar, tokenizer = tmp_path / "text.tar", tmp_path / "text.safetensors"
    assert mmtool("tokenize", "text", raw.notes, "--fit", "-o", tar, "--save-tokenizer", tokenizer).code == 0
    described = json.loads(mmtool("info", tar, "--json").out)
    assert described["samples"] == 40 and list(described["modalities"]) == ["text"]
    assert json.loads(mmtool("info", tokenizer, "--json").out)["fingerprint"] == described["modalities"]["text"]["tokenizer"]
    assert "samples: 40" in mmtool("info", tar).out
    assert mmtool("lint", tar, tokenizer).out == f"ok: {tar}\nok: {tokenizer}\n"


def test_lint_finds_a_flipped_byte(mmtool: Mmtool, raw: Raw, tmp_path: Path) -> None:
    tar = tmp_path / "text.tar"
    assert mmtool("tokenize", "text", raw.notes, "--fit", "-o", tar).code == 0
    damaged = bytearray(tar.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    tar.write_bytes(damaged)
    done = mmtool("lint", tar)
    assert done.code == 1
    assert done.out.startswith("problem: ") and str(tar) in done.out
    assert json.loads(mmtool("lint", tar, "--json").out)[str(tar)]


def test_errors_name_options_that_exist() -> None:
    """Messages of the library speak of the command line; an option renamed here must be renamed there."""
    offered = {name for command in get_command(app).commands.values() for option in command.params for name in option.opts}
    offered |= {name for command in get_command(app).commands.values() for option in command.params for name in option.secondary_opts}
    for path in sorted(Path(package.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text())
        docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in docstrings:
                named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", node.value)) - {"--help", "--version"}
                assert named <= offered, f"{path.name}, line {node.lineno}: {named - offered}"


def test_presets_offered_are_those_that_exist() -> None:
    assert get_args(Preset) == tuple(PRESETS)


def test_settings_are_of_all_modalities_or_of_some() -> None:
    read = functools.partial(by_modality, option="--temperature", usual=1.0)
    assert read(None) == 1.0
    assert read(["0.5"]) == 0.5
    assert read(["text=0.2", "speech=1"]) == {"text": 0.2, "speech": 1.0}
    assert read(["0.5,text=0"]) == {"*": 0.5, "text": 0.0}
    for wrong in (["warm"], ["-1"], ["text=nan"], ["text=true"], ["0.5,0.7"], ["text=1,text=2"]):
        with pytest.raises(UsageError, match="--temperature"):
            read(wrong)


def test_lists_and_assignments() -> None:
    assert names(["a,b", "c", "a"]) == ("a", "b", "c")
    assert assignments(["text=a=b"], "--raw") == {"text": "a=b"}
    for wrong in (["text"], ["=x"], ["a=1", "a=2"]):
        with pytest.raises(UsageError, match="--raw"):
            assignments(wrong, "--raw")
