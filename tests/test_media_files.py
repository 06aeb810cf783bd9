"""Recordings and pictures that are hard to read right are read right, or refused with a way on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Result
from PIL import Image, features

from mmtool.common.errors import DataError
from mmtool.preprocessing.sources import Item, Reject, SourceOptions, read_items

Mmtool = Callable[..., Result]
WAVE = (0.5 * np.sin(np.arange(4000) * 0.1)).astype(np.float32)


def read(kind: str, path: Path, rejects: list[Reject] | None = None, **options: object) -> dict[str, Item]:
    return {item.key: item for item in read_items(kind, [path], SourceOptions(**options), rejects)}  # type: ignore[arg-type]


def test_channels_that_cancel_each_other_are_refused_by_name(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "anti.wav", np.stack([WAVE, -WAVE], 1), 16000)
    with pytest.raises(DataError, match=r"anti\.wav: the channels .* cancel each other.*--channel left or right"):
        read("audio", tmp_path / "anti.wav")
    rejects: list[Reject] = []
    soundfile.write(tmp_path / "mono.wav", WAVE, 16000)
    assert set(read("audio", tmp_path, rejects, on_error="skip")) == {"mono"} and rejects[0].key == "anti"


@pytest.mark.parametrize("factor", [0.9, 0.8, 1.1])
@pytest.mark.parametrize("noise", [0, 0.01])
def test_channels_that_nearly_cancel_each_other_are_refused(tmp_path: Path, factor: float, noise: float) -> None:
    second = -factor * WAVE + noise * np.random.default_rng(0).normal(size=len(WAVE)).astype(np.float32)
    soundfile.write(tmp_path / "anti.wav", np.stack([WAVE, second], 1) * 0.5 + 0.1, 16000)
    with pytest.raises(DataError, match=r"cancel each other.*--channel left or right"):
        read("audio", tmp_path / "anti.wav")


@pytest.mark.parametrize(("channel", "factor"), [("left", 1), ("right", -1), ("mean", 0)])
def test_the_channel_that_is_asked_for_is_taken(tmp_path: Path, channel: str, factor: int) -> None:
    soundfile.write(tmp_path / "anti.wav", np.stack([WAVE, -WAVE], 1), 16000, subtype="FLOAT")
    samples, _ = read("audio", tmp_path / "anti.wav", channel=channel)["anti"].value
    np.testing.assert_allclose(samples, factor * WAVE, atol=1e-6)
    soundfile.write(tmp_path / "mono.wav", WAVE, 16000, subtype="FLOAT")
    np.testing.assert_allclose(read("audio", tmp_path / "mono.wav", channel=channel)["mono"].value[0], WAVE, atol=1e-6)


@pytest.mark.parametrize("second", [WAVE, 0 * WAVE, np.roll(WAVE, 20), -0.4 * WAVE], ids=["alike", "silent", "shifted", "opposed"])
def test_other_stereo_is_mixed(tmp_path: Path, second: np.ndarray) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([WAVE, second], 1), 16000, subtype="FLOAT")
    np.testing.assert_allclose(read("audio", tmp_path / "a.wav")["a"].value[0], (WAVE + second) / 2, atol=1e-6)


def test_silence_cancels_nothing(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((400, 2)), 16000)
    assert not read("audio", tmp_path / "a.wav")["a"].value[0].any()


@pytest.mark.skipif("MP3" not in soundfile.available_formats(), reason="this libsndfile has no MP3")
def test_content_decides_what_a_recording_is(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.mp3", WAVE, 16000)
    (tmp_path / "a.mp3").rename(tmp_path / "a.wav")
    samples, rate = read("audio", tmp_path / "a.wav")["a"].value
    assert rate == 16000 and len(samples) == len(WAVE)
    np.testing.assert_allclose(samples[200:-200], WAVE[200:-200], atol=0.05)


def test_the_range_of_deep_images_is_that_of_all_of_them(tmp_path: Path) -> None:
    for number, high in enumerate((2047, 4095, 900)):
        Image.fromarray(np.linspace(number, high, 64).reshape(8, 8).astype(np.uint16)).save(tmp_path / f"{number}.png")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "plain.png")
    with pytest.raises(DataError, match=r"0\.png: 3 images have uint16 values, from 0 to 4095 over all of them\..*--value-range"):
        read("image", tmp_path)
    assert read("image", tmp_path, value_range=(0, 4095))["1"].value.max() == 255
    rejects: list[Reject] = []
    assert set(read("image", tmp_path, rejects, on_error="skip")) == {"plain"} and len(rejects) == 3


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_pictures_are_read(tmp_path: Path) -> None:
    image = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.avif", quality=100)
    assert np.abs(read("image", tmp_path / "a.avif")["a"].value.astype(int) - image).max() < 6


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\xff\xd8\xff\xe0" + bytes(40)], ids=["empty", "html", "cut"])
def test_no_message_holds_an_address_in_memory(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read("image", tmp_path / "a.jpg")
    assert " at 0x" not in str(caught.value) and "a.jpg" in str(caught.value)


def m4a(folder: Path, seconds: float = 1.0, layout: str = "stereo") -> bytes:
    """A tone in AAC, as phones record it."""
    av = pytest.importorskip("av", reason="the extra `video`")
    tone = (0.5 * np.sin(np.arange(int(16000 * seconds)) * 0.1)).astype(np.float32)
    with av.open(str(folder / "tone.mp4"), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("aac", rate=16000, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.stack([tone, tone])[: 1 + (layout == "stereo")], format="fltp", layout=layout)
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return (folder / "tone.mp4").read_bytes()


@pytest.mark.parametrize("name", ["a.m4a", "a.wav"])
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_recordings_of_phones_are_read_whatever_they_are_called(tmp_path: Path, name: str, layout: str) -> None:
    (tmp_path / name).write_bytes(m4a(tmp_path, layout=layout))
    samples, rate = read("audio", tmp_path / name)["a"].value
    assert rate == 16000 and samples.dtype == np.float32 and 16000 <= len(samples) < 16000 + 3 * 1024
    assert np.abs(samples[2048:14000]).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("change", [lambda data: data[: len(data) // 2], lambda data: data[:20], lambda data: b"", lambda data: b"x" * 99])
def test_a_damaged_recording_of_a_phone_is_refused(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    (tmp_path / "a.m4a").write_bytes(change(m4a(tmp_path, 2)))
    with pytest.raises(DataError, match=r"a\.m4a"):
        read("audio", tmp_path / "a.m4a")


def test_a_recording_of_a_phone_may_be_too_long(tmp_path: Path) -> None:
    (tmp_path / "a.m4a").write_bytes(m4a(tmp_path, 2))
    with pytest.raises(DataError, match="longer than 1 s"):
        read("audio", tmp_path / "a.m4a", max_duration_s=1)
