"""Scans in space: turned into one orientation, RAS, by swapping and flipping axes; nothing is resampled."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.dicom_slices import Affine, check_voxels
from mmtool.preprocessing.readers.entries import Note, SourceOptions
from mmtool.tokenizers.volume import Lengths

MAX_VOXELS = 1 << 28
MAX_SLANT = 0.05  # cosine between axes that count as at right angles


class Volume(NamedTuple):
    """voxels: (D, H, W) float32; spacing_mm: of them, as they were read, extent_mm: of the whole, where known; oriented: whether axes run
    to head, front and right, else they lie as they did in the file; value_range: what is declared of the values to be kept."""

    voxels: np.ndarray
    spacing_mm: Lengths | None
    extent_mm: Lengths | None
    oriented: bool
    value_range: tuple[float, float] | None


def oriented(array: np.ndarray, affine: Affine, where: str, options: SourceOptions) -> Volume:
    """The array with its axes swapped and flipped so that they run to head, front and right as nearly as they can.

    Raises DataError for an affine that says nothing of that."""
    if not _is_affine(affine):
        raise DataError("the affine says nothing of where voxels lie.", where=where, fix="Give the (4, 4) matrix of NIfTI.")
    lengths = lengths_of(affine)
    axes, signs = _nearest(affine)
    turned = array.transpose(axes[::-1])
    backward = tuple(place for place, sign in enumerate(signs[::-1]) if sign < 0)
    return as_volume(np.flip(turned, backward), lengths[axes[::-1]].tolist(), True, where, options)


def lengths_of(affine: Affine) -> np.ndarray:
    """(3,): how far voxels are apart along the axes of the array."""
    return np.linalg.norm(affine[:3, :3], axis=0)


def codes_of(affine: Affine) -> str:
    """Where the axes of the array run: RAS to right, front (anterior) and head (superior), each the first letter of it."""
    axes, signs = _nearest(affine)
    letters = {axis: pair[sign > 0] for axis, pair, sign in zip(axes.tolist(), ("LR", "PA", "IS"), signs.tolist(), strict=True)}
    return "".join(letters[axis] for axis in range(3))


def slant_notes(affine: Affine, where: str) -> Iterator[Note]:
    """That the axes of the array are not at right angles, where that is so."""
    if not _is_affine(affine):
        return
    directions = affine[:3, :3] / lengths_of(affine)
    cosine = float(np.abs(np.triu(directions.T @ directions, 1)).max())
    if cosine > MAX_SLANT:
        angle = np.rad2deg(np.arccos(cosine))
        text = f"the axes of {where} are not at right angles ({angle:.0f} degrees): its voxels are taken as they lie, not straightened"
        yield Note("slanted axes", f"{text} (so are those of others like it)")


def _is_affine(affine: Affine) -> bool:
    is_matrix = affine.shape == (4, 4) and affine.dtype.kind in "iuf" and bool(np.isfinite(affine).all())
    return is_matrix and bool(np.linalg.det(affine[:3, :3]))


def _nearest(affine: Affine) -> tuple[np.ndarray, np.ndarray]:
    """Axes of the array that run most nearly to the right, front and head, or from there; and the signs of these directions."""
    directions = affine[:3, :3] / lengths_of(affine)
    axes = linear_sum_assignment(-np.abs(directions))[1]
    return axes, np.sign(directions[np.arange(3), axes])


def as_volume(array: np.ndarray, spacing: Sequence[float] | None, oriented: bool, where: str, options: SourceOptions) -> Volume:
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


def check_shape(shape: Sequence[int], where: str, options: SourceOptions) -> None:
    if len(shape) != 3 or not prod(shape):
        fix = "Save it as (depth, rows, columns), and several as (N, depth, rows, columns)."
        raise DataError(f"an array of shape {tuple(shape)} is no volume.", where=where, fix=fix)
    check_voxels(shape, where, most_voxels(options))


def most_voxels(options: SourceOptions) -> int:
    """Scans have more voxels than images have pixels."""
    return max(options.max_pixels, MAX_VOXELS)
