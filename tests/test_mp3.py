"""MP3 recordings are read whole or refused: libsndfile estimates the length of those that do not say how many frames they have."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.mpeg_frames import count_samples
from mmtool.preprocessing.sources import SourceOptions, read_items

pytestmark = pytest.mark.skipif("MP3" not in soundfile.available_formats(), reason="this libsndfile has no MP3")
RATE_HZ, FRAMES = 16_000, 48_000
WAVE = 0.3 * np.sin(np.arange(FRAMES) * 0.1) * np.linspace(0, 1, FRAMES)
ID3 = b"ID3\x03\0\0" + bytes((0, 0, 1, 0)) + bytes(128)


def encoded(mode: str = "VARIABLE", channels: int = 1) -> bytes:
    file = io.BytesIO()
    wave = np.stack([WAVE] * channels, axis=1)
    soundfile.write(file, wave, RATE_HZ, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode=mode, compression_level=0.5)
    return file.getvalue()


def without_count(data: bytes) -> bytes:
    """The file without its first frame, which tells how many follow."""
    return data[data.index(data[:2], 4) :]


def read(path: Path, data: bytes) -> tuple[np.ndarray, int]:
    path.write_bytes(data)
    (item,) = read_items("audio", [path], SourceOptions())
    samples, rate = item.value
    return samples, rate


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("channels", [1, 2])
def test_recordings_are_read_whole(tmp_path: Path, mode: str, channels: int) -> None:
    samples, rate = read(tmp_path / "a.mp3", encoded(mode, channels))
    assert samples.shape == (FRAMES,) and samples.dtype == np.float32 and rate == RATE_HZ
    np.testing.assert_allclose(samples, WAVE, atol=0.02)


def test_tags_around_the_frames_are_no_damage(tmp_path: Path) -> None:
    plain, _ = read(tmp_path / "a.mp3", encoded())
    tagged, _ = read(tmp_path / "b.mp3", ID3 + encoded() + b"TAG" + bytes(125))
    np.testing.assert_array_equal(tagged, plain)


def test_files_without_a_count_of_frames_are_read_whole_or_refused(tmp_path: Path) -> None:
    data = without_count(encoded("CONSTANT"))
    samples, _ = read(tmp_path / "a.mp3", data)
    assert len(samples) == count_samples(data, "") and len(samples) >= FRAMES
    with pytest.raises(DataError, match=r"v\.mp3: the frames of the file hold 49536 samples, \d+ could be decoded\. Convert it to wav"):
        read(tmp_path / "v.mp3", without_count(encoded("VARIABLE")))


@pytest.mark.parametrize("share", [0.98, 0.5, 0.1])
def test_cut_files_are_refused(tmp_path: Path, share: float) -> None:
    data = encoded()
    with pytest.raises(DataError, match=r"a\.mp3: the recording is (cut|damaged)"):
        read(tmp_path / "a.mp3", data[: int(share * len(data))])


def test_missing_frames_are_refused(tmp_path: Path) -> None:
    data, places = encoded("CONSTANT"), []
    place = data.index(data[:2], 4)
    while place >= 0:
        places.append(place)
        place = data.find(data[:2], place + 4)
    with pytest.raises(DataError, match=r"header promises \d+ frames, the file holds \d+"):
        read(tmp_path / "a.mp3", data[: places[-1]])


def test_damage_between_frames_is_refused(tmp_path: Path) -> None:
    data = bytearray(encoded())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(300)
    with pytest.raises(DataError, match=r"damaged: byte [\d,]+ should begin a frame"):
        read(tmp_path / "a.mp3", bytes(data))
    with pytest.raises(DataError, match=r"b\.mp3: "):
        read(tmp_path / "b.mp3", b"no sound" * 100)
