"""Episodes in files: npz, HDF5 and Parquet, with all steps one after another or with the episodes apart.

- npz, and HDF5 with arrays at its top: all steps of a file (D4RL, Stable-Baselines, d3rlpy 1), or one episode.
- HDF5 with a group for each episode: `episode_0` (Minari), `traj_0` (ManiSkill), `data/demo_0` (robomimic).
- HDF5 with numbered arrays: `observations_0`, `actions_0` (d3rlpy 2).
- Parquet with a row for each step (LeRobot), or with a row of lists for each episode (imitation, decision transformers).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.arrays import load_arrays
from mmtool.preprocessing.readers.entries import Broken, Note, SourceOptions, UnreadArrays, key_of, name_of
from mmtool.preprocessing.readers.episodes import (
    ENDS,
    EPISODE_IDS,
    RETURNS,
    REWARDS,
    STARTS,
    STREAM_NAMES,
    Episode,
    aligned_streams,
    id_column_of,
    split_steps,
    stream_names,
    unread_arrays,
    wanted_names,
    with_returns,
)
from mmtool.preprocessing.readers.hdf5 import attributes, contents, damage_named, member, open_hdf5, read_array, subgroup
from mmtool.preprocessing.readers.parquet import parquet_table
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.step_columns import step_columns
from mmtool.tokenizers.trajectory import MAX_TOKENS_PER_STEP

EPISODE_GROUP = re.compile(r"(?:episode|traj|trajectory|demo)_?(\d+)")
PARENTS = ("", "data")  # of such groups; the latter in robomimic's files
NUMBERED_ARRAY = re.compile(r"(.+)_(\d+|N)")  # N: as `contents` lists several
MINARI_FILE, MINARI_FOLDER = "main_data", "data"
LEROBOT_FOLDER = "meta"  # of tables about the data
Found = Iterator[Episode | Broken | UnreadArrays | Note]


def read_episodes(file: RawFile, options: SourceOptions) -> Found:
    """The episodes of one file, in its order, and the names of what else it holds. Raises DataError where arrays of all steps are missing
    or differ in length."""
    if file.format == "npz":
        arrays = load_arrays(file)
        yield from split_steps(arrays, {}, file, options, list(arrays))
        yield from unread_arrays([name for name, array in arrays.items() if array.ndim], file.where, options)
    elif file.format == "parquet":
        yield from _parquet_episodes(file, options)
    else:
        with open_hdf5(file) as root:
            yield from _hdf5_episodes(root, file, options)


def _hdf5_episodes(root: Any, file: RawFile, options: SourceOptions) -> Found:
    if not stream_names(root):
        for parent in PARENTS:
            group = subgroup(root, parent) if parent else root
            numbers = {name: int(match[1]) for name in group or () if (match := EPISODE_GROUP.fullmatch(name))}
            if numbers:
                yield from unread_arrays([name for name in contents(root) if not _is_episode(name)], file.where, options)
                yield from _grouped(group, sorted(numbers, key=numbers.__getitem__), parent, file, options)
                return
        if numbered := _numbered_arrays(root):
            yield from _numbered(root, numbered, file, options)
            return
    left_out: list[str] = []
    arrays = {name: read_array(root, name, file.where, left_out) for name in root if name in wanted_names(options)}
    yield from split_steps(arrays, attributes(root), file, options, contents(root))
    yield from unread_arrays(contents(root), file.where, options)
    yield from _parts_left_out(left_out, file.where, options)


def _is_episode(name: str) -> bool:
    """Whether a name of `contents` stands for groups of episodes: `traj_N`, `data/demo_N`, `episode_0/actions`."""
    parts = name.replace("_N", "_0").split("/")
    return any(EPISODE_GROUP.fullmatch(part) for part in parts[:2])


def _grouped(parent: Any, names: Sequence[str], folder: str, file: RawFile, options: SourceOptions) -> Found:
    """A group for each episode. What else the groups hold is listed once for groups that hold the same."""
    listed: set[tuple[str, ...]] = set()
    for name in names:
        key, where = _group_key(file.stem, name), f"{file.where}, {folder}{'/' * bool(folder)}{name}"
        left_out: list[str] = []
        try:
            yield _grouped_episode(parent, name, key, where, options, left_out)
        except DataError as error:
            yield Broken(where, error, key)
            continue
        group = subgroup(parent, name)
        if group is not None and (held := (*group, *left_out)) not in listed:
            listed.add(held)
            yield from unread_arrays(contents(group), file.where, options)
            yield from _parts_left_out(left_out, file.where, options)


def _grouped_episode(parent: Any, name: str, key: str, where: str, options: SourceOptions, left_out: list[str]) -> Episode:
    with damage_named(where):
        group = member(parent, name, where)
        if not hasattr(group, "keys"):
            raise DataError("the episode is no group of arrays.", where=where, fix="Get the file again.")
        arrays = {name: read_array(group, name, where, left_out) for name in stream_names(group).values()}
        streams = aligned_streams(arrays, where, list(group))
        return Episode(key, where, with_returns(streams), {**attributes(group), **_label_arrays(group, where, options)})


def _label_arrays(group: Any, where: str, options: SourceOptions) -> dict[str, Any]:
    """The first value of each array that is to be a label."""
    names = [name for name in options.label_names.values() if name in group and not hasattr(group[name], "keys")]
    arrays = {name: read_array(group, name, where, []) for name in names}
    return {name: array.reshape(-1)[0] for name, array in arrays.items() if array.size}


def _parts_left_out(names: Sequence[str], where: str, options: SourceOptions) -> Iterator[UnreadArrays]:
    """The parts of observations that are no streams and no labels."""
    unread = [name for name in names if name.partition(" ")[0] not in options.label_names.values()]
    if unread:
        yield UnreadArrays(where, unread, [f"parts of observations that hold numbers, at most {MAX_TOKENS_PER_STEP:,} in each step"])


def _group_key(stem: str, group: str) -> str:
    """`human-v2/data/main_data`, `episode_3` -> `human-v2/episode_3`, as Minari's files are called; `lift`, `demo_3` -> `lift/demo_3`."""
    path = PurePosixPath(stem)
    if path.name == MINARI_FILE:
        path = path.parent.parent if path.parent.name == MINARI_FOLDER else path.parent
    return (path / group).as_posix()


def _numbered_arrays(root: Any) -> dict[int, dict[str, str]]:
    """Number of an episode -> name of an array -> what it is called in the file: `observations` -> `observations_3`."""
    matches = [match for name in root if (match := NUMBERED_ARRAY.fullmatch(name)) and match[1] in STREAM_NAMES]
    episodes: dict[int, dict[str, str]] = {}
    for match in sorted(matches, key=lambda match: int(match[2])):
        episodes.setdefault(int(match[2]), {})[match[1]] = match[0]
    return episodes


def _numbered(root: Any, episodes: Mapping[int, Mapping[str, str]], file: RawFile, options: SourceOptions) -> Found:
    """Numbered arrays of each episode."""
    left_out: list[str] = []
    for number, names in episodes.items():
        key, where = key_of(file.stem, number), f"{file.where}, episode {number}"
        try:
            with damage_named(where):
                arrays = {name: read_array(root, array, where, left_out) for name, array in names.items()}
                yield Episode(key, where, with_returns(aligned_streams(arrays, where, list(root))), attributes(root))
        except DataError as error:
            yield Broken(where, error, key)
    matches = {name: NUMBERED_ARRAY.fullmatch(name) for name in contents(root)}
    unread = [name for name, match in matches.items() if match is None or match[1] not in (*STREAM_NAMES, *ENDS)]
    yield from unread_arrays(unread, file.where, options)
    yield from _parts_left_out(left_out, file.where, options)


def _parquet_episodes(file: RawFile, options: SourceOptions) -> Found:
    table = parquet_table(file)
    names = list(map(str, table.column_names))
    if LEROBOT_FOLDER in PurePosixPath(file.stem).parts[:-1] and not stream_names(names):
        yield Note("meta", f"left out: {file.where} and other files of a folder {LEROBOT_FOLDER!r} that hold no steps")
        return
    if _holds_episodes(table):
        yield from _row_episodes(table, file, options)
    else:
        ids = {*EPISODE_IDS, options.key_column or EPISODE_IDS[0]}
        arrays, faults = step_columns(table, wanted_names(options), ids, file.where)
        yield from split_steps(arrays, {}, file, options, names, faults)
    yield from unread_arrays(names, file.where, options)


def _holds_episodes(table: Any) -> bool:
    """Whether each row is an episode: rewards or marks of its steps are lists, or observations and actions are lists of lists."""
    depths = {str(name): _depth(table.schema.field(name).type) for name in table.column_names}
    streams = {stream: depths[name] for stream, name in stream_names(depths).items()}
    of_steps = [depths[name] for name in (*ENDS, *STARTS) if name in depths]
    of_steps += [streams[name] for name in (REWARDS, RETURNS) if name in streams]
    return any(of_steps) or (len(streams) > 1 and min(streams.values()) > 1)


def _depth(type_: Any) -> int:
    """How deeply lists are nested."""
    from pyarrow import types

    is_list = types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_)
    return 1 + _depth(type_.value_type) if is_list else 0


def _row_episodes(table: Any, file: RawFile, options: SourceOptions) -> Iterator[Episode | Broken]:
    """An episode in each row; an only one is named after the file, others by their ids or numbers."""
    names = list(map(str, table.column_names))
    streams, id_column = stream_names(names), id_column_of(dict.fromkeys(names), file.where, options)[0]
    single = [name for name in wanted_names(options) & set(names) if _depth(table.schema.field(name).type) == 0]
    for number in range(table.num_rows):
        row = {name: table[name][number].as_py() for name in single}
        key, where = _row_key(row.get(id_column or ""), number, table.num_rows, file.stem), f"{file.where}:{number + 1}"
        try:
            arrays = {name: _of_cell(table[name][number].as_py(), name, where) for name in streams.values()}
            aligned = with_returns(aligned_streams(arrays, where, names))
        except DataError as error:
            yield Broken(where, error, key)
            continue
        yield Episode(key, where, aligned, row, None if id_column or table.num_rows == 1 else table.num_rows)


def _row_key(episode_id: Any, number: int, rows: int, stem: str) -> str:
    if episode_id is None:
        return key_of(stem, number) if rows > 1 else stem
    return key_of(stem, episode_id) if isinstance(episode_id, int) else name_of(episode_id)


def _of_cell(cell: Any, name: str, where: str) -> np.ndarray:
    """(steps, ...) of a list of values."""
    if cell is None:
        raise DataError(f"the column {name!r} is empty.", where=where, fix="Fill it, or leave the column out.")
    try:
        array = np.array(cell)
    except ValueError as error:
        raise DataError(f"the steps of {name!r} differ in their numbers of values.", where=where, fix="Give every step as many.") from error
    if array.dtype.kind == "O":
        raise DataError(f"the column {name!r} holds missing values.", where=where, fix="Fill them.")
    return array
