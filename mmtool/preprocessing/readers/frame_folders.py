"""Videos as folders of pictures, a frame each: `walk/0001.png`, `walk/0002.png` ... are the frames of the video `walk`."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path, PurePosixPath
from statistics import median_low

from mmtool.common.errors import DataError
from mmtool.kinds import KINDS
from mmtool.preprocessing.readers.entries import Broken, SourceOptions
from mmtool.preprocessing.readers.other_formats import OtherFormats
from mmtool.preprocessing.readers.raw_files import RawFile, find_files, held, split_name

FORMAT = "frames"  # of a folder of frames, as others are png or gif
NO_PICTURES = ("gif", "idx", "npz", "npy", "parquet", "arrow", "dcm", "dicom")  # but several, or one that has a place of its own
PICTURES = tuple(name for name in KINDS["image"].suffixes if name not in NO_PICTURES)
TIME_STAMP = 10**9  # seconds since 1970, and what counts faster
FRAME_NUMBER = re.compile(r"(?P<name>.*?)(?P<number>\d+)\D*", re.DOTALL)


@dataclass(frozen=True)
class FrameFolder(RawFile):
    """A folder whose pictures are the frames of one video, in their order."""

    frames: Sequence[RawFile] = ()


def frame_folders(paths: Sequence[Path], options: SourceOptions, others: OtherFormats, repeated: bool) -> Iterator[FrameFolder | Broken]:
    """The folders below `paths`, in archives as well, that hold pictures; their keys are their paths below what was given.

    repeated: folders of several archives have one name, so that keys begin with that of the archive. Raises DataError where there are no
    pictures, and for single pictures. A folder in which a frame is missing is given as `Broken`. Frames in archives are in memory until
    their folder is complete, for they cannot be read once the archive is closed.
    """
    for path in paths:
        if path.is_file() and split_name(path.name)[1] in PICTURES:
            raise DataError("a single picture is no video.", where=path, fix="Give the folder whose pictures are the frames.")
        missing, doubtful = _survey(path, options)
        complete: dict[Home, list[RawFile]] = defaultdict(list)
        for file in map(held, find_files("video", [path], options.labels_path, others, PICTURES)):
            if isinstance(file, Broken):
                yield file
                continue
            home = home_of(file)
            complete[home].append(file)
            missing[home] -= 1
            if not missing[home]:
                yield _of_files(complete.pop(home), _key(home, path, repeated), home in doubtful)
    _refuse_videos(others, options)


Home = tuple[Path | None, str]  # archive and folder of a file


def home_of(file: RawFile) -> Home:
    return file.archive, str(PurePosixPath(file.stem).parent)


def _survey(path: Path, options: SourceOptions) -> tuple[Counter[Home], set[Home]]:
    """How many frames each folder has, for those of an archive may lie apart in it; and the folders that may have lost some to damage of
    their archive: those before and behind it, or all, where the frames of one lie apart."""
    counts: Counter[Home] = Counter()
    runs: dict[Path, list[Home | None]] = defaultdict(list)  # the folders of an archive as they follow each other, None: damage
    for file in find_files("video", [path], options.labels_path, OtherFormats(), PICTURES):
        if isinstance(file, Broken):
            runs[Path(file.where)].append(None)
            continue
        home = home_of(file)
        counts[home] += 1
        if file.archive is not None and runs[file.archive][-1:] != [home]:
            runs[file.archive].append(home)
    return counts, {home for run in runs.values() if None in run for home in doubtful_homes(run)}


def doubtful_homes(run: Sequence[Home | None]) -> Iterator[Home]:
    """The folders of an archive that damage to it (None), where it occurred, may have cost files; all, where the files of one lie apart."""
    known = [home for home in run if home is not None]
    apart = len(set(known)) < len([home for home, _ in groupby(known)])
    for place, home in enumerate(run):
        if home is not None and (apart or None in run[max(0, place - 1) : place + 2]):
            yield home


def _key(home: Home, path: Path, repeated: bool) -> str:
    """The name of a video: its folder below what was given, or what was given itself."""
    archive, folder = home
    if archive is None:
        return path.resolve().name if folder == "." else folder
    name = split_name(archive.name)[0]
    return name if folder == "." else f"{name}/{folder}" if repeated else folder


def _refuse_videos(others: OtherFormats, options: SourceOptions) -> None:
    """Raise DataError where videos of other formats lie beside the folders of frames."""
    left_out = [form for form in KINDS["video"].suffixes if others.counts[f".{form}"]]
    if left_out and not options.skip_other:
        what = f"videos that are no folders of frames would be left out: {others}."
        raise DataError(what, fix="Tokenize them apart, without --frames, or leave them out with --skip-other.")


def _of_files(files: Sequence[RawFile], key: str, is_doubtful: bool) -> FrameFolder | Broken:
    where = str(PurePosixPath(files[0].where).parent)
    try:
        if is_doubtful:
            raise DataError("the archive is damaged where the video lies, so that frames may be missing.", where=where, fix="Get it again.")
        frames = in_order(files, where)
    except DataError as error:
        return Broken(where, error, key)
    return FrameFolder(where, key, FORMAT, frames[0].read, archive=frames[0].archive, frames=frames)


def in_order(frames: Sequence[RawFile], where: str) -> list[RawFile]:
    """The frames by their names, in which numbers count by value: `2.png` before `10.png`.

    Raises DataError where names differ in more than a number, or numbers are not evenly spaced: a missing frame would pass unseen.
    Time stamps may be half a frame off.
    """
    matches = [FRAME_NUMBER.fullmatch(PurePosixPath(file.stem).name) for file in frames]
    if not any(matches):
        return sorted(frames, key=lambda file: file.stem)
    numbered = [(int(match["number"]), match["name"], file) for match, file in zip(matches, frames, strict=True) if match]
    if len(numbered) < len(frames) or len({name for _, name, _ in numbered}) > 1:
        odd = next((file for match, file in zip(matches, frames, strict=True) if not match), frames[-1])
        what = f"pictures of one video are called alike, with a number; {PurePosixPath(odd.where).name} is not."
        raise DataError(what, where=where, fix="Make a folder of each video, and move other pictures elsewhere.")
    numbered.sort(key=itemgetter(0))
    ordered = [file for _, _, file in numbered]
    steps = [later - earlier for (earlier, *_), (later, *_) in pairwise(numbered)]
    usual = median_low(steps) if steps else 1
    leeway = usual / 2 if numbered[0][0] >= TIME_STAMP else 0  # clocks jitter
    wrong = next((place for place, step in enumerate(steps) if not step or abs(step - usual) > leeway), None)
    if wrong is not None:
        first, second = (PurePosixPath(file.where).name for file in ordered[wrong : wrong + 2])
        what = f"{second} follows {first}, where frames are numbered by {usual}: some are missing, or there twice."
        raise DataError(what, where=where, fix="Complete the folder, or leave it out.")
    return ordered
