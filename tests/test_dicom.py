"""DICOM files as images: greys in their units, colours, whatever their names; what cannot be decoded, and nothing of a patient."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.sources import SourceOptions, read_items

pydicom = pytest.importorskip("pydicom")
PATIENT = "Roe^Jane"
CT = "1.2.840.10008.5.1.4.1.1.2"


def save(path: Path, pixels: np.ndarray, **elements: Any) -> Path:
    """Write a picture (H, W), (H, W, 3) or (frames, H, W) with these elements of its header."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CT
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.PatientName, dataset.PatientID = PATIENT, "MRN123"
    colour = pixels.shape[-1] == 3
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        dataset.PlanarConfiguration = 0
    bits = 8 * pixels.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.save_as(path, enforce_file_format=True)
    return path


def read(path: Path, **options: Any) -> dict[str, np.ndarray]:
    return {item.key: item.value for item in read_items("image", [path], SourceOptions(**options))}


def test_greys_are_scaled_from_their_units(tmp_path: Path) -> None:
    stored = np.array([[0, 924], [1024, 1124]], np.int16)
    save(tmp_path / "a.dcm", stored, RescaleSlope=1, RescaleIntercept=-1024)
    with pytest.raises(DataError, match=r"values from -1024\.0 to 100\.0\. .*--value-range"):
        read(tmp_path)
    assert read(tmp_path, value_range=(-100, 100))["a"].tolist() == [[[0], [0]], [[128], [255]]]


def test_low_values_of_monochrome1_are_white(tmp_path: Path) -> None:
    pixels = np.array([[0, 50], [200, 255]], np.uint8)
    save(tmp_path / "a.dcm", pixels, PhotometricInterpretation="MONOCHROME1")
    save(tmp_path / "b.dcm", pixels)
    found = read(tmp_path)
    assert (found["a"][..., 0] == 255 - pixels).all() and (found["b"][..., 0] == pixels).all()


def test_files_of_any_name_are_recognised_and_colours_kept(tmp_path: Path) -> None:
    colours = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    for name in ("IM-0001-0001", "1.2.840.113619.2.55.3"):
        save(tmp_path / name, colours)
    (tmp_path / "README").write_text("two pictures")
    found = read(tmp_path)
    assert len(found) == 2 and all((value == colours).all() for value in found.values())


def test_run_length_encoding_is_decoded(tmp_path: Path) -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    path = save(tmp_path / "a.dcm", pixels)
    dataset = pydicom.dcmread(path)
    dataset.compress(pydicom.uid.RLELossless)
    dataset.save_as(path)
    assert (read(tmp_path)["a"][..., 0] == pixels).all()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000MC
    dataset.save_as(path)
    with pytest.raises(DataError, match=r"stored as JPEG 2000 Part 2.*gdcmconv"):
        read(tmp_path)


def test_what_is_no_single_picture_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "film.dcm", np.zeros((3, 4, 4), np.uint8), NumberOfFrames=3)
    with pytest.raises(DataError, match="has 3 frames"):
        read(tmp_path)
    path = save(tmp_path / "film.dcm", np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match="--max-pixels"):
        read(tmp_path, max_pixels=15)
    whole = path.read_bytes()
    path.write_bytes(whole[:-8])
    with pytest.raises(DataError, match="cannot be decoded"):
        read(tmp_path)
    path.write_bytes(b"no preamble" * 40)
    with pytest.raises(DataError, match="neither a preamble nor an SOP class"):
        read(tmp_path)


def test_files_without_preamble_are_read(tmp_path: Path) -> None:
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset

    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    path = save(tmp_path / "a.dcm", pixels)
    (tmp_path / "IM0001").write_bytes(path.read_bytes()[132:])
    bare = DicomBytesIO()
    bare.is_little_endian, bare.is_implicit_VR = True, True
    write_dataset(bare, pydicom.dcmread(path))
    (tmp_path / "b.dcm").write_bytes(bare.getvalue())
    found = read(tmp_path)
    assert found.keys() == {"a", "b", "IM0001"} and all((value[..., 0] == pixels).all() for value in found.values())


def test_what_holds_no_picture_is_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8))
    plan = pydicom.dcmread(tmp_path / "a.dcm")
    del plan.Rows, plan.PixelData
    plan.save_as(tmp_path / "plan.dcm")
    assert list(read(tmp_path)) == ["a"] and "left out: 1 file of another format: 1 .dcm" in capfd.readouterr().err
    plan.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    (tmp_path / "plan.dcm").unlink()
    plan.save_as(tmp_path / "DICOMDIR")
    assert list(read(tmp_path)) == ["a"] and "left out" not in capfd.readouterr().err


def test_without_pydicom_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a.dcm", np.zeros((4, 4), np.uint8))
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(UsageError, match=r"needs pydicom.*mmtool\[medical\]"):
        read(tmp_path)


def test_nothing_of_a_patient_is_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from mmtool.preprocessing.tokenize import tokenize

    for number in range(6):
        save(tmp_path / f"{number}.dcm", np.full((8, 8), 40 * number, np.uint8), PatientBirthDate="17991301")
    tokenize("image", [tmp_path], tmp_path / "out.tar", name="xray", scheme="patches")
    data = (tmp_path / "out.tar").read_bytes()
    assert b"Roe" not in data and b"MRN123" not in data and b"1799" not in data and "Roe" not in capfd.readouterr().err
