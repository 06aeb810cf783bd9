"""The Atari clips: the same from every run, and what is seen, heard and done in them depends on one another."""

import csv
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmtool.preprocessing.sources import SourceOptions, read_items

pytest.importorskip("ale_py", reason="the clips need the package ale-py")

SCRIPT = Path(__file__).parents[1] / "examples" / "atari" / "make_clips.py"
SHOOTING = frozenset((1, *range(10, 18)))  # ALE's actions with the button pressed
DIVING = frozenset((2, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16, 17))  # up or down
NUM_CLIPS = 40


def write(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, folder, *options], capture_output=True, text=True)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("atari") / "clips"
    done = write(folder, "--games", "seaquest", "--clips", str(NUM_CLIPS))
    assert done.returncode == 0, done.stderr
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "labels.csv").open()))


def sound(folder: Path, key: str) -> np.ndarray:
    with wave.open(str(folder / "audio" / f"{key}.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (7680, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def test_every_clip_has_its_three_files_and_a_label(clips: Path) -> None:
    assert len(rows(clips)) == NUM_CLIPS
    for row in rows(clips):
        with np.load(clips / "actions" / f"{row['key']}.npz") as arrays:
            assert arrays["actions"].shape == arrays["rewards"].shape == (12,)
            assert set(arrays["actions"].tolist()) <= set(range(18))
        assert np.asarray(Image.open(clips / "frames" / f"{row['key']}.png")).shape == (32, 32, 3)
        assert len(sound(clips, row["key"])) == 7680
    assert len({row["episode"] for row in rows(clips)}) > 1 and len({row["scene"] for row in rows(clips)}) == 2


@pytest.mark.thorough
def test_a_seed_decides_every_byte(clips: Path, tmp_path: Path) -> None:
    options = ("--games", "seaquest", "--clips", "6")
    assert write(tmp_path / "again", *options).returncode == 0
    assert write(tmp_path / "other", *options, "--seed", "1").returncode == 0
    for path in (path.relative_to(tmp_path / "again") for path in (tmp_path / "again").rglob("seaquest-*.*")):
        assert (clips / path).read_bytes() == (tmp_path / "again" / path).read_bytes()
    pictures = [[path.read_bytes() for path in sorted((tmp_path / name / "frames").iterdir())] for name in ("again", "other")]
    assert pictures[0] != pictures[1]


def test_who_fires_is_heard_and_does_press_the_button(clips: Path) -> None:
    loudness: dict[str, list[float]] = {"seaquest-firing": [], "seaquest-silent": []}
    for row in rows(clips):
        with np.load(clips / "actions" / f"{row['key']}.npz") as arrays:
            shots = len(SHOOTING & set(arrays["actions"].tolist()))
        assert (shots > 0) == (row["scene"] == "seaquest-firing")
        loudness[row["scene"]].append(float((np.abs(sound(clips, row["key"]).astype(int)) > 500).mean()))
    assert np.median(loudness["seaquest-firing"]) > 2 * np.median(loudness["seaquest-silent"])


def test_clips_are_read_as_trajectories_of_their_episodes(clips: Path) -> None:
    options = SourceOptions(labels_path=clips / "labels.csv", group_column="episode")
    items = list(read_items("trajectory", [clips / "actions"], options))
    assert [item.key for item in items] == [row["key"] for row in rows(clips)]
    assert [item.group for item in items] == [row["episode"] for row in rows(clips)]


@pytest.mark.thorough
def test_every_game_has_actions_of_its_own(tmp_path: Path) -> None:
    assert write(tmp_path / "clips", "--clips", "48").returncode == 0
    pressed: dict[str, set[int]] = {}
    for row in rows(tmp_path / "clips"):
        with np.load(tmp_path / "clips" / "actions" / f"{row['key']}.npz") as arrays:
            pressed.setdefault(row["game"], set()).update(arrays["actions"].tolist())
    assert pressed["atlantis"] <= {0} | SHOOTING and not pressed["beam_rider"] & DIVING
    assert pressed["seaquest"] & DIVING and pressed["chopper_command"] >= {3, 4}


def test_a_game_without_a_player_is_refused(tmp_path: Path) -> None:
    done = write(tmp_path / "out", "--games", "chess")
    assert done.returncode and "no player for 'chess'" in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.thorough
def test_force_replaces_what_the_script_wrote_alone(clips: Path, tmp_path: Path) -> None:
    kept = Path(shutil.copytree(clips, tmp_path / "kept"))
    (kept / "frames/mine.png").write_bytes(b"mine")
    done = write(kept, "--force", "--games", "seaquest", "--clips", "2")
    assert done.returncode != 0 and "frames/mine.png" in done.stderr and "Traceback" not in done.stderr
    (kept / "frames/mine.png").unlink()
    done = write(kept, "--force", "--games", "seaquest", "--clips", "2")
    assert done.returncode == 0, done.stderr
