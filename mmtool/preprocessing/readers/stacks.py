"""Stacks: arrays in npz and npy files that hold a sample in each row of their first axis; arrays of one value for each are labels.

So are one-hot arrays (N, C), as classes. Arrays that are no labels are named, and labels of another length than the stack are refused.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.keys import Keys, RowSource, choose_keys
from mmtool.preprocessing.readers.arrays import load_arrays
from mmtool.preprocessing.readers.entries import Note, SourceOptions, key_of
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.signal_names import is_time

IMAGES, LABEL, LABELS, SPLIT = "images", "label", "labels", "split"
SPLITS = ("train", "val", "valid", "validation", "dev", "test")  # of MedMNIST and the like
COLOURS = (3, 4)  # sizes of an axis that may hold them, with transparency or without
LABEL_NAMES = re.compile(r"(.*_)?(labels?|targets?|class|classes|y)", re.IGNORECASE)
NO_LABELS = re.compile(r"(.*_)?(names?|mean|std)", re.IGNORECASE)
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
) -> Iterator[Keys | Note | StackRow]:
    """How keys were chosen, what was made of other arrays, and the samples. arrays: the others of the file. called: what a person calls a
    sample. Raises DataError for labels of another length than the stack, and for further samples."""
    _check_no_samples(arrays, stack.ndim, {len(stack)}, file)
    columns: dict[str, np.ndarray] = {}
    unread = []
    for name, array in arrays.items():
        if array.ndim in (1, 2) and len(array) == len(stack) and (array.ndim == 1 or is_labels(name, array, options)):
            held = labels_of(array, name)
            columns |= held
            if array.shape[1:] not in ((), (1,)):
                yield _several(f"`{name}`", array, file, list(held))
        elif _is_of_last_axis(name, array, stack, options):
            what = f"the array `{name}` holds a value for each along the last axis of {stack.shape}, and not along the first."
            fix = f"{_samples_first(stack.ndim)} If `{name}` is no label, leave it out of the file."
            raise DataError(what, where=file.where, fix=fix)
        elif _is_of_samples(name, array, stack, options):
            what = f"the array `{name}` of shape {array.shape} does not hold one value for each of {len(stack):,} samples."
            raise DataError(what, where=file.where, fix="Correct it, or remove it from the file.")
        else:
            unread.append(name)
    if unread:
        yield _left_out(unread, file)
    if not columns and stack.ndim > 2:
        sides = " x ".join(map(str, stack.shape[1:]))
        text = f"{file.where}, an array {stack.shape} without labels, is read as {len(stack):,} {called.strip() or 'sample'}s of {sides}"
        yield Note("stack without labels", f"{text}: samples lie along the first axis")

    def cells(names: Sequence[str]) -> Iterator[list[Any]]:
        return ([columns[name][number] for name in names] for number in range(len(stack)))

    _check_labels(list(columns), file, options)
    keys = choose_keys(RowSource(file.where, file.stem, list(columns), cells), options, numbered=True)
    yield replace(keys, ids={})  # ids are labels here
    options = replace(options, label_columns=options.label_columns or tuple(name for name in columns if name != keys.column))
    for number, value in enumerate(stack):
        row = {name: column[number] for name, column in columns.items()}
        yield StackRow(keys.of(row, number), f"{file.where}, {called}{number}", value, row, options, keys.rows)


def cells_of_single(arrays: Mapping[str, np.ndarray], options: SourceOptions) -> tuple[dict[str, Any], SourceOptions]:
    """The labels of a file with a single sample, from its arrays of one value: those that the options name, else those called labels."""
    labels = tuple(name for name, array in arrays.items() if array.size == 1 and _is_called_labels(name, options))
    options = replace(options, label_columns=options.label_columns or labels)
    wanted = (*options.label_names.values(), options.group_column)
    return {name: array.item() for name, array in arrays.items() if array.size == 1 and name in wanted}, options


def is_labels(name: str, array: np.ndarray, options: SourceOptions) -> bool:
    """Whether an array (N, C) holds labels: a column of them, classes one-hot, or several that are 0 or 1 and called labels."""
    return array.shape[1] == 1 or _is_one_hot(array) or (_is_called_labels(name, options) and _is_binary(array))


def counts_samples(name: str, array: np.ndarray, stack: np.ndarray, options: SourceOptions) -> bool:
    """Whether an array says by its name and its shape that the first axis of a stack is that of samples: it holds their keys,
    labels, or whole numbers such as classes."""
    if array.shape[:1] != stack.shape[:1]:
        return False
    if name in (options.key_column, options.group_column) or _is_called_labels(name, options):
        return array.ndim == 1 or array.shape[1:] == (1,) or _is_one_hot(array)
    return array.ndim == 1 and array.dtype.kind in "iu" and not is_time(name) and NO_LABELS.fullmatch(name) is None


def _is_of_last_axis(name: str, array: np.ndarray, stack: np.ndarray, options: SourceOptions) -> bool:
    """Whether an array says that the last axis of a stack is that of samples, and not the first: it is called like their labels or keys, or
    holds more whole numbers than the first axis is long, some of them several times, as classes are."""
    last = np.moveaxis(stack, -1, 0)
    if stack.ndim < 3 or len(last) == len(stack) or _is_of_classes(array, stack) or not counts_samples(name, array, last, options):
        return False
    is_named = name in (options.key_column, options.group_column) or _is_called_labels(name, options)
    return is_named or (len(array) > len(stack) and len(np.unique(array)) < len(array))


def _samples_first(ndim: int) -> str:
    """How an array whose samples lie along its last axis is brought into order."""
    return f"Samples must lie along the first axis: save array.transpose{(ndim - 1, *range(ndim - 1))}."


def labels_of(array: np.ndarray, name: str) -> dict[str, np.ndarray]:
    """An array (N,) or (N, C) as labels (N,): classes where it is one-hot, else `NAME_0` ... of several columns."""
    if array.ndim == 1 or array.shape[1] == 1:
        return {name: array.reshape(len(array))}
    if _is_one_hot(array):
        return {name: array.argmax(1)}
    return {f"{name}_{number}": array[:, number] for number in range(array.shape[1])}


def _is_one_hot(array: np.ndarray) -> bool:
    """Whether each row is 0 but for one 1."""
    return array.ndim == 2 and array.shape[1] > 1 and _is_binary(array) and bool((array.sum(1) == 1).all())


def _is_binary(array: np.ndarray) -> bool:
    return array.dtype.kind in "buif" and bool(((array == 0) | (array == 1)).all())


def _is_called_labels(name: str, options: SourceOptions) -> bool:
    return name in options.label_names.values() or LABEL_NAMES.fullmatch(name) is not None


def _is_of_samples(name: str, array: np.ndarray, stack: np.ndarray, options: SourceOptions) -> bool:
    """Whether an array that does not fit the samples was meant for them: by its name, or as a row of about as many values, which are not
    those of another axis."""
    if name in (options.key_column, options.group_column, *options.label_names.values()):
        return True
    if _is_of_classes(array, stack):
        return False
    if _is_called_labels(name, options):
        return True
    is_long = array.ndim == 1 and len(array) > 1 and 2 * len(array) >= len(stack)
    return is_long and len(array) not in stack.shape[1:] and NO_LABELS.fullmatch(name) is None


def _is_of_classes(array: np.ndarray, stack: np.ndarray) -> bool:
    """Whether an array holds the names of the classes."""
    return array.dtype.kind in "US" and array.ndim == 1 and 2 * len(array) <= len(stack) and len(set(array.tolist())) == len(array)


def _check_no_samples(arrays: Mapping[str, np.ndarray], ndim: int, counts: Collection[int], file: RawFile) -> None:
    """Raise DataError for an array of as many axes as the samples, but of another number of them: it is no array of masks, but holds
    samples too, such as those without labels."""
    for name, array in arrays.items():
        if array.ndim == ndim > 2 and len(array) not in counts:
            what = f"the array `{name}` of shape {array.shape} seems to hold samples too, but {len(array):,} and not {max(counts):,}."
            raise DataError(what, where=file.where, fix="Save it in a file of its own, or leave it out.")


def _check_labels(names: Sequence[str], file: RawFile, options: SourceOptions) -> None:
    """Raise DataError where a label is asked for that the file does not have and no file of labels can."""
    asked = next((name for name in options.label_names.values() if name not in names), None)
    if asked is not None and options.labels_path is None:
        fix = "Name another with --label, or give the file that holds it with --labels."
        raise DataError(f"there is no label {asked!r}; the labels are: {', '.join(names) or 'none'}.", where=file.where, fix=fix)


def _left_out(names: Sequence[str], file: RawFile) -> Note:
    listed = ", ".join(names)
    return Note(f"left out {listed}", f"left out of {file.where}, as no labels: {listed}")


def _several(called: str, array: np.ndarray, file: RawFile, names: Sequence[str]) -> Note:
    """What the columns of labels are taken as."""
    if len(names) == 1:
        text = f"{called} of {file.where} is one-hot: the label is the number of the column that holds the 1, 0 to {array.shape[1] - 1}"
    else:
        text = f"{called} of {file.where} has {len(names)} columns, the labels {names[0]} to {names[-1]}"
    return Note(f"columns of {called}", text)


def check_axes(shape: tuple[int, ...], where: str, fix: str) -> None:
    """Raise DataError where pictures that lie behind one another without an axis of colours may as well be in colours: an axis of 3 or 4,
    the last one or one in front of height and width, or an axis of 1 in between. fix: the shapes that say which it is."""
    for axis in (axis for axis in range(len(shape)) if axis != len(shape) - 2):
        sides = shape[-3:-1] if axis == len(shape) - 1 else shape[-2:]
        is_single = shape[axis] == 1 and 0 < axis < len(shape) - 1
        if (shape[axis] in COLOURS or is_single) and min(sides) >= LEAST_SIDE:
            what = f"it is unclear whether the {shape[axis]} in the shape {shape} counts colours or pictures."
            raise DataError(what, where=where, fix=fix)


def load_stacks(file: RawFile) -> dict[str, np.ndarray]:
    """The arrays of a file; those of Keras (`x_train`, `y_train` ...) under the names of MedMNIST. Raises as `load_arrays`."""
    names = {f"{letter}_{split}": f"{split}_{part}" for split in SPLITS for letter, part in (("x", IMAGES), ("y", LABELS))}
    arrays = load_arrays(file)
    is_keras = any(f"x_{split}" in map(str.casefold, arrays) for split in SPLITS)
    if not is_keras:
        return arrays
    renamed = {names.get(name.casefold(), name): array for name, array in arrays.items()}
    if len(renamed) < len(arrays):
        what = f"two arrays stand for the same part of a split; the arrays are: {', '.join(arrays)}."
        raise DataError(what, where=file.where, fix="Keep one of them.")
    return renamed


def name_of_samples(arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> str | None:
    """The name of the array that holds the samples, by the first of these names that one has, in small letters or capitals."""
    by_name = {name.casefold(): name for name in arrays}
    return next((by_name[name] for name in names if name in by_name), None)


def has_splits(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether these are the arrays of MedMNIST (https://medmnist.com): `train_images`, `train_labels` and so on."""
    return any(f"{split}_{IMAGES}" in arrays for split in SPLITS)


def split_rows(
    file: RawFile, arrays: Mapping[str, np.ndarray], options: SourceOptions, called: str = "image "
) -> Iterator[Note | StackRow]:
    """The samples of MedMNIST; labels `label` (`label_0` ... of several, as in ChestMNIST) and `split`. Keys are file, split and number.

    called: what a person calls a sample. Raises DataError where a split has not as many labels as samples, or of another kind than the
    others."""
    splits = [split for split in SPLITS if f"{split}_{IMAGES}" in arrays]
    unread = [name for name in arrays if name not in {f"{split}_{part}" for split in splits for part in (IMAGES, LABELS)}]
    sample_shape = arrays[f"{splits[0]}_{IMAGES}"].shape[1:]
    further = next((name for name in unread if arrays[name].ndim > 1 and arrays[name].shape[1:] == sample_shape), None)
    if further is not None:
        what = f"the array `{further}` of shape {arrays[further].shape} holds samples too, but its name states none of the splits."
        fix = "Save it in a file of its own, or under one of `train_images`, `val_images` and `test_images`."
        raise DataError(what, where=file.where, fix=fix)
    counts = {len(arrays[f"{split}_{IMAGES}"]) for split in splits}
    _check_no_samples({name: arrays[name] for name in unread}, len(sample_shape) + 1, counts, file)
    if unread:
        yield _left_out(unread, file)
    yield Note("splits", f"{file.where} states splits, here the label {SPLIT!r}: --split-label {SPLIT} keeps them")
    stated = {split: arrays[f"{split}_{LABELS}"] for split in splits if f"{split}_{LABELS}" in arrays}
    for split, array in stated.items():
        images, first = arrays[f"{split}_{IMAGES}"], next(iter(stated.values()))
        if array.ndim not in (1, 2) or len(array) != len(images) or array.shape[1:] != first.shape[1:]:
            what = f"`{split}_{LABELS}` of shape {array.shape} does not go with {len(images):,} samples and the labels of other splits."
            is_last = images.ndim > 2 and array.ndim in (1, 2) and len(array) == images.shape[-1] != len(images)
            fix = "Save one row of labels for each of them, with as many columns in each split."
            raise DataError(what, where=file.where, fix=_samples_first(images.ndim) if is_last else fix)
    columns = labels_of(np.concatenate([*stated.values()]), LABEL) if stated else {}
    first = next(iter(stated.values()), np.zeros(0))
    if first.shape[1:] not in ((), (1,)):
        yield _several(LABELS, first, file, list(columns))
    _check_labels([*columns, SPLIT], file, options)
    options = replace(options, label_columns=options.label_columns or (*columns, SPLIT))
    rows = zip(*columns.values(), strict=True)
    for split in splits:
        images = arrays[f"{split}_{IMAGES}"]
        for number, image in enumerate(images):
            labels = dict(zip(columns, next(rows), strict=True)) if split in stated else dict.fromkeys(columns)
            where, row = f"{file.where}, {split} {called}{number}", labels | {SPLIT: split}
            yield StackRow(key_of(f"{file.stem}-{split}", number), where, image, row, options, len(images))
