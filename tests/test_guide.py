"""README and guide keep to what the tool does: options exist, links lead somewhere, the site builds without a warning."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from mmtool.cli.main import app

ROOT = Path(__file__).parents[1]
GUIDE = ROOT / "examples/guide"
PAGES = [ROOT / "README.md", *sorted((ROOT / "examples").rglob("*.md"))]
VERBS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def commands(page: Path) -> list[tuple[str, str]]:
    """(verb, the rest) of every mmtool command in the page's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in line.split("#")[0].split("|")]
    return [(match[1], match[2]) for part in parts if (match := re.match(r"mmtool ([a-z]+)\b(.*)", part))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_option_that_is_shown_exists(page: Path) -> None:
    for verb, rest in commands(page):
        known = {option for parameter in VERBS[verb].params for option in (*parameter.opts, *parameter.secondary_opts)}
        shown = {word.partition("=")[0] for word in rest.split() if re.match(r"--?[a-z]", word)}
        assert shown <= known, f"mmtool {verb}: {sorted(shown - known)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text())]
    made = ("reference/cli.md",)  # by the build of the site
    missing = [
        target
        for target in targets
        if target and not target.startswith("http") and not any(part in target for part in made) and not (page.parent / target).exists()
    ]
    assert not missing


def test_readme_is_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra `docs`")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", GUIDE / "mkdocs.yml", "-d", tmp_path / "site"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site/reference/cli/index.html").read_text()
    assert all(f"mmtool {verb}" in reference for verb in VERBS) and "bound method" not in reference
