"""What scikit-learn's users hold (data frames, arrays, AnnData, MuData) as data frames by modality, and back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.frames import column_names, names_of

Frames = dict[str, pd.DataFrame]
Block = slice | Sequence[Any]
WHOLE = "table"  # the modality of an array that has no blocks


@dataclass(frozen=True)
class Given:
    """What was passed, as one frame for each modality. restore: complete frames with one index -> a container as it was passed. labels:
    modality -> columns as they were passed; those of the frames are their names."""

    frames: Frames
    restore: Callable[[Frames], Any]
    labels: Mapping[str, pd.Index] = field(default_factory=dict)


def is_anndata(value: Any) -> bool:
    return hasattr(value, "to_df") and hasattr(value, "obs_names")


def is_mudata(value: Any) -> bool:
    return isinstance(getattr(value, "mod", None), Mapping) and hasattr(value, "obs_names")


def by_modality(tables: Any, trained: Mapping[str, pd.Index]) -> Given:
    """Of a dict of tables (data frames and AnnData, which are joined by their index, or arrays with the same rows), or a MuData.

    trained: labels of the columns of modalities that are restored though they are not passed. Raises UsageError for anything else,
    DataError for arrays of different lengths.
    """
    parts: Mapping[str, Any] = tables.mod if is_mudata(tables) else tables
    if not parts:
        raise UsageError("there is no table.", where="X", fix='Give at least one, e.g. {"mrna": frame}.')
    lengths = {name: len(part) for name, part in parts.items() if isinstance(part, np.ndarray)}
    if len(set(lengths.values())) > 1:
        what = f"the arrays have different numbers of rows: {', '.join(f'{name} {length}' for name, length in lengths.items())}."
        raise DataError(what, where="X", fix="Give rows of NaN where a sample lacks the modality, or data frames with an index.")
    frames = {name: _frame(name, part) for name, part in parts.items()}
    labels = {name: part.columns for name, part in parts.items() if isinstance(part, pd.DataFrame)}
    return Given(frames, lambda complete: _restored(complete, parts, {**trained, **labels}, is_mudata(tables)), labels)


def in_blocks(table: Any, names: Sequence[str], blocks: Mapping[str, Block] | None) -> Given:
    """Of one array, data frame or AnnData with columns of these names, whose rows are the samples, in the order of the columns."""
    frame = _frame(WHOLE, table).set_axis(list(names), axis=1).reset_index(drop=True)
    indices = indices_of(blocks, names)
    frames = {name: frame.iloc[:, columns] for name, columns in indices.items()}
    order = np.argsort(np.concatenate(list(indices.values())), kind="stable")

    def restore(complete: Frames) -> Any:
        joined = pd.concat([complete[name] for name in indices], axis=1).iloc[:, order]
        labels = table.columns if isinstance(table, pd.DataFrame) and column_names(table) == list(names) else None
        return _like(joined.set_index(_labels(table, len(joined))), table, labels)

    return Given(frames, restore)


def indices_of(blocks: Mapping[str, Block] | None, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Modality -> numbers of its columns: of a slice, of numbers, or of names. Raises UsageError unless every column is in one block."""
    if blocks is None:
        return {WHOLE: np.arange(len(names))}
    number = {name: place for place, name in enumerate(names)}
    indices = {name: _indices(name, block, number) for name, block in blocks.items()}
    counts = np.bincount(np.concatenate([*indices.values(), np.zeros(0, np.int64)]), minlength=len(names))
    odd = np.flatnonzero(counts != 1)
    if len(odd):
        column = names[odd[0]]
        what = f"the column {column!r} is in {'several blocks' if counts[odd[0]] else 'no block'}."
        raise UsageError(what, where="blocks", fix="Name every column once; select those that matter before.")
    return indices


def joined(complete: Frames, names: Sequence[str]) -> pd.DataFrame:
    """All modalities side by side, in columns of these names."""
    return pd.concat(list(complete.values()), axis=1).set_axis(list(names), axis=1)


def _indices(name: str, block: Block, number: Mapping[str, int]) -> np.ndarray:
    if isinstance(block, slice):
        return np.arange(len(number))[block]
    unknown = [item for item in block if (item not in number if isinstance(item, str) else not 0 <= item < len(number))]
    if unknown:
        raise UsageError(f"there is no column {unknown[0]!r}.", where=f"blocks, {name}", fix="Give a slice, numbers or names of columns.")
    return np.array([number[item] if isinstance(item, str) else int(item) for item in block], np.int64)


def _frame(name: str, table: Any) -> pd.DataFrame:
    if is_anndata(table):
        table = table.to_df()
    if isinstance(table, np.ndarray) and table.ndim == 2:
        table = pd.DataFrame(table, columns=[f"x{place}" for place in range(table.shape[1])])
    if not isinstance(table, pd.DataFrame):
        what = f"{name} is a {type(table).__name__}, which is no table."
        raise UsageError(what, where="X", fix="Give data frames, AnnData, or arrays of two dimensions.")
    return table.set_axis(column_names(table), axis=1)


def _restored(complete: Frames, parts: Mapping[str, Any], labels: Mapping[str, pd.Index], as_mudata: bool) -> Any:
    """Each table as it was passed; one that was not passed at all as the first one was."""
    first = next(iter(parts.values()))
    tables = {name: _like(frame, parts.get(name, first), labels.get(name)) for name, frame in complete.items()}
    if not as_mudata:
        return tables
    from mudata import MuData, set_options

    with set_options(pull_on_update=False):
        return MuData(tables)


def _like(frame: pd.DataFrame, table: Any, labels: pd.Index | None) -> Any:
    """A complete frame in the form of a table; labels: of the columns of a data frame, in any order."""
    if isinstance(table, np.ndarray):
        values = frame.to_numpy()
        return values.astype(table.dtype) if table.dtype.kind == "f" else values
    if not is_anndata(table):
        return frame if labels is None else labelled(frame, labels)
    from anndata import AnnData

    var = table.var if column_names(table.to_df()) == list(frame.columns) else pd.DataFrame(index=frame.columns)
    return AnnData(frame.to_numpy(np.float32), table.obs.reindex(frame.index), var)


def labelled(frame: pd.DataFrame, labels: pd.Index) -> pd.DataFrame:
    """A frame whose columns are names under the labels that these are of."""
    names = names_of(labels)
    if names == list(frame.columns):
        return frame.set_axis(labels, axis=1)
    indices = {name: place for place, name in enumerate(names)}
    return frame.set_axis(labels[[indices[name] for name in frame.columns]], axis=1)


def _labels(table: Any, count: int) -> Any:
    return table.obs_names if is_anndata(table) else getattr(table, "index", pd.RangeIndex(count))
