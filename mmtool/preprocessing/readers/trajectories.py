"""Trajectories: episodes of npz, HDF5 and Parquet files, whole or cut into clips of one length."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.clips import cut
from mmtool.preprocessing.readers.entries import Broken, Entry, LeftOut, Note, SourceOptions, UnreadArrays, row_entry
from mmtool.preprocessing.readers.episode_files import read_episodes
from mmtool.preprocessing.readers.episodes import Episode
from mmtool.preprocessing.readers.raw_files import RawFile

Clip = dict[str, np.ndarray]


def read_trajectories(file: RawFile, options: SourceOptions) -> Iterator[Entry | Broken | LeftOut | Note | UnreadArrays]:
    """Entries of one file; their values are {stream: (steps, ...)}, their group is the episode, which never parts between splits unless
    `options.split_within` divides it.

    With `options.clip` an episode is cut from its start into clips `EPISODE-STEP`, and the rest at its end is left out; else it is
    one sample `EPISODE`.
    """
    for episode in read_episodes(file, options):
        if not isinstance(episode, Episode):
            yield episode
        elif options.clip is None:
            yield _entry(episode, episode.name, 0, episode.steps, {}, options)
        else:
            yield from _clips(episode, options.clip, options)


def _clips(episode: Episode, length: int, options: SourceOptions) -> Iterator[Entry | LeftOut | Note]:
    for part in cut(episode.steps, length, episode.where, options):
        if isinstance(part, LeftOut | Note):
            yield part
        else:
            start, dealt = part
            yield _entry(episode, f"{episode.name}-{start:06d}", start, start + length, dealt, options)


def _entry(episode: Episode, key: str, start: int, stop: int, dealt: dict[str, Any], options: SourceOptions) -> Entry:
    load = partial(_clip, episode, start, stop)
    entry = row_entry(episode.row, key, episode.where, load, options)
    group = entry.group or (None if options.group_column and entry.group is None else episode.name)
    return Entry(key, episode.where, load, entry.labels, group, {"episode": episode.name, "start": start, **dealt}, episode.count)


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
