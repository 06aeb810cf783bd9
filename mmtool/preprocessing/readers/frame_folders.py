"""Videos as folders of pictures, a frame each: `walk/0001.png`, `walk/0002.png` ... are the frames of the video `walk`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path, PurePosixPath
from statistics import median_low

from mmtool.common.errors import DataError
from mmtool.kinds import KINDS
from mmtool.preprocessing.readers.entries import Broken
from mmtool.preprocessing.readers.other_formats import OtherFormats
from mmtool.preprocessing.readers.raw_files import RawFile, find_files, split_name

FORMAT = "frames"  # of a folder of frames, as others are png or gif
PICTURES = tuple(name for name in KINDS["image"].suffixes if name not in ("gif", "idx", "npz", "npy", "parquet", "arrow"))
FRAME_NUMBER = re.compile(r"(?P<name>.*?)(?P<number>\d+)\D*", re.DOTALL)


@dataclass(frozen=True)
class FrameFolder(RawFile):
    """A folder whose pictures are the frames of one video, in their order."""

    frames: Sequence[RawFile] = ()


def frame_folders(paths: Sequence[Path], skip: Path | None, others: OtherFormats) -> Iterator[FrameFolder | Broken]:
    """The folders below `paths`, in archives as well, that hold pictures; their keys are their paths below what was given.

    skip: a file of labels. Raises DataError where there are no pictures. A folder in which a frame is missing is given as `Broken`.
    Members of an archive are in memory, a folder at a time, for they cannot be read once the archive is closed.
    """
    for path in paths:
        top = path.resolve().name if path.is_dir() else split_name(path.name)[0]
        for folder, files in groupby(map(_held, find_files("video", [path], skip, others, PICTURES)), _folder):
            if folder is None:
                yield from (file for file in files if isinstance(file, Broken))
            else:
                yield _of_files([file for file in files if isinstance(file, RawFile)], top if folder == "." else folder)


def _held(file: RawFile | Broken) -> RawFile | Broken:
    """The file in memory if it lies in an archive; one that cannot be read says so when its video is read."""
    if isinstance(file, Broken):
        return file
    try:
        return file.held()
    except DataError as error:
        return replace(file, read=partial(_fail, error))


def _fail(error: DataError) -> bytes:
    raise error


def _folder(file: RawFile | Broken) -> str | None:
    return str(PurePosixPath(file.stem).parent) if isinstance(file, RawFile) else None


def _of_files(files: Sequence[RawFile], key: str) -> FrameFolder | Broken:
    where = str(PurePosixPath(files[0].where).parent)
    try:
        frames = in_order(files, where)
    except DataError as error:
        return Broken(where, error, key)
    return FrameFolder(where, key, FORMAT, frames[0].read, archive=frames[0].archive, frames=frames)


def in_order(frames: Sequence[RawFile], where: str) -> list[RawFile]:
    """The frames by their names, in which numbers count by value: `2.png` before `10.png`.

    Raises DataError where names differ in more than a number, or numbers are not evenly spaced: a missing frame would pass unseen.
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
    wrong = next((place for place, step in enumerate(steps) if step != usual or not step), None)
    if wrong is not None:
        first, second = (PurePosixPath(file.where).name for file in ordered[wrong : wrong + 2])
        what = f"{second} follows {first}, where frames are numbered by {usual}: some are missing, or there twice."
        raise DataError(what, where=where, fix="Complete the folder, or leave it out.")
    return ordered
