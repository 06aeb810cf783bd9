"""Episodes are read as the field stores them, cut into clips that never part between splits, and refused where they are broken."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmtool.common.errors import DataError, UsageError
from mmtool.data.shards import open_token_set
from mmtool.preprocessing.sources import Item, Reject, SourceOptions, read_items
from mmtool.preprocessing.tokenize import tokenize


def read(*paths: Path, rejects: list[Reject] | None = None, **options: Any) -> dict[str, Item]:
    return {item.key: item for item in read_items("trajectory", paths, SourceOptions(**options), rejects)}


def episode(steps: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    observations = random.normal(size=(steps, 3)).astype(np.float32)
    return {"observations": observations, "actions": random.integers(0, 4, steps), "rewards": np.arange(steps, dtype=np.float32)}


def save(path: Path, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def test_one_npz_per_episode(tmp_path: Path) -> None:
    save(tmp_path / "maze/a.npz", **episode(7), game="maze")
    save(tmp_path / "maze/b.npz", **episode(5), game="cave")
    items = read(tmp_path, label_columns=("game",), label_from_folder="folder")
    assert list(items) == ["maze/a", "maze/b"] and items["maze/b"].labels == {"game": "cave", "folder": "maze"}
    item = items["maze/a"]
    assert item.group == "maze/a" and item.metadata == {"episode": "maze/a", "start": 0}
    for name, array in episode(7).items():
        np.testing.assert_array_equal(item.value[name], array)
    np.testing.assert_array_equal(item.value["returns_to_go"], [21, 21, 20, 18, 15, 11, 6])


def test_episodes_are_cut_into_clips_and_the_rest_is_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "a.npz", **episode(11))
    items = read(tmp_path, clip=4)
    assert list(items) == ["a-000000", "a-000004"] and {item.group for item in items.values()} == {"a"}
    assert items["a-000004"].metadata == {"episode": "a", "start": 4}
    np.testing.assert_array_equal(items["a-000004"].value["rewards"], [4, 5, 6, 7])
    np.testing.assert_array_equal(items["a-000004"].value["returns_to_go"], [49, 45, 40, 34])  # to the end of the episode
    assert "3 steps at the ends of episodes are left out" in capfd.readouterr().err
    with pytest.raises(DataError, match=r"no episode is as long as a clip.*--clip than 12: the longest has 11 steps"):
        read(tmp_path, clip=12)
    with pytest.raises(UsageError, match="clip of 0 steps"):
        read(tmp_path, clip=0)


def test_all_steps_in_one_file_are_parted_at_their_ends(tmp_path: Path) -> None:
    terminals, timeouts = np.zeros(9, bool), np.zeros(9, bool)
    terminals[2], timeouts[[6, 8]] = True, True
    path = save(tmp_path / "all.npz", **episode(9), terminals=terminals, timeouts=timeouts)
    assert {key: len(item.value["actions"]) for key, item in read(path).items()} == {"all-000000": 3, "all-000001": 4, "all-000002": 2}
    path = save(tmp_path / "ids.npz", **episode(5), episode=np.array([7, 7, 2, 2, 2]))
    assert {key: item.value["rewards"].tolist() for key, item in read(path).items()} == {"ids-000007": [0, 1], "ids-000002": [2, 3, 4]}


def test_d4rl_files(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "maze.hdf5", "w") as file:
        for name, array in episode(9).items():
            file[name] = array
        file["terminals"] = np.zeros(9, bool)
        file["timeouts"] = np.arange(9) == 4
        file["infos/qpos"] = np.zeros((9, 2))
        file["metadata/algorithm"] = "SAC"
        file.attrs["env"] = "maze"
    items = read(tmp_path / "maze.hdf5", clip=2, label_columns=("env",))
    assert list(items) == [f"maze-{number:06d}-{start:06d}" for number in (0, 1) for start in (0, 2)]
    assert items["maze-000001-000000"].value["rewards"].tolist() == [5, 6] and items["maze-000001-000000"].group == "maze-000001"
    assert items["maze-000000-000000"].labels == {"env": "maze"}
    np.testing.assert_array_equal(items["maze-000001-000000"].value["observations"], episode(9)["observations"][5:7])


def test_minari_folders(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    (tmp_path / "human-v2/data").mkdir(parents=True)
    (tmp_path / "human-v2/data/metadata.json").write_text("{}")
    with h5py.File(tmp_path / "human-v2/data/main_data.hdf5", "w") as file:
        for number, steps in ((0, 4), (2, 3), (10, 5)):
            group = file.create_group(f"episode_{number}")
            group.attrs["seed"] = number + 40
            group["actions"], group["rewards"] = np.zeros((steps, 2)), np.ones(steps)
            group["observations/goal"] = np.arange(steps + 1)
            group["observations/achieved"] = np.arange(2 * steps + 2).reshape(-1, 2) * 10.0
            group["terminations"] = group["truncations"] = np.zeros(steps, bool)
    items = read(tmp_path, label_columns=("seed",))
    assert list(items) == ["human-v2/episode_0", "human-v2/episode_2", "human-v2/episode_10"]
    item = items["human-v2/episode_2"]
    assert item.labels == {"seed": 42} and item.value["observations"].tolist() == [[0, 10, 0], [20, 30, 1], [40, 50, 2]]
    assert item.value["returns_to_go"].tolist() == [3, 2, 1]
    assert list(read(tmp_path / "human-v2")) == ["episode_0", "episode_2", "episode_10"]


def test_parquet_rows_are_steps(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = {
        "episode_index": [1, 1, 0, 0, 0],
        "frame_index": [1, 0, 0, 1, 2],
        "observation.state": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], [9.0, 10.0]],
        "action": [0, 1, 2, 3, 4],
        "next.reward": [0.5, 1.5, 0.0, 0.0, 1.0],
        "task": ["push", "push", "pull", "pull", "pull"],
        "note": [None, "x", None, None, None],
    }
    parquet.write_table(pyarrow.table(rows), tmp_path / "t.parquet")
    items = read(tmp_path / "t.parquet", label_columns=("task",))
    assert list(items) == ["t-000001", "t-000000"] and items["t-000000"].labels == {"task": "pull"}
    assert items["t-000001"].value["actions"].tolist() == [1, 0] and items["t-000001"].value["observations"].tolist() == [[3, 4], [1, 2]]
    assert list(read(tmp_path / "t.parquet", key_column="task")) == ["push", "pull"]
    rows["observation.state"][0] = [1.0]
    parquet.write_table(pyarrow.table(rows), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"lists of column 'observation.state' differ in length"):
        read(tmp_path / "t.parquet")
    rows["observation.state"], rows["frame_index"] = [None, *([[1.0]] * 4)], [0, 0, 0, 1, 2]
    parquet.write_table(pyarrow.table(rows), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t\.parquet:1: the column 'observation.state' is empty"):
        read(tmp_path / "t.parquet")
    parquet.write_table(pyarrow.table({name: rows[name] for name in ("episode_index", "frame_index", "action")}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="a step stands twice"):
        read(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros(3)}, r"a\.npz: there are no observations, actions or rewards, only images"),
        ({"actions": np.zeros(3), "rewards": np.zeros(4)}, "differ, or are 0: actions 3, rewards 4"),
        ({"observations": np.zeros((5, 2)), "actions": np.zeros(3)}, "observations 5, actions 3"),
        ({"actions": np.zeros(0)}, "actions 0"),
        ({"actions": np.zeros(3), "terminals": np.zeros((3, 2))}, r"'terminals' has the shape \(3, 2\) for 3 steps"),
        ({"actions": np.array([0, np.nan, 1])}, "actions are NaN or infinite at step 1"),
        ({"actions": np.array([0, 1, 1]), "rewards": np.array([0, 0, np.inf])}, "rewards are NaN or infinite at step 2"),
        ({"actions": np.array(["left", "right"])}, "actions hold <U5, no numbers"),
    ],
)
def test_broken_episodes_are_named(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(save(tmp_path / "a.npz", **arrays))


def test_a_broken_clip_costs_that_clip_only(tmp_path: Path) -> None:
    arrays = episode(8)
    arrays["rewards"][5] = np.nan
    rejects: list[Reject] = []
    items = read(save(tmp_path / "a.npz", **arrays), rejects=rejects, on_error="skip", clip=2)
    assert list(items) == ["a-000000", "a-000002", "a-000006"] and rejects[0].key == "a-000004" and "step 5" in rejects[0].reason


def test_damaged_and_dangerous_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no")
    with pytest.raises(DataError, match=r"a\.npz.*cannot be read"):
        read(tmp_path / "a.npz")
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "a.hdf5"
    path.write_bytes(b"no hdf5")
    with pytest.raises(DataError, match=r"a\.hdf5: the HDF5 file is damaged"):
        read(path)
    with h5py.File(path, "w") as file:
        file["actions"] = np.arange(1000)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DataError, match="the HDF5 file is damaged"):
        read(path)
    with h5py.File(path, "w") as file:
        file["actions"] = h5py.ExternalLink("/etc/passwd", "x")
    with pytest.raises(DataError, match="'actions' is a link to another file"):
        read(path)
    with h5py.File(path, "w") as file:
        file["episode_0"] = h5py.ExternalLink("other.hdf5", "x")
    with pytest.raises(DataError, match="'episode_0' is a link to another file"):
        read(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("actions", (3,), "i8", external=[("/etc/passwd", 0, 24)])
    with pytest.raises(DataError, match="data of 'actions' lies in another file"):
        read(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("actions", (1 << 40,), "i8", chunks=(1024,), compression="gzip")
    with pytest.raises(DataError, match="more than 4 GiB"):
        read(path)
    with pytest.raises(DataError, match=r"not a trajectory file by its name.*\.hdf5"):
        (tmp_path / "a.pkl").write_bytes(b"")
        read(tmp_path / "a.pkl")


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    (tmp_path / "a.h5").write_bytes(b"")
    with pytest.raises(UsageError, match=r"needs h5py.*mmtool\[trajectory\]"):
        read(tmp_path / "a.h5")


def test_clips_of_an_episode_stay_in_one_split(tmp_path: Path) -> None:
    for number in range(30):
        save(tmp_path / f"raw/{number:02d}.npz", **episode(12, number))
    done = tokenize("trajectory", [tmp_path / "raw"], tmp_path / "t.tar", name="play", options=SourceOptions(clip=4))
    assert done.samples == 90 and done.scheme == "steps" and done.mean_length == 4 * 5
    splits: dict[str, set[str]] = {}
    for sample in open_token_set(tmp_path / "t.tar"):
        splits.setdefault(sample.metadata["episode"], set()).add(sample.split)
        assert sample.metadata["start"] in (0, 4, 8) and sample.metadata["group"] == sample.metadata["episode"]
    assert len(splits) == 30 and all(len(own) == 1 for own in splits.values())
    with pytest.raises(DataError, match=r"12 steps, the tokenizer 4.*--clip 4"):
        tokenize("trajectory", [tmp_path / "raw"], tmp_path / "u.tar", name="play", tokenizer=tmp_path / "t.tar")
