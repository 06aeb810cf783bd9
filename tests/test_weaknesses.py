"""`lint` warns of what would weaken training, and passes what is whole."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Result
from PIL import Image

from mmtool.preprocessing.shard import shard
from mmtool.preprocessing.sources import SourceOptions
from mmtool.preprocessing.tokenize import tokenize

Mmtool = Callable[..., Result]
COUNT = 120


def shards(folder: Path, pictures: list[np.ndarray], groups: list[str], with_text: int = COUNT) -> Path:
    """Pictures, grouped by the first part of their names; so many of them have a text."""
    (folder / "pictures").mkdir(parents=True)
    for number, (picture, group) in enumerate(zip(pictures, groups, strict=True)):
        Image.fromarray(picture).save(folder / "pictures" / f"{group}_{number:03d}.png")
    names = [f"{group}_{number:03d}" for number, group in enumerate(groups)]
    (folder / "t.csv").write_text("key,text\n" + "".join(f"{name},a text of {name}\n" for name in names[:with_text]))
    grouped = SourceOptions(label_pattern=r"^(?P<group>[^_]+)_")
    tokenize("image", [folder / "pictures"], folder / "image.tar", name="image", options=grouped, scheme="patches", settings={"patch": 2})
    tokenize("text", [folder / "t.csv"], folder / "text.tar", name="text", options=grouped)
    shard([folder / "image.tar", folder / "text.tar"], folder / "shards", unpaired=True)
    return folder / "shards"


def pictures_of(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8))


def test_pictures_in_training_and_test_are_named(tmp_path: Path, mmtool: Mmtool) -> None:
    twice = [*pictures_of(COUNT // 2), *pictures_of(COUNT // 2)]
    apart = mmtool("lint", shards(tmp_path / "apart", twice, [f"g{i:03d}" for i in range(COUNT)]))
    assert apart.code == 0 and "ok: " in apart.out
    assert "samples of image in test have the same tokens as training samples" in apart.err and "text in test" not in apart.err
    together = mmtool("lint", shards(tmp_path / "together", twice, [f"g{i % (COUNT // 2):03d}" for i in range(COUNT)]))
    assert together.code == 0 and "the same tokens" not in together.err


def test_thin_pairs_and_modalities_that_never_vary_are_named(tmp_path: Path, mmtool: Mmtool) -> None:
    same = [np.zeros((8, 8, 3), np.uint8)] * COUNT
    done = mmtool("lint", shards(tmp_path, same, [f"g{i:03d}" for i in range(COUNT)], with_text=20), "--json")
    assert done.code == 0 and "warning" not in done.out
    assert "image and text occur together in " in done.err and "all training samples of image are the same" in done.err
    assert "all training samples of text" not in done.err


@pytest.mark.parametrize("artefact", ["image.tar", "shards"])
def test_what_is_fine_gives_no_warning(tmp_path: Path, mmtool: Mmtool, artefact: str) -> None:
    folder = shards(tmp_path, pictures_of(COUNT), [f"g{i:03d}" for i in range(COUNT)]).parent
    done = mmtool("lint", folder / artefact)
    assert done.code == 0 and "warning" not in done.err
