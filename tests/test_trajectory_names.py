"""Arrays of trajectories under the names that libraries give them are read; what is not read is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmtool.common.errors import DataError
from mmtool.preprocessing.sources import Item, SourceOptions, read_items

STEPS = 12
STARTS = np.isin(np.arange(STEPS), (0, 5, 8))
ENDS = np.isin(np.arange(STEPS), (4, 7, 11))
OBSERVATIONS = np.arange(2 * STEPS, dtype=np.float32).reshape(STEPS, 2)


def read(path: Path, **options: Any) -> dict[str, Item]:
    return {item.key: item for item in read_items("trajectory", [path], SourceOptions(**options))}


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def lengths(path: Path) -> list[int]:
    return [len(item.value["rewards"]) for item in read(path).values()]


@pytest.mark.parametrize("name", ["episode_starts", "is_first"])
def test_an_episode_begins_at_each_start(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / "a.npz", obs=OBSERVATIONS, rewards=np.ones(STEPS), **{name: STARTS.astype(np.float32)})
    assert lengths(path) == [5, 3, 4]
    assert read(path)["a-000001"].value["returns_to_go"].tolist() == [3, 2, 1]
    assert list(read(path, clip=3)) == ["a-000000-000000", "a-000001-000000", "a-000002-000000"]


@pytest.mark.parametrize("name", ["terminal", "terminated", "truncated", "is_last", "is_terminal"])
def test_an_episode_ends_at_each_end(tmp_path: Path, name: str) -> None:
    assert lengths(save(tmp_path / "a.npz", reward=np.ones(STEPS), **{name: ENDS})) == [5, 3, 4]


def test_starts_and_ends_must_agree(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", reward=np.ones(STEPS), is_first=STARTS, is_last=ENDS, is_terminal=np.zeros(STEPS, bool))
    assert lengths(path) == [5, 3, 4]
    terminals = ENDS & (np.arange(STEPS) != 4)  # the first episode ran out of time, so its end is none
    assert lengths(save(tmp_path / "b.npz", rewards=np.ones(STEPS), terminals=terminals, episode_starts=STARTS)) == [5, 3, 4]
    path = save(tmp_path / "c.npz", rewards=np.ones(STEPS), dones=np.arange(STEPS) == 2, episode_starts=STARTS)
    with pytest.raises(DataError, match=r"ends at step 2, but none starts at step 3: dones and episode_starts disagree"):
        read(path)
    path = save(tmp_path / "d.npz", rewards=np.ones(STEPS), episode=np.arange(STEPS) // 6, episode_starts=STARTS)
    assert lengths(path) == [6, 6]  # ids of episodes come first


def test_imitation_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arrays = {"obs": np.vstack([OBSERVATIONS, OBSERVATIONS[-1:]]), "acts": np.arange(STEPS), "rews": np.ones(STEPS)}
    item = read(save(tmp_path / "a.npz", **arrays, terminal=True))["a"]
    assert item.value["actions"].tolist() == list(range(STEPS)) and item.value["observations"].shape == (STEPS, 2)
    assert item.value["returns_to_go"][0] == STEPS and "left out" not in capfd.readouterr().err


def test_arrays_that_are_not_read_are_named_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        others = {"image": np.zeros((STEPS, 2, 2)), "level": np.full(STEPS, 3), "rew": np.ones(STEPS), "seed": 7}
        save(tmp_path / f"{name}.npz", obs=OBSERVATIONS, reward=np.ones(STEPS), is_first=STARTS, **others)
    read(tmp_path, label_columns=("level",))
    err = capfd.readouterr().err
    assert err.count("left out") == 1 and f"left out of {tmp_path / 'a.npz'}: image, rew (known: observations, " in err


def test_columns_that_are_not_read_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"action": [0, 1], "is_first": [True, True], "observation.images.top": [1, 2]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert list(read(tmp_path / "a.parquet")) == ["a-000000", "a-000001"]
    assert "a.parquet: observation.images.top (known" in capfd.readouterr().err


def test_groups_that_are_not_read_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "d4rl.h5", "w") as file:
        file["actions"] = file["next_observations"] = np.zeros(3)
        file["observations/a"] = np.zeros(3)
        file["infos/qpos"] = np.zeros(3)
        file["elsewhere"] = h5py.ExternalLink("other.h5", "x")
        for number in range(3):
            file[f"traj_{number}/obs"] = np.zeros(3)
    read(tmp_path / "d4rl.h5")
    assert "d4rl.h5: elsewhere, infos/qpos, next_observations, traj_N/obs (known" in capfd.readouterr().err
    with h5py.File(tmp_path / "minari.h5", "w") as file:
        for number in range(3):
            group = file.create_group(f"episode_{number}")
            group["actions"], group["terminations"], group["infos/x"] = np.zeros(3), np.zeros(3, bool), np.zeros(3)
        file["extra"] = np.zeros(3)
    assert len(read(tmp_path / "minari.h5")) == 3
    err = capfd.readouterr().err
    assert "minari.h5: extra (known" in err and err.count("minari.h5: infos/x (known") == 1 and err.count("left out") == 2


@pytest.mark.parametrize(
    ("arrays", "listed"),
    [
        (("runs/day_0/actions", "runs/day_1/actions"), "only runs/day_N"),
        (("day_0/obs", "day_0/actions", "day_1/obs"), "only day_N/actions, day_N/obs"),
        (("states_0", "states_1", "controls_0", "controls_1"), "only controls_N, states_N"),
    ],
)
def test_an_unknown_layout_is_refused_by_what_is_there(
    tmp_path: Path, arrays: tuple[str, ...], listed: str, capfd: pytest.CaptureFixture[str]
) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name in arrays:
            file[name] = np.zeros(3)
    with pytest.raises(DataError, match=rf"no observations, actions or rewards, {listed}\. .*groups episode_0"):
        read(tmp_path / "a.h5")
    assert "left out" not in capfd.readouterr().err
