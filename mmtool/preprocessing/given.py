"""Values given in Python as samples: by modality a list of them, which keys or their order join."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmtool.common.errors import DataError, UsageError
from mmtool.common.log import log
from mmtool.data.sample import Sample
from mmtool.preprocessing.encode import Encoder
from mmtool.preprocessing.prepare import preparer_of
from mmtool.preprocessing.readers.entries import MISSING, is_unicode, name_of
from mmtool.preprocessing.sources import Item
from mmtool.tokenizers.base import Tokenizer

SHOWN = 3
PANDAS_MISSING = ("NAType", "NaTType")  # pd.NA, which equals nothing and is not even true or false, and pd.NaT


def encode_lists(values: Mapping[str, Any], keys: Any, tokenizers: Mapping[str, Tokenizer]) -> list[Sample]:
    """Samples of which the i-th holds the i-th value of each modality. keys: of the samples (None: 0, 1, ...).

    Raises UsageError for what is no list of values, DataError for lists of different lengths, keys that are not clear, and values that the
    tokenizer cannot take.
    """
    columns = {name: listed(column, name) for name, column in values.items()}
    names = None if keys is None else _names(listed(keys, "keys"))
    count = len(names) if names is not None else max(map(len, columns.values()), default=0)
    for name, column in columns.items():
        if len(column) != count:
            what = f"{name} has {len(column)} values for {count} samples."
            raise DataError(what, where="encode", fix="Give None where a sample lacks the modality.")
    samples = {key: Sample(key, {}) for key in names or map(str, range(count))}
    for name, column in columns.items():
        encoder = Encoder(tokenizers[name], name)
        for item, tokens in encoder.stream(given_items(zip(samples, column, strict=True), tokenizers[name], name)):
            samples[item.key].tokens[name] = tokens
        encoder.report()
    return list(samples.values())


def given_items(values: Iterable[tuple[str, Any]], tokenizer: Tokenizer, name: str) -> Iterator[Item]:
    """Items of values by key, as readers of files give them. Missing values (None, NaN, pd.NA) have none, nor have empty ones, such as
    texts of white space, which is said."""
    prepare, empty, total = preparer_of(tokenizer), 0, 0
    for key, value in values:
        if is_missing(value):
            continue
        where = f"{name}, {key}"
        read, total = prepare.given(value, where), total + 1
        if prepare.is_empty(read):
            empty += 1
        else:
            yield Item(key, read, {}, key, where=where)
    if empty:
        log(f"{empty:,} of {total:,} values of {name} are empty, hence absent.")


def is_missing(value: Any) -> bool:
    """Whether a value is one of those that stand for none: None, NaN, and pd.NA and pd.NaT, without importing pandas."""
    if isinstance(value, float | np.floating | np.datetime64):
        return bool(value != value)
    return value is None or type(value).__name__ in PANDAS_MISSING


def listed(values: Any, name: str) -> list[Any]:
    """The values of one modality, or keys. Raises UsageError for a single text or row, and for what holds no values."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        fix = "Give a list with one for each sample, of one too."
        raise UsageError(f"{name} is a single {type(values).__name__}, no list.", where="encode", fix=fix)
    return list(values)


def first_without_key(keys: Sequence[str]) -> int | None:
    """The place of the first key that is none: empty, a word for a missing value, or no Unicode."""
    return next((place for place, key in enumerate(keys) if not key or key in MISSING or not is_unicode(key)), None)


def repeated(keys: Sequence[str]) -> str:
    """Some of the keys that stand more than once, for a message; empty where there are none."""
    return ", ".join(map(repr, [key for key, number in Counter(keys).items() if number > 1][:SHOWN]))


def _names(keys: Sequence[Any]) -> list[str]:
    """Keys as text. Raises DataError where one is missing, or stands twice."""
    names = list(map(name_of, keys))
    if (empty := first_without_key(names)) is not None:
        raise DataError(f"{keys[empty]!r} is no key.", where=f"keys[{empty}]", fix="Name every sample.")
    if twice := repeated(names):
        raise DataError(f"{twice} stands more than once.", where="keys", fix="Give each sample a key of its own.")
    return names
