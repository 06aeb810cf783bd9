"""Videos that are cut or damaged are refused, whatever their container, and whole ones are read."""

import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.entries import SourceOptions
from mmtool.preprocessing.sources import Reject, read_items

av = pytest.importorskip("av")

FRAMES, SIDE, RATE_HZ = 20, 64, 10
CODECS = {
    "webm": ("libvpx-vp9", "libopus"),
    "mkv": ("mpeg4", "aac"),
    "mp4": ("libx264", "aac"),
    "mov": ("mpeg4", "aac"),
    "avi": ("mpeg4", "mp3"),
}
FORMS = [*CODECS, "gif"]


def video(folder: Path, form: str, *, sound: bool = False, steps_ms: tuple[int, ...] = (), first: int = 0, **settings: str) -> bytes:
    """A file of 20 noisy frames. steps_ms: how long they are shown in turn, where their rate varies. first: number of the first one."""
    pictures = np.random.default_rng(0).integers(0, 255, (FRAMES, SIDE, SIDE, 3), np.uint8)
    if form == "gif":
        images = [Image.fromarray(picture) for picture in pictures]
        buffer = io.BytesIO()
        images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=list(steps_ms or (100,)) * FRAMES)
        return buffer.getvalue()
    path = folder / f"written.{form}"
    with av.open(str(path), "w", options=settings) as container:
        stream = container.add_stream(CODECS[form][0], rate=RATE_HZ)
        stream.width = stream.height = SIDE
        stream.codec_context.time_base = Fraction(1, 1000) if steps_ms else Fraction(1, RATE_HZ)
        voice = container.add_stream(CODECS[form][1], rate=48_000, layout="mono") if sound else None
        moment = 0
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (moment, Fraction(1, 1000)) if steps_ms else (first + number, Fraction(1, RATE_HZ))
            moment += steps_ms[number % len(steps_ms)] if steps_ms else 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice is not None:
            write_tone(container, voice)
    return path.read_bytes()


def write_tone(container: "av.container.OutputContainer", voice: "av.AudioStream") -> None:
    tone = np.sin(np.arange(48_000 * FRAMES // RATE_HZ) / 20).astype(np.float32)[None]
    frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
    frame.rate, frame.pts = 48_000, 0
    context = voice.codec_context
    resampler = av.AudioResampler(context.format, "mono", 48_000, context.frame_size or 1024)
    for part in (*resampler.resample(frame), *resampler.resample(None)):
        container.mux(voice.encode(part))
    container.mux(voice.encode(None))


def num_frames(folder: Path, form: str, data: bytes) -> int:
    (folder / "read").mkdir(exist_ok=True)
    path = folder / "read" / f"a.{form}"
    path.write_bytes(data)
    (item,) = read_items("video", [path], SourceOptions())
    return len(item.value.frames)


@pytest.mark.parametrize("form", FORMS)
def test_a_cut_video_is_refused_wherever_it_is_cut(form: str, tmp_path: Path) -> None:
    data = video(tmp_path, form, **({"movflags": "faststart"} if form in ("mp4", "mov") else {}))
    assert num_frames(tmp_path, form, data) == FRAMES
    for share in (0.2, 0.3, 0.4, 0.6, 0.8, 0.9, 0.95, 0.99):
        with pytest.raises(DataError, match="cut or damaged"):
            num_frames(tmp_path, form, data[: int(len(data) * share)])


def test_a_cut_video_is_skipped_by_name(tmp_path: Path) -> None:
    whole = video(tmp_path, "mkv")
    for name, data in {"a": whole, "b": whole[: len(whole) // 2], "c": whole}.items():
        (tmp_path / "films").mkdir(exist_ok=True)
        (tmp_path / "films" / f"{name}.mkv").write_bytes(data)
    rejects: list[Reject] = []
    items = list(read_items("video", [tmp_path / "films"], SourceOptions(on_error="skip"), rejects))
    assert [item.key for item in items] == ["a", "c"] and [reject.key for reject in rejects] == ["b"]


@pytest.mark.parametrize("steps_ms", [(), (30, 200, 100)], ids=["even", "uneven"])
@pytest.mark.parametrize("sound", [False, True], ids=["silent", "sound"])
@pytest.mark.parametrize("form", CODECS)
def test_whole_videos_of_every_container_are_read(form: str, sound: bool, steps_ms: tuple[int, ...], tmp_path: Path) -> None:
    data = video(tmp_path, form, sound=sound, steps_ms=steps_ms)
    assert num_frames(tmp_path, form, data) == FRAMES


@pytest.mark.parametrize(
    ("form", "settings"), [("mp4", {"movflags": "frag_keyframe+empty_moov"}), ("mkv", {"live": "1"}), ("webm", {"live": "1"})]
)
def test_containers_that_do_not_know_their_end_are_read_and_checked(form: str, settings: dict[str, str], tmp_path: Path) -> None:
    data = video(tmp_path, form, sound=True, **settings)
    assert num_frames(tmp_path, form, data) == FRAMES
    with pytest.raises(DataError, match="cut or damaged"):
        num_frames(tmp_path, form, data[: int(len(data) * 0.6)])


@pytest.mark.parametrize("form", ["mkv", "mp4", "mov", "avi"])
def test_a_hole_of_zeros_in_a_video_is_noticed(form: str, tmp_path: Path) -> None:
    data = video(tmp_path, form)
    for share in (0.3, 0.5, 0.7):
        place = int(len(data) * share)
        with pytest.raises(DataError, match=r"damaged|cannot be decoded"):
            num_frames(tmp_path, form, data[:place] + bytes(200) + data[place + 200 :])


@pytest.mark.parametrize("form", FORMS)
def test_half_a_download_that_reserved_its_place_is_refused(form: str, tmp_path: Path) -> None:
    data = video(tmp_path, form)
    half = len(data) // 2
    with pytest.raises(DataError, match=r"damaged|cannot be decoded"):
        num_frames(tmp_path, form, data[:half] + bytes(len(data) - half))


@pytest.mark.parametrize("form", ["mp4", "mov"])
def test_a_video_of_which_a_part_is_shown_is_whole(form: str, tmp_path: Path) -> None:
    data = video(tmp_path, form)
    place = data.index(b"elst") + 12  # of the length that is shown, in ms
    half = int.from_bytes(data[place : place + 4], "big") // 2
    assert num_frames(tmp_path, form, data[:place] + half.to_bytes(4, "big") + data[place + 4 :]) == FRAMES // 2


@pytest.mark.parametrize("form", CODECS)
def test_a_video_may_begin_late(tmp_path: Path, form: str) -> None:
    (tmp_path / f"late.{form}").write_bytes(video(tmp_path, form, first=100))
    (item,) = read_items("video", [tmp_path / f"late.{form}"], SourceOptions())
    assert len(item.value.frames) == FRAMES
