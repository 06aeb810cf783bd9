"""Values in, tokens, values out: each kind within the error that its tokenizer states, with what is missing still missing.

Tokenizers are fitted once; 200 examples of each kind vary the values, 40 of sound, whose decoding takes long.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmtool.tokenizers.audio_patches import AudioPatchTokenizer
from mmtool.tokenizers.column_types import NUMBER, Boolean, Category, ColumnType, Date, Ordinal
from mmtool.tokenizers.image import ImagePatchTokenizer
from mmtool.tokenizers.signal import SignalPatchTokenizer
from mmtool.tokenizers.table import TableTokenizer
from mmtool.tokenizers.text import TextTokenizer
from mmtool.tokenizers.trajectory import TrajectoryTokenizer
from mmtool.tokenizers.video import VideoPatchTokenizer
from mmtool.tokenizers.volume import VolumePatchTokenizer

EXAMPLES = settings(max_examples=200, deadline=None)
RATE_HZ, STEPS, SIDE = 8000, 6, 8
WORDS = ["the quick brown fox", "jumps over the lazy dog", "naïve café ▁ 你好"] * 4
TYPES: dict[str, ColumnType] = {
    "stage": Category(("I", "II", "III", "IV")),
    "smoker": Boolean(("no", "yes")),
    "grade": Ordinal(("low", "mid", "high")),
    "visit": Date(),
}
SIZES = {"stage": 4, "smoker": 2, "grade": 3}


def back(tokenizer: Any, value: Any) -> Any:
    """What comes back from the tokens of a value, which are whole numbers below the size of the vocabulary, or bytes."""
    (tokens,) = tokenizer.encode([value])
    assert tokens.dtype == np.uint8 if tokenizer.vocabulary_size == 0 else (tokens < tokenizer.vocabulary_size).all()
    (decoded,) = tokenizer.decode([tokens])
    return decoded


@pytest.mark.parametrize("shape", [(SIDE, SIDE, 1), (SIDE, SIDE, 3)])
def test_images_lose_nothing(shape: tuple[int, ...]) -> None:
    tokenizer = ImagePatchTokenizer.fit([np.zeros(shape, np.uint8)], {"patch": 4}, 0)

    @EXAMPLES
    @given(hnp.arrays(np.uint8, shape))
    def check(image: np.ndarray) -> None:
        np.testing.assert_array_equal(back(tokenizer, image), image)

    check()


def test_videos_lose_nothing() -> None:
    shape = (STEPS, SIDE, SIDE, 3)
    tokenizer = VideoPatchTokenizer.fit([np.zeros(shape, np.uint8)], {"patch": 4, "frames_per_token": 2, "rate_hz": 10}, 0)

    @EXAMPLES
    @given(hnp.arrays(np.uint8, shape))
    def check(video: np.ndarray) -> None:
        np.testing.assert_array_equal(back(tokenizer, video), video)

    check()


def test_volumes_are_off_by_half_a_level() -> None:
    shape = (STEPS, SIDE, SIDE)
    low, high = -1024, 3071  # Hounsfield units of 12 bits
    tokenizer = VolumePatchTokenizer.fit([np.zeros(shape, np.float32)], {"patch": [2, 4, 4], "value_range": [low, high]}, 0)

    @EXAMPLES
    @given(hnp.arrays(np.float32, shape, elements=st.floats(low, high, width=32)))
    def check(volume: np.ndarray) -> None:
        assert np.abs(back(tokenizer, volume) - volume).max() <= 1.001 * tokenizer.report["step"] / 2 and not tokenizer.beyond(volume)

    check()


def test_texts_lose_nothing() -> None:
    tokenizer = TextTokenizer.fit(WORDS, {"vocabulary_size": 300}, 0)

    @EXAMPLES
    @given(st.text(st.characters(exclude_categories=["Cs"])) | st.text("the café \u2581\x1a\0\n"))
    def check(text: str) -> None:
        assert back(tokenizer, text) == text

    check()


def test_recordings_keep_the_levels_of_their_bands() -> None:
    loudest = np.sin(np.arange(RATE_HZ) * 0.3).astype(np.float32)
    chosen = {"sample_rate_hz": RATE_HZ, "mels": 16, "normalise": False, "trim_db": 0}
    tokenizer = AudioPatchTokenizer.fit([loudest], chosen, 0)
    floor, ceiling = np.log(tokenizer.frames.floor), np.log(tokenizer.frames.floor) + 255 * tokenizer.step

    @settings(EXAMPLES, max_examples=40)
    @given(hnp.arrays(np.float32, st.integers(200, 1200), elements=st.floats(-0.5, 0.5, width=32)))
    def check(sound: np.ndarray) -> None:
        (tokens,) = tokenizer.encode([sound])
        told = tokens.reshape(-1, tokenizer.frames.mels).T * tokenizer.step + floor
        real = np.clip(tokenizer.log_mel(sound).numpy(), floor, ceiling)
        assert np.abs(told - real).max() <= tokenizer.step / 2 + 1e-4
        (decoded,) = tokenizer.decode([tokens])
        assert decoded.shape == (len(tokens) * tokenizer.patch * tokenizer.frames.hop,) and len(decoded) >= len(sound)
        assert np.abs(decoded).max() <= 1

    check()


def test_series_are_off_by_half_a_level() -> None:
    random = np.random.default_rng(0)
    series = (random.normal(size=(400, 2)) * np.array([1e-9, 50]) + np.array([0, 7])).astype(np.float32)
    tokenizer = SignalPatchTokenizer.fit([series], {"sample_rate_hz": 50, "channels": ["a", "b"], "patch": 4}, 0)
    low, high = series.min(0), series.max(0)
    half = (high - low) / 255 / 2

    @EXAMPLES
    @given(hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.just(2)), elements=st.floats(0, 1, width=32)))
    def check(shares: np.ndarray) -> None:
        value = low + shares * (high - low)
        decoded = back(tokenizer, value)
        assert len(value) <= len(decoded) < len(value) + 4 and not tokenizer.beyond(value)
        assert (np.abs(decoded[: len(value)] - value) <= 1.02 * half + 1e-6 * np.abs(high)).all()

    check()


def test_trajectories_keep_whole_numbers_and_amounts_to_their_bins() -> None:
    random = np.random.default_rng(0)
    clips = [
        {
            "observations": random.normal(size=(STEPS, 2)).astype(np.float32) * 3,
            "actions": random.integers(0, 5, STEPS),
            "rewards": random.normal(size=STEPS).astype(np.float32),
        }
        for _ in range(20)
    ]
    clips[0]["actions"][0] = 4
    tokenizer = TrajectoryTokenizer.fit(clips, {"n_bins": 64}, 0)
    streams = {stream.name: stream for stream in tokenizer.streams}

    @EXAMPLES
    @given(
        hnp.arrays(np.float32, (STEPS, 2), elements=st.floats(-9, 9, width=32)),
        hnp.arrays(np.int64, STEPS, elements=st.integers(0, 4)),
        hnp.arrays(np.float32, STEPS, elements=st.floats(-9, 9, width=32)),
    )
    def check(observations: np.ndarray, actions: np.ndarray, rewards: np.ndarray) -> None:
        clip = {"observations": observations, "actions": actions, "rewards": rewards}
        decoded = back(tokenizer, clip)
        np.testing.assert_array_equal(decoded["actions"], actions)
        for name in ("observations", "rewards"):
            stream: Any = streams[name]
            off = np.abs(law(decoded[name], stream) - law(clip[name], stream))
            assert off.max() <= 1 / stream.size + 1e-5  # half of one of `size` bins between -1 and 1

    check()


def law(values: np.ndarray, stream: Any) -> np.ndarray:
    """In [-1, 1], where the bins of a stream are of equal width."""
    squeezed = np.sign(values) * np.log1p(np.abs(values.astype(np.float64)) * stream.mu) / np.log1p(stream.max_value * stream.mu)
    return np.clip(squeezed, -1, 1)


def test_tables_keep_categories_what_is_missing_and_numbers_to_their_bins() -> None:
    features, random = ("dose", "age", *TYPES), np.random.default_rng(0)
    numbers = [random.lognormal(size=300) * 1e-12, 50 + 10 * random.normal(size=300)]
    codes = [random.integers(0, size, 300) for size in SIZES.values()]
    train = np.stack([*numbers, *codes, random.integers(17000, 19000, 300)], 1).astype(np.float32)
    train[::5, :] = np.where(random.random((60, 6)) < 0.5, np.nan, train[::5, :])
    tokenizer = TableTokenizer.fit(list(train), {"features": features, "types": TYPES, "n_bins": 16}, 0)
    low, high = np.nanmin(train, 0), np.nanmax(train, 0)
    edges = [np.concatenate(([low[i]], tokenizer.edges[i][np.isfinite(tokenizer.edges[i])], [high[i]])) for i in range(6)]
    exact = [features.index(name) for name in SIZES]

    @EXAMPLES
    @given(
        hnp.arrays(np.float32, 6, elements=st.floats(0, 1, width=32)),
        hnp.arrays(np.bool_, 6),
        st.tuples(*(st.integers(0, size - 1) for size in SIZES.values())),
    )
    def check(shares: np.ndarray, missing: np.ndarray, chosen: tuple[int, ...]) -> None:
        row = low + shares * (high - low)
        row[exact] = chosen
        row = np.where(missing, np.float32(np.nan), row)
        decoded = back(tokenizer, row)
        np.testing.assert_array_equal(np.isnan(decoded), missing)
        np.testing.assert_array_equal(decoded[exact], row[exact])
        for place in np.flatnonzero(~missing):
            bin_ = max(1, np.searchsorted(edges[place], row[place], side="left"))
            slack = 1e-5 * np.abs(edges[place]).max()
            assert edges[place][bin_ - 1] - slack <= decoded[place] <= edges[place][min(bin_, len(edges[place]) - 1)] + slack

    check()


@EXAMPLES
@given(st.sampled_from([NUMBER, *TYPES.values(), Date(timed=True)]), st.integers(0, 20000))
def test_cells_come_back_as_they_were_written(column: ColumnType, number: int) -> None:
    number %= len(column.categories) or (3 if isinstance(column, Ordinal) else 20000)
    cell = column.write(number)
    assert (float(cell) if column is NUMBER else column.read(cell)) == number and column.write(number) == cell
