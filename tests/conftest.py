"""Tiny raw data of a few entities, and the command line, for the tests of whole stages."""

import csv
import os
import signal
import sys
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# Before torch is there: one thread in this process and in those that tests start, so that all of them round alike.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
from PIL import Image

from mmtool.cli.main import main
from mmtool.preprocessing.shard import shard
from mmtool.preprocessing.sources import SourceOptions
from mmtool.preprocessing.tokenize import tokenize
from mmtool.training.config import resolve

# Started in the background, a shell's job ignores Ctrl-C, and so would all that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

NUM_ENTITIES = 40
COLOURS = ("red", "green", "blue", "grey")
SAMPLE_RATE_HZ = 8000
SMALL = {"method": "cm3", "preset": "tiny", "steps": 2, "batch_tokens": 256, "compile": "off", "shape": {"depth": 1, "width": 32}}


@dataclass(frozen=True)
class Raw:
    """Raw files of the same entities, `case00` to `case39`, of four classes each."""

    images: Path
    clips: Path
    notes: Path
    values: Path


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def quick_figures() -> Iterator[Callable[..., None]]:
    """Figures are put together but not rendered, which takes a second or two each; gives what renders them."""
    from mmtool.evaluation.figures import curves, plots

    def save(figure: object, stem: Path) -> None:
        for suffix in ("png", "svg"):
            stem.with_suffix(f".{suffix}").write_bytes(b"not rendered")

    render = plots.save
    with pytest.MonkeyPatch.context() as patch:
        for module in (plots, curves):
            patch.setattr(module, "save", save)
        yield render


@pytest.fixture(autouse=True)
def rendered_figures(request: pytest.FixtureRequest, quick_figures: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """They are rendered in tests marked `figures`."""
    if "figures" in request.keywords:
        from mmtool.evaluation.figures import curves, plots

        for module in (plots, curves):
            monkeypatch.setattr(module, "save", quick_figures)


@pytest.fixture(scope="module")
def quick_baselines() -> Iterator[None]:
    """Tabular baselines take fewer rounds and folds, for tests that look at other rows of a report: most of its seconds are theirs."""
    from mmtool.evaluation.baselines import tabular

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tabular, "CHAINED_ROUNDS", 1)
        patch.setattr(tabular, "KERNEL_WIDTHS", (1.0,))
        patch.setattr(tabular, "KERNEL_FOLDS", 2)
        yield


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Raw:
    folder = tmp_path_factory.mktemp("raw")
    made = Raw(folder / "images", folder / "clips", folder / "notes.csv", folder / "values.csv")
    made.images.mkdir()
    made.clips.mkdir()
    random = np.random.default_rng(0)
    for i in range(NUM_ENTITIES):
        _write_image(made.images / f"case{i:02d}.png", i % 4, random)
        _write_clip(made.clips / f"case{i:02d}.wav", i % 4, random)
    _write_rows(
        made.notes, ["key", "text", "colour"], [[f"a {COLOURS[i % 4]} thing, seen on day {i}", COLOURS[i % 4]] for i in range(NUM_ENTITIES)]
    )
    _write_rows(made.values, ["key", "a", "b", "c"], [(i % 4 + random.normal(0, 0.1, 3)).round(3).tolist() for i in range(NUM_ENTITIES)])
    return made


@pytest.fixture
def mmtool(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command line in this process: `mmtool("info", path)`."""

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["mmtool", *map(str, arguments)])
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
        return Result(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def project(raw: Raw, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tokens/text.tar, tokens/lab.tar, shards of both and a run on them; unlinked: shards and a run in which they never meet."""
    from mmtool.training.pretrain import pretrain

    folder = tmp_path_factory.mktemp("project")
    tokenize("text", [raw.notes], folder / "text.tar", name="text", options=SourceOptions(label_columns=("colour",)))
    tokenize("table", [raw.values], folder / "lab.tar", name="lab")
    shard([folder / "text.tar", folder / "lab.tar"], folder / "shards")
    pretrain(resolve(None, SMALL), folder / "shards", folder / "run")
    others = folder / "others.csv"
    others.write_text(raw.values.read_text().replace("case", "other"))
    tokenize("table", [others], folder / "others.tar", name="lab", tokenizer=folder / "lab.tar")
    shard([folder / "text.tar", folder / "others.tar"], folder / "unlinked", unpaired=True)
    pretrain(resolve(None, SMALL), folder / "unlinked", folder / "run-unlinked")
    return folder


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """shards: tables a, b, c of four classes, in training (a, b) and (b, c) alone; runs `commutative` and `contrastive` on them."""
    from test_training import make_shards, settings

    from mmtool.training.pretrain import pretrain

    folder = tmp_path_factory.mktemp("toy")
    make_shards(folder / "shards")
    for method in ("commutative", "contrastive"):
        pretrain(settings(method=method, steps=80, learning_rate=0.01, checkpoint_every=0), folder / "shards", folder / method)
    return folder


def _write_image(path: Path, colour: int, random: np.random.Generator) -> None:
    pixels = random.integers(0, 40, (8, 8, 3), np.uint8)
    pixels[..., colour % 3] += 200 if colour < 3 else 0
    Image.fromarray(pixels).save(path)


def _write_clip(path: Path, colour: int, random: np.random.Generator) -> None:
    time_s = np.arange(SAMPLE_RATE_HZ // 4) / SAMPLE_RATE_HZ
    tone = np.sin(2 * np.pi * 300 * (colour + 1) * time_s) + random.normal(0, 0.01, len(time_s))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE_HZ, len(tone), "NONE", ""))
        file.writeframes((tone * 10000).astype("<i2").tobytes())


def _write_rows(path: Path, header: list[str], rows: list[list[object]]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([f"case{i:02d}", *row] for i, row in enumerate(rows))
