"""Arrays whose axes may be read in two ways are refused with the shapes that say which it is; all others are stacks, as before."""

import re
from pathlib import Path

import numpy as np
import pytest

from mmtool.common.errors import DataError
from mmtool.preprocessing.sources import SourceOptions, read_items


def shapes(kind: str, path: Path, **options: object) -> list[tuple[int, ...]]:
    """Of the values of a file."""
    values = [item.value for item in read_items(kind, [path], SourceOptions(**options))]
    return [value.frames.shape if kind == "video" else value.shape for value in values]


def array(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape, np.uint8)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
@pytest.mark.parametrize("shape", [(40, 60, 3), (40, 60, 4), (3, 40, 60), (4, 40, 60), (40, 40, 3)])
def test_one_picture_in_colours_is_not_read_as_grey_ones(suffix: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    np.save(path, array(*shape)) if suffix == "npy" else np.savez(path, images=array(*shape))
    with pytest.raises(DataError, match=rf"unclear.*{re.escape(str(shape))}.*\(N, height, width, 3\)"):
        shapes("image", path)


def test_the_shapes_that_are_advised_for_pictures_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array(40, 60, 3)[None])
    assert shapes("image", tmp_path / "a.npy") == [(40, 60, 3)]
    np.save(tmp_path / "a.npy", array(3, 40, 60)[..., None])
    assert shapes("image", tmp_path / "a.npy") == [(40, 60, 1)] * 3


@pytest.mark.parametrize("shape", [(5, 40, 60), (1, 40, 60), (2, 4, 4), (3, 4, 4), (6, 3, 3), (40, 28, 28)])
def test_stacks_of_grey_pictures_are_read(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array(*shape))
    assert shapes("image", tmp_path / "a.npy") == [(*shape[1:], 1)] * shape[0]


def test_labels_say_that_pictures_are_several(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=array(3, 40, 60), digit=np.arange(3))
    assert shapes("image", tmp_path / "a.npz") == [(40, 60, 1)] * 3


@pytest.mark.parametrize(
    "shape", [(8, 3, 40, 60), (8, 1, 40, 60), (8, 4, 40, 60), (8, 40, 60, 4), (3, 8, 40, 60), (40, 60, 3), (3, 40, 60), (40, 60, 4)]
)
def test_videos_whose_colours_lie_elsewhere_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", frames=array(*shape), fps=10)
    with pytest.raises(DataError, match=r"unclear.*\(frames, height, width, 3\)"):
        shapes("video", tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("shape", "read"),
    [
        ((8, 40, 60, 3), [(8, 40, 60, 3)]),
        ((8, 40, 60, 1), [(8, 40, 60, 1)]),
        ((8, 40, 60), [(8, 40, 60, 1)]),
        ((5, 8, 40, 60), [(8, 40, 60, 1)] * 5),
        ((5, 3, 40, 60, 1), [(3, 40, 60, 1)] * 5),
        ((2, 8, 40, 60, 3), [(8, 40, 60, 3)] * 2),
    ],
)
def test_videos_and_stacks_of_them_are_read(shape: tuple[int, ...], read: list[tuple[int, ...]], tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", frames=array(*shape), fps=10)
    assert shapes("video", tmp_path / "a.npz") == read


def test_labels_may_be_a_column(tmp_path: Path) -> None:
    np.savez(tmp_path / "cifar.npz", images=np.zeros((10, 16, 16, 3), np.uint8), labels=np.arange(10)[:, None])
    items = list(read_items("image", [tmp_path / "cifar.npz"], SourceOptions()))
    assert [item.labels["labels"] for item in items] == list(range(10))
