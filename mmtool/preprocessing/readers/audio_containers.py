"""The sound of MPEG-4 and AAC files (.m4a, .aac), through PyAV (the extra `video`)."""

import io

import numpy as np

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.readers.containers import check_whole
from mmtool.preprocessing.readers.durations import check_duration
from mmtool.preprocessing.readers.entries import SourceOptions
from mmtool.preprocessing.readers.raw_files import RawFile

SUFFIXES = ("m4a", "aac")
BRAND_PLACE, BRAND = slice(4, 8), b"ftyp"
MISSING_S = 0.2  # that a whole file may lack of the length that it states


def is_container(data: bytes, file_format: str) -> bool:
    """Whether a file holds sound as MPEG-4 does, by its content, or by its name where the content has no mark."""
    return data[BRAND_PLACE] == BRAND or file_format in SUFFIXES


def decode_container(data: bytes, file: RawFile, options: SourceOptions) -> tuple[np.ndarray, int]:
    """((T, channels) float32, sample rate in Hz) of the first stream of sound. Raises UsageError without PyAV, DataError where there is
    none, or it is damaged, cut or too long."""
    try:
        import av
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[video]'`, or convert the file: `ffmpeg -i in.m4a out.wav`."
        raise UsageError("reading this sound needs PyAV.", where=file.where, fix=fix) from error
    check_whole(data, file.format, file.where)
    parts: list[np.ndarray] = []
    try:
        with av.open(io.BytesIO(data), mode="r") as container:
            if not container.streams.audio:
                raise DataError("the file holds no sound.", where=file.where, fix="Leave it out.")
            stream = container.streams.audio[0]
            rate_hz, length = int(stream.rate), 0
            stated_s = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
            resampler = av.AudioResampler(format="fltp")
            for decoded in container.decode(stream):
                for frame in resampler.resample(decoded):
                    parts.append(frame.to_ndarray().T)
                    length += len(parts[-1])
                check_duration(length, rate_hz, options, file.where)
    except av.FFmpegError as error:
        raise DataError(f"the recording cannot be decoded ({error}).", where=file.where, fix="Get it again.") from error
    if not length:
        raise DataError("the recording is empty.", where=file.where, fix="Record it again, or leave it out.")
    if length / rate_hz < stated_s - MISSING_S:
        what = f"the recording is cut: {stated_s:.1f} s stated, {length / rate_hz:.1f} s there."
        raise DataError(what, where=file.where, fix="Get it again.")
    return np.concatenate(parts).astype(np.float32, copy=False), rate_hz
