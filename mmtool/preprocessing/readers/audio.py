"""WAV, FLAC, Ogg, MP3 and M4A recordings. libsndfile reads a cut file without a word, so lengths are checked against what files promise."""

import io
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import soundfile

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.audio_containers import decode_container, is_container
from mmtool.preprocessing.readers.durations import check_duration
from mmtool.preprocessing.readers.entries import Entry, SourceOptions
from mmtool.preprocessing.readers.file_columns import read_file_column
from mmtool.preprocessing.readers.mpeg_frames import count_samples, is_mpeg
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.rows import COLUMNAR

MAX_CHANNELS = 16  # channels x frames is what decoding allocates
MAX_DECODED_BYTES, SAMPLE_BYTES = 512 << 20, 4
CHANNELS = {"left": 0, "right": 1}
CANCELLED = 0.25  # of the level of the channels: what is left in their mean
OPPOSED = 0.9  # channels whose correlation is below the negative of this
MP3 = "MP3"
FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", MP3)
SIZE_IN_DS64 = 0xFFFFFFFF
OGG_HEADER_BYTES, OGG_LAST_PAGE = 27, 4


def read_audio(file: RawFile, options: SourceOptions) -> Iterator[Any]:
    """One recording per file, or per row of a column of files: ((T,) float32 mono, sample rate in Hz)."""
    if file.format in COLUMNAR:
        yield from read_file_column("audio", file, options)
    else:
        yield Entry(file.stem, file.where, partial(_mixed, file, options))


def _mixed(file: RawFile, options: SourceOptions) -> tuple[np.ndarray, int]:
    samples, rate_hz = decode_recording(file, options)
    if options.channel in CHANNELS:
        return samples[:, min(CHANNELS[options.channel], samples.shape[1] - 1)].copy(), rate_hz
    mixed = samples.mean(axis=1, dtype=np.float32)
    if options.channel is None and _cancel_out(samples, mixed):
        what = "the channels of the recording cancel each other: little is left in their mean."
        fix = "Take one with --channel left or right (mean: mix them all the same)."
        raise DataError(what, where=file.where, fix=fix)
    return mixed, rate_hz


def _cancel_out(samples: np.ndarray, mixed: np.ndarray) -> bool:
    """Whether two channels of (T, channels) run against each other, and little of them is left in the mean of all."""
    samples, mixed = samples - samples.mean(axis=0), mixed - mixed.mean()
    if _level(mixed) >= CANCELLED * _level(samples):
        return False
    products = samples.T @ samples
    norms = np.sqrt(np.diag(products))
    return bool((products < -OPPOSED * np.outer(norms, norms)).any())


def _level(samples: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def decode_recording(file: RawFile, options: SourceOptions, max_channels: int = MAX_CHANNELS) -> tuple[np.ndarray, int]:
    """((T, channels) float32, sample rate in Hz). Raises DataError where a recording is cut, too long, damaged or not finite, or has more
    channels."""
    data = file.read()
    if is_container(data, file.format):
        samples, rate = decode_container(data, file, options)
        _check_channels(samples.shape[1], max_channels, file.where)
        return samples, rate
    expected = _check_whole(data, file)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as sound:
            if sound.format not in FORMATS or (sound.format == MP3 and not is_mpeg(data)):
                raise DataError(f"the file holds {sound.format}.", where=file.where, fix="Convert it to wav, flac or ogg.")
            frames, rate = sound.frames, sound.samplerate
            _check_channels(sound.channels, max_channels, file.where)
            check_duration(frames, rate, options, file.where)
            if frames * sound.channels * SAMPLE_BYTES > MAX_DECODED_BYTES:
                what = f"the recording would take more than {MAX_DECODED_BYTES >> 20} MiB, {sound.channels} channels of {frames:,} samples."
                raise DataError(what, where=file.where, fix="Mix it down, cut it, or lower its sample rate.")
            samples = sound.read(frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise DataError(f"the recording cannot be decoded ({error.error_string}).", where=file.where, fix="Get it again.") from error
    if not frames:
        raise DataError("the recording is empty.", where=file.where, fix="Record it again, or leave it out.")
    if expected is not None and len(samples) != expected:
        what = f"the frames of the file hold {expected} samples, {len(samples)} could be decoded."
        raise DataError(what, where=file.where, fix="Convert it to wav, e.g. with ffmpeg.")
    if expected is None and len(samples) != frames:
        raise DataError(f"the header promises {frames} frames, the file holds {len(samples)}.", where=file.where, fix="Get it again.")
    if not np.isfinite(samples).all():
        raise DataError("the recording holds NaN or infinite values.", where=file.where, fix="Export it again.")
    return samples, rate


def _check_channels(channels: int, max_channels: int, where: str) -> None:
    if channels > max_channels:
        raise DataError(f"the recording has {channels} channels.", where=where, fix="Mix it down first.")


def _check_whole(data: bytes, file: RawFile) -> int | None:
    """Raises DataError where the file is cut. How many samples there must be where libsndfile only estimates that: from the size of the
    first frames of an MP3 file without a count, so that it reads too few where their bit rate varies.
    """
    if data[:4] in (b"RIFF", b"RIFX", b"RF64"):
        _check_riff(data, file.where)
    elif data[:4] == b"OggS":
        _check_ogg(data, file.where)
    elif is_mpeg(data):
        return count_samples(data, file.where)
    return None


def _check_riff(data: bytes, where: str) -> None:
    """The `data` chunk must lie inside the file as long as its header says."""
    order = ">" if data[:4] == b"RIFX" else "<"
    offset, size_in_ds64 = 12, None
    while offset + 8 <= len(data):
        name, size = struct.unpack_from(f"{order}4sI", data, offset)
        if name == b"ds64" and offset + 24 <= len(data):
            size_in_ds64 = struct.unpack_from("<Q", data, offset + 16)[0]
        if name == b"data":
            size = size_in_ds64 if size == SIZE_IN_DS64 and size_in_ds64 is not None else size
            held = len(data) - offset - 8
            if size > held:
                fix = "Get it again; a file written by a stream needs its header rewritten (`sox in.wav out.wav`)."
                raise DataError(f"the recording is cut: {size} bytes promised, {held} there.", where=where, fix=fix)
            return
        offset += 8 + size + size % 2
    raise DataError("the recording is cut: it has no sound data.", where=where, fix="Get it again.")


def _check_ogg(data: bytes, where: str) -> None:
    """The pages must fill the file, and the last one be marked as the last."""
    offset, flags = 0, 0
    while offset < len(data):
        table = data[offset + OGG_HEADER_BYTES - 1 : offset + OGG_HEADER_BYTES]
        if data[offset : offset + 4] != b"OggS" or not table:
            break
        flags = data[offset + 5]
        segments = data[offset + OGG_HEADER_BYTES : offset + OGG_HEADER_BYTES + table[0]]
        offset += OGG_HEADER_BYTES + table[0] + sum(segments)
    if offset != len(data) or not flags & OGG_LAST_PAGE:
        raise DataError("the recording is cut or damaged: its last page is missing.", where=where, fix="Get it again.")
