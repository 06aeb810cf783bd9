"""DICOM files through pydicom (the extra `medical`): their pixels as numbers, and what says where these lie in space.

Of a header nothing else is read, so that no name or date of a patient gets into samples, keys or messages; nor do errors of pydicom, which
may cite it. The format: https://www.dicomstandard.org/current
"""

import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from mmtool.common.errors import DataError, MmtoolError, UsageError
from mmtool.kinds import kind_named
from mmtool.preprocessing.readers.entries import SourceOptions
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.read_errors import OtherContent, ReadBeside

FORMATS = ("dcm", "dicom")
PREAMBLE_BYTES, MAGIC = 128, b"DICM"
BARE = re.compile(rb"\x02\0\0\0UL\x04\0|\x02\0\x01\0OB\0\0|\x08\0[\x05\x08\x12\x16\x18]\0(CS|UI|DA|[\0-\x80]\0\0\0)")  # its first element
ROOT = "1.2.840.10008."  # of all that the standard names
DIRECTORY = "1.2.840.10008.1.3.10"  # SOP class of the file DICOMDIR, which lists others
INVERTED = "MONOCHROME1"  # the lowest value is white
PALETTE = "PALETTE COLOR"
PALETTE_TAGS = [f"{colour}PaletteColorLookupTable{part}" for colour in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")]
IMAGE_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"),
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", *PALETTE_TAGS),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"),
]
GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
GROUPS = dict(zip(GEOMETRY, ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"), strict=True))
UNITS = ("RescaleSlope", "RescaleIntercept")
GROUPS |= dict.fromkeys(UNITS, "PixelValueTransformationSequence")  # in which frames state what files of one slice state themselves
PIXEL_TAGS = ["PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"]


def looks_like_dicom(head: bytes, named: bool = False) -> bool:
    """Whether a file that begins so is DICOM, whatever its name, with its preamble or without."""
    return head[PREAMBLE_BYTES : PREAMBLE_BYTES + len(MAGIC)] == MAGIC or BARE.match(head) is not None


def is_dicom(file: RawFile, kind: str) -> bool:
    """Whether a file of a kind is DICOM: by its name, or as the only format that is recognized where that says nothing."""
    return file.format in FORMATS or file.format not in kind_named(kind).suffixes


def read_dicom(file: RawFile, *, pixels: bool = True) -> Any:
    """The dataset of a file, without what is not needed here, and without pixels where these are not. Raises UsageError without pydicom,
    DataError where the file is damaged, OtherContent where it holds no pictures."""
    pydicom = _pydicom(file.where)
    data = file.read()
    is_bare = data[PREAMBLE_BYTES : PREAMBLE_BYTES + len(MAGIC)] != MAGIC
    with _private(file.where, "the DICOM file cannot be read"):
        tags = IMAGE_TAGS + PIXEL_TAGS * pixels
        dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=not pixels, specific_tags=tags, force=is_bare)
        if is_bare:
            _check_bare(dataset, file.where)
        is_picture, is_directory = "Rows" in dataset, dataset.file_meta.get("MediaStorageSOPClassUID") == DIRECTORY
    if not is_picture:
        raise (ReadBeside if is_directory else OtherContent)("the DICOM file holds no picture.", where=file.where, fix="Leave it out.")
    return dataset


def _check_bare(dataset: Any, where: str) -> None:
    """Complete a dataset that was read without a preamble, by which DICOM is known, and maybe without saying how it is stored. Raises
    DataError where it is none."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if not str(dataset.get("SOPClassUID", "")).startswith(ROOT):
        fix = "Export it again as a DICOM file (Part 10), or leave it out, with --on-error skip or by moving it."
        raise DataError("this is no DICOM file: it has neither a preamble nor an SOP class.", where=where, fix=fix)
    if "TransferSyntaxUID" not in dataset.file_meta:
        is_implicit, is_little = dataset.original_encoding
        plain = ExplicitVRLittleEndian if is_little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit else plain


def num_frames(dataset: Any) -> int:
    """How many pictures of one size a dataset holds."""
    return int(dataset.get("NumberOfFrames") or 1)


def frame_element(dataset: Any, number: int, name: str) -> Any:
    """What a file says of one frame, or of all; None where it does not. name: one of GROUPS."""
    per_frame, shared = (dataset.get(f"{groups}FunctionalGroupsSequence") or [] for groups in ("PerFrame", "Shared"))
    for group in (*per_frame[number : number + 1], *shared[:1]):
        if GROUPS[name] in group and group[GROUPS[name]].value:
            return group[GROUPS[name]].value[0].get(name)
    return None


def pixel_values(dataset: Any, where: str) -> np.ndarray:
    """(H, W) or (H, W, 3) numbers, with one more axis in front where there are several frames. Greys are in the file's units (Hounsfield
    units, say, by its slope and intercept or its lookup table), colours RGB. Raises DataError where they cannot be decoded."""
    from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array

    with _private(where, "the DICOM file does not say how its pixels are stored"):
        syntax = dataset.file_meta.TransferSyntaxUID
    with _private(where, f"the pixels cannot be decoded (stored as {syntax.name})", _advice(syntax.is_compressed)):
        values = pixel_array(dataset)
        if dataset.get("PhotometricInterpretation") == PALETTE:
            return _in_bytes(apply_color_lut(values, dataset))
        units = _units(dataset)
        if "ModalityLUTSequence" in dataset and not _of_frames(dataset):
            return np.asarray(apply_modality_lut(values, dataset))
        if (units == [[1], [0]]).all():
            return np.asarray(values)
        slopes, intercepts = units if num_frames(dataset) > 1 else units[:, 0]
        return np.asarray(values * _along(slopes, values) + _along(intercepts, values))


def states_units(dataset: Any) -> bool:
    """Whether a file says how stored values become values in units."""
    is_stated = any(dataset.get(name) is not None for name in UNITS)
    return is_stated or "ModalityLUTSequence" in dataset or _of_frames(dataset)


def _of_frames(dataset: Any) -> bool:
    """Whether frames say how their values become values in units."""
    return any(frame_element(dataset, number, name) is not None for number in range(num_frames(dataset)) for name in UNITS)


def _units(dataset: Any) -> np.ndarray:
    """(2, frames): slope and intercept of each: its own where it states one of them, else those of the file, else 1 and 0."""
    of_all = [dataset.get(name) for name in UNITS]
    stated = ([frame_element(dataset, number, name) for name in UNITS] for number in range(num_frames(dataset)))
    pairs = (of_all if pair == [None, None] else pair for pair in stated)
    return np.array([[1 if slope is None else slope, intercept or 0] for slope, intercept in pairs], np.float64).T


def _along(numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
    """One number for each frame, or for the only one, as it is calculated with pixels."""
    return numbers.reshape(numbers.shape + (1,) * (values.ndim - numbers.ndim))


def read_picture(file: RawFile, options: SourceOptions) -> tuple[np.ndarray, bool]:
    """(H, W) or (H, W, 3) numbers of a file that holds one picture, and whether its lowest value is white.

    Raises DataError for several frames and for too many pixels."""
    dataset = read_dicom(file)
    pixels, frames = int(dataset.Rows) * int(dataset.Columns), num_frames(dataset)
    if frames > 1:
        fix = "Export each frame as an image of its own, or read it as a scan of several slices."
        raise DataError(f"the DICOM file has {frames} frames.", where=file.where, fix=fix)
    if pixels > options.max_pixels:
        fix = "Scale it down, or raise the limit with --max-pixels."
        raise DataError(f"the image has {pixels:,} pixels, more than {options.max_pixels:,}.", where=file.where, fix=fix)
    return pixel_values(dataset, file.where), dataset.get("PhotometricInterpretation") == INVERTED


def _pydicom(where: str) -> Any:
    try:
        import pydicom
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[medical]'`, or convert the file to npz."
        raise UsageError("reading DICOM needs pydicom.", where=where, fix=fix) from error
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # it cites headers
    return pydicom


@contextmanager
def _private(where: str, what: str, fix: str = "Get it again.") -> Iterator[None]:
    """Around calls of pydicom: whatever it raises becomes a DataError that cites nothing of the file, and its warnings are not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MmtoolError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # of the disk
            raise
        raise DataError(f"{what} ({type(error).__name__}).", where=where, fix=fix) from None


def _advice(is_compressed: bool) -> str:
    if not is_compressed:
        return "Get it again."
    return "Decompress it, e.g. with `gdcmconv --raw in.dcm out.dcm`, or install a decoder that pydicom knows, such as pylibjpeg."


def _in_bytes(colours: np.ndarray) -> np.ndarray:
    """Colours of a palette, which has 8 or 16 bits for each."""
    return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours
