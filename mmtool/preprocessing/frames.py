"""Data frames as samples: the index holds the keys, each row is read as that of a file would be.

Nothing here imports pandas: whoever has a frame has it.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from mmtool.common.errors import DataError, UsageError
from mmtool.common.log import log
from mmtool.data.sample import Sample
from mmtool.preprocessing.encode import Encoder
from mmtool.preprocessing.given import first_without_key, given_items, repeated
from mmtool.preprocessing.keys import names_as_keys
from mmtool.preprocessing.prepare import preparer_of
from mmtool.preprocessing.readers.entries import name_of
from mmtool.preprocessing.readers.feature_names import features_of
from mmtool.preprocessing.readers.row_values import RowValues, unseen_notes
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.sources import Item
from mmtool.tokenizers.base import Tokenizer

Frames = Mapping[str, Any]  # modality -> a data frame of its table, or a series of other values; the index holds the keys
Keys = Mapping[str, Sequence[str]]  # modality -> keys of the rows of its frame


def is_frame(value: Any) -> bool:
    """Whether a value is a data frame or a series of pandas, without importing that."""
    return hasattr(value, "index") and hasattr(value, "reindex") and hasattr(value, "isna")


def keys_of(index: Any, where: str) -> list[str]:
    """The keys of samples, by the index of a frame: as `names_as_keys` makes them of a column. Raises DataError for an index of several
    levels, and for one that is missing, or the same, for two rows."""
    return _checked(names_as_keys(_labels(index, where))[0], where)


def keys_by_frame(frames: Frames) -> dict[str, list[str]]:
    """Modality -> the keys of its rows, so that a label is the same key in all frames: names of files keep their extension in all of them
    where one that lost it, in a frame of such names alone, stands in another beside others. Raises DataError as `keys_of`."""
    names = {name: list(map(name_of, _labels(frame.index, name))) for name, frame in frames.items()}
    keys, known = {name: names_as_keys(labels)[0] for name, labels in names.items()}, dict[str, str]()
    for frame, labels in names.items():
        if any(known.setdefault(label, key) != key for label, key in zip(labels, keys[frame], strict=True)):
            keys = names
            break
    return {name: _checked(keys[name], name) for name in frames}


def _labels(index: Any, where: str) -> Any:
    if getattr(index, "nlevels", 1) > 1:
        raise DataError("the index has several levels.", where=where, fix="Make one of them, e.g. with frame.droplevel(...).")
    return index


def _checked(keys: list[str], where: str) -> list[str]:
    """The keys of a frame, where they are clear."""
    if (empty := first_without_key(keys)) is not None:
        raise DataError(f"row {empty} has no name in the index.", where=where, fix="Give every row the name of its sample.")
    if twice := repeated(keys):
        raise DataError(f"the index holds {twice} more than once.", where=where, fix="Keep one row of each sample.")
    return keys


def labels_of(frames: Frames, keys: Keys | None = None) -> dict[str, Any]:
    """Key -> its label in the index, of all samples of any frame, in the order in which they first occur. keys: of the rows of each frame
    (None: of each frame by itself)."""
    labels: dict[str, Any] = {}
    for name, frame in frames.items():
        for key, label in zip(keys[name] if keys else keys_of(frame.index, name), frame.index, strict=True):
            labels.setdefault(key, label)
    return labels


def check_frames(frames: Frames) -> None:
    """Raise UsageError where there are none, and for what is no data frame or series."""
    if not frames:
        raise UsageError("there is no data frame.", where="frames", fix="Give at least one: {modality: frame}.")
    for name, frame in frames.items():
        if not is_frame(frame):
            fix = "Give data frames or series for all modalities, or make samples of lists with run.encode(...)."
            raise UsageError(f"{name} is {type(frame).__name__}, no data frame.", where="frames", fix=fix)


def column_names(frame: Any) -> list[str]:
    """Names of the columns as a file would hold them."""
    return names_of(frame.columns)


def names_of(labels: Any) -> list[str]:
    """Labels of columns as a file would hold them."""
    return [str(label).strip() for label in labels]


def encode_frames(frames: Frames, tokenizers: Mapping[str, Tokenizer], keys: Keys | None = None) -> list[Sample]:
    """Samples in the order of their keys; rows without any value, and missing and empty values of series, are absent modalities. keys: of
    the rows of each frame (None: of each frame by itself).

    Raises UsageError for a modality without tokenizer, DataError for keys that are not clear and rows that the tokenizer cannot take.
    """
    samples: dict[str, Sample] = {}
    for name, frame in frames.items():
        if name not in tokenizers:
            raise UsageError(f"there is no modality {name!r}.", where="frames", fix=f"There are {', '.join(tokenizers)}.")
        encoder = Encoder(tokenizers[name], name)
        for item, tokens in encoder.stream(_items(frame, keys[name] if keys else keys_of(frame.index, name), tokenizers[name], name)):
            samples.setdefault(item.key, Sample(item.key, {})).tokens[name] = tokens
        encoder.report()
    return [samples[key] for key in sorted(samples)]


def table_rows(frame: Any, keys: Sequence[str], tokenizer: Tokenizer, name: str) -> dict[str, np.ndarray]:
    """Key -> (F,) float32 row in the order of the tokenizer's features, NaN where missing: what `encode_frames` makes tokens of."""
    prepare = preparer_of(tokenizer)
    return {item.key: np.asarray(prepare(item.value, item.where), np.float32) for item in _items(frame, keys, tokenizer, name)}


def _items(frame: Any, keys: Sequence[str], tokenizer: Tokenizer, name: str) -> Iterator[Item]:
    if getattr(frame, "ndim", 1) == 1:
        yield from given_items(zip(keys, frame, strict=True), tokenizer, name)
        return
    absences = np.asarray(np.asarray(frame.isna()).all(axis=1), bool).tolist()
    for key, value, absent in zip(keys, _rows(frame, tokenizer, name), absences, strict=True):
        if not absent:
            yield Item(key, value, {}, key, where=f"{name}, {key}")


def _rows(frame: Any, tokenizer: Tokenizer, name: str) -> Iterator[Any]:
    """Rows as readers of tables give them. Categories that the tokenizer does not know are missing, which is said."""
    known = getattr(tokenizer, "types", None)
    if known is None:
        raise DataError(f"{name} is {tokenizer.kind}, no table.", where="frames", fix="Give a series of its values.")
    header, options = column_names(frame), TableOptions(unseen="missing", known=known)
    types = {column: known[column] for column in header if column in known}
    cells = _cells(frame)
    if types:
        for note in unseen_notes(header, types, lambda: zip(count(), cells), options, name):
            log(f"warning: {note}")
    read = RowValues(header, range(len(header)), features_of(header, "error", name), types, options)
    return (read(row, f"{name}, {label}") for row, label in zip(cells, frame.index, strict=True))


def _cells(frame: Any) -> Sequence[Sequence[Any]]:
    """Row by row, None where a value is missing."""
    if all(getattr(dtype, "kind", "O") == "f" and isinstance(dtype, np.dtype) for dtype in frame.dtypes):
        cells: list[list[Any]] = frame.to_numpy().tolist()
        return cells
    plain = frame.astype(object)
    cells = plain.where(plain.notna(), None).to_numpy().tolist()
    return cells
