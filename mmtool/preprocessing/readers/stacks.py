"""Stacks: arrays in npz and npy files that hold a sample in each row of their first axis; arrays of one value for each are labels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.keys import Keys, RowSource, choose_keys
from mmtool.preprocessing.readers.entries import SourceOptions, key_of
from mmtool.preprocessing.readers.raw_files import RawFile

IMAGES, LABEL, LABELS, SPLIT = "images", "label", "labels", "split"
SPLITS = ("train", "val", "test")  # of MedMNIST
COLOURS = (3, 4)  # sizes of an axis that may hold them, with transparency or without
LEAST_SIDE = 5  # of what may be a picture; one of 3 or 4 pixels may well be 3 or 4 pixels wide


class StackRow(NamedTuple):
    """A sample of a stack. cells: what labels and groups are taken from, as `options` say. rows: how many the file has, where the key is
    the number of one."""

    key: str
    where: str
    value: np.ndarray
    cells: dict[str, Any]
    options: SourceOptions
    rows: int | None


def stack_rows(
    file: RawFile, stack: np.ndarray, arrays: Mapping[str, np.ndarray], options: SourceOptions, called: str = ""
) -> Iterator[Keys | StackRow]:
    """How keys were chosen, and the samples. arrays: the others of the file. called: what a person calls a sample."""
    per_sample = (stack.shape[:1], (len(stack), 1))  # labels of CIFAR are a column
    columns = {name: array.reshape(len(stack)) for name, array in arrays.items() if array.shape in per_sample}

    def cells(names: Sequence[str]) -> Iterator[list[Any]]:
        return ([columns[name][number] for name in names] for number in range(len(stack)))

    keys = choose_keys(RowSource(file.where, file.stem, list(columns), cells), options, numbered=True)
    yield replace(keys, ids={})  # ids are labels here
    options = replace(options, label_columns=options.label_columns or tuple(name for name in columns if name != keys.column))
    for number, value in enumerate(stack):
        row = {name: column[number] for name, column in columns.items()}
        yield StackRow(keys.of(row, number), f"{file.where}, {called}{number}", value, row, options, keys.rows)


def check_axes(shape: tuple[int, ...], where: str, fix: str) -> None:
    """Raise DataError where pictures that lie behind one another without an axis of colours may as well be in colours: an axis of 3 or 4,
    the last one or one in front of height and width, or an axis of 1 in between. fix: the shapes that say which it is."""
    for axis in (axis for axis in range(len(shape)) if axis != len(shape) - 2):
        sides = shape[-3:-1] if axis == len(shape) - 1 else shape[-2:]
        is_single = shape[axis] == 1 and 0 < axis < len(shape) - 1
        if (shape[axis] in COLOURS or is_single) and min(sides) >= LEAST_SIDE:
            what = f"it is unclear whether the {shape[axis]} in the shape {shape} counts colours or pictures."
            raise DataError(what, where=where, fix=fix)


def has_splits(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether these are the arrays of MedMNIST (https://medmnist.com): `train_images`, `train_labels` and so on."""
    return any(f"{split}_{IMAGES}" in arrays for split in SPLITS)


def split_rows(file: RawFile, arrays: Mapping[str, np.ndarray], options: SourceOptions) -> Iterator[StackRow]:
    """The samples of MedMNIST; labels `label` (`label_0` ... of several) and `split`. Keys are file, split and number."""
    for split in (split for split in SPLITS if f"{split}_{IMAGES}" in arrays):
        images = arrays[f"{split}_{IMAGES}"]
        labels = arrays.get(f"{split}_{LABELS}", np.zeros((len(images), 0))).reshape(len(images), -1)
        names = [LABEL] if labels.shape[1] == 1 else [f"{LABEL}_{i}" for i in range(labels.shape[1])]
        options = replace(options, label_columns=options.label_columns or (*names, SPLIT))
        for number, image in enumerate(images):
            where, row = f"{file.where}, {split} image {number}", dict(zip(names, labels[number], strict=True)) | {SPLIT: split}
            yield StackRow(key_of(f"{file.stem}-{split}", number), where, image, row, options, len(images))
