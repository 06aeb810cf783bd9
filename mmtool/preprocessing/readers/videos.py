"""Videos: animated GIFs, folders of frames, arrays of frames in npz and npy, and MP4, MOV, MKV, WebM and AVI through PyAV.

They are read whole, or cut into clips of one number of frames; and brought to the rate of a tokenizer.
"""

import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageSequence

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.keys import Keys
from mmtool.preprocessing.prepare import Preparer
from mmtool.preprocessing.readers.arrays import NPY_NAME, load_arrays
from mmtool.preprocessing.readers.clips import clip_entries, rate_stated, stacked_entries
from mmtool.preprocessing.readers.containers import KEEP_THE_REST, check_whole
from mmtool.preprocessing.readers.entries import Broken, Entry, LeftOut, Note, SourceOptions
from mmtool.preprocessing.readers.frame_folders import FrameFolder
from mmtool.preprocessing.readers.images import BROKEN, decode, to_uint8
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.read_errors import DeepImageError
from mmtool.preprocessing.readers.stacks import cells_of_single, check_axes, name_of_samples
from mmtool.preprocessing.readers.video_frames import sound_frames
from mmtool.tokenizers.base import PositiveNumber, check_settings

ARRAYS = ("frames", "video", "videos", NPY_NAME)  # names of the array of frames
RATES = ("rate_hz", "fps", "frame_rate")
STATE_RATE = "in an array `rate_hz` (npz)."
DEFAULT_DURATION_MS = 100  # of a frame of a GIF that states none, as browsers show it
MAX_FRAMES = 100_000
COLOURS = (1, 3)
SAY_AXES = (
    "Save a video as (frames, height, width, 3), or (frames, height, width, 1) if it is grey, and several of one length with one more axis "
    "in front: (videos, frames, height, width, 3 or 1)."
)


class Video(NamedTuple):
    """frames: (T, H, W, C) uint8, C 1 (grey) or 3; `rate_hz` of them in a second."""

    frames: np.ndarray
    rate_hz: float

    @property
    def steps(self) -> int:
        return len(self.frames)

    def cut(self, start: int, stop: int) -> "Video":
        return self._replace(frames=self.frames[start:stop])


class VideoPreparer(Preparer):
    """A `Video` -> (frames, H, W, C) uint8 at the tokenizer's rate."""

    def __call__(self, value: Any, where: object = None) -> Any:
        return at_rate(value, self.tokenizer.rate_hz)

    @classmethod
    def for_fitting(cls, values: Sequence[Any], settings: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """All at the rate of the settings, else the commonest."""
        rate_hz = settings.get("rate_hz", Counter(value.rate_hz for value in values).most_common(1)[0][0])
        check_settings({"rate_hz": rate_hz}, {"rate_hz": PositiveNumber}, "video")
        return [at_rate(value, rate_hz) for value in values], {**settings, "rate_hz": rate_hz}


def at_rate(video: Video, rate_hz: float) -> np.ndarray:
    """(T, H, W, C) uint8: at each moment the frame that is shown then."""
    if video.rate_hz == rate_hz:
        return video.frames
    moments = np.arange(max(1, round(len(video.frames) * rate_hz / video.rate_hz))) * video.rate_hz / rate_hz
    return video.frames[np.minimum((moments + 1e-6).astype(np.int64), len(video.frames) - 1)]


def read_videos(file: RawFile, options: SourceOptions) -> Iterator[Entry | Broken | LeftOut | Note | Keys]:
    """Entries of one file; their values are `Video`. With `options.clip` they are cut into clips `NAME-FRAME` of so many frames, which
    never part between splits, and the rest at the end is left out.

    Arrays are (frames, H, W) or (frames, H, W, 1 or 3), or a stack of such along a first axis, whose other arrays are keys and labels. What
    may as well have its colours in front, or be one picture, is refused.
    Their rate is an array `rate_hz`, or `options.source_rate_hz`.
    """
    if file.format in ("npz", "npy"):
        yield from _array_entries(file, options)
    elif isinstance(file, FrameFolder):
        yield from clip_entries(file.stem, file.where, partial(_of_folder, file, options), options, {})
    else:
        load = partial(_of_gif if file.format == "gif" else _of_container, file, options)
        yield from clip_entries(file.stem, file.where, load, options, {})


def _array_entries(file: RawFile, options: SourceOptions) -> Iterator[Entry | Broken | LeftOut | Note | Keys]:
    arrays = load_arrays(file)
    name = name_of_samples(arrays, ARRAYS)
    if name is None:
        what = f"there is no array of frames; the arrays are: {', '.join(arrays)}."
        raise DataError(what, where=file.where, fix="Call it `frames`.")
    frames = arrays.pop(name)
    rate_hz = rate_stated(next((arrays.pop(name) for name in RATES if name in arrays), None), file.where, options, STATE_RATE)
    if frames.ndim == 3 or (frames.ndim == 4 and frames.shape[3] not in COLOURS):
        check_axes(frames.shape, file.where, SAY_AXES)
    if frames.ndim == 5 or (frames.ndim == 4 and frames.shape[3] not in COLOURS):
        load = partial(_video, rate_hz=rate_hz, options=options)
        yield from stacked_entries(file, frames, arrays, load, options)
        return
    row, options = cells_of_single(arrays, options)
    yield from clip_entries(file.stem, file.where, partial(_video, frames, file.where, rate_hz, options), options, row)


def _video(frames: np.ndarray, where: str, rate_hz: float, options: SourceOptions) -> Video:
    frames = frames[..., None] if frames.ndim == 3 else frames
    if frames.ndim != 4 or frames.shape[3] not in COLOURS or not frames.size or frames.dtype.kind not in "buif":
        fix = "Save numbers as (frames, height, width) or (frames, height, width, 3)."
        raise DataError(f"an array of {frames.dtype} of shape {frames.shape} is no video.", where=where, fix=fix)
    return Video(to_uint8(frames, where, options), rate_hz)


def _of_folder(folder: FrameFolder, options: SourceOptions) -> Video:
    """The pictures of a folder, which are of one size; grey ones beside colours become colours."""
    rate_hz = rate_stated(None, folder.where, options, "save the frames with it as npz.")
    frames: list[np.ndarray] = []
    _check_range(folder, options)
    for file in folder.frames:
        frame = decode(file, options)
        frames.append(np.repeat(frame, COLOURS[-1] // frame.shape[2], axis=2))
        height, width = frame.shape[:2]
        _check_size(width, height, len(frames), folder.where, options)
        if frames[-1].shape != frames[0].shape:
            what = f"the frame has {width} x {height} pixels, the first of the folder {frames[0].shape[1]} x {frames[0].shape[0]}."
            raise DataError(what, where=file.where, fix="Bring the frames of a video to one size.")
    return Video(_grey(np.stack(frames)), rate_hz)


def _check_range(folder: FrameFolder, options: SourceOptions) -> None:
    """Raise DeepImageError with the range of all frames where they are deeper than 8 bits and none is declared."""
    errors = []
    for file in folder.frames:
        try:
            decode(file, options)
        except DeepImageError as error:
            errors.append(error)
            continue
        if not errors:
            return
    if errors:
        raise DeepImageError(folder.where, errors[0].dtype, min(error.low for error in errors), max(error.high for error in errors))


def _of_gif(file: RawFile, options: SourceOptions) -> Video:
    """The frames, each as often as its duration is a multiple of the shortest step that measures all; transparency lies over white."""
    frames, durations = [], []
    data = file.read()
    check_whole(data, file.format, file.where)
    try:
        with Image.open(io.BytesIO(data), formats=("GIF",)) as image:
            count = getattr(image, "n_frames", 1)
            _check_size(image.width, image.height, count, file.where, options)
            for frame in ImageSequence.Iterator(image):
                durations.append(round(frame.info.get("duration", 0)) or DEFAULT_DURATION_MS)
                whole = Image.alpha_composite(Image.new("RGBA", frame.size, "white"), frame.convert("RGBA")).convert("RGB")
                frames.append(np.asarray(whole))
    except BROKEN as error:
        what = f"the video cannot be decoded ({type(error).__name__})."
        raise DataError(what, where=file.where, fix="Get it again, or use --on-error skip.") from error
    step = math.gcd(*durations)
    total = sum(durations) // step
    _check_size(frames[0].shape[1], frames[0].shape[0], total, file.where, options)
    return Video(_grey(np.repeat(np.stack(frames), np.array(durations) // step, axis=0)), 1000 / step)


def _of_container(file: RawFile, options: SourceOptions) -> Video:
    """The frames of the first stream of pictures. Raises UsageError without PyAV, DataError where the file is cut or damaged."""
    try:
        import av
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[video]'`, or convert the file to gif or npz."
        raise UsageError(f"reading .{file.format} needs PyAV.", where=file.where, fix=fix) from error
    data = file.read()
    check_whole(data, file.format, file.where)
    frames: list[np.ndarray] = []
    try:
        with av.open(io.BytesIO(data), mode="r") as container:
            if not container.streams.video:
                raise DataError("the file holds no pictures.", where=file.where, fix="Leave it out.")
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate
            for frame in sound_frames(container, stream, file):
                _check_size(frame.width, frame.height, len(frames) + 1, file.where, options)
                frames.append(frame.to_ndarray(format="rgb24"))
    except av.FFmpegError as error:
        fix = KEEP_THE_REST.format(form=file.format)
        raise DataError(f"the video cannot be decoded ({error}).", where=file.where, fix=fix) from error
    if not frames or not rate:
        raise DataError("the video has no frames, or no rate.", where=file.where, fix="Get it again.")
    return Video(_grey(np.stack(frames)), float(rate))


def _grey(frames: np.ndarray) -> np.ndarray:
    """One channel where no frame has a colour."""
    return frames[..., :1] if (frames[..., :1] == frames).all() else frames


def _check_size(width: int, height: int, count: int, where: str, options: SourceOptions) -> None:
    """Raise DataError for a video that is too large to be held."""
    pixels = width * height * count
    if pixels > options.max_pixels or count > MAX_FRAMES:
        fix = "Scale or cut it, or raise the limit with --max-pixels."
        raise DataError(
            f"the video has {count:,} frames of {width} x {height}, more than {options.max_pixels:,} pixels.", where=where, fix=fix
        )
