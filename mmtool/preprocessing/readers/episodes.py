"""Episodes in files: npz and HDF5 of all steps (D4RL), HDF5 with a group per episode (Minari), Parquet with a row per step.

Other names are understood too: gymnasium's terminations and truncations, LeRobot's observation.state, action, episode_index, imitation's
acts and rews, Stable-Baselines' episode_starts, Dreamer's is_first and is_last. Arrays of any other name are reported, not read.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.keys import numbers_rows
from mmtool.preprocessing.readers.arrays import load_arrays
from mmtool.preprocessing.readers.entries import Broken, SourceOptions, UnreadArrays, key_of, name_of, require_column
from mmtool.preprocessing.readers.hdf5 import attributes, contents, damage_named, member, open_hdf5, read_array, subgroup
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.step_columns import Faults, filled_ids, step_columns
from mmtool.preprocessing.readers.tables import parquet_table

REWARDS, RETURNS, OBSERVATIONS = "rewards", "returns_to_go", "observations"
NAMES = {  # stream -> what it is called
    OBSERVATIONS: ("observations", "observation", "obs", "observation.state"),
    "actions": ("actions", "action", "acts", "act"),
    REWARDS: ("rewards", "reward", "next.reward", "rews", "rew"),
    RETURNS: ("returns_to_go",),
}
STREAM_NAMES = {name for names in NAMES.values() for name in names}
ENDS: tuple[str, ...] = ("terminals", "timeouts", "terminations", "truncations", "dones", "done")
ENDS += ("terminal", "terminated", "truncated", "is_last", "is_terminal")
STARTS = ("episode_starts", "is_first")
EPISODE_IDS = ("episode", "episode_id", "episode_index")
STEP_IDS = ("step", "step_index", "timestep", "frame_index")
MINARI_FILE, MINARI_FOLDER, MINARI_PREFIX = "main_data", "data", "episode_"
MINARI_EPISODE = re.compile(MINARI_PREFIX + r"\d+")
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Episode:
    """name: its key; streams: (steps, ...) each; row: single values that can be labels; count: of the file's episodes, where the name
    is a number among them."""

    name: str
    where: str
    streams: dict[str, np.ndarray]
    row: dict[str, Any]
    count: int | None = None

    @property
    def steps(self) -> int:
        return len(next(iter(self.streams.values())))


def read_episodes(file: RawFile, options: SourceOptions) -> Iterator[Episode | Broken | UnreadArrays]:
    """The episodes of one file, in its order, and the names of what else it holds. Raises DataError where arrays of all steps are missing
    or differ in length."""
    if file.format == "npz":
        arrays = load_arrays(file)
        yield from _split(arrays, {}, file, options, list(arrays))
        yield from _unread([name for name, array in arrays.items() if array.ndim], file, options)
    elif file.format == "parquet":
        ids, table = {*EPISODE_IDS, options.key_column or EPISODE_IDS[0]}, parquet_table(file)
        arrays, faults = step_columns(table, _wanted(options), ids, file.where)
        names = list(map(str, table.column_names))
        yield from _split(arrays, {}, file, options, names, faults)
        yield from _unread(names, file, options)
    else:
        with open_hdf5(file) as root:
            yield from _hdf5_episodes(root, file, options)


def _hdf5_episodes(root: Any, file: RawFile, options: SourceOptions) -> Iterator[Episode | Broken | UnreadArrays]:
    episodes = sorted((name for name in root if MINARI_EPISODE.fullmatch(name)), key=lambda name: int(name.rpartition("_")[2]))
    names = contents(root)
    if not episodes:
        yield from _split(_arrays(root, _wanted(options), file.where), attributes(root), file, options, names)
        yield from _unread(names, file, options)
        return
    yield from _unread([name for name in names if not name.startswith(MINARI_PREFIX)], file, options)
    listed: set[tuple[str, ...]] = set()
    for episode in episodes:
        name, where = _minari_name(file.stem, episode), f"{file.where}, {episode}"
        try:
            yield _minari_episode(root, episode, name, where)
        except DataError as error:
            yield Broken(where, error, name)
            continue
        group = subgroup(root, episode)
        if group is not None and tuple(group) not in listed:  # most hold the same
            listed.add(tuple(group))
            yield from _unread(contents(group), file, options)


def _minari_episode(root: Any, group_name: str, name: str, where: str) -> Episode:
    with damage_named(where):
        group = member(root, group_name, where)
        if not hasattr(group, "keys"):
            raise DataError("the episode is no group of arrays.", where=where, fix="Get the file again.")
        streams = _streams(_arrays(group, STREAM_NAMES, where), where, list(group))
        return Episode(name, where, _with_returns(streams), attributes(group))


def _wanted(options: SourceOptions) -> set[str]:
    """Arrays worth reading: files hold many others (next observations, images, velocities)."""
    return STREAM_NAMES | _others(options)


def _others(options: SourceOptions) -> set[str]:
    names = {*ENDS, *STARTS, *EPISODE_IDS, *STEP_IDS, *options.label_names.values(), options.key_column, options.group_column}
    return {name for name in names if name}


def _stream_names(names: Collection[str]) -> dict[str, str]:
    """stream -> its name among those there are, the first where there are several."""
    first = {stream: next((name for name in known if name in names), None) for stream, known in NAMES.items()}
    return {stream: name for stream, name in first.items() if name is not None}


def _unread(names: Sequence[str], file: RawFile, options: SourceOptions) -> Iterator[UnreadArrays]:
    """What a file or group holds and nothing reads; parts of a group (`infos/qpos`) are read if the group is."""
    groups = [name.partition("/")[0] for name in names]
    read = _others(options) | set(_stream_names(groups).values())
    unread = [name for name, group in zip(names, groups, strict=True) if group not in read]
    if unread:
        yield UnreadArrays(file.where, unread, [name for known in NAMES.values() for name in known])


def _arrays(group: Any, wanted: set[str], where: str) -> dict[str, np.ndarray]:
    return {name: read_array(group, name, where) for name in group if name in wanted}


def _minari_name(stem: str, episode: str) -> str:
    """`human-v2/data/main_data`, `episode_3` -> `human-v2/episode_3`."""
    path = PurePosixPath(stem)
    if path.name == MINARI_FILE:
        path = path.parent.parent if path.parent.name == MINARI_FOLDER else path.parent
    return (path / episode).as_posix()


def _split(
    arrays: Arrays, row: Mapping[str, Any], file: RawFile, options: SourceOptions, names: Sequence[str], faults: Faults | None = None
) -> Iterator[Episode | Broken]:
    """All steps of a file, which holds the `names`, as episodes: by their ids where it has them, else cut before each start or behind each
    end, else one. Those with `faults` at one of their steps, or a step that stands twice, are broken.

    An only episode is named after the file, others also by number or id; ids that are text, or in the key column, are names themselves.
    """
    streams = _streams(arrays, file.where, names)
    steps = len(next(iter(streams.values())))
    columns, faults = {name: array for name, array in arrays.items() if array.shape == (steps,)}, faults or {}
    single = {**row, **{name: array for name, array in arrays.items() if array.ndim == 0}}
    step_column = next((name for name in STEP_IDS if name in columns), None)
    for name, places, count in _parts(columns, arrays, steps, file, options, faults):
        try:
            if faults and (wrong := sorted(faults.keys() & set(places.tolist()))):
                raise faults[wrong[0]]
            places = places if step_column is None else _in_order(places, columns[step_column], f"{file.where}, {name}")
        except DataError as error:
            yield Broken(f"{file.where}, {name}", error, name)
            continue
        first = {own: array[places[0]] for own, array in columns.items()}
        own_streams = {own: array[places] for own, array in streams.items()}
        yield Episode(name, f"{file.where}, {name}", _with_returns(own_streams), {**single, **first}, count)


def _parts(
    columns: Arrays, arrays: Arrays, steps: int, file: RawFile, options: SourceOptions, faults: Faults
) -> Iterator[tuple[str, np.ndarray, int | None]]:
    """(name, places of its steps, how many there are where the name is a number) of each episode."""
    id_column = next((name for name in EPISODE_IDS if name in columns), None)
    named = None if numbers_rows(options, columns) else options.key_column
    if named and (named in columns or options.labels_path is None):  # it may be that of the labels file
        id_column = require_column(named, dict(columns), file.where, "--key-column")
    if id_column:
        of_steps = _known(columns[id_column], id_column, file.where, faults)
        ids, firsts, counts = np.unique(of_steps, return_index=True, return_counts=True)
        places = np.split(np.argsort(of_steps, kind="stable"), np.cumsum(counts)[:-1])
        whole = id_column == named or ids.dtype.kind not in "buif"
        for number in np.argsort(firsts):
            text = name_of(ids[number]) if whole else key_of(file.stem, int(ids[number]))
            yield text if whole or len(ids) > 1 else file.stem, places[number], None
        return
    cuts = _cuts(arrays, steps, file.where)
    for number, part in enumerate(np.split(np.arange(steps), cuts)):
        yield (key_of(file.stem, number), part, len(cuts) + 1) if len(cuts) else (file.stem, part, None)


def _cuts(arrays: Arrays, steps: int, where: str) -> np.ndarray:
    """Steps at which a further episode begins: the marked starts if there are any such marks, else those behind the marked ends.

    Not every end need be marked where starts are, but an end that no start follows would leave it open which of them is right.
    """
    ends = _marks(arrays, ENDS, steps, where)[:-1]
    if not any(name in arrays for name in STARTS):
        return np.flatnonzero(ends) + 1
    starts = _marks(arrays, STARTS, steps, where)[1:]
    if (ends & ~starts).any():
        step = int(np.flatnonzero(ends & ~starts)[0])
        marks = " and ".join(", ".join(name for name in names if name in arrays) for names in (ENDS, STARTS))
        what = f"an episode ends at step {step}, but none starts at step {step + 1}: {marks} disagree."
        raise DataError(what, where=where, fix="Leave the wrong ones out of the file.")
    return np.flatnonzero(starts) + 1


def _marks(arrays: Arrays, names: Sequence[str], steps: int, where: str) -> np.ndarray:
    """Which steps one of the arrays marks. A single value is about the file, as imitation's `terminal` is, and marks none."""
    marks = np.zeros(steps, bool)
    for name in (name for name in names if name in arrays and arrays[name].ndim):
        if arrays[name].shape not in ((steps,), (steps, 1)):
            raise DataError(f"{name!r} has the shape {arrays[name].shape} for {steps} steps.", where=where, fix="Save one per step.")
        marks |= arrays[name].reshape(-1).astype(bool)
    return marks


def _known(ids: np.ndarray, name: str, where: str, faults: Faults) -> np.ndarray:
    """Ids of episodes without NaN; a step that had it is a fault."""
    missing = ids != ids
    if missing.all():
        raise DataError(f"the column {name!r} is empty.", where=where, fix="Fill it, or leave the column out.")
    for step in np.flatnonzero(missing):
        faults.setdefault(int(step), DataError(f"{name!r} is NaN at step {step}.", where=where, fix="Fill it."))
    return np.array(filled_ids(ids.tolist(), missing, faults)) if missing.any() else ids


def _in_order(places: np.ndarray, steps: np.ndarray, where: str) -> np.ndarray:
    """The episode's rows in order of their step numbers."""
    ordered = places[np.argsort(steps[places], kind="stable")]
    if (steps[ordered][1:] == steps[ordered][:-1]).any():
        raise DataError("a step stands twice in the episode.", where=where, fix="Keep one row per step.")
    return ordered


def _streams(arrays: Arrays, where: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The streams under their own names, all of one length; one observation more than actions, the last one, is left out.

    Raises DataError, naming what there is, where there is none, or they differ in length.
    """
    found = {stream: arrays[name] for stream, name in _stream_names(arrays).items()}
    if not found:
        what = f"there are no observations, actions or rewards, only {', '.join(names) or 'nothing'}."
        fix = f"Name the arrays {', '.join(NAMES)}; HDF5 has them at its top, or in groups episode_0, episode_1 and so on."
        raise DataError(what, where=where, fix=fix)
    lengths = {stream: len(array) if array.ndim else 0 for stream, array in found.items()}
    others = {length for stream, length in lengths.items() if stream != OBSERVATIONS}
    if others == {lengths.get(OBSERVATIONS, 0) - 1}:
        found[OBSERVATIONS], lengths[OBSERVATIONS] = found[OBSERVATIONS][:-1], lengths[OBSERVATIONS] - 1
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        listed = ", ".join(f"{stream} {length}" for stream, length in lengths.items())
        raise DataError(f"the numbers of steps differ, or are 0: {listed}.", where=where, fix="Save one value per step in each array.")
    return {stream: _squeezed(array, stream) for stream, array in found.items()}


def _squeezed(array: np.ndarray, stream: str) -> np.ndarray:
    """(steps, 1) rewards are (steps,) rewards."""
    return array[:, 0] if stream in (REWARDS, RETURNS) and array.shape[1:] == (1,) else array


def _with_returns(streams: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns-to-go are the rewards from a step to the end of its episode, undiscounted, unless the file has its own.

    A missing reward leaves them out: it would be missing in all steps before it, too.
    """
    if REWARDS not in streams or RETURNS in streams or streams[REWARDS].dtype.kind not in "buif":
        return streams
    rewards = streams[REWARDS].astype(np.float64)
    if not np.isfinite(rewards).all():
        return streams
    return {**streams, RETURNS: np.cumsum(rewards[::-1], axis=0)[::-1].astype(np.float32)}
