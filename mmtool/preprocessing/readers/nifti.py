"""NIfTI through nibabel (the extra `medical`): voxels, and where they lie in space, in mm whatever unit the file states.

Of two statements of that the sform is used where there is one, as nibabel does, else the qform; that they disagree is said.
The format: https://nifti.nimh.nih.gov/nifti-1
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from mmtool.common.errors import DataError, UsageError
from mmtool.common.regular_files import open_regular
from mmtool.preprocessing.readers.compressed import read_bytes
from mmtool.preprocessing.readers.entries import Entry, Note, SourceOptions
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.scans import Volume, as_volume, check_shape, codes_of, lengths_of, oriented, slant_notes
from mmtool.tokenizers.volume import shown

NIFTI_2 = 540  # the first number of its header
UNITS = {1: ("meters", 1e3), 3: ("micrometers", 1e-3)}  # codes of `xyzt_units` that are not mm, or unknown, which is taken for it
SAME_AXIS = 0.05  # by which axes of two affines may differ, as a part of their length


def read_nifti(file: RawFile, options: SourceOptions) -> Iterator[Entry | Note]:
    """The entry of a file, and what is doubtful about where it lies. Raises UsageError without nibabel."""
    file = file.held()
    nibabel = _nibabel(file)
    remarks: list[Note] = []
    with suppress(Exception):  # what is wrong with it is said when it is read
        remarks = list(_remarks(_header(nibabel, file), file.where))
    yield from remarks
    yield Entry(file.stem, file.where, partial(_load, file, options))


def _load(file: RawFile, options: SourceOptions) -> Volume:
    """A scan whose header has no orientation (both codes are 0) lies as it does, the first axis last."""
    nibabel = _nibabel(file)
    data = file.read()
    damaged = "the NIfTI file cannot be read ({})."
    try:
        image = (nibabel.Nifti2Image if _is_nifti_2(data) else nibabel.Nifti1Image).from_bytes(data)
        header, dtype, affine = image.header, image.get_data_dtype(), image.affine
        codes = header["sform_code"] or header["qform_code"]
    except Exception as error:
        raise DataError(damaged.format(type(error).__name__), where=file.where, fix="Get it again.") from error
    shape = image.shape[:3] if set(image.shape[3:]) == {1} else image.shape
    if len(shape) > 3:
        what = f"the scan has {len(shape)} axes, {shown(shape)}: several volumes (points in time, or channels)."
        raise DataError(what, where=file.where, fix="Save each as a file of its own, e.g. with nibabel.funcs.four_to_three.")
    check_shape(shape, file.where, options)
    if dtype.kind not in "buif":
        raise DataError(f"the scan holds {dtype}, no plain numbers.", where=file.where, fix="Save one channel of it.")
    try:
        values = image.get_fdata(dtype=np.float32).reshape(shape)
    except Exception as error:
        raise DataError(damaged.format(type(error).__name__), where=file.where, fix="Get it again.") from error
    if not codes:
        spacing = [float(size) * _unit(header)[1] for size in header.get_zooms()[2::-1]]
        return as_volume(values.transpose(), spacing if min(spacing) > 0 else None, False, file.where, options)
    return oriented(values, _in_mm(affine, header), file.where, options)


def _nibabel(file: RawFile) -> Any:
    try:
        import nibabel
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[medical]'`, or convert the file to npz."
        raise UsageError(f"reading .{file.format} needs nibabel.", where=file.where, fix=fix) from error
    return nibabel


def _is_nifti_2(data: bytes) -> bool:
    return NIFTI_2 in (int.from_bytes(data[:4], order) for order in ("little", "big"))


def _header(nibabel: Any, file: RawFile) -> Any:
    """The header alone, decompressed no further."""
    if file.path is None:
        head = file.read()[:NIFTI_2]
    else:
        with open_regular(file.path) as opened:
            head = read_bytes(opened, file.path.name, file.where, NIFTI_2)
    form = nibabel.Nifti2Header if _is_nifti_2(head) else nibabel.Nifti1Header
    return form(head[: form.template_dtype.itemsize], check=False)


def _unit(header: Any) -> tuple[str, float]:
    """The unit of lengths, and how many mm it has."""
    return UNITS.get(int(header["xyzt_units"]) & 7, ("mm", 1.0))


def _in_mm(affine: np.ndarray, header: Any) -> np.ndarray:
    return np.diag([*[_unit(header)[1]] * 3, 1.0]) @ affine


def _remarks(header: Any, where: str) -> Iterator[Note]:
    """What a person should know of where the voxels lie; each is said once."""
    unit, factor = _unit(header)
    if factor != 1:
        yield Note("unit", f"{where} states its lengths in {unit}; they are converted to mm (so are those of others like it)")
    (sform, s_code), (qform, q_code) = header.get_sform(coded=True), header.get_qform(coded=True)
    if not s_code and not q_code:
        return
    if s_code and q_code and (np.abs(sform - qform)[:3, :3] > SAME_AXIS * lengths_of(sform)).any():
        both = [f"{codes_of(form)}, {shown((lengths_of(form) * factor).tolist())} mm" for form in (sform, qform)]
        text = f"the sform and the qform of {where} disagree ({both[0]}; {both[1]}, first axis first)"
        yield Note("sform and qform", f"{text}: the sform is used (so it is in others like it)")
    yield from slant_notes(sform if s_code else qform, where)
