"""Videos: read from GIFs, arrays and containers, brought to one rate and size, tokenized on a grid of time, rows and columns, and back."""

import io
import json
import re
import shutil
import tarfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtool.common.artefact_files import REPORT
from mmtool.common.errors import DataError, UsageError
from mmtool.data.shards import open_token_set
from mmtool.evaluation.config import EvaluationConfig
from mmtool.evaluation.evaluate import evaluate
from mmtool.evaluation.figures.thumbnails import Thumbnails
from mmtool.imputation.files import ImputeOptions, impute_files
from mmtool.kinds import KINDS
from mmtool.preprocessing.protocol import MissingnessProtocol
from mmtool.preprocessing.readers.videos import Video, VideoPreparer, at_rate
from mmtool.preprocessing.shard import shard
from mmtool.preprocessing.sources import SourceOptions, read_items
from mmtool.preprocessing.tokenize import tokenize
from mmtool.tokenizers.base import fingerprint, from_bytes, to_bytes
from mmtool.tokenizers.video import VideoCodecTokenizer, VideoPatchTokenizer
from mmtool.training.config import resolve
from mmtool.training.pretrain import pretrain

FRAMES, SIDE, RATE_HZ = 8, 16, 10
WAYS = ("left", "right", "up", "down")
CODEC = {"steps": 40, "width": 16, "codebook": 64, "patch": 8}


def film(number: int, frames: int = FRAMES) -> np.ndarray:
    """(frames, 16, 16, 1): a bright square that runs one of four ways."""
    value = np.full((frames, SIDE, SIDE, 1), 20 + number % 7, np.uint8)
    for frame in range(frames):
        along = 2 + frame * 8 // frames
        along = SIDE - 4 - along if number % 4 in (0, 2) else along
        top, left = (6, along) if number % 4 < 2 else (along, 6)
        value[frame, top : top + 4, left : left + 4] = 230
    return value


def items(path: Path, **options: object) -> list:
    return list(read_items("video", [path], SourceOptions(**options)))


def test_files_of_every_format_hold_the_same_frames(tmp_path: Path) -> None:
    value = film(1)
    np.savez(tmp_path / "grey.npz", frames=value[..., 0], fps=RATE_HZ)
    np.savez(tmp_path / "colour.npz", video=np.repeat(value, 3, 3), rate_hz=np.float32(RATE_HZ))
    form = VideoPatchTokenizer.fit([value], {"rate_hz": RATE_HZ}, 0)
    assert form.write(value, tmp_path / "film").name == "film.gif"
    found = {item.key: item.value for item in items(tmp_path)}
    assert found.keys() == {"grey", "colour", "film"} and {each.rate_hz for each in found.values()} == {RATE_HZ}
    assert np.array_equal(found["grey"].frames, value) and found["colour"].frames.shape == (FRAMES, SIDE, SIDE, 3)
    assert found["film"].frames.shape == value.shape and np.abs(found["film"].frames.astype(int) - value).max() <= 4


def test_frames_that_stand_still_in_a_gif_are_as_many_as_they_were(tmp_path: Path) -> None:
    value = film(0)[[0, 0, 0, 1, 2, 2]]
    VideoPatchTokenizer.fit([value], {"rate_hz": 5}, 0).write(value, tmp_path / "a")
    (item,) = items(tmp_path)
    assert item.value.rate_hz == 5 and len(item.value.frames) == 6


def test_containers_are_read_through_pyav(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(RATE_HZ))
        stream.width = stream.height = 32
        for frame in film(1).repeat(2, 1).repeat(2, 2).repeat(3, 3):
            for packet in stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    (item,) = items(path)
    assert item.value.rate_hz == RATE_HZ and item.value.frames.shape[:3] == (FRAMES, 32, 32)
    assert np.abs(item.value.frames[..., :1].astype(int) - film(1).repeat(2, 1).repeat(2, 2)).mean() < 12
    path.write_bytes(b"no video at all" * 99)
    with pytest.raises(DataError, match="cannot be decoded"):
        items(path)


def test_without_pyav_containers_are_refused_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"....")
    with pytest.raises(UsageError, match=r"mp4 needs PyAV.*mmtool\[video\]"):
        items(tmp_path)


def test_a_label_of_one_value_beside_a_video_is_its_label(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", frames=film(0), fps=np.array([[RATE_HZ]]), label="left")
    (item,) = items(tmp_path / "a.npz")
    assert item.labels == {"label": "left"} and item.value.rate_hz == RATE_HZ


def test_stacks_and_clips(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", videos=np.stack([film(i) for i in range(4)]), fps=RATE_HZ, id=np.array(list("abcd")), way=np.array(WAYS))
    found = items(tmp_path, clip=3)
    assert [item.key for item in found[:3]] == ["a-000000", "a-000003", "b-000000"] and found[2].labels == {"way": "right"}
    assert found[0].group == found[1].group == "a" and np.array_equal(found[1].value.frames, film(0)[3:6])


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"frames": np.zeros((4, 4))}, "no video"),
        ({"frames": np.zeros((2, 4, 4))}, "--value-range"),
        ({"pictures": np.zeros((2, 4, 4))}, "the arrays are: .*pictures"),
        ({"frames": film(0), "fps": 0}, "no sample rate"),
    ],
)
def test_what_is_no_video_is_refused_by_name(arrays: dict[str, np.ndarray], reason: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **{"fps": 10, **arrays})
    with pytest.raises(DataError, match=reason):
        items(tmp_path)
    (tmp_path / "bad.npz").unlink()
    np.save(tmp_path / "bad.npy", film(0))
    with pytest.raises(DataError, match="--source-rate-hz"):
        items(tmp_path)
    (tmp_path / "bad.npy").unlink()
    (tmp_path / "bad.gif").write_bytes(b"GIF89a broken")
    with pytest.raises(DataError, match="cut or damaged"):
        items(tmp_path)


def save_frames(folder: Path, value: np.ndarray, names: list[str] | None = None) -> None:
    folder.mkdir(parents=True)
    for number, frame in enumerate(value):
        Image.fromarray(frame.squeeze()).save(folder / (names[number] if names else f"{number + 8}.png"))


def test_a_folder_of_frames_is_a_video(tmp_path: Path) -> None:
    save_frames(tmp_path / "walks" / "left" / "a", film(0))  # 8.png ... 15.png: 10 comes after 9
    save_frames(tmp_path / "walks" / "right" / "b", film(1), [f"cam1_{number:02}.jpg" for number in range(0, 40, 5)])
    found = {item.key: item for item in items(tmp_path / "walks", frames=True, source_rate_hz=25.0, label_from_folder="way")}
    assert found.keys() == {"left/a", "right/b"} and found["left/a"].labels == {"way": "left"}
    assert np.array_equal(found["left/a"].value.frames, film(0)) and found["left/a"].value.rate_hz == 25
    assert np.abs(found["right/b"].value.frames.astype(int) - film(1)).max() < 60
    clips = items(tmp_path / "walks" / "left" / "a", frames=True, source_rate_hz=25.0, clip=4)
    assert [item.key for item in clips] == ["a-000000", "a-000004"] and np.array_equal(clips[1].value.frames, film(0)[4:])


def test_frames_in_an_archive_are_read(tmp_path: Path) -> None:
    save_frames(tmp_path / "raw" / "a", film(2))
    shutil.make_archive(str(tmp_path / "walks"), "zip", tmp_path / "raw")
    (item,) = items(tmp_path / "walks.zip", frames=True, source_rate_hz=10.0)
    assert item.key == "a" and np.array_equal(item.value.frames, film(2))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["1.png", "2.png", "4.png", "5.png"], r"4\.png follows 2\.png"),
        (["1.png", "01.png", "2.png", "3.png"], "there twice"),
        (["a1.png", "a2.png", "b1.png", "b2.png"], "Make a folder of each video"),
        (["1.png", "2.png", "3.png", "cover.png"], r"cover\.png is not"),
    ],
)
def test_frames_that_are_missing_or_of_another_video_are_refused(names: list[str], reason: str, tmp_path: Path) -> None:
    save_frames(tmp_path / "raw" / "a", film(0, 4), names)
    save_frames(tmp_path / "raw" / "b", film(1, 4))
    with pytest.raises(DataError, match=reason):
        items(tmp_path / "raw", frames=True, source_rate_hz=10.0)
    assert [item.key for item in items(tmp_path / "raw", frames=True, source_rate_hz=10.0, on_error="skip")] == ["b"]


def pack(path: Path, members: list[tuple[str, np.ndarray]]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, frame in members:
            data = io.BytesIO()
            Image.fromarray(frame.squeeze()).save(data, "PNG")
            info = tarfile.TarInfo(name)
            info.size = data.tell()
            data.seek(0)
            archive.addfile(info, data)


def test_archives_of_frames_stay_apart_and_their_folders_together(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "each").mkdir(exist_ok=True)
        pack(tmp_path / "each" / f"v{number}.tar", [(f"{place}.png", frame) for place, frame in enumerate(film(number))])
    found = {item.key: item.value for item in items(tmp_path / "each", frames=True, source_rate_hz=10.0)}
    assert found.keys() == {"v0", "v1", "v2"} and all(np.array_equal(found[f"v{i}"].frames, film(i)) for i in range(3))
    both = [(f"v{number}/{place}.png", film(number)[place]) for place in range(FRAMES) for number in range(2)]
    pack(tmp_path / "mixed.tar", both)
    mixed = {item.key: item.value for item in items(tmp_path / "mixed.tar", frames=True, source_rate_hz=10.0)}
    assert mixed.keys() == {"v0", "v1"} and all(np.array_equal(mixed[f"v{i}"].frames, film(i)) for i in range(2))


def test_a_video_that_a_cut_archive_shortens_is_left_out(tmp_path: Path) -> None:
    members = [(f"v{number}/{place}.png", film(number)[place]) for number in range(3) for place in range(FRAMES)]
    for name, order in (("whole", members), ("mixed", sorted(members, key=lambda member: member[0].split("/")[1]))):
        pack(tmp_path / f"{name}.tar", order)
        with tarfile.open(tmp_path / f"{name}.tar") as archive:
            cut = archive.getmembers()[-2].offset  # whole members, but for the last two
        (tmp_path / f"{name}.tar").write_bytes((tmp_path / f"{name}.tar").read_bytes()[:cut])
    options = {"frames": True, "source_rate_hz": 10.0, "on_error": "skip"}
    assert [item.key for item in items(tmp_path / "whole.tar", **options)] == ["v0", "v1"]
    with pytest.raises(DataError, match="frames may be missing"):
        items(tmp_path / "mixed.tar", **options)  # any may have lost one


def test_single_pictures_and_other_videos_are_no_folders_of_frames(tmp_path: Path) -> None:
    save_frames(tmp_path / "raw" / "a", film(0))
    with pytest.raises(DataError, match="Give the folder"):
        items(tmp_path / "raw" / "a" / "8.png", frames=True, source_rate_hz=10.0)
    with pytest.raises(DataError, match="say --frames"):
        items(tmp_path / "raw")
    (tmp_path / "raw" / "b.gif").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"b\.gif.*--skip-other"):
        items(tmp_path / "raw", frames=True, source_rate_hz=10.0)
    assert len(items(tmp_path / "raw", frames=True, source_rate_hz=10.0, skip_other=True)) == 1
    with pytest.raises(UsageError, match="Leave --member"):
        SourceOptions(frames=True, member="{key}.png")


def test_deep_frames_are_refused_with_the_range_of_all(tmp_path: Path) -> None:
    (tmp_path / "raw" / "a").mkdir(parents=True)
    for number in range(4):
        Image.fromarray(np.full((8, 8), 1000 * number, np.uint16)).save(tmp_path / "raw" / "a" / f"{number}.png")
    with pytest.raises(DataError, match="from 0 to 3000"):
        items(tmp_path / "raw", frames=True, source_rate_hz=10.0)
    (item,) = items(tmp_path / "raw", frames=True, source_rate_hz=10.0, value_range=(0, 3000))
    assert item.value.frames[:, 0, 0, 0].tolist() == [0, 85, 170, 255]


def test_time_stamps_may_jitter(tmp_path: Path) -> None:
    stamps = [1305031102066, 1305031102100, 1305031102132, 1305031102168]
    save_frames(tmp_path / "raw" / "a", film(0, 4), [f"{stamp}.png" for stamp in stamps])
    save_frames(tmp_path / "raw" / "b", film(0, 4), [f"{stamp}.png" for stamp in (*stamps[:3], stamps[3] + 34)])
    assert [item.key for item in items(tmp_path / "raw", frames=True, source_rate_hz=30.0, on_error="skip")] == ["a"]


def test_frames_have_a_rate_and_one_size(tmp_path: Path) -> None:
    save_frames(tmp_path / "raw" / "a", film(0))
    with pytest.raises(DataError, match="--source-rate-hz"):
        items(tmp_path / "raw", frames=True)
    Image.new("L", (9, 9)).save(tmp_path / "raw" / "a" / "10.png")
    with pytest.raises(DataError, match=r"9 x 9.*10\.png|10\.png.*9 x 9"):
        items(tmp_path / "raw", frames=True, source_rate_hz=10.0)


def test_rates_meet() -> None:
    value = film(3)
    assert np.array_equal(at_rate(Video(value, 10.0), 5.0), value[::2])
    assert np.array_equal(at_rate(Video(value, 10.0), 20.0), value.repeat(2, 0))
    rows, settings = VideoPreparer.for_fitting([Video(value, 10.0), Video(value, 10.0), Video(value, 20.0)], {})
    assert settings == {"rate_hz": 10.0} and [len(row) for row in rows] == [8, 8, 4]


@pytest.mark.parametrize("scheme", ["codec", "patches"])
def test_tokens_hold_the_video_on_a_grid_of_three_axes(scheme: str) -> None:
    values = [film(number) for number in range(24)]
    settings = {"rate_hz": RATE_HZ, "patch": 4, "frames_per_token": 2}
    if scheme == "codec":
        tokenizer = VideoCodecTokenizer.fit(values, {**settings, **CODEC, "patch": 4, "steps": 60}, 0)
        assert tokenizer.shape == (4, 4, 4) and tokenizer.report["mse"] < 0.02
    else:
        tokenizer = VideoPatchTokenizer.fit(values, settings, 0)
        assert tokenizer.shape == (4, 4, 4, 32)
    tokens = tokenizer.encode(values[:3])
    assert all(len(rows) == 64 for rows in tokens)
    decoded = tokenizer.decode(tokens)
    assert decoded[0].shape == values[0].shape and decoded[0].dtype == np.uint8
    if scheme == "patches":
        assert all(map(np.array_equal, decoded, values))
        assert np.array_equal(tokens[0][16 * 1 + 4 * 2 + 3], values[0][2:4, 8:12, 12:16].reshape(-1)), "time, row, column"
    copy = from_bytes(to_bytes(tokenizer))
    assert fingerprint(copy) == fingerprint(tokenizer) and all(map(np.array_equal, copy.encode(values[:3]), tokens))
    with pytest.raises(DataError, match="5 frames at 10 Hz, the tokenizer 8"):
        tokenizer.encode([film(0, 5)])


@pytest.mark.parametrize(
    ("values", "settings", "reason"),
    [
        ([film(0), film(0, 5)], {}, "from 5 to 8 frames"),
        ([film(0)], {"frames_per_token": 3}, "do not fill 8 frames"),
        ([film(0)], {"write_as": "mp4"}, "gif, npz"),
        ([film(0)], {"rate_hz": 0}, "rate_hz"),
    ],
)
def test_impossible_settings_are_refused(values: list, settings: dict, reason: str) -> None:
    with pytest.raises((DataError, UsageError), match=reason):
        VideoPatchTokenizer.fit(values, {"rate_hz": RATE_HZ, **settings}, 0)


def test_a_thumbnail_shows_frames_in_their_order() -> None:
    value = np.arange(0, 240, 30, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2)
    draw = Thumbnails(VideoPatchTokenizer.fit([value], {"rate_hz": 1, "patch": 4}, 0), [value], (80, 80))
    pixels = np.asarray(draw(value))[..., 0]
    assert [int(pixels[20, 20]), int(pixels[20, 60]), int(pixels[60, 20]), int(pixels[60, 60])] == [0, 60, 150, 210]


def test_what_is_played_belongs_to_a_report() -> None:
    for entry in KINDS.values():
        for suffix in entry.writes if entry.player else ():
            assert any(re.fullmatch(pattern, f"{entry.player}/a-to-b/03-real.{suffix}") for pattern in REPORT)


@pytest.mark.thorough
@pytest.mark.parametrize(("scheme", "method"), [("codec", "commutative"), ("patches", "m3ae")])
def test_videos_go_through_every_stage(scheme: str, method: str, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    for number in range(48):
        np.savez(folder / f"p{number:02d}.npz", frames=film(number), fps=RATE_HZ)
    notes = [f"p{i:02d},it runs {WAYS[i % 4]},{WAYS[i % 4]}" for i in range(48)]
    (tmp_path / "notes.csv").write_text("key,text,way\n" + "\n".join(notes) + "\n")
    settings = {**(CODEC if scheme == "codec" else {}), "patch": 8}
    summary = tokenize("video", [folder], tmp_path / "film.tar", name="film", scheme=scheme, settings=settings)
    assert (summary.kind, summary.samples, summary.mean_length) == ("video", 48, 8)
    tokenize("text", [tmp_path / "notes.csv"], tmp_path / "text.tar", name="text", options=SourceOptions(label_columns=("way",)))
    shard([tmp_path / "film.tar", tmp_path / "text.tar"], tmp_path / "shards", protocol=MissingnessProtocol(missing_rate=0.2))
    small = {"preset": "tiny", "batch_tokens": 512, "compile": "off", "shape": {"depth": 1, "width": 32}, "warmup_steps": 2}
    pretrain(resolve(None, {**small, "method": method, "steps": 20, "learning_rate": 0.01}), tmp_path / "shards", tmp_path / "run")
    test = open_token_set(tmp_path / "shards", "test")
    assert test.modalities[[each.name for each in test.modalities].index("film")].grid == (2, 2, 2)
    impute_files(tmp_path / "run", test, tmp_path / "imputed", ImputeOptions(have=("text",), want=("film",)))
    found = items(tmp_path / "imputed/film")
    assert len(found) == len(test) and all(item.value.frames.shape[1:3] == (SIDE, SIDE) for item in found)
    config = EvaluationConfig(tasks=("impute", "reconstruct") if method == "m3ae" else ())
    evaluate([tmp_path / "run"], tmp_path / "shards/test", tmp_path / "report", config)
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["meta"]["upper_bounds"]["accuracy"]["film"]["value"] > 0.8, "four ways are told apart"
    assert list((tmp_path / "report/video").rglob("*.gif")) and (tmp_path / "report/contact_sheet.png").exists()
