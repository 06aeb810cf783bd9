"""Promise: the commands that README shows for people's own data run as printed, on two modalities, on one, and on three."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Result
from PIL import Image

import mmtool as package

Mmtool = Callable[..., Result]

README = Path(__file__).parents[1] / "README.md"
SHORT = {  # what keeps a test short; the commands are README's otherwise
    "pretrain": "--preset tiny --steps 2 --batch-tokens 256 --no-compile --set shape.depth=1 --set shape.width=32",
    "compare": "--preset tiny --batch-tokens 256 --set compile=off --set shape.depth=1 --set shape.width=32 --limit 4 --contact-samples 0",
    "tokenize image": "--set steps=5 --set depth=1 --set width=16",
    "evaluate": "--limit 4 --contact-samples 1",
}
COLOURS = ("red", "green", "blue", "grey")


def example() -> list[str]:
    """The commands of the block that begins with `mmtool tokenize image scans/`."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    return next(block for block in blocks if block.startswith("mmtool tokenize image scans/")).splitlines()


def python_example() -> str:
    """README's lines of Python."""
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    return block


def shortened(command: str) -> str:
    """The command with the options of SHORT behind each verb."""
    for verb, options in SHORT.items():
        command = command.replace(f"mmtool {verb} ", f"mmtool {verb} {options} ")
    return re.sub(r"--minutes \S+", "--steps 2", command)


def run(command: str, mmtool: Mmtool) -> str:
    """What the command said on standard error, in this process unless it is a pipeline, which a shell runs."""
    if "|" in command:
        piped = shortened(command).replace("mmtool ", f"{shlex.quote(sys.executable)} -m mmtool ")
        through = subprocess.run(["bash", "-o", "pipefail", "-c", piped], capture_output=True, text=True)
        code, said = through.returncode, through.stderr
    else:
        name, *arguments = shlex.split(shortened(command))
        assert name == "mmtool"
        done = mmtool(*arguments)
        code, said = done.code, done.err
    assert code == 0, f"{command}\n{said}"
    return said


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """scans/ and notes.csv, as README's example has them, in the current directory: 60 patients, some without a note."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    (tmp_path / "scans").mkdir()
    rows = ["patient,note"]
    for number in range(60):
        pixels = random.integers(0, 60, (16, 16, 3), np.uint8)
        pixels[..., number % 3] += 150
        Image.fromarray(pixels).save(tmp_path / "scans" / f"p{number:02d}.png")
        rows.append(f"p{number:02d},{'' if number % 5 == 0 else f'a {COLOURS[number % 3]} scan'}")
    (tmp_path / "notes.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.mark.thorough
def test_the_example_runs_on_two_modalities(folder: Path, mmtool: Mmtool) -> None:
    said = {command: run(command, mmtool) for command in example()}
    assert all("method: commutative, because" in text for command, text in said.items() if "mmtool pretrain" in command)
    assert list((folder / "imputed").glob("image/*.png"))
    exec(python_example(), {})
    assert (folder / "report" / "report.md").exists() and (folder / "comparison" / "report.md").exists()


@pytest.mark.thorough
def test_the_example_runs_on_one_modality(folder: Path, mmtool: Mmtool) -> None:
    images, _, pretrain, *_ = example()
    said = [run(command, mmtool) for command in (images, "mmtool shard tokens/image.tar -o shards/", pretrain)]
    assert "method: masked, because" in said[-1]


@pytest.mark.thorough
def test_the_example_runs_on_three_modalities_with_a_link(folder: Path, mmtool: Mmtool) -> None:
    ages = ["patient,age,weight", *(f"p{number:02d},{40 + number % 7},{60 + number % 11}" for number in range(1, 60, 2))]
    (folder / "ages.csv").write_text("\n".join(ages) + "\n")
    images, _, pretrain, *_ = example()
    text = "mmtool tokenize text notes.csv --text-column note --fit -o tokens/text.tar"
    table = "mmtool tokenize table ages.csv --fit --name age -o tokens/age.tar"
    join = "mmtool shard tokens/image.tar tokens/text.tar tokens/age.tar --pair image,text --pair image,age -o shards/"
    impute = "mmtool impute run/ shards/ --split test --have text --want age -o imputed/"
    said = {command: run(command, mmtool) for command in (images, text, table, join, pretrain, impute)}
    assert "method: loretta, because" in said[pretrain]
    assert (folder / "imputed" / "age.csv").exists()


def test_citation_and_changelog_name_the_version() -> None:
    root = Path(__file__).parents[1]
    assert f"\nversion: {package.__version__}\n" in (root / ".github" / "CITATION.cff").read_text()
    assert f"\n## [{package.__version__}] - " in (root / "CHANGELOG.md").read_text()
