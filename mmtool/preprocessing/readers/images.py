"""Pictures: image files through Pillow, MNIST's idx files, and arrays of images in npy and npz; all become (H, W, C) uint8."""

import io
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from mmtool.common.errors import DataError
from mmtool.preprocessing.keys import Keys, RowSource, choose_keys
from mmtool.preprocessing.readers.arrays import load_arrays, read_idx
from mmtool.preprocessing.readers.entries import DeepImageError, Entry, SourceOptions, key_of, require_column, row_entry
from mmtool.preprocessing.readers.file_columns import read_file_column
from mmtool.preprocessing.readers.raw_files import RawFile, raw_file
from mmtool.preprocessing.readers.rows import COLUMNAR

AVIF = ("AVIF",) if find_spec("PIL.AvifImagePlugin") else ()  # from Pillow 11.3 on
PILLOW_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", *AVIF)  # alone: an EPS under the name of a PNG would reach Ghostscript
BROKEN = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error, zlib.error, Image.DecompressionBombError)
DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
BITS_PER_SAMPLE = 258
IMAGES, LABEL, LABELS, SPLIT = "images", "label", "labels", "split"
SPLITS = ("train", "val", "test")  # of MedMNIST


def read_images(file: RawFile, options: SourceOptions) -> Iterator[Any]:
    """Entries of one file; their values are (H, W, 1) for grey images and (H, W, 3) for colour."""
    if file.format in COLUMNAR:
        yield from read_file_column("image", file, options)
    elif file.format == "idx":
        yield from _idx_entries(file, options)
    elif file.format in ("npy", "npz"):
        yield from _array_entries(file, options)
    else:
        yield Entry(file.stem, file.where, partial(decode, file, options))


def decode(file: RawFile, options: SourceOptions) -> np.ndarray:
    """Decode an image file: upright by its EXIF orientation, transparency laid over white. Raises DataError where it is damaged,
    too large, has several frames, or is deeper than 8 bits without a declared range."""
    data = file.read()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below comes first
            image = Image.open(io.BytesIO(data), formats=PILLOW_FORMATS)
        _check_header(image, data, file.where, options)
        image.load()
        return _to_array(ImageOps.exif_transpose(image), file.where, options)
    except DataError:
        raise
    except BROKEN as error:
        reason = f"no {', '.join(PILLOW_FORMATS)}" if isinstance(error, UnidentifiedImageError) else error  # Pillow's has an address in it
        raise DataError(
            f"the image cannot be decoded ({reason}).", where=file.where, fix="Get it again, or use --on-error skip."
        ) from error


def _check_header(image: Image.Image, data: bytes, where: str, options: SourceOptions) -> None:
    """Refuse before decoding: too many pixels, several frames, and 16-bit colour, which Pillow would cut to 8 bits without a word."""
    pixels = image.width * image.height
    if pixels > options.max_pixels:
        fix = "Scale it down, or raise the limit with --max-pixels."
        raise DataError(f"the image has {pixels:,} pixels, more than {options.max_pixels:,}.", where=where, fix=fix)
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise DataError(f"the image has {frames} frames.", where=where, fix="Export each frame as an image of its own.")
    png_depth = data[24] if image.format == "PNG" else 0
    tiff_depth = max(image.tag_v2.get(BITS_PER_SAMPLE, (0,))) if image.format == "TIFF" else 0  # type: ignore[attr-defined]
    if max(png_depth, tiff_depth) > 8 and image.mode not in DEEP_MODES:
        raise DataError("the image has 16 bits per colour.", where=where, fix="Convert it to 8 bits per colour.")


def _to_array(image: Image.Image, where: str, options: SourceOptions) -> np.ndarray:
    if image.mode in DEEP_MODES:
        return to_uint8(np.asarray(image)[..., None], where, options)
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return to_uint8(np.asarray(image.convert(mode)), where, options)


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


def _array_entries(file: RawFile, options: SourceOptions) -> Iterator[Entry | Keys]:
    """The array `images`, (N, H, W) or (N, H, W, C); arrays of one value per image are its labels (or those named as labels)."""
    arrays = load_arrays(file)
    if any(f"{split}_{IMAGES}" in arrays for split in SPLITS):
        yield from _split_entries(file, arrays, options)
        return
    images = arrays.pop(require_column(IMAGES, arrays, file.where, "the array name `images` in the file"))
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise DataError(f"the images have shape {images.shape}.", where=file.where, fix="Save them as (N, H, W) or (N, H, W, 3).")
    columns = {name: array for name, array in arrays.items() if array.shape == images.shape[:1]}

    def cells(names: Sequence[str]) -> Iterator[list[Any]]:
        return ([columns[name][row] for name in names] for row in range(len(images)))

    keys = choose_keys(RowSource(file.where, file.stem, list(columns), cells), options, numbered=True)
    yield replace(keys, ids={})  # ids are labels here
    wanted = options.label_columns or tuple(name for name in columns if name != keys.column)
    options = replace(options, label_columns=wanted)
    for index, image in enumerate(images):
        where = f"{file.where}, image {index}"
        row = {name: column[index] for name, column in columns.items()}
        yield row_entry(row, keys.of(row, index), where, partial(to_uint8, image, where, options), options, keys.rows)


def _split_entries(file: RawFile, arrays: dict[str, np.ndarray], options: SourceOptions) -> Iterator[Entry]:
    """MedMNIST (https://medmnist.com): the arrays `train_images`, `train_labels` and so on; labels `label` (`label_0` ... of several) and
    `split`. Keys are file, split and number."""
    for split in (split for split in SPLITS if f"{split}_{IMAGES}" in arrays):
        images = arrays[f"{split}_{IMAGES}"]
        labels = arrays.get(f"{split}_{LABELS}", np.zeros((len(images), 0))).reshape(len(images), -1)
        if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
            raise DataError(
                f"the {split} images have shape {images.shape}.", where=file.where, fix="Save them as (N, H, W) or (N, H, W, 3)."
            )
        names = [LABEL] if labels.shape[1] == 1 else [f"{LABEL}_{i}" for i in range(labels.shape[1])]
        options = replace(options, label_columns=options.label_columns or (*names, SPLIT))
        for index, image in enumerate(images):
            where, row = f"{file.where}, {split} image {index}", dict(zip(names, labels[index], strict=True)) | {SPLIT: split}
            load = partial(to_uint8, image, where, options)
            yield row_entry(row, key_of(f"{file.stem}-{split}", index), where, load, options, len(images))
