"""Audio: recordings of any length become codes and audible sound again; neither padding nor a batch reaches a recording's codes."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mmtool.common.errors import DataError, UsageError
from mmtool.tokenizers.audio import AudioCodecTokenizer
from mmtool.tokenizers.base import from_bytes, to_bytes
from mmtool.tokenizers.codec import Codec, CodecShape
from mmtool.tokenizers.spectrogram import MelFrames, mel_filters

DATA = Path(os.environ.get("MMTOOL_DATA", Path(__file__).parents[2] / "shared" / "data"))
RATE_HZ = 8000
HOP, PATCH = 80, 4
QUICK = {"sample_rate_hz": RATE_HZ, "steps": 80, "width": 32, "depth": 1, "batch": 16}


def chirp(seconds: float, seed: int = 0) -> np.ndarray:
    """A gliding tone with overtones, fading in and out, over faint noise."""
    random = np.random.default_rng(seed)
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    phase = 2 * np.pi * (random.uniform(100, 300) * time_s + random.uniform(-200, 400) * time_s**2)
    tone = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 6))
    envelope = np.sin(np.pi * np.linspace(0, 1, len(time_s))) + 0.05
    return (0.3 * envelope * tone + random.normal(0, 1e-3, len(time_s))).astype(np.float32)


def chirps(num: int) -> list[np.ndarray]:
    return [chirp(0.1 + 0.05 * (seed % 9), seed) for seed in range(num)]


@pytest.fixture(scope="module")
def codec() -> AudioCodecTokenizer:
    return AudioCodecTokenizer.fit(chirps(60), QUICK, 0)


@given(st.integers(1, 9000))
@settings(max_examples=15, deadline=None)
def test_a_recording_of_any_length_has_a_code_for_every_40_ms_begun(codec: AudioCodecTokenizer, length: int) -> None:
    sound = np.ones(length, np.float32)
    codes = codec.encode([sound])[0]
    assert len(codes) == -(-length // (HOP * PATCH)) >= 1
    assert codes.min() >= 0 and codes.max() < codec.vocabulary_size
    assert len(codec.decode([codes])[0]) == len(codes) * HOP * PATCH


def test_codes_of_a_recording_do_not_depend_on_its_batch(codec: AudioCodecTokenizer) -> None:
    sounds = chirps(40)
    together = codec.encode(sounds)
    assert all(np.array_equal(codec.encode([sound])[0], codes) for sound, codes in zip(sounds, together, strict=True))
    decoded = codec.decode(together[:5])
    assert all(np.array_equal(codec.decode([codes])[0], sound) for codes, sound in zip(together, decoded, strict=False))
    assert codec.encode([]) == [] and codec.decode([]) == []


def test_padding_of_a_masked_batch_never_reaches_what_is_valid() -> None:
    shape = CodecShape(5, (4,), (8, 5, 5), width=16, depth=2, detail=4)
    torch.manual_seed(0)
    codec = Codec(shape).eval()
    signal, mask = torch.randn(3, 5, 40), torch.zeros(3, 1, 10)
    lengths = (10, 7, 1)
    for row, length in enumerate(lengths):
        mask[row, :, :length] = 1
    decoded, codes = codec(signal, mask)
    for row, length in enumerate(lengths):
        alone, own_codes = codec(signal[row : row + 1, :, : 4 * length])
        assert torch.equal(own_codes[0], codes[row, :length])
        assert torch.allclose(alone[0], decoded[row, :, : 4 * length], atol=1e-5)


def test_decoded_sound_resembles_the_original(codec: AudioCodecTokenizer) -> None:
    sounds = chirps(20)
    decoded = codec.decode(codec.encode(sounds))
    assert all(sound.dtype == np.float32 and np.isfinite(sound).all() and np.abs(sound).max() <= 1 for sound in decoded)
    originals = [codec.features(sound) for sound in sounds]
    features = [codec.features(sound[: len(original)]) for sound, original in zip(decoded, sounds, strict=False)]
    distances = np.array([[_distance(a, b) for b in features] for a in originals])
    assert np.mean(distances.argmin(1) == np.arange(20)) > 0.5


def test_the_same_recordings_and_seed_give_the_same_file() -> None:
    files = [to_bytes(AudioCodecTokenizer.fit(chirps(30), QUICK | {"steps": 5}, seed)) for seed in (0, 0, 1)]
    assert files[0] == files[1] != files[2]


def test_a_saved_codec_gives_the_same_codes_and_sounds(codec: AudioCodecTokenizer) -> None:
    again = from_bytes(to_bytes(codec))
    codes = codec.encode(chirps(4))
    assert all(map(np.array_equal, again.encode(chirps(4)), codes))
    assert all(map(np.array_equal, again.decode(codes), codec.decode(codes)))
    assert again.sample_rate_hz == RATE_HZ and again.report == codec.report
    assert to_bytes(again) == to_bytes(codec)


def test_fitting_reports_the_error_on_recordings_held_out(codec: AudioCodecTokenizer) -> None:
    assert 0 < codec.report["mse"] < 1 and 0 < codec.report["log_mel_rmse_db"] < 20 and codec.report["tokens_per_s"] == 25
    assert 0 < codec.report["codebook_usage"] <= 1 < codec.report["codebook_perplexity"] <= codec.vocabulary_size


def test_loudness_and_silent_ends_do_not_change_the_codes(codec: AudioCodecTokenizer) -> None:
    sound = chirp(0.4)
    quiet = np.concatenate([np.zeros(10 * HOP, np.float32), sound / 8, np.zeros(2000, np.float32)])
    assert np.array_equal(codec.encode([sound])[0], codec.encode([quiet])[0])


def test_loudness_and_silent_ends_are_kept_when_asked_to() -> None:
    sounds = [np.concatenate([np.zeros(1600, np.float32), chirp(0.2, seed) / 4]) for seed in range(6)]
    codec = AudioCodecTokenizer.fit(sounds, QUICK | {"trim_db": 0, "normalise": False, "steps": 5}, 0)
    assert len(codec.encode(sounds[:1])[0]) == 10
    loud, quiet = codec.features(4 * sounds[0]), codec.features(sounds[0])
    assert float(loud.max() - quiet.max()) == pytest.approx(np.log(4), abs=1e-4)


def test_silence_is_a_recording_like_any_other(codec: AudioCodecTokenizer) -> None:
    codes = codec.encode([np.zeros(3 * HOP * PATCH, np.float32)])[0]
    assert len(codes) == 3
    assert np.isfinite(codec.decode([codes])[0]).all()
    assert np.isfinite(codec.features(np.zeros(100, np.float32))).all()


def test_an_empty_recording_is_refused_and_no_codes_are_no_sound(codec: AudioCodecTokenizer) -> None:
    with pytest.raises(DataError, match="empty"):
        codec.encode([np.zeros(0, np.float32)])
    with pytest.raises(DataError, match="no training recordings"):
        AudioCodecTokenizer.fit([], QUICK, 0)
    empty, full = codec.decode([np.zeros(0, np.uint16), np.zeros(2, np.uint16)])
    assert len(empty) == 0 and len(full) == 2 * HOP * PATCH


def test_recordings_are_written_as_16_bit_wav(codec: AudioCodecTokenizer, tmp_path: Path) -> None:
    sound = chirp(0.2)
    path = codec.write(2 * sound / np.abs(sound).max(), tmp_path / "case.v1")
    read, rate = soundfile.read(path)
    assert path.name == "case.v1.wav" and rate == RATE_HZ and soundfile.info(path).subtype == "PCM_16"
    assert np.allclose(read, np.clip(2 * sound / np.abs(sound).max(), -1, 1), atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"sample_rate": 8000}, "sample_rate"), ({"hop_ms": 50}, "hop_ms"), ({"hop_ms": 0.01}, "hop_ms"), ({"mels": "many"}, "mels"),
     ({"codebook": 100}, "100"), ({"levels": [1]}, "levels"), ({"patch": 0}, "patch")],
)  # fmt: skip
def test_settings_that_make_no_sense_are_named(changed: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        AudioCodecTokenizer.fit(chirps(4), QUICK | changed, 0)


def test_the_sample_rate_must_be_known() -> None:
    with pytest.raises(UsageError, match="sample_rate_hz"):
        AudioCodecTokenizer.fit(chirps(4), {"steps": 1}, 0)


@pytest.mark.parametrize("rate_hz", [4000, 8000, 16000, 22050, 44100])
def test_every_mel_band_hears_something_at_every_rate(rate_hz: int) -> None:
    filters = mel_filters(rate_hz, 2 ** round(np.log2(rate_hz * 0.032)), 64)
    assert torch.allclose(filters.sum(1), torch.ones(64)) and (filters >= 0).all()


@pytest.mark.parametrize(("frequency_hz", "level"), [(500, 1.0), (2000, 0.25)])
def test_a_tone_stands_at_its_level_in_the_band_of_its_frequency(frequency_hz: int, level: float) -> None:
    frames = MelFrames(RATE_HZ, HOP, 256, 40, floor_db=-60.0)
    tone = level * torch.sin(2 * np.pi * frequency_hz / RATE_HZ * torch.arange(8000))
    log_mel = frames.log_mel(tone[None])[0, :, 50]
    loudest = int(log_mel.argmax())
    centre_hz = float(frames.filters[loudest].argmax()) * RATE_HZ / 256
    assert abs(centre_hz - frequency_hz) < 100
    assert level / 4 < float(log_mel.max().exp()) <= level


def test_phases_are_found_that_fit_the_spectrogram() -> None:
    frames = MelFrames(RATE_HZ, HOP, 256, 40, floor_db=-60.0)
    sound = torch.from_numpy(chirp(0.5))[None]
    log_mel = frames.log_mel(sound)
    rebuilt = frames.sound(log_mel, iterations=32)
    assert rebuilt.shape == sound.shape
    assert float((frames.log_mel(rebuilt) - log_mel).square().mean().sqrt()) * 8.686 < 3.0
    rough = frames.log_mel(frames.sound(log_mel, iterations=0))
    assert (frames.log_mel(rebuilt) - log_mel).square().mean() < (rough - log_mel).square().mean() / 4


@pytest.mark.slow
@pytest.mark.data
def test_decoded_speech_is_recognised_as_well_as_the_originals(tmp_path: Path) -> None:
    folder = DATA / "fsdd"
    if not folder.is_dir():
        pytest.skip(f"the Free Spoken Digit Dataset is not in {folder}; set MMTOOL_DATA")
    paths = sorted(folder.glob("*.wav"))
    sounds = [soundfile.read(path, dtype="float32")[0] for path in paths]
    digits = np.array([int(path.name[0]) for path in paths])
    held_out = np.array([int(path.stem.split("_")[2]) % 5 == 0 for path in paths])
    train, test = ([sounds[i] for i in np.flatnonzero(chosen)] for chosen in (~held_out, held_out))
    codec = AudioCodecTokenizer.fit(train, {"sample_rate_hz": RATE_HZ}, 0)
    written = [codec.write(sound, tmp_path / str(i)) for i, sound in enumerate(codec.decode(codec.encode(test)))]
    decoded = [soundfile.read(path, dtype="float32")[0] for path in written]
    judge = make_pipeline(StandardScaler(), SVC(C=5)).fit([_stretched(sound) for sound in train], digits[~held_out])
    original, after = (judge.score([_stretched(sound) for sound in part], digits[held_out]) for part in (test, decoded))
    assert original > 0.95 and original - after < 0.05


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean squared difference of log-mel frames as far as both go."""
    length = min(len(one), len(other))
    return float(np.square(one[:length] - other[:length]).mean())


def _stretched(sound: np.ndarray, steps: int = 24) -> np.ndarray:
    """Log-mel frames at equal loudness, stretched to one length."""
    frames = MelFrames(RATE_HZ, HOP, 256, 40, floor_db=-60.0)
    level = np.pad(sound / (np.sqrt(np.square(sound).mean()) + 1e-9) / 10, (0, -len(sound) % HOP)).astype(np.float32)
    log_mel = frames.log_mel(torch.from_numpy(level)[None])
    return torch.nn.functional.interpolate(log_mel, steps, mode="linear")[0].flatten().numpy()
