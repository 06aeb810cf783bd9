"""Episodes out of arrays: what arrays are called, and where those of all steps one after another begin and end.

Names of many libraries are understood: D4RL's terminals and timeouts, gymnasium's terminations and truncations, LeRobot's
observation.state, action, episode_index, imitation's acts and rews, Stable-Baselines' episode_starts, Dreamer's is_first and is_last,
d3rlpy's episode_terminals. Arrays of any other name are reported, not read.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.keys import numbers_rows
from mmtool.preprocessing.readers.entries import Broken, Note, SourceOptions, UnreadArrays, key_of, name_of, require_column
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.step_columns import Faults, filled_ids

REWARDS, RETURNS, OBSERVATIONS = "rewards", "returns_to_go", "observations"
NAMES = {  # stream -> what it is called
    OBSERVATIONS: ("observations", "observation", "obs", "observation.state"),
    "actions": ("actions", "action", "acts", "act"),
    REWARDS: ("rewards", "reward", "next.reward", "rews", "rew"),
    RETURNS: ("returns_to_go",),
}
STREAM_NAMES = {name for names in NAMES.values() for name in names}
ENDS: tuple[str, ...] = ("terminals", "timeouts", "terminations", "truncations", "dones", "done")
ENDS += ("terminal", "terminated", "truncated", "is_last", "is_terminal", "episode_terminals")
STARTS = ("episode_starts", "is_first")
EPISODE_IDS = ("episode", "episode_id", "episode_index")
STEP_IDS = ("step", "step_index", "timestep", "frame_index")
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


def wanted_names(options: SourceOptions) -> set[str]:
    """Arrays worth reading: files hold many others (next observations, images, velocities)."""
    return STREAM_NAMES | _other_names(options)


def _other_names(options: SourceOptions) -> set[str]:
    marks = options.ends or (*ENDS, *STARTS)
    names = {*marks, *EPISODE_IDS, *STEP_IDS, *options.label_names.values(), options.key_column, options.group_column}
    return {name for name in names if name}


def stream_names(names: Collection[str]) -> dict[str, str]:
    """stream -> its name among those there are, the first where there are several."""
    first = {stream: next((name for name in known if name in names), None) for stream, known in NAMES.items()}
    return {stream: name for stream, name in first.items() if name is not None}


def unread_arrays(names: Sequence[str], where: str, options: SourceOptions) -> Iterator[UnreadArrays]:
    """What a file or group holds and nothing reads; parts of a group (`infos/qpos`) are read if the group is."""
    groups = [name.partition("/")[0] for name in names]
    read = _other_names(options) | set(stream_names(groups).values())
    labels = set(options.label_names.values())
    unread = [name for name, group in zip(names, groups, strict=True) if group not in read and name not in labels]
    if unread:
        yield UnreadArrays(where, unread, [name for known in NAMES.values() for name in known])


def split_steps(
    arrays: Arrays, row: Mapping[str, Any], file: RawFile, options: SourceOptions, names: Sequence[str], faults: Faults | None = None
) -> Iterator[Episode | Broken | Note]:
    """All steps of a file, which holds the `names`, as episodes: by their ids where it has them, else cut before each start or behind each
    end, else one. Those with `faults` at one of their steps, or a step that stands twice, are broken.

    An only episode is named after the file, others also by number or id; ids that are text, or in the key column, are names themselves.
    """
    streams = aligned_streams(arrays, file.where, names)
    steps = len(next(iter(streams.values())))
    columns, faults = {name: array for name, array in arrays.items() if array.shape == (steps,)}, faults or {}
    single = {**row, **{name: array for name, array in arrays.items() if array.ndim == 0}}
    step_column = next((name for name in STEP_IDS if name in columns), None)
    for part in _parts(columns, arrays, steps, file, options, faults):
        if isinstance(part, Note):
            yield part
            continue
        name, indices, count = part
        try:
            if faults and (wrong := sorted(faults.keys() & set(indices.tolist()))):
                raise faults[wrong[0]]
            indices = indices if step_column is None else _in_order(indices, columns[step_column], f"{file.where}, {name}")
        except DataError as error:
            yield Broken(f"{file.where}, {name}", error, name)
            continue
        first = {column: array[indices[0]] for column, array in columns.items()}
        of_episode = {stream: array[indices] for stream, array in streams.items()}
        yield Episode(name, f"{file.where}, {name}", with_returns(of_episode), {**single, **first}, count)


def _parts(
    columns: Arrays, arrays: Arrays, steps: int, file: RawFile, options: SourceOptions, faults: Faults
) -> Iterator[tuple[str, np.ndarray, int | None] | Note]:
    """(name, places of its steps, how many there are where the name is a number) of each episode."""
    id_column, named = id_column_of(columns, file.where, options)
    if id_column:
        of_steps = _known(columns[id_column], id_column, file.where, faults)
        ids, firsts, counts = np.unique(of_steps, return_index=True, return_counts=True)
        indices = np.split(np.argsort(of_steps, kind="stable"), np.cumsum(counts)[:-1])
        whole = named or ids.dtype.kind not in "buif"
        if np.count_nonzero(of_steps[1:] != of_steps[:-1]) >= len(ids):
            apart = f"{file.where}: steps of one {id_column} lie apart and are one episode; if it is counted anew, number it through."
            yield Note("episodes apart", apart)
        for number in np.argsort(firsts):
            text = name_of(ids[number]) if whole else key_of(file.stem, int(ids[number]))
            yield text if whole or len(ids) > 1 else file.stem, indices[number], None
        return
    cuts = _cuts(arrays, steps, file.where, options)
    yield from _runs_of_ends(arrays, steps, file.where, options)
    for number, part in enumerate(np.split(np.arange(steps), cuts)):
        yield (key_of(file.stem, number), part, len(cuts) + 1) if len(cuts) else (file.stem, part, None)


def id_column_of(columns: Mapping[str, Any], where: str, options: SourceOptions) -> tuple[str | None, bool]:
    """The column that numbers episodes, if there is one, and whether the options name it."""
    named = None if numbers_rows(options, columns) else options.key_column
    if named and (named in columns or options.labels_path is None):  # it may be that of the labels file
        return require_column(named, dict(columns), where, "--key-column"), True
    return next((name for name in EPISODE_IDS if name in columns), None), False


def _cuts(arrays: Arrays, steps: int, where: str, options: SourceOptions) -> np.ndarray:
    """Steps at which a further episode begins: those behind the ends that the options name, else the marked starts if there are any such
    marks, else those behind all marked ends.

    Not every end need be marked where starts are, but an end that no start follows would leave it open which of them is right.
    """
    for name in options.ends:
        require_column(name, dict(arrays), where, "--ends")
    ends = _marks(arrays, options.ends or ENDS, steps, where)[:-1]
    if options.ends or not any(name in arrays for name in STARTS):
        return np.flatnonzero(ends) + 1
    starts = _marks(arrays, STARTS, steps, where)[1:]
    if (ends & ~starts).any():
        step = int(np.flatnonzero(ends & ~starts)[0])
        marks = " and ".join(", ".join(name for name in names if name in arrays) for names in (ENDS, STARTS))
        what = f"an episode ends at step {step}, but none starts at step {step + 1}: {marks} disagree."
        raise DataError(what, where=where, fix="Say which arrays mark the ends, with --ends NAME, or leave the wrong ones out of the file.")
    return np.flatnonzero(starts) + 1


def _runs_of_ends(arrays: Arrays, steps: int, where: str, options: SourceOptions) -> Iterator[Note]:
    """Say so where an array marks ends at one step after another, as antmaze's terminals do while the goal is near: each but the first
    is an episode of one step."""
    known = [name for name in options.ends or ENDS if name in arrays]
    marks = {name: _marks(arrays, [name], steps, where) for name in known}
    in_a_row = {name: int((of_name[1:] & of_name[:-1]).sum()) for name, of_name in marks.items()}
    for name, count in in_a_row.items():
        if count:
            marked = [other for other in known if not in_a_row[other] and marks[other].any()]
            fix = f"--ends {','.join(marked)}" if marked else "correct it, or leave it out of the file"
            text = f"{name} of {where} marks ends at steps in a row: {count:,} episodes have one step; if that is not meant, {fix}"
            yield Note(f"runs of {name}", text)


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


def _in_order(indices: np.ndarray, steps: np.ndarray, where: str) -> np.ndarray:
    """The episode's rows in order of their step numbers."""
    ordered = indices[np.argsort(steps[indices], kind="stable")]
    if (steps[ordered][1:] == steps[ordered][:-1]).any():
        raise DataError("a step stands twice in the episode.", where=where, fix="Keep one row per step.")
    return ordered


def aligned_streams(arrays: Arrays, where: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The streams under their own names, all of one length; one observation more than actions, the last one, is left out.

    Raises DataError, naming what there is, where there is none, or they differ in length.
    """
    aligned = {stream: arrays[name] for stream, name in stream_names(arrays).items()}
    if not aligned:
        what = f"there are no observations, actions or rewards, only {', '.join(names) or 'nothing'}."
        fix = f"Name the arrays {', '.join(NAMES)}; HDF5 has them at its top, or in groups episode_0, traj_0 or data/demo_0 and so on."
        raise DataError(what, where=where, fix=fix)
    lengths = {stream: len(array) if array.ndim else 0 for stream, array in aligned.items()}
    further_lengths = {length for stream, length in lengths.items() if stream != OBSERVATIONS}
    if further_lengths == {lengths.get(OBSERVATIONS, 0) - 1}:
        aligned[OBSERVATIONS], lengths[OBSERVATIONS] = aligned[OBSERVATIONS][:-1], lengths[OBSERVATIONS] - 1
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        listed = ", ".join(f"{stream} {length}" for stream, length in lengths.items())
        raise DataError(f"the numbers of steps differ, or are 0: {listed}.", where=where, fix="Save one value per step in each array.")
    return {stream: _squeezed(array, stream) for stream, array in aligned.items()}


def _squeezed(array: np.ndarray, stream: str) -> np.ndarray:
    """(steps, 1) rewards are (steps,) rewards."""
    return array[:, 0] if stream in (REWARDS, RETURNS) and array.shape[1:] == (1,) else array


def with_returns(streams: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns-to-go are the rewards from a step to the end of its episode, undiscounted, unless the file has its own.

    A missing reward leaves them out: it would be missing in all steps before it, too.
    """
    if REWARDS not in streams or RETURNS in streams or streams[REWARDS].dtype.kind not in "buif":
        return streams
    rewards = streams[REWARDS].astype(np.float64)
    if not np.isfinite(rewards).all():
        return streams
    return {**streams, RETURNS: np.cumsum(rewards[::-1], axis=0)[::-1].astype(np.float32)}
