"""Recordings of one length of steps: whole, or cut into clips, which stay together or are dealt to the splits with gaps in between."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from mmtool.common.errors import DataError
from mmtool.data.sample import SPLITS
from mmtool.preprocessing.keys import Keys
from mmtool.preprocessing.readers.durations import check_duration
from mmtool.preprocessing.readers.entries import SPLIT_WITHIN, Broken, Entry, LeftOut, Note, SourceOptions, row_entry
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.readers.stacks import StackRow, split_rows, stack_rows

GAPS = "steps between the splits of episodes are left out, so that no held-out clip follows a training clip at once."


class Recording(Protocol):
    """What runs in steps, `rate_hz` of them in a second."""

    @property
    def rate_hz(self) -> float: ...

    @property
    def steps(self) -> int: ...

    def cut(self, start: int, stop: int) -> "Recording": ...


def cut(steps: int, length: int, where: str, options: SourceOptions) -> Iterator[tuple[int, dict[str, Any]] | LeftOut | Note]:
    """(start, metadata) of the clips of so many steps, and what is left out: the rest at the end, and with `options.split_within` the
    gaps between splits."""
    starts = range(0, steps - length + 1, length)
    splits = [] if options.split_within is None else deal(len(starts), options.split_within)
    if options.split_within is not None and starts and not splits:
        yield Note("undivided", f"{where} has {len(starts)} clips, too few to be divided: it lies in one split (so do others like it).")
    for number, start in enumerate(starts):
        if splits and splits[number] is None:
            yield LeftOut(length, GAPS)
        else:
            yield start, {SPLIT_WITHIN: splits[number]} if splits else {}
    if steps % length:
        yield LeftOut(steps % length)


def deal(count: int, fractions: Sequence[float]) -> list[str | None]:
    """The splits of so many clips in a row: train, validation, test one behind the other as far as their fractions go, at least one clip in
    each of them; one clip between two splits is in none. Empty where there are too few clips."""
    shares = [(split, share) for split, share in zip(SPLITS, fractions, strict=True) if share]
    dealt = count - (len(shares) - 1)
    if dealt < len(shares):
        return []
    splits: list[str | None] = []
    total, done = 0.0, 0
    for number, (split, share) in enumerate(shares, 1):
        total += share
        end = min(max(round(total * dealt), number), dealt - (len(shares) - number))
        splits += [None] * bool(splits) + [split] * (end - done)
        done = end
    return splits


def clip_entries(
    name: str, where: str, load: Callable[[], Recording], options: SourceOptions, row: Mapping[str, Any], rows: int | None = None
) -> Iterator[Entry | Broken | LeftOut | Note]:
    """The entry of a recording, or with `options.clip` those of its clips `NAME-STEP` of so many steps; the rest at its end is left out.

    row: cells that labels and groups are taken from. rows: where the name is a row number, how many rows the file has.
    """
    if options.clip is None:
        yield row_entry(row, name, where, partial(_whole, load, where, options), options, rows)
        return
    try:
        recording = load()
    except DataError as error:
        yield Broken(where, error, name)
        return
    for part in cut(recording.steps, options.clip, where, options):
        if isinstance(part, LeftOut | Note):
            yield part
            continue
        start, dealt = part
        load = partial(recording.cut, start, start + options.clip)
        entry = row_entry(row, f"{name}-{start:06d}", where, load, options, rows)
        group = entry.group or (None if options.group_column and entry.group is None else name)
        yield replace(entry, group=group, metadata={"episode": name, "start": start, **dealt})


def stacked_entries(
    file: RawFile,
    stack: np.ndarray | None,
    arrays: Mapping[str, np.ndarray],
    load: Callable[[np.ndarray, str], Recording],
    options: SourceOptions,
) -> Iterator[Entry | Broken | LeftOut | Note | Keys]:
    """The entries of recordings that lie behind each other in one array, None: in one for each split; arrays of one value for each are
    keys and labels."""
    for row in split_rows(file, arrays, options, called="") if stack is None else stack_rows(file, stack, arrays, options):
        if isinstance(row, StackRow):
            yield from clip_entries(row.key, row.where, partial(load, row.value, row.where), row.options, row.cells, row.rows)
        else:
            yield row


def _whole(load: Callable[[], Recording], where: str, options: SourceOptions) -> Recording:
    recording = load()
    check_duration(recording.steps, recording.rate_hz, options, where, "Cut it into clips with --clip")
    return recording


def rate_stated(stated: Any, where: str, options: SourceOptions, fix: str) -> float:
    """The rate in Hz that a file states, else that of the options. Raises DataError where there is none; fix: how a file may state it."""
    if stated is None:
        if options.source_rate_hz is None:
            raise DataError("the file does not state its sample rate.", where=where, fix=f"Declare it with --source-rate-hz, or {fix}")
        return options.source_rate_hz
    try:
        rate_hz = float(stated.item() if isinstance(stated, np.ndarray) and stated.size == 1 else stated)
    except (TypeError, ValueError):
        rate_hz = 0.0
    if not 0 < rate_hz < float("inf"):
        raise DataError(f"{stated!s:.60} is no sample rate.", where=where, fix="State one number in Hz.")
    return rate_hz
