"""Trajectory tokenizers keep discrete values exactly and continuous ones as well as their bins can, and refuse what does not fit."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmtool.common.errors import DataError, UsageError
from mmtool.evaluation.figures.trajectory_thumbnail import ClipDrawer
from mmtool.evaluation.reference.features import trajectory_features
from mmtool.kinds import KINDS, load
from mmtool.tokenizers.base import fingerprint, from_bytes, to_bytes
from mmtool.tokenizers.trajectory import TrajectoryTokenizer

STEPS, NUM_ACTIONS = 8, 6
Clips = list[dict[str, np.ndarray]]


def clips(count: int = 100, width: int = 3) -> Clips:
    random = np.random.default_rng(0)
    return [
        {
            "observations": random.normal(size=(STEPS, width)).astype(np.float32),
            "actions": random.integers(0, NUM_ACTIONS, STEPS),
            "rewards": random.choice([0, 10, 200], STEPS, p=[0.9, 0.07, 0.03]).astype(np.float32),
            "returns_to_go": np.arange(STEPS, 0, -1).astype(np.float32),
        }
        for _ in range(count)
    ]


def fit(values: Clips, **options: object) -> TrajectoryTokenizer:
    return TrajectoryTokenizer.fit(values, options, 0)


def test_it_is_one_of_the_tokenizers() -> None:
    assert load(KINDS["trajectory"].schemes["steps"]) is TrajectoryTokenizer


@pytest.mark.parametrize("binning", ["mu-law", "quantile"])
def test_clips_come_back(binning: str) -> None:
    values = clips()
    tokenizer = fit(values, binning=binning)
    tokens = tokenizer.encode(values)
    assert tokenizer.shape == (STEPS, 5) and tokenizer.positions == "grid" and tokens[0].shape == (STEPS * 5,)
    assert tokens[0].dtype == np.uint16 and max(row.max() for row in tokens) < tokenizer.vocabulary_size
    for value, decoded in zip(values, tokenizer.decode(tokens), strict=True):
        np.testing.assert_array_equal(decoded["actions"], value["actions"])
        np.testing.assert_allclose(decoded["observations"], value["observations"], rtol=0.02, atol=0.02)
        np.testing.assert_allclose(decoded["rewards"], value["rewards"], rtol=0.02, atol=0.02)
    report = tokenizer.report
    assert report["reconstruction_r2"] > 0.999 and report["streams"]["actions"]["mse"] == 0 and report["steps"] == STEPS
    assert report["streams"]["actions"]["codebook_usage"] == 1.0


@given(hnp.arrays(np.float32, (2, 5, 2), elements=st.floats(-(2.0**20), 2.0**20, width=32)), st.sampled_from(["mu-law", "quantile"]))
@settings(max_examples=100, deadline=None)
def test_encoding_what_was_decoded_changes_nothing(values: np.ndarray, binning: str) -> None:
    parts = [{"observations": value, "actions": np.arange(5)} for value in values]
    tokenizer = fit(parts, binning=binning, n_bins=16)
    tokens = tokenizer.encode(parts)
    np.testing.assert_array_equal(tokenizer.encode(tokenizer.decode(tokens)), tokens)


@given(st.lists(st.integers(0, 40), min_size=4, max_size=4), st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_every_stream_has_codes_of_its_own(actions: list[int], rewards: int) -> None:
    part = {"actions": np.array(actions), "rewards": np.arange(4) % rewards}
    tokenizer = fit([part], binning="quantile")
    steps = np.stack(tokenizer.encode([part])).reshape(4, 2)
    assert steps[:, 0].max() < tokenizer.streams[0].size <= steps[:, 1].min()
    (decoded,) = tokenizer.decode(tokenizer.encode([part]))
    np.testing.assert_array_equal(decoded["actions"], part["actions"])
    np.testing.assert_array_equal(decoded["rewards"], part["rewards"])


def test_the_streams_of_a_step_stand_in_a_fixed_order() -> None:
    tokenizer = fit(clips(), streams="actions,returns_to_go")
    assert [stream.name for stream in tokenizer.streams] == ["returns_to_go", "actions"]
    assert tokenizer.shape == (STEPS, 2) and set(tokenizer.decode(tokenizer.encode(clips(1)))[0]) == {"returns_to_go", "actions"}
    assert [stream.name for stream in fit(clips()).streams] == ["observations", "actions", "rewards"]


def test_mu_law_bins_are_those_of_gato() -> None:
    values = np.array([-256, -100, -1, 0, 1, 200, 256], np.float32)
    tokenizer = fit([{"observations": values}])
    squashed = np.sign(values) * np.log(np.abs(values) * 100 + 1) / np.log(256 * 100 + 1)
    np.testing.assert_array_equal(tokenizer.encode([{"observations": values}])[0], np.clip(np.floor((squashed + 1) * 512), 0, 1023))
    assert tokenizer.vocabulary_size == 1024 and tokenizer.report["streams"]["observations"]["clipped_share"] == 0
    assert tokenizer.state()[1]["streams"][0]["max_value"] == 256
    (last, first) = tokenizer.encode([{"observations": np.resize(value, 7)} for value in (1e6, -1e6)])
    assert (last == 1023).all() and (first == 0).all()


def test_binning_can_differ_by_stream() -> None:
    tokenizer = fit(clips(), binning={"rewards": "quantile"}, n_bins=64)
    assert [stream.binning for stream in tokenizer.streams] == ["mu-law", "whole", "quantile"]
    assert [stream.size for stream in tokenizer.streams] == [64, NUM_ACTIONS, 3]


def test_bytes_and_several_actions_are_discrete() -> None:
    part = {"observations": np.array([[1, 7], [200, 3]], np.uint8), "actions": np.array([[0, 2], [1, 0]])}
    tokenizer = fit([part])
    assert tokenizer.shape == (2, 4) and tokenizer.vocabulary_size == 256 + 3
    (decoded,) = tokenizer.decode(tokenizer.encode([part]))
    np.testing.assert_array_equal(decoded["observations"], part["observations"])
    np.testing.assert_array_equal(decoded["actions"], part["actions"])


def test_a_code_out_of_its_range_counts_as_the_nearest() -> None:
    tokenizer = fit(clips(), streams=["actions", "rewards"], binning="quantile")
    strange = np.array([tokenizer.vocabulary_size - 1, 0] * STEPS)
    (decoded,) = tokenizer.decode([strange])
    assert (decoded["actions"] == NUM_ACTIONS - 1).all() and (decoded["rewards"] == 0).all()


def test_the_file_gives_the_same_tokenizer() -> None:
    tokenizer = fit(clips(), binning="quantile")
    again = from_bytes(to_bytes(tokenizer))
    assert fingerprint(again) == fingerprint(tokenizer) and again.report == tokenizer.report and again.shape == tokenizer.shape
    np.testing.assert_array_equal(again.encode(clips()), tokenizer.encode(clips()))


def test_clips_are_written_with_their_names(tmp_path: Path) -> None:
    tokenizer = fit(clips(), streams="actions,rewards")
    (value,) = tokenizer.decode(tokenizer.encode(clips(1)))
    path = tokenizer.write(value, tmp_path / "ep.1-000008")
    assert path.name == "ep.1-000008.npz"
    with np.load(path, allow_pickle=False) as written:
        assert set(written.files) == {"actions", "rewards"}
        np.testing.assert_array_equal(written["actions"], clips(1)[0]["actions"])
    again = tokenizer.write(value, tmp_path / "again")
    assert again.read_bytes() == path.read_bytes()


def test_what_does_not_fit_is_refused() -> None:
    tokenizer, (clip,) = fit(clips()), clips(1)
    with pytest.raises(DataError, match=r"7 steps, the tokenizer 8.*--clip 8"):
        tokenizer.encode([{name: array[:7] for name, array in clip.items()}])
    with pytest.raises(DataError, match="has no rewards, only observations, actions"):
        tokenizer.encode([{name: clip[name] for name in ("observations", "actions")}])
    with pytest.raises(DataError, match=r"the shape \(4,\) in each step, elsewhere \(3,\)"):
        tokenizer.encode(clips(1, width=4))
    with pytest.raises(DataError, match=r"actions hold 9; the tokenizer knows the whole numbers 0 to 5.*num_actions"):
        tokenizer.encode([{**clip, "actions": np.full(STEPS, 9)}])
    with pytest.raises(DataError, match="rewards hold values that are no finite numbers"):
        tokenizer.encode([{**clip, "rewards": np.full(STEPS, np.nan)}])
    with pytest.raises(DataError, match=r"from 5 to 8 steps.*--clip 4, which leaves out 8% of the steps"):
        fit([clip, {name: array[:5] for name, array in clip.items()}])
    assert fit(clips(), num_actions=18).encode([{**clip, "actions": np.full(STEPS, 9)}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 4}, "unknown tokenizer setting 'bins'"),
        ({"n_bins": 1}, "n_bins is 1"),
        ({"streams": "actions,images"}, "no stream 'images'"),
        ({"streams": []}, "no stream ''"),
        ({"binning": "log"}, "binning 'log' is unknown"),
        ({"binning": {"images": "quantile"}}, "is unknown"),
        ({"num_actions": 2}, "the actions go up to 5"),
        ({"mu": -1.0}, "mu is -1"),
    ],
)
def test_wrong_settings_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fit(clips(), **options)


def test_pictures_are_no_streams() -> None:
    part = {"observations": np.zeros((4, 84, 84), np.uint8), "actions": np.arange(4)}
    with pytest.raises(UsageError, match=r"7056 numbers in each step.*mmtool tokenize image"):
        fit([part])
    assert fit([part], streams="actions").shape == (4, 1)


def test_judges_and_contact_sheets_can_look_at_clips() -> None:
    tokenizer = fit(clips())
    vectors = trajectory_features(tokenizer).fit_transform(clips())
    assert len(vectors) == 100 and np.isfinite(vectors).all() and vectors.std() > 0.5
    drawer = ClipDrawer(tokenizer, clips(10), (104, 76))
    pictures = [np.asarray(drawer(clip)) for clip in clips(2)]
    assert pictures[0].shape == (76, 104, 3) and (pictures[0] != pictures[1]).any()
