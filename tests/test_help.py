"""A page of help at 80 columns: no word is broken, flags take no value, arguments and what must be given come first."""

import json
import os
import re
import subprocess
import sys
from typing import get_args

import pytest
import typer

from mmtool.cli.main import app
from mmtool.methods import METHODS

VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


PAGES = """
import contextlib, io, json, sys
from mmtool.cli.main import app
pages = {}
for verb in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        app([*verb.split(), "--help"], prog_name="mmtool")
    pages[verb] = shown.getvalue()
print(json.dumps(pages))
"""


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """What is shown at 80 columns, by verb; the first page has none."""
    environ = {**os.environ, "COLUMNS": "80", "TERM": "dumb", "NO_COLOR": "1"}
    done = subprocess.run([sys.executable, "-c", PAGES, "", *VERBS], env=environ, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("verb", VERBS)
def test_no_word_is_broken_and_flags_take_no_value(pages: dict[str, str], verb: str) -> None:
    shown = pages[verb]
    assert max(map(len, shown.splitlines())) <= 80
    assert "<bool>" not in shown and "BOOLEAN" not in shown and "<list" not in shown
    words = set(re.sub(r"[\u2500-\u257f]|,(?=--)", " ", shown).split())  # names of one option are joined by commas
    for parameter in VERBS[verb].params:
        text = parameter.help or ""
        if parameter.param_type_name == "option":
            choices = get_args(parameter.type_descriptor.annotation) if parameter.metavar is None else ()
            text += f" {' '.join(parameter.opts)} {parameter.metavar or ''}" + (f" <{'|'.join(choices)}>" if choices else "")
        assert set(text.split()) <= words, f"{parameter.opts}: {sorted(set(text.split()) - words)}"


def test_flags_of_the_first_page_take_no_value(pages: dict[str, str]) -> None:
    assert "<bool>" not in (shown := pages[""]) and "mmtool" in shown and "BOOLEAN" not in shown and "<list" not in shown


@pytest.mark.parametrize("verb", VERBS)
def test_what_must_be_given_comes_first(verb: str) -> None:
    required = [parameter.required for parameter in VERBS[verb].params if parameter.param_type_name == "option"]
    assert required == sorted(required, reverse=True)


def test_all_methods_are_listed() -> None:
    method = next(parameter for parameter in VERBS["pretrain"].params if parameter.name == "method")
    assert {*METHODS} <= {*re.findall(r"\w+", method.help)}
