"""Trajectories: episodes of npz, HDF5 (D4RL, Minari) and Parquet files, whole or cut into clips of one length."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.readers.entries import Broken, Entry, LeftOut, SourceOptions, UnreadArrays, row_entry
from mmtool.preprocessing.readers.episodes import Episode, read_episodes
from mmtool.preprocessing.readers.raw_files import RawFile

Clip = dict[str, np.ndarray]


def read_trajectories(file: RawFile, options: SourceOptions) -> Iterator[Entry | Broken | LeftOut | UnreadArrays]:
    """Entries of one file; their values are {stream: (steps, ...)}, their group is the episode, which never parts between splits.

    With `options.clip` an episode is cut from its start into clips `EPISODE-STEP`, and the rest at its end is left out; else it is
    one sample `EPISODE`.
    """
    if options.clip is not None and options.clip < 1:
        raise UsageError(f"a clip of {options.clip} steps cannot be.", where="--clip", fix="Give a number above 0.")
    for episode in read_episodes(file, options):
        if isinstance(episode, Broken | UnreadArrays):
            yield episode
            continue
        length = options.clip or episode.steps
        for start in range(0, episode.steps - length + 1, length):
            key = f"{episode.name}-{start:06d}" if options.clip else episode.name
            yield _entry(episode, key, start, start + length, options)
        if episode.steps % length:
            yield LeftOut(episode.steps % length)


def _entry(episode: Episode, key: str, start: int, stop: int, options: SourceOptions) -> Entry:
    load = partial(_clip, episode, start, stop)
    found = row_entry(episode.row, key, episode.where, load, options)
    group = found.group or (None if options.group_column and found.group is None else episode.name)
    return Entry(key, episode.where, load, found.labels, group, {"episode": episode.name, "start": start}, episode.count)


def _clip(episode: Episode, start: int, stop: int) -> Clip:
    """Raises DataError where a value is missing or infinite."""
    clip = {stream: array[start:stop] for stream, array in episode.streams.items()}
    for stream, array in clip.items():
        if array.dtype.kind not in "buif":
            raise DataError(f"the {stream} hold {array.dtype}, no numbers.", where=episode.where, fix="Save them as numbers.")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            step = start + int(np.argwhere(~np.isfinite(array))[0, 0])
            what = f"the {stream} are NaN or infinite at step {step}."
            raise DataError(what, where=episode.where, fix="Mend the file, or leave such samples out with --on-error skip.")
    return clip
