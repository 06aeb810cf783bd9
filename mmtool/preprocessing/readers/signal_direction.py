"""Whether the rows of a series in columns are instants, as they should be, or recordings, each of which goes from left to right."""

import re
from collections.abc import Sequence

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.signal_roles import Column
from mmtool.preprocessing.readers.table_options import TableOptions

LEAST_COLUMNS, LEAST_ROWS = 16, 4  # by which it is seen
NUMBERED = re.compile(r"(.*?)(\d+)(\.0*)?\D?")  # X1, 0, t0.0, V12s
SMOOTH, ROUGH = 0.7, 0.3  # correlation of neighbours along a recording, and across recordings


def check_direction(channels: Sequence[Column], options: TableOptions, where: str) -> None:
    """Raise DataError where columns are numbered and values go on smoothly from one to the next, but not from row to row."""
    if len(channels) < LEAST_COLUMNS or not _are_numbered([column.name for column in channels]) or channels[0].name in options.declared:
        return
    columns = [column.values for column in channels]
    if any(values is None or len(values) < LEAST_ROWS for values in columns):
        return
    table = np.stack([values for values in columns if values is not None])
    table = table - table.mean(1, keepdims=True)
    if _alike(table[1:], table[:-1]) > SMOOTH and _alike(table[:, 1:], table[:, :-1]) < ROUGH:
        first, last = channels[0].name, channels[-1].name
        what = f"a row seems to hold a whole recording, from {first!r} to {last!r}, and not the channels at one time."
        save = "numpy.savez('x.npz', signal=table[:, :, None], sample_rate_hz=RATE)"
        fix = f"Save such as an array: {save}. If these are {len(channels)} channels, say so with --column-type '{first}=number'."
        raise DataError(what, where=where, fix=fix)


def _are_numbered(names: Sequence[str]) -> bool:
    """Whether names count, with the same words before the numbers."""
    matches = [NUMBERED.fullmatch(name.strip()) for name in names]
    if None in matches:
        return False
    found = [match for match in matches if match is not None]
    return len({match[1] for match in found}) == 1 and bool((np.diff([int(match[2]) for match in found]) > 0).all())


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of values; 0 where they do not vary."""
    size = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / size if size > 0 else 0.0
