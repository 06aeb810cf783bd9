"""DICOM slices in space: put in order by where they lie, not by their names, and refused where one of them is missing."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.dicom import GEOMETRY, frame_element, num_frames, pixel_values, read_dicom, states_units
from mmtool.preprocessing.readers.raw_files import RawFile

SAME_DIRECTION = 1e-3  # by which the cosines of slices may differ
SAME_PLACE_MM = 1e-3
SAME_GAP = 0.1  # by which the distances of slices may differ, as a part of the usual one
MAX_SHIFT = 0.5  # of slices against each other, in pixels
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
Affine = np.ndarray  # (4, 4): from places in an array to mm to the right, front and head
InSpace = tuple[np.ndarray, Affine]


class Plane(NamedTuple):
    """A slice. pixels: (H, W); position: of its first pixel in mm to the left, back and head; axes: directions (6,) in which columns and
    rows are counted; spacing: of rows and of columns in mm."""

    pixels: np.ndarray
    position: np.ndarray
    axes: np.ndarray
    spacing: np.ndarray
    where: str


def slices_in_space(slices: Sequence[RawFile], where: str, max_voxels: int) -> InSpace:
    """The (slices, rows, columns) of a series of files, and where they lie. Raises DataError where that is not clear, or one is missing."""
    planes, stored = [], dict[tuple[int, bool], str]()  # bits of a pixel, and whether units are stated -> the first such file
    for file in slices:
        dataset = read_dicom(file)
        stored.setdefault((int(dataset.get("BitsAllocated", 0)), states_units(dataset)), file.where)
        check_voxels((len(slices), int(dataset.Rows), int(dataset.Columns)), where, max_voxels)
        planes.append(_plane(pixel_values(dataset, file.where), geometry_of(dataset), file.where))
    _check_stored(stored, where)
    return _assembled(planes, where)


def frames_in_space(file: RawFile, max_voxels: int) -> InSpace:
    """The same of a file of several frames, which says of each where it lies."""
    dataset = read_dicom(file)
    check_voxels((num_frames(dataset), int(dataset.Rows), int(dataset.Columns)), file.where, max_voxels)
    values = pixel_values(dataset, file.where)
    planes = []
    for number, pixels in enumerate(values if num_frames(dataset) > 1 else values[None]):
        geometry = [frame_element(dataset, number, name) for name in GEOMETRY]
        planes.append(_plane(pixels, geometry, f"{file.where}, frame {number + 1}"))
    return _assembled(planes, file.where)


def _check_stored(stored: Mapping[tuple[int, bool], str], where: str) -> None:
    """Raise DataError where values of slices cannot be compared: some in units and some as stored, or stored in 8 bits and in 16."""
    if len(stored) > 1 and not all(in_units for _, in_units in stored):
        forms = [f"{bits} bits {'with' if units else 'without'} RescaleSlope in {file}" for (bits, units), file in stored.items()]
        what = f"the slices are stored in several ways, so that their values cannot be compared: {', '.join(forms)}."
        raise DataError(what, where=where, fix="Export the series again, or make a folder of each scan.")


def geometry_of(dataset: Any) -> list[Any]:
    """What a file of one slice says of where it lies, itself or as one of a single frame."""
    return [dataset.get(name) if name in dataset else frame_element(dataset, 0, name) for name in GEOMETRY]


def check_voxels(shape: Sequence[int], where: str, max_voxels: int) -> None:
    """Raise DataError for a scan that is too large to be held."""
    if prod(shape) > max_voxels:
        what = f"the scan has {' x '.join(map(str, shape))} voxels, more than {max_voxels:,}."
        raise DataError(what, where=where, fix="Scale or crop it, or raise the limit with --max-pixels.")


def _plane(pixels: np.ndarray, geometry: Sequence[Any], where: str) -> Plane:
    position, axes, spacing = (np.array([] if numbers is None else numbers, np.float64).reshape(-1) for numbers in geometry)
    sizes = (position.size, axes.size, spacing.size)
    if sizes != (3, 6, 2) or not np.isfinite([*position, *axes, *spacing]).all() or spacing.min() <= 0:
        fix = "Convert it with dcm2niix, or save the slices in their order as npz."
        raise DataError("it does not say where the slice lies (ImagePositionPatient).", where=where, fix=fix)
    if pixels.ndim != 2:
        raise DataError("the slice has colours.", where=where, fix="Read it as an image or a video.")
    return Plane(pixels, position, axes, spacing, where)


def _assembled(planes: Sequence[Plane], where: str) -> InSpace:
    """Slices by their positions. Raises DataError where these are not evenly spaced, or slices do not lie on each other."""
    first = planes[0]
    if len(planes) < 2:
        raise DataError("one slice is no volume.", where=where, fix="Give the folder of the series, or read it as an image.")
    for plane in planes:
        is_turned = np.abs(plane.axes - first.axes).max() > SAME_DIRECTION
        if plane.pixels.shape != first.pixels.shape or is_turned or not np.allclose(plane.spacing, first.spacing, SAME_DIRECTION):
            what = f"{plane.where} and {first.where} differ in size, direction or spacing of pixels."
            raise DataError(what, where=where, fix="Move slices of another scan, such as a localizer, to a folder of their own.")
    across, down = first.axes[:3], first.axes[3:]
    normal = np.cross(across, down)
    planes = sorted(planes, key=lambda plane: float(plane.position @ normal))
    offsets = np.stack([plane.position for plane in planes]) - planes[0].position
    heights = offsets @ normal
    _check_gaps(planes, heights, where)
    if np.linalg.norm(offsets - heights[:, None] * normal, axis=1).max() > MAX_SHIFT * first.spacing.min():
        raise DataError("slices are shifted against each other (a tilted gantry).", where=where, fix="Straighten it with dcm2niix.")
    affine = np.eye(4)
    gap = heights[-1] / (len(planes) - 1)
    affine[:3] = np.stack([normal * gap, down * first.spacing[0], across * first.spacing[1], planes[0].position], axis=1)
    return np.stack([plane.pixels for plane in planes]), LPS_TO_RAS @ affine


def _check_gaps(planes: Sequence[Plane], heights: np.ndarray, where: str) -> None:
    gaps = np.diff(heights)
    usual = float(np.median(gaps))
    for (one, other), gap in zip(pairwise(planes), gaps.tolist(), strict=True):
        if gap <= SAME_PLACE_MM:
            what = f"{one.where} and {other.where} lie at the same place: several points in time, or echoes?"
            raise DataError(what, where=where, fix="Make a folder of each.")
        if abs(gap - usual) > SAME_GAP * usual:
            what = f"{one.where} and {other.where} are {gap:.4g} mm apart, and most slices {usual:.4g} mm: some are missing, or too many."
            raise DataError(what, where=where, fix="Complete the folder, or leave it out.")
