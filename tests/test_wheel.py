"""Promise: what is released is complete. The wheel made from the source distribution works outside the repository."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERBS = """
import json, runpy, sys
import mmtool
print(mmtool.__file__)
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["mmtool", *arguments]
    try:
        runpy.run_module("mmtool", run_name="__main__")
    except SystemExit as stopped:
        if stopped.code:
            raise
"""


def build(what: str, folder: Path, output: Path) -> Path:
    """The source distribution or the wheel of a folder, made by the build backend that pyproject.toml names."""
    code = f"import sys; from setuptools import build_meta; print(build_meta.build_{what}(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(output)], cwd=folder, capture_output=True, text=True, check=True)
    return output / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel alone was installed, without its dependencies."""
    work = tmp_path_factory.mktemp("release")
    copy = work / "copy"
    shutil.copytree(ROOT / "mmtool", copy / "mmtool", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    with tarfile.open(build("sdist", copy, work)) as archive:
        archive.extractall(work / "source", filter="data")
    (source,) = (work / "source").iterdir()
    wheel = build("wheel", source, work)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(work / "installed"), str(wheel)]
    subprocess.run(pip, check=True)
    return work / "installed"


@pytest.mark.thorough
def test_the_wheel_works_outside_the_repository(installed: Path, tmp_path: Path) -> None:
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "mmtool").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert not {name for name in files if not (installed / name).is_file()}, "are in the repository, but not in the wheel"

    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    commands: list[list[str]] = []
    for name in ("a", "b"):
        rows = [f"p{number},{number % 7},{number * number % 5}\n" for number in range(80)]
        (tmp_path / f"{name}.csv").write_text("key,x,y\n" + "".join(rows))
        commands.append(["tokenize", "table", f"{name}.csv", "--fit", "--name", name, "--n-bins", "4", "-o", f"{name}.tar"])
    tiny = ["--preset", "tiny", "--set", "shape.depth=1", "--set", "shape.width=32", "--no-compile", "--batch-tokens", "256"]
    commands += [
        ["shard", "a.tar", "b.tar", "-o", "shards"],
        ["pretrain", "shards", "--steps", "2", *tiny, "-o", "run"],
        ["impute", "run", "shards", "--split", "test", "--have", "a", "--want", "b", "-o", "imputed"],
        ["evaluate", "run", "shards/test", "-o", "report", "--json"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", VERBS, json.dumps(commands)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    where, *_, last = done.stdout.splitlines()
    assert Path(where).is_relative_to(installed)
    report = json.loads(last)
    assert report["results"] and (tmp_path / "imputed/b.csv").is_file()
    assert "<script" in (tmp_path / "report/report.html").read_text(), "of the templates that are no Python files"
