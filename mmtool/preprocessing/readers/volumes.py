"""Volumes, three-dimensional scans: NIfTI through nibabel, series of DICOM slices and DICOM of several frames, arrays in npz and npy.

Scans that state an orientation are turned into one, RAS, by swapping and flipping axes: nothing is resampled.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from mmtool.common.errors import DataError, UsageError
from mmtool.common.log import log
from mmtool.preprocessing.keys import Keys
from mmtool.preprocessing.prepare import Preparer
from mmtool.preprocessing.readers.arrays import NPY_NAME
from mmtool.preprocessing.readers.dicom import is_dicom, read_dicom
from mmtool.preprocessing.readers.dicom_series import Series
from mmtool.preprocessing.readers.dicom_slices import frames_in_space, slices_in_space
from mmtool.preprocessing.readers.entries import Entry, Note, SourceOptions, Tally, UnreadArrays, row_entry
from mmtool.preprocessing.readers.nifti import read_nifti
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.scans import Volume, as_volume, check_shape, most_voxels, oriented, slant_notes
from mmtool.preprocessing.readers.stacks import StackRow, cells_of_single, has_splits, load_stacks, name_of_samples, split_rows, stack_rows
from mmtool.tokenizers.volume import Lengths, shown, stretched, three_sides

ARRAYS = ("volume", "volumes", "scan", "data", NPY_NAME)  # names of the array of voxels
AFFINE, SPACING = "affine", "spacing_mm"
SAME_SPACING = 0.01  # by which spacings may differ and count as one
ANY = "any"
FIT_ANY = "Resample it, e.g. with nibabel.processing.resample_to_output, or fit with --set spacing_mm=any, which takes voxels as they are."
ALL_ALIKE = "Convert them all to NIfTI, or all to npz without `affine`, which are taken as they lie."
NO_SCAN = "Give the whole folder of a series; leave out those that are no scans with --skip-other, or read them as images."
Found = Entry | Keys | Note | Tally | UnreadArrays


class VolumePreparer(Preparer):
    """A `Volume` -> (D, H, W) float32 of the tokenizer's size. Raises DataError where its voxels are not like those of the tokenizer."""

    def __call__(self, value: Any, where: object = None) -> Any:
        form = self.tokenizer.format
        if value.oriented != form.oriented:
            states = ("states no orientation", "states an orientation")
            what = f"the scan {states[value.oriented]}, and those that the tokenizer was fitted to {'did' if form.oriented else 'did not'}."
            raise DataError(what, where=where, fix=ALL_ALIKE)
        if form.spacing_mm and value.spacing_mm and not _is_same(value.spacing_mm, form.spacing_mm):
            what = f"the voxels measure {shown(value.spacing_mm)} mm, those of the tokenizer {shown(form.spacing_mm)} mm."
            raise DataError(what, where=where, fix=FIT_ANY)
        return form.bring(value.voxels)

    def reading(self, options: SourceOptions) -> SourceOptions:
        """The range is the tokenizer's; raises UsageError where another one is asked for."""
        form = self.tokenizer.format
        if options.value_range not in (None, (form.low, form.high)):
            what = f"the tokenizer keeps values from {form.low:g} to {form.high:g}."
            raise UsageError(what, where="--value-range", fix="Leave it out, or fit a new tokenizer with --fit.")
        return replace(options, value_range=None)

    @classmethod
    def for_fitting(cls, values: Sequence[Any], settings: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """All of one spacing, unless any is asked for, and all with an orientation or none. Raises UsageError where they are not."""
        oriented = [value.oriented for value in values]
        if any(oriented) and not all(oriented):
            what = f"{sum(oriented)} of {len(oriented)} scans state an orientation, the others none."
            raise UsageError(what, where="volume", fix=ALL_ALIKE)
        declared = {"oriented": any(oriented)} | ({"value_range": list(values[0].value_range)} if values[0].value_range else {})
        extents = [value.extent_mm for value in values if value.extent_mm]
        declared |= {"extent_mm": np.median(extents, axis=0).tolist()} if extents else {}
        return [value.voxels for value in values], {**declared, **_spacing(values, settings), **settings}

    @classmethod
    def reduced(cls, value: Any, settings: Mapping[str, Any]) -> Any:
        """At the size of the settings."""
        size = settings.get("size")
        return value if size is None else value._replace(voxels=stretched(value.voxels, three_sides(size, "size")))


def _spacing(values: Sequence[Volume], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The spacing that all scans have as a setting; where they have several, and any is asked for, that is said."""
    spacings = Counter(value.spacing_mm for value in values if value.spacing_mm)
    if not spacings:
        return {}
    usual = spacings.most_common(1)[0][0]
    if all(_is_same(spacing, usual) for spacing in spacings):
        return {"spacing_mm": list(usual)}
    listed = ", ".join(f"{shown(spacing)} mm ({count})" for spacing, count in spacings.most_common(3))
    what = f"the voxels of the scans come in {len(spacings)} spacings: {listed}{' ...' * (len(spacings) > 3)}"
    if settings.get("spacing_mm") != ANY:
        raise UsageError(f"{what}.", where="--set spacing_mm", fix=FIT_ANY)
    log(f"{what}; they are taken as they are, not resampled")
    return {}


def _is_same(one: Lengths, other: Lengths) -> bool:
    return all(abs(a - b) <= SAME_SPACING * b for a, b in zip(one, other, strict=True))


def read_volumes(file: RawFile, options: SourceOptions) -> Iterator[Found]:
    """Entries of one file or series; their values are `Volume`.

    Arrays are (depth, rows, columns) as they lie, with `spacing_mm` of these axes or not; or lie in space as `affine` (4, 4) says, as those
    of NIfTI do. A stack of such along a first axis has keys and labels in arrays of one value for each; so do the arrays of MedMNIST 3D.
    """
    if file.format in ("npz", "npy"):
        yield from _array_entries(file, options)
    elif is_dicom(file, "volume"):
        if not isinstance(file, Series):
            read_dicom(file, pixels=False)  # whether it holds pictures at all
        elif file.no_scan and options.skip_other:
            yield Note("no scan", f"{file.where}: {file.no_scan} (so with others like it)")
            yield Tally("left out (--skip-other): {}", {"DICOM series that are no scans": 1})
            return
        elif file.no_scan:
            raise DataError(f"{file.no_scan}.", where=file.where, fix=NO_SCAN)
        yield Entry(file.stem, file.where, partial(_of_dicom, file, options))
    else:
        yield from read_nifti(file, options)


def _array_entries(file: RawFile, options: SourceOptions) -> Iterator[Found]:
    arrays = load_stacks(file)
    name = name_of_samples(arrays, ARRAYS)
    if name is None and not has_splits(arrays):
        what = f"there is no array of voxels; the arrays are: {', '.join(arrays)}."
        raise DataError(what, where=file.where, fix="Call it `volume`.")
    stack = np.zeros(0) if name is None else arrays.pop(name)
    affine, spacing = arrays.pop(AFFINE, None), arrays.pop(SPACING, None)
    if affine is not None:
        yield from slant_notes(affine, file.where)
    if name is not None and stack.ndim != 4:
        row, options = cells_of_single(arrays, options)
        if unread := [name for name in arrays if name not in row]:
            yield UnreadArrays(file.where, unread, [*ARRAYS[:1], AFFINE, SPACING])
        yield row_entry(row, file.stem, file.where, partial(_of_array, stack, affine, spacing, file.where, options), options)
        return
    shapes = [array.shape for array in (arrays.values() if name is None else [stack]) if array.ndim == 4]
    if channelled := [shape for shape in shapes if shape[3] in (1, 3)]:
        what = f"an array of shape {channelled[0]} has channels, it seems, which volumes have not."
        raise DataError(what, where=file.where, fix="Save one channel, as (depth, rows, columns).")
    rows = split_rows(file, arrays, options) if name is None else stack_rows(file, stack, arrays, options)
    for row_of in rows:
        if not isinstance(row_of, StackRow):
            yield row_of
            continue
        load = partial(_of_array, row_of.value, affine, spacing, row_of.where, options)
        yield row_entry(row_of.cells, row_of.key, row_of.where, load, row_of.options, row_of.rows)


def _of_array(array: np.ndarray, affine: Any, spacing: Any, where: str, options: SourceOptions) -> Volume:
    check_shape(array.shape, where, options)
    if array.dtype.kind not in "buif":
        raise DataError(f"an array of {array.dtype} is no volume.", where=where, fix="Save numbers as (depth, rows, columns).")
    if affine is not None:
        return oriented(array, affine, where, options)
    is_spacing = spacing is None or (spacing.shape == (3,) and spacing.dtype.kind in "uif")
    if not is_spacing or (spacing is not None and not (np.isfinite(spacing) & (spacing > 0)).all()):
        raise DataError(f"{SPACING} is {spacing.tolist()}.", where=where, fix="Give three lengths, of depth, rows and columns.")
    return as_volume(array, None if spacing is None else spacing.tolist(), False, where, options)


def _of_dicom(file: RawFile, options: SourceOptions) -> Volume:
    most = most_voxels(options)
    in_space = slices_in_space(file.slices, file.where, most) if isinstance(file, Series) else frames_in_space(file, most)
    return oriented(*in_space, file.where, options)
