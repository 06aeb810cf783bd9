"""Promise: the examples' scripts take their options as they come, and a mistake in them is named beside how to use the script."""

import subprocess
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = [*sorted(EXAMPLES.glob("*/run.sh")), EXAMPLES / "svl_mnist" / "voices.sh", EXAMPLES / "quickstart.sh"]

SCRIPT = f"""#!/bin/sh
# What it does.
#
#   sh it.sh --data DIR
set -eu
. '{EXAMPLES}/steps.sh'
batch_tokens='4 096'
parse 'data' 'batch_tokens column...' 'no_compile smoke' "$@"
# not a word on its use
printf '%s|' "$data" "$batch_tokens" "${{column-}}" "$no_compile" "$smoke"
"""
USAGE = "What it does.\n\n  sh it.sh --data DIR\n"


def run(script: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["sh", script, *options], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", **environment})


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "it.sh"
    path.write_text(SCRIPT)
    return path


def test_values_come_through_untouched(script: Path, tmp_path: Path) -> None:
    for value in ("a  b", "$HOME `id` $(id)", "'\"\\n", f"x; touch {tmp_path}/made", "*", "-1", "two\nlines", "smoke", "a=b"):
        done = run(script, "--data", value, "--no-compile")
        assert (done.returncode, done.stdout) == (0, f"{value}|4 096||1||"), done.stderr
        done = run(script, "--column", value, "--data", "d", "--column", "b c", "--batch-tokens", value)
        assert (done.returncode, done.stdout) == (0, f"d|{value}|{value}\nb c|||"), done.stderr
    assert not (tmp_path / "made").exists()


def test_what_is_not_given_is_not_taken_from_the_environment(script: Path) -> None:
    assert run(script, "--data", "d", smoke="1", no_compile="1").stdout == "d|4 096||||"
    assert run(script, data="d").returncode == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--data", "d", "--colour", "red"), "there is no option --colour"),
        (("--data", "d", "--batch_tokens", "1"), "there is no option --batch_tokens"),
        (("--data", "d", "--data=e"), "there is no option --data=e"),
        (("--data", "d", "--data batch"), "there is no option --data batch"),
        (("data", "d"), "there is no option data"),
        (("--", "d"), "there is no option --"),
        (("--data", "d", ""), "there is no option "),
        (("--data",), "--data needs a value"),
        (("--batch-tokens", "--data", "d"), "--batch-tokens needs a value"),
        (("--smoke",), "--data is required"),
        (("--data", ""), "--data is required"),
    ],
)
def test_a_mistake_is_named_beside_the_usage(script: Path, options: tuple[str, ...], reason: str) -> None:
    done = run(script, *options)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{USAGE}\nerror: {reason}\n")


def test_help_is_the_comment_at_the_head(script: Path) -> None:
    for options in (("-h",), ("--smoke", "--help", "--colour")):
        done = run(script, *options)
        assert (done.returncode, done.stdout, done.stderr) == (0, USAGE, "")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(EXAMPLES)))
def test_every_script_tells_its_options(path: Path) -> None:
    done = run(path, "--help")
    assert done.returncode == 0 and f"sh examples/{path.relative_to(EXAMPLES)} " in done.stdout and "set -eu" not in done.stdout
    for options, reason in ((("--colour", "red"), "there is no option --colour"), (("--out",), "--out needs a value")):
        wrong = run(path, *options)
        assert (wrong.returncode, wrong.stdout, wrong.stderr) == (2, "", f"{done.stdout}\nerror: {reason}\n")


def test_results_are_the_last_line_of_a_command_that_succeeds(tmp_path: Path) -> None:
    path = tmp_path / "it.sh"
    path.write_text(f'set -eu\n. \'{EXAMPLES}/steps.sh\'\nresults "$1" sh -c "$2"\necho after\n')
    done = run(path, str(tmp_path / "good"), 'echo talk; echo "{}"')
    assert done.returncode == 0 and done.stdout.endswith("talk\n{}\nafter\n")
    assert (tmp_path / "good.json").read_text() == "{}\n"
    done = run(path, str(tmp_path / "bad"), "echo talk; exit 3")
    assert done.returncode == 3 and done.stdout.endswith("talk\n")
    assert not (tmp_path / "bad.json").exists()


def test_a_name_that_is_no_choice_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    path = tmp_path / "it.sh"
    path.write_text(f"#!/bin/sh\n# usage\nset -eu\n. '{EXAMPLES}/steps.sh'\namong --tasks \"$1\" svl tcga\necho after\n")
    assert run(path, "tcga,svl").stdout == "after\n"
    wrong = run(path, "svl,typo")
    assert (wrong.returncode, wrong.stdout) == (2, "") and wrong.stderr.endswith("--tasks: there is no typo; choose from: svl tcga\n")
