"""Volumes, three-dimensional scans: NIfTI through nibabel, series of DICOM slices and DICOM of several frames, arrays in npz and npy.

Scans that state an orientation are turned into one, RAS, by swapping and flipping axes: nothing is resampled.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from mmtool.common.errors import DataError, UsageError
from mmtool.common.log import log
from mmtool.preprocessing.keys import Keys
from mmtool.preprocessing.prepare import Preparer
from mmtool.preprocessing.readers.arrays import NPY_NAME, load_arrays
from mmtool.preprocessing.readers.dicom import is_dicom, num_frames, read_dicom
from mmtool.preprocessing.readers.dicom_slices import Affine, check_voxels, frames_in_space, slices_in_space
from mmtool.preprocessing.readers.entries import Broken, Entry, Note, OtherContent, SourceOptions, row_entry
from mmtool.preprocessing.readers.frame_folders import Home, doubtful_homes
from mmtool.preprocessing.readers.raw_files import RawFile, held, split_name
from mmtool.preprocessing.readers.stacks import StackRow, has_splits, split_rows, stack_rows
from mmtool.tokenizers.volume import Lengths, shown, stretched, three_sides

ARRAYS = ("volume", "volumes", "scan", "data", NPY_NAME)  # names of the array of voxels
AFFINE, SPACING = "affine", "spacing_mm"
MAX_VOXELS = 1 << 28
SAME_SPACING = 0.01  # by which spacings may differ and count as one
ANY = "any"
FIT_ANY = "Resample it, e.g. with nibabel.processing.resample_to_output, or fit with --set spacing_mm=any, which takes voxels as they are."
ALL_ALIKE = "Convert them all to NIfTI, or all to npz without `affine`, which are taken as they lie."
NIFTI_2 = 540  # the first number of its header


class Volume(NamedTuple):
    """voxels: (D, H, W) float32; spacing_mm: of them, as they were read, extent_mm: of the whole, where known; oriented: whether axes run
    to head, front and right, else they lie as they did in the file; value_range: what is declared of the values to be kept."""

    voxels: np.ndarray
    spacing_mm: Lengths | None
    extent_mm: Lengths | None
    oriented: bool
    value_range: tuple[float, float] | None


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


@dataclass(frozen=True)
class Series(RawFile):
    """DICOM files that are the slices of one scan, in any order."""

    slices: Sequence[RawFile] = ()


def gather_series(files: Iterable[RawFile | Broken | Note]) -> Iterator[RawFile | Broken | Note]:
    """The files, DICOM slices of one folder and one series as a `Series` behind the others of its folder, or of its archive.

    The slices of an archive are in memory until it is read. A folder that damage to its archive may have cost slices is `Broken`.
    """
    slices: dict[Home, list[RawFile]] = {}
    runs: dict[Path | None, list[Home | None]] = defaultdict(list)  # the folders of an archive as they follow each other, None: damage
    for file in files:
        if isinstance(file, Broken):
            runs[Path(file.where)].append(None)
        if not isinstance(file, RawFile) or not is_dicom(file, "volume"):
            yield file
            continue
        home = (file.archive, str(PurePosixPath(file.where).parent))
        if slices and next(iter(slices)) != home and (file.archive is None or next(iter(slices))[0] != file.archive):
            yield from _all_series(slices, runs)
            slices = {}
        slices.setdefault(home, []).append(held(file))  # type: ignore[arg-type]  # a file stays one
        if runs[file.archive][-1:] != [home]:
            runs[file.archive].append(home)
    yield from _all_series(slices, runs)


def _all_series(slices: Mapping[Home, Sequence[RawFile]], runs: Mapping[Path | None, Sequence[Home | None]]) -> Iterator[Any]:
    for (archive, where), files in slices.items():
        run = runs[archive] if archive else []
        if None in run and (archive, where) in doubtful_homes(run):
            yield Broken(where, DataError("the archive is damaged, so that slices may be missing.", where=where, fix="Get it again."))
        else:
            yield from _series(files, where)


def _series(files: Sequence[RawFile], where: str) -> Iterator[RawFile | Broken | Note]:
    """The scans of a folder, called like it; of several, like their first files."""
    groups: dict[str, list[RawFile]] = {}
    for file in files:
        try:
            dataset = read_dicom(file, pixels=False)
        except OtherContent:
            yield file  # its reader says so
            continue
        except DataError as error:
            yield Broken(where, error)  # which may be a slice of any
            return
        if num_frames(dataset) > 1:
            yield file
        else:
            groups.setdefault(str(dataset.get("SeriesInstanceUID", "")), []).append(file)
    if len(groups) > 1:
        yield Note("series", f"{where} holds {len(groups)} series, whose keys are the names of their first files (so do others like it)")
    for first, *rest in groups.values():
        key = first.stem if len(groups) > 1 else _folder_key(first)
        yield Series(where, key, first.format, first.read, first.path, first.archive, first.labels, (first, *rest))


def _folder_key(file: RawFile) -> str:
    """The folder of a file below what was given, or what was given itself."""
    below, where = PurePosixPath(file.stem).parent, PurePosixPath(file.where).parent
    if below.name:
        return below.as_posix()
    return split_name(where.name)[0] if file.archive else Path(where).resolve().name


def read_volumes(file: RawFile, options: SourceOptions) -> Iterator[Entry | Keys]:
    """Entries of one file or series; their values are `Volume`.

    Arrays are (depth, rows, columns) as they lie, with `spacing_mm` of these axes or not; or lie in space as `affine` (4, 4) says, as those
    of NIfTI do. A stack of such along a first axis has keys and labels in arrays of one value for each; so do the arrays of MedMNIST 3D.
    """
    if file.format in ("npz", "npy"):
        yield from _array_entries(file, options)
    elif is_dicom(file, "volume"):
        if not isinstance(file, Series):
            read_dicom(file, pixels=False)  # whether it holds pictures at all
        yield Entry(file.stem, file.where, partial(_of_dicom, file, options))
    else:
        yield Entry(file.stem, file.where, partial(_of_nifti, file, options))


def _array_entries(file: RawFile, options: SourceOptions) -> Iterator[Entry | Keys]:
    arrays = load_arrays(file)
    name = next((name for name in ARRAYS if name in arrays), None)
    if name is None and not has_splits(arrays):
        what = f"there is no array of voxels; the arrays are: {', '.join(arrays)}."
        raise DataError(what, where=file.where, fix="Call it `volume`.")
    stack = np.zeros(0) if name is None else arrays.pop(name)
    affine, spacing = arrays.pop(AFFINE, None), arrays.pop(SPACING, None)
    if name is not None and stack.ndim != 4:
        row = {name: array.item() for name, array in arrays.items() if array.ndim == 0}
        yield row_entry(row, file.stem, file.where, partial(_of_array, stack, affine, spacing, file.where, options), options)
        return
    if name is not None and stack.shape[3] in (1, 3):
        what = f"an array of shape {stack.shape} has channels, it seems, which volumes have not."
        raise DataError(what, where=file.where, fix="Save one channel, as (depth, rows, columns).")
    rows: Iterator[Keys | StackRow] = split_rows(file, arrays, options) if name is None else stack_rows(file, stack, arrays, options)
    for row_of in rows:
        if isinstance(row_of, Keys):
            yield row_of
            continue
        load = partial(_of_array, row_of.value, affine, spacing, row_of.where, options)
        yield row_entry(row_of.cells, row_of.key, row_of.where, load, row_of.options, row_of.rows)


def _of_array(array: np.ndarray, affine: Any, spacing: Any, where: str, options: SourceOptions) -> Volume:
    _check_shape(array.shape, where, options)
    if array.dtype.kind not in "buif":
        raise DataError(f"an array of {array.dtype} is no volume.", where=where, fix="Save numbers as (depth, rows, columns).")
    if affine is not None:
        return _oriented(array, affine, where, options)
    if spacing is not None and (spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all()):
        raise DataError(f"{SPACING} is {spacing.tolist()}.", where=where, fix="Give three lengths, of depth, rows and columns.")
    return _volume(array, None if spacing is None else spacing.tolist(), False, where, options)


def _of_dicom(file: RawFile, options: SourceOptions) -> Volume:
    most = _most_voxels(options)
    in_space = slices_in_space(file.slices, file.where, most) if isinstance(file, Series) else frames_in_space(file, most)
    return _oriented(*in_space, file.where, options)


def _of_nifti(file: RawFile, options: SourceOptions) -> Volume:
    """A scan whose header has no orientation (both codes are 0) lies as it does, the first axis last. Raises UsageError without nibabel."""
    try:
        import nibabel
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[medical]'`, or convert the file to npz."
        raise UsageError(f"reading .{file.format} needs nibabel.", where=file.where, fix=fix) from error
    data = file.read()
    form = nibabel.Nifti2Image if NIFTI_2 in (int.from_bytes(data[:4], order) for order in ("little", "big")) else nibabel.Nifti1Image
    damaged = "the NIfTI file cannot be read ({})."
    try:
        image = form.from_bytes(data)
        codes, dtype, affine = image.get_sform(coded=True)[1] + image.get_qform(coded=True)[1], image.get_data_dtype(), image.affine
    except Exception as error:
        raise DataError(damaged.format(type(error).__name__), where=file.where, fix="Get it again.") from error
    shape = image.shape[:3] if set(image.shape[3:]) == {1} else image.shape
    if len(shape) > 3:
        what = f"the scan has {len(shape)} axes, {shown(shape)}: several volumes (points in time, or channels)."
        raise DataError(what, where=file.where, fix="Save each as a file of its own, e.g. with nibabel.funcs.four_to_three.")
    _check_shape(shape, file.where, options)
    if dtype.kind not in "buif":
        raise DataError(f"the scan holds {dtype}, no plain numbers.", where=file.where, fix="Save one channel of it.")
    try:
        values = image.get_fdata(dtype=np.float32).reshape(shape)
    except Exception as error:
        raise DataError(damaged.format(type(error).__name__), where=file.where, fix="Get it again.") from error
    if not codes:
        spacing = [float(size) for size in image.header.get_zooms()[2::-1]]
        return _volume(values.transpose(), spacing if min(spacing) > 0 else None, False, file.where, options)
    return _oriented(values, affine, file.where, options)


def _oriented(array: np.ndarray, affine: Affine, where: str, options: SourceOptions) -> Volume:
    """The array with its axes swapped and flipped so that they run to head, front and right as nearly as they can.

    Raises DataError for an affine that says nothing of that."""
    if affine.shape != (4, 4) or affine.dtype.kind not in "iuf" or not np.isfinite(affine).all() or not np.linalg.det(affine[:3, :3]):
        raise DataError("the affine says nothing of where voxels lie.", where=where, fix="Give the (4, 4) matrix of NIfTI.")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    directions = affine[:3, :3] / lengths
    axes = linear_sum_assignment(-np.abs(directions))[1]  # of the array, that run to the right, front and head, or from there
    turned = array.transpose(axes[::-1])
    backward = tuple(place for place, axis in enumerate(axes[::-1]) if directions[2 - place, axis] < 0)
    return _volume(np.flip(turned, backward), lengths[axes[::-1]].tolist(), True, where, options)


def _volume(array: np.ndarray, spacing: Sequence[float] | None, oriented: bool, where: str, options: SourceOptions) -> Volume:
    with np.errstate(over="ignore"):
        voxels = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(voxels).all():
        fix = "Set them to a number, e.g. with numpy.nan_to_num, or use --on-error skip."
        raise DataError("the scan holds NaN or infinite values.", where=where, fix=fix)
    if spacing is None:
        return Volume(voxels, None, None, oriented, options.value_range)
    depth, row, column = (round(length, 6) for length in spacing)  # headers hold them in single precision
    extent = (depth * voxels.shape[0], row * voxels.shape[1], column * voxels.shape[2])
    return Volume(voxels, (depth, row, column), extent, oriented, options.value_range)


def _check_shape(shape: Sequence[int], where: str, options: SourceOptions) -> None:
    if len(shape) != 3 or not prod(shape):
        fix = "Save it as (depth, rows, columns), and several as (N, depth, rows, columns)."
        raise DataError(f"an array of shape {tuple(shape)} is no volume.", where=where, fix=fix)
    check_voxels(shape, where, _most_voxels(options))


def _most_voxels(options: SourceOptions) -> int:
    """Scans have more voxels than images have pixels."""
    return max(options.max_pixels, MAX_VOXELS)
