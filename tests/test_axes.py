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


def test_samples_along_the_last_axis_are_refused_where_labels_tell(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    for labels in (np.arange(50) % 10, np.arange(50)[:, None] % 10, np.arange(50)):
        np.savez(path, X=array(32, 32, 3, 50), y=labels)
        with pytest.raises(DataError, match=r"`y`.*last axis of \(32, 32, 3, 50\).*first axis: .*\.transpose\(3, 0, 1, 2\)"):
            shapes("image", path)
    np.savez(path, X=array(28, 28, 50), digit=np.arange(50) % 10)
    with pytest.raises(DataError, match=r"`digit`.*\.transpose\(2, 0, 1\)"):
        shapes("image", path)
    np.savez(path, x_train=array(32, 32, 3, 50), y_train=np.arange(50) % 10)
    with pytest.raises(DataError, match=r"does not go with 32.*\.transpose\(3, 0, 1, 2\)"):
        shapes("image", path)


def test_arrays_of_the_last_axis_that_are_no_labels_leave_a_stack_as_it_is(tmp_path: Path) -> None:
    columns = {"offset": np.zeros(3, np.int64), "mean": np.zeros(3), "labels": np.array(["cat", "dog", "eel"])}
    np.savez(tmp_path / "x.npz", X=array(8, 9, 9, 3), y=np.arange(8), **columns)
    assert shapes("image", tmp_path / "x.npz") == [(9, 9, 3)] * 8


def test_it_is_said_how_a_stack_without_labels_is_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "x.npz", X=array(28, 28, 50))
    assert shapes("image", tmp_path / "x.npz") == [(28, 50, 1)] * 28
    assert "(28, 28, 50) without labels, is read as 28 images of 28 x 50: samples lie along the first axis" in capfd.readouterr().err
    np.savez(tmp_path / "x.npz", X=array(50, 28, 28), y=np.arange(50))
    shapes("image", tmp_path / "x.npz")
    assert "is read as" not in capfd.readouterr().err


@pytest.mark.parametrize("shape", [(20, 9, 9, 3), (20, 8, 8, 3)])
@pytest.mark.parametrize("names", [("x_train", "y_train"), ("X", "y")])
def test_further_samples_are_not_left_out_but_masks_are(names: tuple[str, str], shape: tuple[int, ...], tmp_path: Path) -> None:
    known = {names[0]: array(10, 8, 8, 3), names[1]: np.arange(10)}
    np.savez(tmp_path / "x.npz", x_unlabeled=array(*shape), **known)
    with pytest.raises(DataError, match=r"`x_unlabeled`.*hold.* samples too.*file of its own"):
        shapes("image", tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", masks=array(10, 8, 8), depth=array(10, 8, 8, 1), **known)
    assert shapes("image", tmp_path / "x.npz") == [(8, 8, 3)] * 10
