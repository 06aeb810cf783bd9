"""The frames of a video that PyAV has opened, refused where one is damaged or many are missing, which FFmpeg conceals."""

import re
from collections.abc import Iterator
from typing import Any

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.containers import KEEP_THE_REST
from mmtool.preprocessing.readers.raw_files import RawFile

STOP_AT_ERRORS = {"err_detect": "explode"}  # of the decoder, which else fills what it cannot read with what is around
FREE_OF_ZEROS = ("h264", "hevc")  # no three bytes of zeros follow one another in their units (ITU-T H.264, 7.4.1)
BY_LENGTHS = b"\1"  # first byte of a stream whose units follow their lengths, with no zeros in between
HOLE = bytes(32)
DURATION_TAG = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")  # of streams in Matroska
MISSING_S, MISSING_SHARE = 0.5, 0.1  # that a whole video may lack of the length that it states


def sound_frames(container: Any, stream: Any, file: RawFile) -> Iterator[Any]:
    """The frames of a stream in their order. Raises DataError at a damaged one, and where they end long before the video should."""
    codec = stream.codec_context
    if codec is None:
        what = "the pictures are coded in a way that FFmpeg does not know, or the file is damaged."
        raise DataError(what, where=file.where, fix="Get it again, or convert it to mp4.")
    codec.options = STOP_AT_ERRORS
    has_no_zeros = codec.name in FREE_OF_ZEROS and bytes(codec.extradata or b"")[:1] == BY_LENGTHS
    length = _Length(1 / float(stream.average_rate or stream.guessed_rate or 1))
    for packet in container.demux(stream):
        frames = packet.decode()
        if packet.is_corrupt or (has_no_zeros and HOLE in bytes(packet)) or any(frame.is_corrupt for frame in frames):
            what = f"the video is damaged, after {length.count} frames or a few before."
            raise DataError(what, where=file.where, fix=KEEP_THE_REST.format(form=file.format))
        for frame in frames:
            length.add(frame)
            yield frame
    end_s, stated_s = length.end_s - length.first_s, _stated_s(stream, length.first_s)
    if end_s > 0 and end_s < stated_s - max(MISSING_S, MISSING_SHARE * stated_s):
        what = f"the video is cut or damaged: {stated_s:.1f} s stated, {end_s:.1f} s there."
        raise DataError(what, where=file.where, fix=KEEP_THE_REST.format(form=file.format))


class _Length:
    """Counts frames, and takes the time when they end from that of each (some lack it). frame_s: how long one is shown that does not say
    so."""

    def __init__(self, frame_s: float) -> None:
        self.count, self.frame_s = 0, frame_s
        self.first_s = self.end_s = 0.0

    def add(self, frame: Any) -> None:
        self.count += 1
        if frame.time is None:
            return
        shown_s = float(frame.duration * frame.time_base) if frame.duration else self.frame_s
        self.first_s = frame.time if self.end_s == 0 else self.first_s
        self.end_s = max(self.end_s, frame.time + shown_s)


def _stated_s(stream: Any, first_s: float) -> float:
    """The length that a file states of a stream of pictures, 0 where it states none. first_s: when these begin; Matroska's tag says when
    they end."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = DURATION_TAG.match(stream.metadata.get("DURATION", ""))
    return int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]) - first_s if tag else 0.0
