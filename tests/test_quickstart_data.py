"""The quickstart's raw data: real files, the same from every run, and digits that can be told apart in each of them."""

import csv
import re
import shutil
import subprocess
import sys
import wave
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.signal import spectrogram
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

pytestmark = pytest.mark.slow
pytest.importorskip("espeakng_loader", reason="the quickstart needs the package espeakng-loader")

SCRIPT = Path(__file__).parents[1] / "examples" / "quickstart_data.py"
WORDS = {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}


def write(folder: Path, seed: int) -> Path:
    subprocess.run([sys.executable, SCRIPT, folder, "--seed", str(seed)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("quickstart") / "raw", 0)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_seed_decides_every_byte(raw: Path, tmp_path: Path) -> None:
    again, other = contents(write(tmp_path / "again", 0)), contents(write(tmp_path / "other", 1))
    assert contents(raw) == again
    assert again.keys() == other.keys()
    assert again[Path("sentences.tsv")] != other[Path("sentences.tsv")]
    changed = [path for path in again if path.suffix == ".wav" and again[path] != other[path]]
    assert len(changed) > 1000


def test_pictures_are_the_handwritten_digits(raw: Path) -> None:
    files = sorted((raw / "digits").glob("*/*.png"))
    assert len(files) == 1797
    with Image.open(files[0]) as image:
        assert (image.mode, image.size) == ("L", (8, 8))
    assert max(np.asarray(Image.open(file)).max() for file in files[:20]) == 255


def test_spoken_digits_are_short_and_clear_in_voices_never_heard(raw: Path) -> None:
    features, labels, voices, seconds = [], [], [], []
    for file in sorted((raw / "speech").glob("*.wav")):
        label, voice, _ = file.stem.split("_")
        with wave.open(str(file)) as opened:
            assert (opened.getnchannels(), opened.getsampwidth(), opened.getframerate()) == (1, 2, 8000)
            sound = np.frombuffer(opened.readframes(opened.getnframes()), "<i2") / 32768
        seconds.append(len(sound) / 8000)
        frames = np.log(spectrogram(sound, 8000, nperseg=256, noverlap=176)[2] + 1e-8)
        frames = frames[: 128 // 8 * 8].reshape(16, 8, -1).mean(1)
        features.append(frames[:, np.linspace(0, frames.shape[1] - 1, 10).round().astype(int)].reshape(-1))
        labels.append(label)
        voices.append(voice)
    assert Counter(labels) == {str(digit): 480 for digit in range(10)}
    assert np.mean(seconds) < 0.5 and max(seconds) < 1
    known = np.array([voice.startswith("en-us") for voice in voices])
    judge = make_pipeline(StandardScaler(), SVC(C=10)).fit(np.array(features)[known], np.array(labels)[known])
    assert judge.score(np.array(features)[~known], np.array(labels)[~known]) > 0.95


def test_every_sentence_names_its_digit_and_no_other(raw: Path) -> None:
    with open(raw / "sentences.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len({row["key"] for row in rows}) == len({row["text"] for row in rows}) == len(rows) == 4000
    order = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    for row in rows:
        words = re.findall(r"[a-z]+", row["text"].lower())
        assert [word for word in words if word in WORDS] == [order[int(row["digit"])]], row
        assert len(words) < 8
    texts, labels = [row["text"] for row in rows], [row["digit"] for row in rows]
    judge = make_pipeline(TfidfVectorizer(), LogisticRegression(C=30)).fit(texts[::2], labels[::2])
    assert judge.score(texts[1::2], labels[1::2]) > 0.99


def test_an_existing_folder_is_kept(raw: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT, raw], capture_output=True, text=True)
    assert done.returncode != 0
    assert "--force" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_force_replaces_what_the_script_wrote_alone(raw: Path, tmp_path: Path) -> None:
    kept = Path(shutil.copytree(raw, tmp_path / "kept"))
    (kept / "digits/mine.png").write_bytes(b"mine")
    done = subprocess.run([sys.executable, SCRIPT, kept, "--force"], capture_output=True, text=True)
    assert done.returncode != 0 and "digits/mine.png" in done.stderr and "Traceback" not in done.stderr
    (kept / "digits/mine.png").unlink()
    done = subprocess.run([sys.executable, SCRIPT, kept, "--force"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
