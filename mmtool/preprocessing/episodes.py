"""Episodes in files: npz and HDF5 of all steps (D4RL), HDF5 with a group per episode (Minari), Parquet with a row per step.

Other names are understood too: gymnasium's terminations and truncations, LeRobot's observation.state, action, episode_index.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from mmtool.errors import DataError
from mmtool.preprocessing.arrays import load_arrays
from mmtool.preprocessing.entries import Broken, SourceOptions, key_of, name_of, require_column
from mmtool.preprocessing.hdf5 import attributes, damage_named, member, open_hdf5, read_array
from mmtool.preprocessing.keys import numbers_rows
from mmtool.preprocessing.raw_files import RawFile
from mmtool.preprocessing.read_tables import parquet_table
from mmtool.preprocessing.step_columns import Faults, filled_ids, step_columns

REWARDS, RETURNS, OBSERVATIONS = "rewards", "returns_to_go", "observations"
NAMES = {  # stream -> what it is called
    OBSERVATIONS: ("observations", "observation", "obs", "observation.state"),
    "actions": ("actions", "action"),
    REWARDS: ("rewards", "reward", "next.reward"),
    RETURNS: ("returns_to_go",),
}
STREAM_NAMES = {name for names in NAMES.values() for name in names}
ENDS = ("terminals", "timeouts", "terminations", "truncations", "dones", "done")
EPISODE_IDS = ("episode", "episode_id", "episode_index")
STEP_IDS = ("step", "step_index", "timestep", "frame_index")
MINARI_FILE, MINARI_FOLDER, MINARI_EPISODE = "main_data", "data", re.compile(r"episode_(\d+)")
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


def read_episodes(file: RawFile, options: SourceOptions) -> Iterator[Episode | Broken]:
    """The episodes of one file, in its order. Raises DataError where arrays of all steps are missing or differ in length."""
    if file.format == "npz":
        yield from _split(load_arrays(file), {}, file, options)
    elif file.format == "parquet":
        ids = {*EPISODE_IDS, options.key_column or EPISODE_IDS[0]}
        arrays, faults = step_columns(parquet_table(file), _wanted(options), ids, file.where)
        yield from _split(arrays, {}, file, options, faults)
    else:
        yield from _hdf5_episodes(file, options)


def _hdf5_episodes(file: RawFile, options: SourceOptions) -> Iterator[Episode | Broken]:
    with open_hdf5(file) as root:
        found = [match for name in root if (match := MINARI_EPISODE.fullmatch(name))]
        for match in sorted(found, key=lambda match: int(match[1])):
            name, where = _minari_name(file.stem, match[0]), f"{file.where}, {match[0]}"
            try:
                yield _minari_episode(root, match[0], name, where)
            except DataError as error:
                yield Broken(where, error, name)
        if not found:
            arrays = _arrays(root, _wanted(options), file.where)
            yield from _split(arrays, attributes(root), file, options)


def _minari_episode(root: Any, group_name: str, name: str, where: str) -> Episode:
    with damage_named(where):
        group = member(root, group_name, where)
        if not hasattr(group, "keys"):
            raise DataError("the episode is no group of arrays.", where=where, fix="Get the file again.")
        streams = _streams(_arrays(group, STREAM_NAMES, where), where)
        return Episode(name, where, _with_returns(streams), attributes(group))


def _wanted(options: SourceOptions) -> set[str]:
    """Arrays worth reading: files hold many others (next observations, images, velocities)."""
    others = {*ENDS, *EPISODE_IDS, *STEP_IDS, *options.label_names.values(), options.key_column, options.group_column}
    return STREAM_NAMES | {name for name in others if name}


def _arrays(group: Any, wanted: set[str], where: str) -> dict[str, np.ndarray]:
    return {name: read_array(group, name, where) for name in group if name in wanted}


def _minari_name(stem: str, episode: str) -> str:
    """`human-v2/data/main_data`, `episode_3` -> `human-v2/episode_3`."""
    path = PurePosixPath(stem)
    if path.name == MINARI_FILE:
        path = path.parent.parent if path.parent.name == MINARI_FOLDER else path.parent
    return (path / episode).as_posix()


def _split(
    arrays: Arrays, row: Mapping[str, Any], file: RawFile, options: SourceOptions, faults: Faults | None = None
) -> Iterator[Episode | Broken]:
    """All steps of a file as episodes: by their ids where it has them, else cut behind each end, else one. Those with `faults` at one
    of their steps, or a step that stands twice, are broken.

    An only episode is named after the file, others also by number or id; ids that are text, or in the key column, are names themselves.
    """
    streams = _streams(arrays, file.where)
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
    ends = np.zeros(steps, bool)
    for name in (name for name in ENDS if name in arrays):
        if arrays[name].shape not in ((steps,), (steps, 1)):
            raise DataError(f"{name!r} has the shape {arrays[name].shape} for {steps} steps.", where=file.where, fix="Save one per step.")
        ends |= arrays[name].reshape(-1).astype(bool)
    cuts = np.flatnonzero(ends[:-1]) + 1
    for number, part in enumerate(np.split(np.arange(steps), cuts)):
        yield (key_of(file.stem, number), part, len(cuts) + 1) if len(cuts) else (file.stem, part, None)


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


def _streams(arrays: Arrays, where: str) -> dict[str, np.ndarray]:
    """The streams under their own names, all of one length; one observation more than actions, the last one, is left out.

    Raises DataError where there is none, or they differ in length.
    """
    called = {stream: next((name for name in names if name in arrays), None) for stream, names in NAMES.items()}
    found = {stream: arrays[name] for stream, name in called.items() if name is not None}
    if not found:
        what = f"there are no observations, actions or rewards, only {', '.join(arrays) or 'nothing'}."
        raise DataError(what, where=where, fix=f"Name the arrays {', '.join(NAMES)}.")
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
