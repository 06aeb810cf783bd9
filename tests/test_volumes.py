"""Volumes: read from NIfTI, DICOM and arrays, turned into one orientation, tokenized on a grid of depth, rows and columns, and back."""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_dicom import save as save_dicom

from mmtool.common.errors import DataError, UsageError
from mmtool.data.shards import open_token_set
from mmtool.evaluation.config import EvaluationConfig
from mmtool.evaluation.evaluate import evaluate
from mmtool.evaluation.figures.thumbnails import Thumbnails
from mmtool.imputation.files import ImputeOptions, impute_files
from mmtool.preprocessing.protocol import MissingnessProtocol
from mmtool.preprocessing.readers.scans import Volume
from mmtool.preprocessing.readers.volumes import VolumePreparer
from mmtool.preprocessing.shard import shard
from mmtool.preprocessing.sources import SourceOptions, read_items
from mmtool.preprocessing.tokenize import tokenize
from mmtool.tokenizers.base import fingerprint, from_bytes, to_bytes
from mmtool.tokenizers.volume import VolumeCodecTokenizer, VolumePatchTokenizer
from mmtool.training.config import resolve
from mmtool.training.pretrain import pretrain

nibabel, pydicom = pytest.importorskip("nibabel"), pytest.importorskip("pydicom")
SIZE = (4, 6, 8)  # slices, rows, columns
SPACING = (3.0, 1.0, 0.5)
ACROSS = [1, 0, 0, 0, 1, 0]  # of DICOM: columns run to the left, rows to the back
SERIES = "1.2.826.0.1.3680043.8.498.1"


def scan(size: tuple[int, int, int] = SIZE) -> np.ndarray:
    """(D, H, W): another whole number in each voxel, which run to head, front and right."""
    return np.arange(np.prod(size), dtype=np.float32).reshape(size)


def items(path: Path, **options: Any) -> list:
    return list(read_items("volume", [path], SourceOptions(**options)))


def save_nifti(path: Path, value: np.ndarray, codes: str = "RAS", spacing: tuple[float, ...] = SPACING) -> None:
    """Write a (D, H, W) scan with its axes in the order and the directions of `codes`."""
    image = nibabel.Nifti1Image(value.transpose(2, 1, 0), np.diag([*spacing[::-1], 1]))
    orientation = nibabel.orientations.axcodes2ornt(codes)
    image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), orientation)).to_filename(path)


def save_series(folder: Path, value: np.ndarray, names: list[str], **elements: Any) -> None:
    """Write a scan (D, H, W) as slices in Hounsfield units, whose columns run to the left and rows to the back as they do in DICOM."""
    folder.mkdir(parents=True, exist_ok=True)
    gap, row, column = SPACING
    for number, (name, plane) in enumerate(zip(names, value, strict=True)):
        where = {"ImagePositionPatient": [-7.0, -9.0, 100 + gap * number], "ImageOrientationPatient": ACROSS, "PixelSpacing": [row, column]}
        units = {"RescaleSlope": 2, "RescaleIntercept": -1024, "SeriesInstanceUID": SERIES}
        save_dicom(folder / name, ((plane[::-1, ::-1] + 1024) / 2).astype(np.int16), **{**where, **units, **elements})


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ASR", "SLA", "PIR"])
def test_scans_of_any_orientation_become_one(codes: str, tmp_path: Path) -> None:
    save_nifti(tmp_path / "a.nii.gz", scan(), codes)
    assert nibabel.aff2axcodes(nibabel.load(tmp_path / "a.nii.gz").affine) == tuple(codes)
    (item,) = items(tmp_path)
    assert item.key == "a" and np.array_equal(item.value.voxels, scan()) and item.value.spacing_mm == SPACING and item.value.oriented


def test_an_oblique_scan_is_turned_as_nibabel_does(tmp_path: Path) -> None:
    turn, tilt = np.deg2rad(115), np.deg2rad(20)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, -1]])
    rotation = rotation @ np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    affine = np.eye(4)
    affine[:3, :3] = rotation * SPACING
    image = nibabel.Nifti1Image(scan(), affine)
    image.to_filename(tmp_path / "a.nii")
    (item,) = items(tmp_path / "a.nii")
    canonical = nibabel.as_closest_canonical(image)
    assert np.array_equal(item.value.voxels, canonical.get_fdata().transpose()) and item.value.oriented
    np.testing.assert_allclose(item.value.spacing_mm, canonical.header.get_zooms()[::-1], rtol=1e-5)


def test_stored_values_are_scaled_by_slope_and_intercept(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, -1000)
    image.to_filename(tmp_path / "a.nii")
    (item,) = items(tmp_path)
    stored = np.asarray(nibabel.load(tmp_path / "a.nii").dataobj)
    assert np.allclose(item.value.voxels, stored.transpose()) and stored.min() == -1000


def test_a_scan_without_orientation_lies_as_it_does(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(scan().transpose(2, 1, 0), None)
    image.header.set_zooms(SPACING[::-1])
    image.to_filename(tmp_path / "a.nii.gz")
    (item,) = items(tmp_path)
    assert np.array_equal(item.value.voxels, scan()) and item.value.spacing_mm == SPACING and not item.value.oriented


def test_slices_are_ordered_by_position_not_by_name(tmp_path: Path) -> None:
    value = np.round(scan() * 2 - 500)
    save_series(tmp_path / "p1" / "ct", value, ["3.dcm", "1.dcm", "4", "1.2.840.2"])
    (item,) = items(tmp_path)
    assert item.key == "p1/ct" and np.array_equal(item.value.voxels, value)
    assert item.value.spacing_mm == SPACING and item.value.oriented
    assert [item.key for item in items(tmp_path / "p1" / "ct")] == ["ct"]


def test_series_of_one_folder_stay_apart(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_series(tmp_path / "p1", scan(), ["a1", "a2", "a3", "a4"])
    save_series(tmp_path / "p1", scan() + 10, ["b1", "b2", "b3", "b4"], SeriesInstanceUID=f"{SERIES}.2")
    found = {item.key: item.value.voxels for item in items(tmp_path)}
    assert found.keys() == {"p1/a1", "p1/b1"} and "2 series" in capfd.readouterr().err
    assert np.array_equal(found["p1/a1"] + 10, found["p1/b1"])


def test_series_in_archives_are_read(tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        save_series(tmp_path / "raw" / name, 2 * scan(), ["1.dcm", "2.dcm", "3.dcm", "4.dcm"])
    shutil.make_archive(str(tmp_path / "scans"), "zip", tmp_path / "raw")
    found = {item.key: item.value for item in items(tmp_path / "scans.zip")}
    assert found.keys() == {"p1", "p2"} and all(np.array_equal(value.voxels, 2 * scan()) for value in found.values())
    with tarfile.open(tmp_path / "mixed.tar", "w") as archive:
        for number in range(1, 5):
            for name in ("p1", "p2"):
                archive.add(tmp_path / "raw" / name / f"{number}.dcm", f"{name}/{number}.dcm")
    mixed = {item.key: item.value for item in items(tmp_path / "mixed.tar")}
    assert mixed.keys() == {"p1", "p2"} and all(np.array_equal(value.voxels, 2 * scan()) for value in mixed.values())


def test_a_series_that_a_cut_archive_shortens_is_left_out(tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        save_series(tmp_path / "raw" / name, scan(), ["1.dcm", "2.dcm", "3.dcm", "4.dcm"])
    with tarfile.open(tmp_path / "scans.tar", "w") as archive:
        archive.add(tmp_path / "raw", "")
    with tarfile.open(tmp_path / "scans.tar") as archive:
        last = archive.getmembers()[-1]
    (tmp_path / "scans.tar").write_bytes((tmp_path / "scans.tar").read_bytes()[: last.offset])  # whole members, but for the last one
    whole = "p1" if last.name.startswith("p2") else "p2"
    assert [item.key for item in items(tmp_path / "scans.tar", on_error="skip")] == [whole]


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"ImagePositionPatient": [-7, -9, 130]}, r"130|apart, and most slices 3 mm"),
        ({"ImagePositionPatient": [-7, -9, 103]}, "lie at the same place"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "differ in size, direction"),
        ({"PixelSpacing": [1, 1]}, "differ in size, direction"),
        ({"ImagePositionPatient": [-7, 3, 109]}, "shifted against each other"),
        ({"ImagePositionPatient": None}, "ImagePositionPatient"),
    ],
)
def test_a_slice_that_does_not_fit_is_refused(elements: dict, reason: str, tmp_path: Path) -> None:
    save_series(tmp_path / "p1", scan(), ["1.dcm", "2.dcm", "3.dcm", "4.dcm"])
    odd = pydicom.dcmread(tmp_path / "p1" / "4.dcm")
    for name, value in elements.items():
        setattr(odd, name, value)
    odd.save_as(tmp_path / "p1" / "4.dcm")
    with pytest.raises(DataError, match=reason):
        items(tmp_path)


def test_missing_and_broken_slices_are_refused(tmp_path: Path) -> None:
    save_series(tmp_path / "p1", scan((6, 6, 8)), [f"{number}.dcm" for number in range(6)])
    (tmp_path / "p1" / "3.dcm").unlink()
    with pytest.raises(DataError, match=r"2\.dcm and .*4\.dcm are 6 mm apart, and most slices 3 mm: some are missing"):
        items(tmp_path)
    save_series(tmp_path / "p2", scan(), ["1.dcm", "2.dcm", "3.dcm", "4.dcm"])
    (tmp_path / "p1" / "5.dcm").write_bytes(b"broken")  # the last one: no gap would show that it is not there
    assert [item.key for item in items(tmp_path, on_error="skip")] == ["p2"]
    for number in (2, 3, 4):
        (tmp_path / "p2" / f"{number}.dcm").unlink()
    with pytest.raises(DataError, match=r"one slice, which is no volume.*--skip-other"):
        items(tmp_path / "p2")


def enhanced(path: Path, value: np.ndarray, order: list[int]) -> None:
    """Write a file of several frames in an order of their own, each saying where it lies and how its numbers are scaled."""
    from pydicom.dataset import Dataset

    def group(name: str, **elements: Any) -> Dataset:
        inner, outer = Dataset(), Dataset()
        for key, element in elements.items():
            setattr(inner, key, element)
        setattr(outer, name, [inner])
        return outer

    shared = group("PixelMeasuresSequence", PixelSpacing=list(SPACING[1:]))
    shared.update(group("PlaneOrientationSequence", ImageOrientationPatient=ACROSS))
    shared.update(group("PixelValueTransformationSequence", RescaleSlope=1, RescaleIntercept=-1024))
    frames = [group("PlanePositionSequence", ImagePositionPatient=[0, 0, SPACING[0] * place]) for place in order]
    pixels = (value[order][:, ::-1, ::-1] + 1024).astype(np.int16)
    groups = {"SharedFunctionalGroupsSequence": [shared], "PerFrameFunctionalGroupsSequence": frames}
    save_dicom(path, pixels, NumberOfFrames=len(order), **groups)


def test_frames_of_one_file_are_ordered_by_position(tmp_path: Path) -> None:
    enhanced(tmp_path / "p1.dcm", scan(), [2, 0, 3, 1])
    enhanced(tmp_path / "p2.dcm", scan(), [0, 1, 2, 3])
    found = {item.key: item.value for item in items(tmp_path)}
    assert found.keys() == {"p1", "p2"}
    assert all(np.array_equal(value.voxels, scan()) and value.spacing_mm == SPACING for value in found.values())
    save_dicom(tmp_path / "p3.dcm", np.zeros((3, 4, 4), np.uint8), NumberOfFrames=3)
    with pytest.raises(DataError, match=r"p3\.dcm, frame 1.*ImagePositionPatient"):
        items(tmp_path)


def test_frames_that_state_their_units_twice_are_scaled_once(tmp_path: Path) -> None:
    enhanced(tmp_path / "p1.dcm", scan(), [0, 1, 2, 3])
    dataset = pydicom.dcmread(tmp_path / "p1.dcm")
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.save_as(tmp_path / "p1.dcm")
    assert np.array_equal(items(tmp_path)[0].value.voxels, scan())
    del dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    dataset.save_as(tmp_path / "p1.dcm")
    assert np.array_equal(items(tmp_path)[0].value.voxels, scan()), "what is stated of all holds where frames state nothing"


def divided(folder: Path, numbers: dict[str, list[int]], num_slices: int = 8, **elements: Any) -> np.ndarray:
    """Write the slices of one series to several folders, by their numbers."""
    value = np.round(scan((num_slices, *SIZE[1:])) * 2)
    for name, chosen in numbers.items():
        for number in chosen:
            position = [-7.0, -9.0, 100 + SPACING[0] * number]
            save_series(folder / name, value[number : number + 1], [f"{number}.dcm"], ImagePositionPatient=position, **elements)
    return value


@pytest.mark.parametrize("numbers", [([0, 1, 2], [3, 4, 5, 6, 7]), ([0, 2, 4, 6], [1, 3, 5, 7]), ([7], list(range(7)))])
def test_a_series_divided_over_folders_is_one_scan(numbers: tuple, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    value = divided(tmp_path / "p1", dict(zip("ab", numbers, strict=True)))
    (item,) = items(tmp_path)
    assert np.array_equal(item.value.voxels, value) and item.value.spacing_mm == SPACING
    assert item.key == ("p1/b" if len(numbers[1]) > 4 else "p1/a") and "one series, which are read as one scan" in capfd.readouterr().err
    shutil.make_archive(str(tmp_path / "scans"), "tar", tmp_path / "p1")
    assert np.array_equal(items(tmp_path / "scans.tar")[0].value.voxels, value)


def test_parts_of_a_series_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    divided(tmp_path, {"a": [0, 1, 2], "b": [4, 5, 6, 7]})
    save_series(tmp_path / "c", scan(), ["1", "2", "3", "4"], SeriesInstanceUID=f"{SERIES}.2")
    with pytest.raises(DataError, match=r"a and .*b hold slices of one series that make up neither.*some are missing"):
        items(tmp_path)
    assert [item.key for item in items(tmp_path, on_error="skip")] == ["c"]
    for name in "ab":
        shutil.make_archive(str(tmp_path / "packed" / name), "zip", tmp_path / name)
    with pytest.raises(DataError, match=r"parts of one scan.*Unpack the archives"):
        items(tmp_path / "packed", on_error="skip")


def test_copies_of_slices_count_once_and_copied_folders_stay(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_series(tmp_path / "a", 2 * scan(), ["1", "2", "3", "4"])
    shutil.copy(tmp_path / "a" / "2", tmp_path / "a" / "2 (copy)")
    (item,) = items(tmp_path)
    assert np.array_equal(item.value.voxels, 2 * scan()) and "copies of slices (1)" in capfd.readouterr().err
    (tmp_path / "a" / "2 (copy)").unlink()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert [item.key for item in items(tmp_path)] == ["a", "b"]
    (tmp_path / "b" / "3").unlink()  # a copy in part, whose slices are all in the other folder
    (item,) = items(tmp_path)
    assert item.key == "a" and np.array_equal(item.value.voxels, 2 * scan())


def test_one_identity_for_all_slices_makes_none_a_copy(tmp_path: Path) -> None:
    save_series(tmp_path / "a", np.zeros(SIZE), ["1", "2", "3", "4"], SOPInstanceUID=f"{SERIES}.5")
    assert items(tmp_path)[0].value.voxels.shape == SIZE


def test_a_localizer_is_left_out_where_that_is_asked_for(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_series(tmp_path / "p1", scan(), ["1", "2", "3", "4"])
    for number, axes in enumerate((ACROSS, [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1])):
        save_series(tmp_path / "p1", scan()[:1], [f"l{number}"], SeriesInstanceUID=f"{SERIES}.2", ImageOrientationPatient=axes)
    with pytest.raises(DataError, match=r"3 slices of the series of l0 are not parallel: a localizer.*--skip-other"):
        items(tmp_path)
    assert [item.key for item in items(tmp_path, skip_other=True)] == ["p1/1"]
    assert "left out (--skip-other): 1 DICOM series" in capfd.readouterr().err


def test_units_that_are_stated_in_part_count(tmp_path: Path) -> None:
    stored = scan()[:, ::-1, ::-1].astype(np.int16)
    for number, plane in enumerate(stored):
        where = {"ImagePositionPatient": [0, 0, SPACING[0] * number], "ImageOrientationPatient": ACROSS, "PixelSpacing": list(SPACING[1:])}
        save_dicom(tmp_path / f"{number}.dcm", plane, **where, RescaleSlope=2, RescaleIntercept=None)
    assert np.array_equal(items(tmp_path)[0].value.voxels, 2 * scan())


def test_slices_in_units_and_as_stored_are_not_mixed(tmp_path: Path) -> None:
    save_series(tmp_path / "p1", scan()[:3], ["1", "2", "3"])
    where = {"ImagePositionPatient": [-7.0, -9.0, 109], "ImageOrientationPatient": ACROSS, "PixelSpacing": [1.0, 0.5]}
    save_dicom(tmp_path / "p1" / "4", np.ones((6, 8), np.uint8), SeriesInstanceUID=SERIES, **where)
    with pytest.raises(DataError, match=r"16 bits with RescaleSlope in .*1, 8 bits without RescaleSlope in .*4\."):
        items(tmp_path)


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1000), ("meter", 0.001), ("mm", 1), ("unknown", 1)])
@pytest.mark.parametrize("affine", [np.diag([0.5, 1, 3, 1]), None])
def test_lengths_are_in_mm_whatever_the_unit(affine: Any, unit: str, factor: float, tmp_path: Path, capfd: Any) -> None:
    image = nibabel.Nifti1Image(scan().transpose(2, 1, 0), None if affine is None else np.diag([*[factor] * 3, 1]) @ affine)
    image.header.set_zooms([size * factor for size in SPACING[::-1]])
    image.header.set_xyzt_units(unit)
    image.to_filename(tmp_path / "a.nii.gz")
    (item,) = items(tmp_path)
    assert item.value.spacing_mm == pytest.approx(SPACING) and ("converted to mm" in capfd.readouterr().err) == (factor != 1)


def test_doubtful_affines_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    image = nibabel.Nifti1Image(scan().transpose(2, 1, 0), np.diag([0.5, 1, 3, 1]))
    image.set_qform(np.diag([-0.5, 1, 3, 1]), 1)
    image.set_sform(np.diag([0.5, 1, 3, 1]), 2)
    image.to_filename(tmp_path / "a.nii")
    (item,) = items(tmp_path)
    said = capfd.readouterr().err
    assert np.array_equal(item.value.voxels, scan()) and "a.nii disagree (RAS, 0.5 x 1 x 3 mm; LAS" in said and "right angles" not in said
    slanted = np.diag([0.5, 1, 3, 1.0])
    slanted[0, 1] = 0.6
    nibabel.Nifti1Image(scan().transpose(2, 1, 0), slanted).to_filename(tmp_path / "a.nii")
    items(tmp_path)
    assert "a.nii are not at right angles (59 degrees)" in capfd.readouterr().err


def test_arrays_beside_a_scan_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "a.npz", volume=scan(), mask=np.zeros(SIZE), grade=np.array([2]))
    (item,) = items(tmp_path, label_columns=("grade",))
    assert item.labels == {"grade": 2} and "mask (known: volume" in capfd.readouterr().err


def test_a_label_of_one_value_beside_a_volume_is_its_label(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for label in (2, np.array([2]), np.array([[2]])):
        np.savez(tmp_path / "a.npz", volume=scan(), label=label, dose=0.5)
        assert items(tmp_path / "a.npz")[0].labels == {"label": 2}
        assert "dose (known" in capfd.readouterr().err


def test_arrays_and_stacks_of_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", volume=scan(), spacing_mm=SPACING, grade=2)
    np.save(tmp_path / "b.npy", scan().astype(np.int16))
    np.savez(tmp_path / "c.npz", data=scan()[:, ::-1], affine=np.array([[0, 0, 0.5, 0], [0, -1, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1.0]]))
    found = {item.key: item for item in items(tmp_path)}
    assert all(np.array_equal(item.value.voxels, scan()) for item in found.values())
    assert items(tmp_path / "a.npz", label_columns=("grade",))[0].labels == {"grade": 2}
    assert [found[key].value.spacing_mm for key in "abc"] == [SPACING, None, SPACING]
    assert [found[key].value.oriented for key in "abc"] == [False, False, True]
    stack = tmp_path / "stack.npz"
    np.savez(stack, volumes=np.stack([scan(), scan() + 1]), id=np.array(["x", "y"]), grade=np.array([1, 2]))
    assert [(item.key, item.labels) for item in items(stack)] == [("x", {"grade": 1}), ("y", {"grade": 2})]
    medmnist = tmp_path / "organ.npz"
    np.savez(
        medmnist,
        train_images=np.zeros((2, 4, 4, 4), np.uint8),
        train_labels=np.array([[3], [5]]),
        valid_images=np.zeros((1, 4, 4, 4), np.uint8),
    )
    assert [item.labels["split"] for item in items(medmnist)] == ["train", "train", "valid"]
    assert [item.labels.get("label") for item in items(medmnist)] == [3, 5, None]


@pytest.mark.parametrize(
    ("save", "reason"),
    [
        (lambda path: nibabel.Nifti1Image(np.zeros((2, 3, 4, 5), np.float32), np.eye(4)).to_filename(path / "a.nii"), "four_to_three"),
        (lambda path: nibabel.Nifti1Image(np.full((2, 3, 4), np.nan, np.float32), np.eye(4)).to_filename(path / "a.nii"), "NaN"),
        (lambda path: nibabel.Nifti1Image(np.zeros((2, 3, 4), np.complex64), np.eye(4)).to_filename(path / "a.nii"), "complex64"),
        (lambda path: (path / "a.nii").write_bytes(b"no scan" * 90), "cannot be read"),
        (lambda path: np.save(path / "a.npy", np.zeros((3, 4))), "is no volume"),
        (lambda path: np.save(path / "a.npy", np.zeros((2, 3, 4, 3))), "channels"),
        (lambda path: np.savez(path / "a.npz", pixels=np.zeros((3, 4, 4))), "the arrays are: pixels"),
        (lambda path: np.savez(path / "a.npz", volume=scan(), spacing_mm=[1, 0, 1]), "three lengths"),
        (lambda path: np.savez(path / "a.npz", volume=scan(), affine=np.zeros((4, 4))), "says nothing"),
        (lambda path: np.savez(path / "a.npz", volume=scan().astype(str)), "is no volume"),
    ],
)
def test_what_is_no_volume_is_refused_by_name(save: Any, reason: str, tmp_path: Path) -> None:
    save(tmp_path)
    with pytest.raises(DataError, match=reason) as caught:
        items(tmp_path)
    assert "a.n" in str(caught.value)


def test_a_fourth_axis_of_one_is_none(tmp_path: Path) -> None:
    nibabel.Nifti1Image(scan().transpose(2, 1, 0)[..., None], np.eye(4)).to_filename(tmp_path / "a.nii")
    assert items(tmp_path)[0].value.voxels.shape == SIZE


def test_without_nibabel_it_says_what_to_install_and_writes_npz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_nifti(tmp_path / "a.nii", scan())
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(UsageError, match=r"nii needs nibabel.*mmtool\[medical\]"):
        items(tmp_path)
    monkeypatch.setattr("mmtool.tokenizers.volume.find_spec", lambda name: None)
    tokenizer = VolumePatchTokenizer.fit([scan()], {"patch": 2}, 0)
    assert tokenizer.write(scan(), tmp_path / "b").name == "b.npz"


def test_spacings_that_differ_are_named(capfd: pytest.CaptureFixture[str]) -> None:
    scans = [Volume(scan(), spacing, (1.0, 1.0, 1.0), True, None) for spacing in (SPACING, SPACING, (1.0, 1.0, 1.0))]
    with pytest.raises(UsageError, match=r"2 spacings: 3 x 1 x 0\.5 mm \(2\), 1 x 1 x 1 mm \(1\).*spacing_mm=any"):
        VolumePreparer.for_fitting(scans, {})
    values, settings = VolumePreparer.for_fitting(scans, {"spacing_mm": "any"})
    assert "2 spacings" in capfd.readouterr().err
    VolumePreparer(VolumePatchTokenizer.fit(values, {**settings, "patch": 2}, 0))(scans[2])
    values, settings = VolumePreparer.for_fitting(scans[:2], {})
    prepare = VolumePreparer(VolumePatchTokenizer.fit(values, {**settings, "patch": 2}, 0))
    assert np.array_equal(prepare(scans[0]), scan())
    with pytest.raises(DataError, match=r"measure 1 x 1 x 1 mm, those of the tokenizer 3 x 1 x 0\.5 mm"):
        prepare(scans[2])
    with pytest.raises(DataError, match="states no orientation"):
        prepare(scans[0]._replace(oriented=False))
    with pytest.raises(UsageError, match="1 of 2 scans state an orientation"):
        VolumePreparer.for_fitting([scans[0], scans[1]._replace(oriented=False)], {})


def test_a_range_is_kept_and_what_lies_beyond_is_counted(tmp_path: Path) -> None:
    for number in range(8):
        save_nifti(tmp_path / f"p{number}.nii.gz", scan())
    options = SourceOptions(value_range=(0, 100))
    summary = tokenize("volume", [tmp_path], tmp_path / "ct.tar", name="ct", scheme="patches", settings={"patch": 2}, options=options)
    assert summary.reconstruction["value_range"] == [0, 100] and summary.clipped == {"voxels": {"values": 91 * 8, "samples": 8}}
    tokens = open_token_set(tmp_path / "ct.tar")
    (decoded,) = from_bytes(tokens.tokenizers["ct"]).decode([tokens[0].tokens["ct"]])
    np.testing.assert_allclose(decoded, np.clip(scan(), 0, 100), atol=100 / 255 / 2 + 1e-4)
    with pytest.raises(UsageError, match="keeps values from 0 to 100"):
        again = {"tokenizer": tmp_path / "ct.tar", "options": SourceOptions(value_range=(0, 50))}
        tokenize("volume", [tmp_path / "p1.nii.gz"], tmp_path / "b.tar", name="ct", **again)


@pytest.mark.parametrize("scheme", ["codec", "patches"])
def test_tokens_hold_the_volume_on_a_grid_of_three_axes(scheme: str) -> None:
    values = [np.full((4, 8, 8), -1000, np.float32) for _ in range(12)]
    for number, value in enumerate(values):
        value[number % 4, 2:6, 2:6] = 400
    settings = {"patch": [2, 4, 4]}
    if scheme == "codec":
        tokenizer: Any = VolumeCodecTokenizer.fit(values, {**settings, "steps": 60, "width": 16, "codebook": 64}, 0)
        assert tokenizer.shape == (2, 2, 2) and tokenizer.report["mse"] < 0.1
    else:
        tokenizer = VolumePatchTokenizer.fit(values, settings, 0)
        assert tokenizer.shape == (2, 2, 2, 32)
    tokens = tokenizer.encode(values[:3])
    decoded = tokenizer.decode(tokens)
    assert all(len(rows) == 8 for rows in tokens) and decoded[0].shape == (4, 8, 8) and decoded[0].dtype == np.float32
    assert all(value.min() >= -1000 and value.max() <= 400 for value in decoded)
    if scheme == "patches":
        assert np.abs(decoded[1] - values[1]).max() <= tokenizer.report["step"] / 2
        levels = (values[1] + 1000) / 1400 * 255
        assert np.array_equal(tokens[1][4 * 0 + 2 * 1 + 0], levels[0:2, 4:8, 0:4].reshape(-1).round()), "depth, row, column"
    copy = from_bytes(to_bytes(tokenizer))
    assert fingerprint(copy) == fingerprint(tokenizer) and all(map(np.array_equal, copy.encode(values[:3]), tokens))
    with pytest.raises(DataError, match="4 x 8 x 9 voxels, the tokenizer 4 x 8 x 8"):
        tokenizer.encode([np.zeros((4, 8, 9), np.float32)])


@pytest.mark.parametrize(
    ("values", "settings", "reason"),
    [
        ([scan(), scan((4, 6, 9))], {}, "2 sizes.*--set size"),
        ([scan()], {"patch": 5}, "do not tile 4 x 6 x 8"),
        ([scan()], {"size": [4, 6]}, "is no size"),
        ([scan()], {"write_as": "dcm"}, "nii.gz, npz"),
        ([scan()], {"value_range": [5, 5]}, "is no range"),
        ([scan()], {"spacing_mm": [1, 1]}, "is no spacing"),
        ([], {}, "no training volumes"),
    ],
)
def test_impossible_settings_are_refused(values: list, settings: dict, reason: str) -> None:
    with pytest.raises((DataError, UsageError), match=reason):
        VolumePatchTokenizer.fit(values, settings, 0)


def test_volumes_of_other_sizes_are_scaled_where_a_size_is_asked_for() -> None:
    tokenizer = VolumePatchTokenizer.fit([np.ones((8, 8, 8), np.float32), np.zeros((2, 4, 6), np.float32)], {"size": 4, "patch": 2}, 0)
    value = np.zeros((8, 8, 8), np.float32)
    value[4:] = 1
    (decoded,) = tokenizer.decode(tokenizer.encode([value]))
    assert decoded.shape == (4, 4, 4) and decoded.mean((1, 2)).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("write_as", ["nii.gz", "npz"])
@pytest.mark.parametrize("oriented", [True, False])
def test_what_is_written_is_read_again(write_as: str, oriented: bool, tmp_path: Path) -> None:
    settings = {"patch": 2, "write_as": write_as, "oriented": oriented, "extent_mm": [12, 6, 4]}
    tokenizer = VolumePatchTokenizer.fit([scan()], settings, 0)
    path = tokenizer.write(scan(), tmp_path / "a")
    assert path.name == f"a.{write_as}"
    (item,) = items(path)
    assert np.array_equal(item.value.voxels, scan()) and item.value.spacing_mm == SPACING and item.value.oriented == oriented
    first = path.read_bytes()
    assert tokenizer.write(scan(), tmp_path / "b").read_bytes() == first


def test_a_thumbnail_shows_slices_as_they_are_looked_at() -> None:
    value = np.zeros((8, 4, 4), np.float32) + np.arange(8, dtype=np.float32)[:, None, None] * 30
    value[:, 3, 3] = 255  # front, and right
    draw = Thumbnails(VolumePatchTokenizer.fit([value], {"patch": 4, "oriented": True, "value_range": [0, 255]}, 0), [value], (80, 80))
    pixels = np.asarray(draw(value))[..., 0]
    assert [int(pixels[y, x]) for y in (20, 60) for x in (20, 60)] == [30, 90, 150, 210]
    assert pixels[5, 5] == 255 and pixels[35, 35] == 30, "the front is up, the right on the left"


@pytest.mark.thorough
@pytest.mark.parametrize(("scheme", "method"), [("codec", "commutative"), ("patches", "m3ae")])
def test_volumes_go_through_every_stage(scheme: str, method: str, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    parts = ("head", "chest", "hip", "foot")
    for number in range(48):
        value = np.random.default_rng(number).normal(-900, 20, (8, 8, 8)).astype(np.float32)
        value[2 * (number % 4) : 2 * (number % 4) + 2, 2:6, 2:6] = 300
        save_nifti(folder / f"p{number:02d}.nii.gz", value, "LPS" if number % 2 else "RAS")
    notes = [f"p{i:02d},it is bright at the {parts[i % 4]},{parts[i % 4]}" for i in range(48)]
    (tmp_path / "notes.csv").write_text("key,text,part\n" + "\n".join(notes) + "\n")
    settings = {"patch": 4, **({"steps": 40, "width": 16, "codebook": 64} if scheme == "codec" else {})}
    summary = tokenize("volume", [folder], tmp_path / "ct.tar", name="ct", scheme=scheme, settings=settings)
    assert (summary.kind, summary.samples, summary.mean_length) == ("volume", 48, 8)
    tokenize("text", [tmp_path / "notes.csv"], tmp_path / "text.tar", name="text", options=SourceOptions(label_columns=("part",)))
    shard([tmp_path / "ct.tar", tmp_path / "text.tar"], tmp_path / "shards", protocol=MissingnessProtocol(missing_rate=0.2))
    small = {"preset": "tiny", "batch_tokens": 512, "compile": "off", "shape": {"depth": 1, "width": 32}, "warmup_steps": 2}
    pretrain(resolve(None, {**small, "method": method, "steps": 20, "learning_rate": 0.01}), tmp_path / "shards", tmp_path / "run")
    test = open_token_set(tmp_path / "shards", "test")
    impute_files(tmp_path / "run", test, tmp_path / "imputed", ImputeOptions(have=("text",), want=("ct",)))
    found = items(tmp_path / "imputed/ct")
    assert len(found) == len(test) and all(item.value.voxels.shape == (8, 8, 8) and item.value.spacing_mm == SPACING for item in found)
    config = EvaluationConfig(tasks=("impute", "reconstruct") if method == "m3ae" else ())
    evaluate([tmp_path / "run"], tmp_path / "shards/test", tmp_path / "report", config)
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["meta"]["upper_bounds"]["accuracy"]["ct"]["value"] > 0.8, "four parts are told apart"
    assert list((tmp_path / "report/volume").rglob("*.nii.gz")) and (tmp_path / "report/contact_sheet.png").exists()


def test_splits_of_pictures_are_no_volumes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=np.zeros((5, 8, 9, 3), np.uint8), y_train=np.arange(5))
    with pytest.raises(DataError, match="has channels"):
        list(read_items("volume", [tmp_path / "a.npz"], SourceOptions()))
