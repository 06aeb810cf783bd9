"""Episodes as libraries write them, one test per layout; one long episode is divided with gaps; advice fits the data."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmtool.common.errors import DataError, UsageError
from mmtool.data.shards import open_token_set
from mmtool.preprocessing.readers.clips import deal
from mmtool.preprocessing.shard import shard
from mmtool.preprocessing.sources import Item, Reject, SourceOptions, read_items
from mmtool.preprocessing.splits import Split
from mmtool.preprocessing.tokenize import tokenize

h5py = pytest.importorskip("h5py", reason="the extra `trajectory`")
pyarrow = pytest.importorskip("pyarrow", reason="the extra `parquet`")
LENGTHS = (5, 3, 7)


def read(path: Path, rejects: list[Reject] | None = None, **options: Any) -> dict[str, Item]:
    return {item.key: item for item in read_items("trajectory", [path], SourceOptions(**options), rejects)}


def arrays(number: int, observations: int | None = None) -> dict[str, np.ndarray]:
    """Of one episode; values tell the episode and the step."""
    steps = LENGTHS[number]
    observed = 100.0 * number + np.arange(steps if observations is None else observations)
    return {"observations": np.stack([observed, -observed], 1), "actions": np.arange(steps) % 3, "rewards": np.full(steps, float(number))}


def check(items: dict[str, Item], keys: list[str], streams: tuple[str, ...] = ("observations", "actions", "rewards")) -> None:
    """The episodes are all there, each whole, in order of their steps."""
    assert list(items) == keys
    for number, item in enumerate(items.values()):
        for name in streams:
            np.testing.assert_array_equal(item.value[name], arrays(number)[name])


def write_parquet(path: Path, columns: dict[str, list[Any]]) -> Path:
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)
    return path


def test_robomimic(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "lift.hdf5", "w") as file:
        for number in range(3):
            group, parts = file.create_group(f"data/demo_{number}"), arrays(number)
            group["actions"], group["rewards"], group["dones"] = parts["actions"], parts["rewards"], np.zeros(LENGTHS[number])
            group["obs/a_eef_pos"], group["obs/b_joint"] = parts["observations"][:, :1], parts["observations"][:, 1]
            group["obs/agentview_image"] = np.zeros((LENGTHS[number], 32, 32, 3), np.uint8)
            group["next_obs/a_eef_pos"] = parts["observations"][:, :1]
            group.attrs["num_samples"] = LENGTHS[number]
        file["mask/train"] = np.array([b"demo_0", b"demo_1"])
    items = read(tmp_path / "lift.hdf5", label_columns=("num_samples",))
    check(items, ["lift/demo_0", "lift/demo_1", "lift/demo_2"])
    assert items["lift/demo_2"].labels == {"num_samples": 7} and items["lift/demo_2"].value["returns_to_go"][0] == 14
    err = capfd.readouterr().err
    assert "lift.hdf5: mask/train (known" in err and "next_obs/a_eef_pos" in err
    assert "obs/agentview_image (3,072 numbers in each step)" in err and err.count("agentview") == 1


def test_maniskill(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "PickCube.h5", "w") as file:
        for number in (1, 0, 2):
            group, parts = file.create_group(f"traj_{number}"), arrays(number, LENGTHS[number] + 1)
            group["obs/agent/qpos"], group["obs/extra/tcp"] = parts["observations"][:, :1], parts["observations"][:, 1:]
            group["actions"], group["success"] = parts["actions"], np.zeros(LENGTHS[number], bool)
            group["terminated"] = group["truncated"] = np.zeros(LENGTHS[number], bool)
    check(read(tmp_path / "PickCube.h5"), ["PickCube/traj_0", "PickCube/traj_1", "PickCube/traj_2"], ("observations", "actions"))
    assert "PickCube.h5: success (known" in capfd.readouterr().err


def test_minari_with_a_mission_in_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "main_data.hdf5", "w") as file:
        for number in range(3):
            group, parts = file.create_group(f"episode_{number}"), arrays(number, LENGTHS[number] + 1)
            group["observations/direction"], group["observations/image"] = parts["observations"][:, 0], parts["observations"][:, 1:]
            group["observations/mission"] = np.array([b"go to the red ball"] * (LENGTHS[number] + 1), h5py.string_dtype())
            group["actions"], group["rewards"] = parts["actions"], parts["rewards"]
            group["terminations"] = group["truncations"] = np.zeros(LENGTHS[number], bool)
    keys = [f"episode_{number}" for number in range(3)]
    check(read(tmp_path / "main_data.hdf5"), keys)
    assert "observations/mission (no numbers)" in capfd.readouterr().err
    items = read(tmp_path / "main_data.hdf5", label_columns=("mission=observations/mission",))
    assert {item.labels["mission"] for item in items.values()} == {"go to the red ball"}
    assert "left out" not in capfd.readouterr().err


def test_d3rlpy_of_both_versions(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with h5py.File(tmp_path / "two.h5", "w") as file:
        for number in range(3):
            file[f"terminated_{number}"] = True
            for name, array in arrays(number).items():
                file[f"{name}_{number}"] = array.reshape(len(array), -1)
        file["columns"], file["num_episodes"], file["version"] = [b"observations", b"actions"], 3, "2.1"
    items = read(tmp_path / "two.h5")
    check(items, ["two-000000", "two-000001", "two-000002"], ("observations", "rewards"))
    np.testing.assert_array_equal(items["two-000002"].value["actions"][:, 0], arrays(2)["actions"])
    assert "two.h5: columns, num_episodes, version (known" in capfd.readouterr().err
    with h5py.File(tmp_path / "one.h5", "w") as file:
        for name in ("observations", "actions", "rewards"):
            file[name] = np.concatenate([arrays(number)[name] for number in range(3)])
        ends = np.cumsum(LENGTHS) - 1
        file["terminals"], file["episode_terminals"] = np.arange(15) == ends[0], np.isin(np.arange(15), ends)
    check(read(tmp_path / "one.h5"), ["one-000000", "one-000001", "one-000002"])


def test_an_episode_in_each_row(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    columns: dict[str, list[Any]] = {name: [arrays(number)[name].tolist() for number in range(3)] for name in arrays(0)}
    columns["dones"] = [[False] * (length - 1) + [True] for length in LENGTHS]
    path = write_parquet(tmp_path / "dt.parquet", {**columns, "source": ["a", "b", "b"], "infos": [["x"]] * 3})
    items = read(path, label_columns=("source",))
    check(items, ["dt-000000", "dt-000001", "dt-000002"])
    assert items["dt-000001"].labels == {"source": "b"} and items["dt-000002"].value["returns_to_go"][0] == 14
    assert "dt.parquet: infos (known" in capfd.readouterr().err
    check(read(write_parquet(tmp_path / "ids.parquet", {**columns, "episode_id": [4, 5, 6]})), ["ids-000004", "ids-000005", "ids-000006"])
    observed = {"obs": [arrays(number, LENGTHS[number] + 1)["observations"].tolist() for number in range(3)]}
    more = {**observed, "acts": columns["actions"], "rews": columns["rewards"], "terminal": [True] * 3}
    check(read(write_parquet(tmp_path / "imitation.parquet", more)), [f"imitation-{number:06d}" for number in range(3)])


def test_a_bad_row_costs_one_episode(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {name: [arrays(0)[name].tolist() for _ in range(4)] for name in arrays(0)}
    columns["observations"][0] = [[1.0, 2.0], [3.0]]
    columns["actions"][1] = None
    columns["rewards"][2] = [0.0] * 4
    path, rejects = write_parquet(tmp_path / "a.parquet", columns), list[Reject]()
    assert list(read(path, rejects, on_error="skip")) == ["a-000003"]
    assert [(reject.key, reject.file[-2:]) for reject in rejects] == [("a-000000", ":1"), ("a-000001", ":2"), ("a-000002", ":3")]


def test_matrices_in_the_steps_are_no_episodes(tmp_path: Path) -> None:
    grids = [[[float(step), 0.0], [0.0, 1.0]] for step in range(4)]
    items = read(write_parquet(tmp_path / "a.parquet", {"observation": grids, "action": [0, 1, 0, 1], "reward": [0.0] * 4}))
    assert list(items) == ["a"] and items["a"].value["observations"].shape == (4, 2, 2)


def test_a_lerobot_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ids = np.repeat(np.arange(3), LENGTHS)
    columns: dict[str, list[Any]] = {
        "observation.state": np.concatenate([arrays(number)["observations"] for number in range(3)]).tolist(),
        "action": np.concatenate([arrays(number)["actions"] for number in range(3)]).tolist(),
        "episode_index": ids.tolist(),
        "frame_index": np.concatenate([np.arange(length) for length in LENGTHS]).tolist(),
        "task_index": [0] * 15,
    }
    write_parquet(tmp_path / "set/data/chunk-000/file-000.parquet", columns)
    write_parquet(tmp_path / "set/meta/tasks.parquet", {"task_index": [0], "task": ["push"]})
    write_parquet(tmp_path / "set/meta/episodes/chunk-000/file-000.parquet", {"episode_index": [0, 1, 2], "length": list(LENGTHS)})
    (tmp_path / "set/meta/info.json").write_text("{}")
    keys = [f"data/chunk-000/file-000-{number:06d}" for number in range(3)]
    check(read(tmp_path / "set"), keys, ("observations", "actions"))
    err = capfd.readouterr().err
    assert err.count("of a folder 'meta' that hold no steps") == 1 and "file-000.parquet: task_index (known" in err


def test_runs_of_terminals_are_named_and_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    steps = np.arange(40)
    near, timeouts = (steps % 20 >= 12) & (steps % 20 < 20), steps % 20 == 19
    path = tmp_path / "antmaze.npz"
    np.savez(path, observations=np.zeros((40, 2)), actions=np.zeros(40), terminals=near, timeouts=timeouts)
    assert len(read(path)) == 2 * 8
    assert "terminals of" in (err := capfd.readouterr().err) and "14 episodes have one step; if that is not meant, --ends timeouts" in err
    items = read(path, ends=("timeouts",))
    assert [len(item.value["actions"]) for item in items.values()] == [20, 20]
    assert "left out of" in (err := capfd.readouterr().err) and "terminals (known" in err
    with pytest.raises(DataError, match=r"no column 'truncations'.*--ends"):
        read(path, ends=("truncations",))


def save_long(path: Path, steps: int = 200) -> Path:
    random = np.random.default_rng(0)
    np.savez(path, observations=random.normal(size=(steps, 2)), actions=np.arange(steps) % 7, rewards=np.ones(steps))
    return path


def test_one_long_episode_is_divided_with_gaps(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, options = save_long(tmp_path / "maze.npz", 205), SourceOptions(clip=10, split_within=(0.6, 0.2, 0.2))
    done = tokenize("trajectory", [path], tmp_path / "t.tar", name="play", options=options)
    assert done.splits == {"train": 11, "validation": 3, "test": 4}
    err = capfd.readouterr().err
    assert "20 steps between the splits of episodes are left out" in err and "5 steps at the ends of episodes are left out" in err
    shard([tmp_path / "t.tar"], tmp_path / "shards", unpaired=True)  # keeps the splits
    starts: dict[str, list[int]] = {}
    for split in ("train", "validation", "test"):
        starts[split] = sorted(sample.metadata["start"] for sample in open_token_set(tmp_path / "shards", split))
    assert {split: len(places) for split, places in starts.items()} == done.splits
    assert starts["validation"][0] == starts["train"][-1] + 20 and starts["test"][0] == starts["validation"][-1] + 20


def test_each_split_gets_a_clip_or_the_episode_is_not_divided(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert deal(5, (0.8, 0.1, 0.1)) == ["train", None, "validation", None, "test"]
    assert deal(4, (0.8, 0.1, 0.1)) == [] and deal(4, (0.5, 0.0, 0.5)) == ["train", "train", None, "test"]
    assert deal(3, (1.0, 0.0, 0.0)) == ["train"] * 3
    for count in range(5, 60):
        for fractions in ((0.8, 0.1, 0.1), (0.1, 0.1, 0.8), (0.34, 0.33, 0.33)):
            dealt = deal(count, fractions)
            assert len(dealt) == count and dealt.count(None) == 2 and {"train", "validation", "test"} < set(dealt)
    items = read(save_long(tmp_path / "short.npz", 40), clip=10, split_within=(0.8, 0.1, 0.1))
    assert len(items) == 4 and {item.group for item in items.values()} == {"short"}
    assert "has 4 clips, too few to be divided" in capfd.readouterr().err


def test_the_way_on_is_named_where_nothing_falls_into_a_split(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = save_long(tmp_path / "a.npz")
    held_out = next(name for name in (f"{letter}.npz" for letter in "abcdefghijklmnopqrstuvwxyz") if in_split(tmp_path / name) != "train")
    path = path.rename(tmp_path / held_out)
    with pytest.raises(DataError, match=r"no sample falls into the train split.*with --clip 32 --split-within"):
        tokenize("trajectory", [path], tmp_path / "t.tar", name="play")
    with pytest.raises(DataError, match=r"no sample falls into the train split.*divide each episode.*--split-within"):
        tokenize("trajectory", [path], tmp_path / "t.tar", name="play", options=SourceOptions(clip=10))
    train = next(name for name in (f"{letter}.npz" for letter in "abcdefghijklmnopqrstuvwxyz") if in_split(tmp_path / name) == "train")
    tokenize("trajectory", [path.rename(tmp_path / train)], tmp_path / "t.tar", name="play", options=SourceOptions(clip=10))
    assert "all 20 clips are of one episode, so all lie in the train split; --split-within" in capfd.readouterr().err
    with pytest.raises(UsageError, match=r"divided between clips.*--clip 32"):
        SourceOptions(split_within=(0.8, 0.1, 0.1))


def in_split(path: Path) -> str:
    return Split().of(path.stem)


@pytest.mark.parametrize(("lengths", "clip"), [((5, 29, 17, 20), 8), ((30, 48), 16), ((400, 1000), 32), ((3, 2, 2), 2)])
def test_the_clip_that_is_proposed_fits_the_episodes(tmp_path: Path, lengths: tuple[int, ...], clip: int) -> None:
    for number, steps in enumerate(lengths):
        save_long(tmp_path / f"{number}.npz", steps)
    with pytest.raises(DataError, match=rf"--clip {clip}, which leaves out \d+% of the steps"):
        tokenize("trajectory", [tmp_path], tmp_path / "t.tar", name="play", split=Split((1.0, 0.0, 0.0)))


@pytest.mark.thorough
def test_options_of_the_command(tmp_path: Path) -> None:
    path = save_long(tmp_path / "a.npz")
    command = [
        sys.executable,
        "-m",
        "mmtool",
        "tokenize",
        "trajectory",
        path,
        "--fit",
        "--set",
        "streams=observations",
        "-o",
        tmp_path / "t.tar",
    ]
    done = subprocess.run([*command, "--clip", "10", "--split-within"], capture_output=True, text=True)
    assert done.returncode == 0 and "(14 train, 2 validation, 2 test)" in done.stderr
    done = subprocess.run([*command, "--force", "--split-within"], capture_output=True, text=True)
    assert done.returncode == 2 and "divided between clips" in done.stderr
