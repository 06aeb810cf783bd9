"""Pictures: image files through Pillow, DICOM, MNIST's idx files, and arrays of images in npy and npz; all become (H, W, C) uint8."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmtool.common.errors import DataError
from mmtool.preprocessing.keys import Keys
from mmtool.preprocessing.readers.arrays import read_idx
from mmtool.preprocessing.readers.dicom import is_dicom, read_dicom, read_picture
from mmtool.preprocessing.readers.entries import Entry, Note, SourceOptions, key_of, row_entry
from mmtool.preprocessing.readers.file_columns import read_file_column
from mmtool.preprocessing.readers.raw_files import RawFile, raw_file
from mmtool.preprocessing.readers.read_errors import DeepImageError
from mmtool.preprocessing.readers.rows import COLUMNAR
from mmtool.preprocessing.readers.stacks import (
    IMAGES,
    LABEL,
    LEAST_SIDE,
    StackRow,
    check_axes,
    counts_samples,
    has_splits,
    load_stacks,
    name_of_samples,
    split_rows,
    stack_rows,
)

AVIF = ("AVIF",) if find_spec("PIL.AvifImagePlugin") else ()  # from Pillow 11.3 on
PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", *AVIF)  # alone: an EPS under the name of a PNG would reach Ghostscript
BROKEN = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error, zlib.error, Image.DecompressionBombError)
DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
BITS_PER_SAMPLE = 258
ARRAYS = (IMAGES, "image", "x", "data", "arr_0")  # names of the array of images
GIVE_UINT8 = "Give an array (height, width, 1 or 3) of uint8, or a picture of Pillow with 8 bits per colour."
SAY_AXES = "Save N grey pictures as (N, height, width, 1), and those in colours as (N, height, width, 3), one of them too."


def read_images(file: RawFile, options: SourceOptions) -> Iterator[Any]:
    """Entries of one file; their values are (H, W, 1) for grey images and (H, W, 3) for colour."""
    if file.format in COLUMNAR:
        yield from read_file_column("image", file, options)
    elif file.format == "idx":
        yield from _idx_entries(file, options)
    elif file.format in ("npy", "npz"):
        yield from _array_entries(file, options)
    else:
        if is_dicom(file, "image"):
            read_dicom(file, pixels=False)  # whether it holds a picture at all
        yield Entry(file.stem, file.where, partial(decode, file, options))


def decode(file: RawFile, options: SourceOptions) -> np.ndarray:
    """Decode an image file: upright by its EXIF orientation, transparency laid over white. Raises DataError where it is damaged,
    too large, has several frames, or is deeper than 8 bits without a declared range."""
    if is_dicom(file, "image"):
        values, inverted = read_picture(file, options)
        greys = to_uint8(values, file.where, options)
        return 255 - greys if inverted else greys
    data = file.read()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below comes first
            image = Image.open(io.BytesIO(data), formats=PILLOW_FORMATS)
        _check_header(image, data, file.where, options)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        return _to_array(image, file.where, options)
    except DataError:
        raise
    except BROKEN as error:
        reason = f"no {', '.join(PILLOW_FORMATS)}" if isinstance(error, UnidentifiedImageError) else error  # Pillow's has an address in it
        raise DataError(
            f"the image cannot be decoded ({reason}).", where=file.where, fix="Get it again, or use --on-error skip."
        ) from error


def given_image(image: Any, where: str) -> np.ndarray:
    """An image given in Python: a picture of Pillow as that of a file, an array as it is. Raises DataError for anything else, and for one
    without pixels."""
    if isinstance(image, Image.Image):
        try:
            _check_frames(image, where)
            return _to_array(ImageOps.exif_transpose(image), where, SourceOptions())
        except DataError as error:
            raise DataError(error.what, where=where, fix=GIVE_UINT8) from None
        except BROKEN as error:
            raise DataError(f"the image cannot be decoded ({error}).", where=where, fix=GIVE_UINT8) from error
    if not isinstance(image, np.ndarray):
        raise DataError(f"an image is {type(image).__name__}.", where=where, fix=GIVE_UINT8)
    if not image.size:
        raise DataError(f"the image has {' x '.join(map(str, image.shape[:2]))} pixels.", where=where, fix="Give None where there is none.")
    return image


def _check_header(image: Image.Image, data: bytes, where: str, options: SourceOptions) -> None:
    """Refuse before decoding: too many pixels, several frames, and 16-bit colour, which Pillow would cut to 8 bits without a word."""
    pixels = image.width * image.height
    if pixels > options.max_pixels:
        fix = "Scale it down, or raise the limit with --max-pixels."
        raise DataError(f"the image has {pixels:,} pixels, more than {options.max_pixels:,}.", where=where, fix=fix)
    _check_frames(image, where)
    png_depth = data[24] if image.format == "PNG" else 0
    tiff_depth = max(image.tag_v2.get(BITS_PER_SAMPLE, (0,))) if image.format == "TIFF" else 0  # type: ignore[attr-defined]
    if max(png_depth, tiff_depth) > 8 and image.mode not in DEEP_MODES:
        raise DataError("the image has 16 bits per colour.", where=where, fix="Convert it to 8 bits per colour.")


def _check_frames(image: Image.Image, where: str) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise DataError(f"the image has {frames} frames.", where=where, fix="Export each frame as an image of its own.")


def _to_array(image: Image.Image, where: str, options: SourceOptions) -> np.ndarray:
    if image.mode in DEEP_MODES:
        return to_uint8(np.asarray(image)[..., None], where, options)
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return to_uint8(np.asarray(image if image.mode == mode else image.convert(mode)), where, options)


def to_uint8(image: np.ndarray, where: str, options: SourceOptions) -> np.ndarray:
    """(H, W) or (H, W, C) of any number type -> (H, W, C) uint8, scaled by the declared range where it is deeper than 8 bits."""
    image = image[..., None] if image.ndim == 2 else image
    if image.size == 0:
        what = f"the image has {image.shape[0]} x {image.shape[1]} pixels."
        raise DataError(what, where=where, fix="Remove it, or use --on-error skip.")
    if image.dtype == np.bool_:
        return image.astype(np.uint8) * 255
    if image.dtype == np.uint8:
        return image
    if options.value_range is None:
        raise DeepImageError(where, str(image.dtype), image.min().item(), image.max().item())
    low, high = options.value_range
    if not np.isfinite(image).all():
        raise DataError("the image holds NaN or infinite values.", where=where, fix="Export it again.")
    return np.rint(np.clip((image.astype(np.float64) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def _idx_entries(file: RawFile, options: SourceOptions) -> Iterator[Entry]:
    """MNIST's own format; the label `label` comes from `labels_path`, or from the idx1 file beside the images."""
    images = read_idx(file)
    if images.ndim < 3:
        return
    labels = _idx_labels(file, options)
    if labels is not None and labels.shape != images.shape[:1]:
        raise DataError(f"{len(labels)} labels for {len(images)} images.", where=file.where, fix="Give the labels file of these images.")
    options = replace(options, label_columns=options.label_columns or (LABEL,))
    for index, image in enumerate(images):
        where = f"{file.where}, image {index}"
        row = {} if labels is None else {LABEL: labels[index]}
        yield row_entry(row, key_of(file.stem, index), where, partial(to_uint8, image, where, options), options, len(images))


def _idx_labels(file: RawFile, options: SourceOptions) -> np.ndarray | None:
    path = options.labels_path
    if path is None and file.path is not None:
        name = file.path.name.replace("idx3", "idx1").replace("images", "labels")
        path = file.path.with_name(name) if name != file.path.name else None
        path = path if path is not None and path.exists() else None
    if path is None or "idx1" not in path.name:
        return None
    return read_idx(raw_file(path))


def is_channels_first(image: np.ndarray) -> bool:
    """Whether the shape of an image can only be (1 or 3, height, width), as PyTorch has it."""
    return image.ndim == 3 and image.shape[0] in (1, 3) and min(image.shape[1:]) >= LEAST_SIDE


def _array_entries(file: RawFile, options: SourceOptions) -> Iterator[Entry | Keys | Note]:
    """The array `images`, (N, H, W) or (N, H, W, C), or those of MedMNIST; arrays of one value per image are its labels (or those named as
    labels), so are one-hot ones. Without such, arrays of (H, W, 3) and (3, H, W) are refused, which may be one image in colours."""
    arrays = load_stacks(file)
    if has_splits(arrays):
        rows: Iterator[Keys | Note | StackRow] = split_rows(file, arrays, options)
    else:
        name = name_of_samples(arrays, ARRAYS)
        if name is None:
            what = f"there is no array of images; the arrays are: {', '.join(arrays)}."
            raise DataError(what, where=file.where, fix="Call it `images`.")
        images = arrays.pop(name)
        if images.ndim == 3 and not any(counts_samples(name, array, images, options) for name, array in arrays.items()):
            check_axes(images.shape, file.where, SAY_AXES)
        rows = stack_rows(file, images, arrays, options, "image ")
    for row in rows:
        if not isinstance(row, StackRow):
            yield row
            continue
        if is_channels_first(row.value):
            kind = "channels first"
            yield Note(kind, f"images of shape {row.value.shape} in {file.where} are taken as (channels, height, width)")
            row = row._replace(value=np.moveaxis(row.value, 0, -1))
        if row.value.ndim not in (2, 3) or row.value.shape[2:] not in ((), (1,), (3,)):
            what, fix = f"an image of it has shape {row.value.shape}.", "Save them as (N, height, width) or (N, height, width, 3)."
            raise DataError(what, where=file.where, fix=fix)
        load = partial(to_uint8, row.value, row.where, options)
        yield row_entry(row.cells, row.key, row.where, load, row.options, row.rows)
