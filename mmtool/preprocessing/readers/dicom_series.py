"""Which DICOM files are the slices of one scan: those of one series, in one folder or divided over several.

Copies of a slice count once. Folders that hold one series are one scan where their slices fit between or behind each other, and scans of
their own where each is whole (points in time, copies of a folder); any other series is refused, for it would become parts of scans.
"""

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.dicom import is_dicom, num_frames, read_dicom
from mmtool.preprocessing.readers.dicom_slices import SAME_GAP, SAME_PLACE_MM, geometry_of
from mmtool.preprocessing.readers.entries import Broken, Note
from mmtool.preprocessing.readers.frame_folders import Home, doubtful_homes
from mmtool.preprocessing.readers.raw_files import RawFile, held, split_name
from mmtool.preprocessing.readers.read_errors import OtherContent

PARALLEL = 0.9  # cosine of the normals of slices that may be of one scan


@dataclass(frozen=True)
class Series(RawFile):
    """DICOM files that are the slices of one scan, in any order. no_scan: why they are none, as a localizer is not."""

    slices: Sequence[RawFile] = ()
    no_scan: str = ""


class Slice(NamedTuple):
    """A file and what its header says. uid: of this very picture; position: (3,) mm, normal: (3,), both empty where they are not said."""

    file: RawFile
    uid: str
    position: np.ndarray
    normal: np.ndarray


@dataclass
class Part:
    """The slices of a series in one folder. alone: whether the folder holds no other series."""

    home: Home
    slices: list[Slice]
    alone: bool = True


Identity = tuple[str, str]  # of a series: of its study and of itself
Found = RawFile | Broken | Note


def gather_series(files: Iterable[Found]) -> Iterator[Found]:
    """The files, DICOM slices of one series as a `Series` behind the others, those of an archive behind the others of the archive.

    The slices of an archive are in memory until it is read. A folder that damage to its archive may have cost slices is `Broken`. Raises
    DataError where an archive seems to hold a part of a series of another one.
    """
    on_disk, packed = _Slices(), _Slices()
    earlier: dict[Identity, Part] = {}
    archive: Path | None = None
    for file in files:
        if isinstance(file, Broken):
            packed.damaged(Path(file.where))
        if not isinstance(file, RawFile) or not is_dicom(file, "volume"):
            yield file
        elif file.archive is None:
            on_disk.add(file)
        else:
            if file.archive != archive:
                yield from packed.series(earlier)
                archive, packed = file.archive, _Slices(packed.runs)
            packed.add(held(file))  # type: ignore[arg-type]  # a file stays one
    yield from packed.series(earlier)
    yield from on_disk.series(earlier)


class _Slices:
    """The DICOM files of an archive, or of all folders. runs: of each archive its folders as they follow each other, None: damage."""

    def __init__(self, runs: dict[Path | None, list[Home | None]] | None = None) -> None:
        self.runs = defaultdict(list) if runs is None else runs
        self._files: dict[Home, list[RawFile]] = {}

    def damaged(self, archive: Path) -> None:
        self.runs[archive].append(None)

    def add(self, file: RawFile) -> None:
        home = (file.archive, str(PurePosixPath(file.where).parent))
        self._files.setdefault(home, []).append(file)
        if self.runs[file.archive][-1:] != [home]:
            self.runs[file.archive].append(home)

    def series(self, earlier: dict[Identity, Part]) -> Iterator[Found]:
        """The scans. earlier: those of other archives, to which these are added."""
        parts: dict[Identity, list[Part]] = defaultdict(list)
        for (archive, where), files in self._files.items():
            run = self.runs[archive] if archive else []
            if None in run and (archive, where) in doubtful_homes(run):
                yield Broken(where, DataError("the archive is damaged, so that slices may be missing.", where=where, fix="Get it again."))
                continue
            found = yield from _of_folder((archive, where), files)
            for identity, part in found.items():
                parts[identity].append(part)
        for identity, (first, *rest) in parts.items():
            if identity in earlier and identity != ("", ""):
                _check_apart([earlier[identity], first, *rest])
            earlier.setdefault(identity, _without_files(first))
            yield from _scans([first, *rest]) if any(identity) else map(_scan, (first, *rest))


def _of_folder(home: Home, files: Sequence[RawFile]) -> Generator[Found, None, dict[Identity, Part]]:
    """Yields files of several frames and remarks, and gives the series of the folder; none where one of the files is broken."""
    groups: dict[Identity, list[Slice]] = {}
    several: list[RawFile] = []
    for file in files:
        try:
            dataset = read_dicom(file, pixels=False)
        except OtherContent:
            yield file  # its reader says so
            continue
        except DataError as error:
            yield Broken(home[1], error)  # which may be a slice of any
            return {}
        if num_frames(dataset) > 1:
            several.append(file)
        else:
            identity = (str(dataset.get("StudyInstanceUID", "")), str(dataset.get("SeriesInstanceUID", "")))
            groups.setdefault(identity, []).append(_slice(file, dataset))
    yield from several
    if len(groups) > 1:
        text = f"{home[1]} holds {len(groups)} series, whose keys are the names of their first files (so do others like it)"
        yield Note("series", text)
    found = {}
    for identity, slices in groups.items():
        once = _without_copies(slices)
        if len(once) < len(slices):
            text = f"{home[1]} holds copies of slices ({len(slices) - len(once)}), which are left out (so are others like them)"
            yield Note("copies", text)
        found[identity] = Part(home, once, len(groups) == 1)
    return found


def _slice(file: RawFile, dataset: Any) -> Slice:
    numbers = [np.array([] if value is None else value, np.float64).reshape(-1) for value in geometry_of(dataset)[:2]]
    position, axes = (array if array.size == size else np.zeros(0) for array, size in zip(numbers, (3, 6), strict=True))
    normal = np.cross(axes[:3], axes[3:]) if axes.size else axes
    return Slice(file, str(dataset.get("SOPInstanceUID", "")), position, normal)


def _without_copies(slices: Sequence[Slice]) -> list[Slice]:
    """Each picture once: files of one identity, place and pixels are copies."""
    kept: dict[tuple[str, ...], list[Slice]] = defaultdict(list)
    for piece in slices:
        same = kept[piece.uid, *map(str, piece.position)]
        if not piece.uid or not any(_pixels(other) == _pixels(piece) for other in same):
            same.append(piece)
    return [piece for same in kept.values() for piece in same]


def _pixels(piece: Slice) -> Any:
    return read_dicom(piece.file).get("PixelData")


def _scans(parts: Sequence[Part]) -> Iterator[Found]:
    """One series in one folder or several: one scan, or one in each."""
    if len(parts) == 1:
        yield _scan(parts[0])
        return
    wheres = [part.home[1] for part in parts]
    listed = f"{wheres[0]} and {wheres[1]}" + (f" and {len(wheres) - 2} more folders" if len(wheres) > 2 else "")
    uids = [{piece.uid for piece in part.slices} for part in parts]
    if not all(one == uids[0] for one in uids) and _is_even(joined := _joined(parts)):
        yield Note("divided series", f"{listed} hold the slices of one series, which are read as one scan (so are others like them)")
        yield _scan(joined)
    elif _are_whole(parts):
        yield Note("series alike", f"{listed} hold whole scans of one series, each a sample of its own (so do others like them)")
        yield from map(_scan, parts)
    else:
        what = f"{listed} hold slices of one series that make up neither one scan nor one each: some are missing, or there twice."
        fix = "Put all slices of a scan into one folder; where each holds a whole one, convert them with dcm2niix, or use --on-error skip."
        yield from (Broken(where, DataError(what, where=where, fix=fix)) for where in wheres)


def _joined(parts: Sequence[Part]) -> Part:
    """One scan, called like the folder that holds most of it."""
    most = max(parts, key=lambda part: len(part.slices))
    ordered = [most, *(part for part in parts if part is not most)]
    return Part(most.home, _without_copies([piece for part in ordered for piece in part.slices]), most.alone)


def _check_apart(parts: Sequence[Part]) -> None:
    """Raise DataError where folders in several archives seem to hold parts of one scan, which is never skipped: the first may be read."""
    for one, other in combinations(parts, 2):
        if one.home[0] != other.home[0] and not _are_whole([one, other]):
            what = f"{one.home[1]} and {other.home[1]} hold slices of one series, as parts of one scan do."
            raise DataError(what, where=other.home[1], fix="Unpack the archives into one folder, or leave one of them out.")


def _without_files(part: Part) -> Part:
    """What is to be known of a part when it is read: no content of its files."""
    return replace(part, slices=[piece._replace(file=None) for piece in part.slices])  # type: ignore[arg-type]


def _are_whole(parts: Sequence[Part]) -> bool:
    """Whether each folder holds a scan without gaps, and no two lie behind each other, as halves do."""
    if not all(map(_is_even, parts)):
        return False
    normal = parts[0].slices[0].normal
    ends = [(min(heights), max(heights)) for heights in ([float(piece.position @ normal) for piece in part.slices] for part in parts)]
    return all(one[0] <= other[1] and other[0] <= one[1] for one, other in combinations(ends, 2))


def _is_even(part: Part) -> bool:
    """Whether the slices are parallel and evenly spaced, as those of one whole scan."""
    if len(part.slices) < 2 or any(not piece.position.size or not piece.normal.size for piece in part.slices):
        return False
    normal = part.slices[0].normal
    if not all(np.allclose(piece.normal, normal, atol=1e-2) for piece in part.slices):
        return False
    gaps = np.diff(np.sort(np.stack([piece.position for piece in part.slices]) @ normal))
    usual = float(np.median(gaps))
    return usual > SAME_PLACE_MM and bool((np.abs(gaps - usual) <= SAME_GAP * usual).all())


def _scan(part: Part) -> Series:
    """Called like its folder, or like its first file where that holds several."""
    first, *rest = [piece.file for piece in part.slices]
    key = _folder_key(first) if part.alone else first.stem
    no_scan = _reason(part.slices)
    return Series(part.home[1], key, first.format, first.read, first.path, first.archive, first.labels, (first, *rest), no_scan)


def _reason(slices: Sequence[Slice]) -> str:
    """Why these are no scan; empty where they may be one."""
    name = PurePosixPath(slices[0].file.where).name
    if len(slices) < 2:
        return f"the series of {name} has one slice, which is no volume"
    normals = [piece.normal for piece in slices if piece.normal.size]
    if all(2 * sum(abs(float(one @ other)) > PARALLEL for other in normals) <= len(slices) for one in normals) and normals:
        return f"the {len(slices)} slices of the series of {name} are not parallel: a localizer, it seems"
    return ""


def _folder_key(file: RawFile) -> str:
    """The folder of a file below what was given, or what was given itself."""
    below, where = PurePosixPath(file.stem).parent, PurePosixPath(file.where).parent
    if below.name:
        return below.as_posix()
    return split_name(where.name)[0] if file.archive else Path(where).resolve().name
