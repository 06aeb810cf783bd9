"""From the values of sources to those of tokenizers: recordings at the tokenizer's sample rate, table rows in the order of its features.

One class for each way of doing so; `mmtool.kinds` says which kind takes which.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import gcd
from typing import Any

import numpy as np
from scipy.signal import resample_poly

from mmtool.common.errors import DataError
from mmtool.kinds import kind_named, load
from mmtool.preprocessing.readers.entries import SourceOptions
from mmtool.preprocessing.table_columns import in_common_types
from mmtool.tokenizers.base import SampleRate, Tokenizer, check_settings
from mmtool.tokenizers.column_types import Types, types_of
from mmtool.tokenizers.trajectory import asked_streams

MAX_DEFAULT_RATE_HZ = 16_000  # carries speech; music needs --set sample_rate_hz=44100


class Preparer:
    """Turns the value of an item into what a fitted tokenizer's `encode` takes: here the same one. What differs is overridden by kind."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, value: Any, where: object = None) -> Any:
        """The prepared value. Raises DataError where the tokenizer cannot take it."""
        return value

    def reading(self, options: SourceOptions) -> SourceOptions:
        """How to read files for the tokenizer, by what it knows of them."""
        return options

    def is_absent(self, prepared: Any) -> bool:
        """Whether nothing is left of a value in what the tokenizer keeps of it."""
        return False

    def given(self, value: Any, where: str) -> Any:
        """A value given in Python as readers give it. Raises DataError where it is none of the kind."""
        return value

    @classmethod
    def for_fitting(cls, values: Sequence[Any], settings: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Values and settings for `fit`."""
        return list(values), dict(settings)

    @classmethod
    def reduced(cls, value: Any, settings: Mapping[str, Any]) -> Any:
        """A value that is as good to fit to by these settings, and smaller where it can be: many are held in memory."""
        return value

    @classmethod
    def can_fit(cls, value: Any, settings: Mapping[str, Any]) -> bool:
        """Whether a tokenizer with these settings can be fitted to the value; bad ones are set aside where that is asked for."""
        return True

    @classmethod
    def is_empty(cls, value: Any, keep_empty: bool = False) -> bool:
        """Whether the value of an item is none at all, so that its sample lacks the modality."""
        return value is None


class ImagePreparer(Preparer):
    """(H, W, C) uint8 -> the same in the tokenizer's size and mode."""

    def __call__(self, value: Any, where: object = None) -> Any:
        return self.tokenizer.format.bring(value)

    def given(self, value: Any, where: str) -> Any:
        """Arrays as they are; pictures of Pillow as those in files."""
        from mmtool.preprocessing.readers.images import given_image

        return given_image(value, where)

    @classmethod
    def reduced(cls, value: Any, settings: Mapping[str, Any]) -> Any:
        """At the size of the settings: grey pictures become the same coloured ones before and after they are resized."""
        from mmtool.tokenizers.image import resized

        return resized(value, settings)


class RecordingPreparer(Preparer):
    """((T,) samples, sample rate in Hz) -> (T,) samples at the tokenizer's rate."""

    def __call__(self, value: Any, where: object = None) -> Any:
        samples, rate_hz = value
        return resample(samples, rate_hz, self.tokenizer.sample_rate_hz)

    @classmethod
    def for_fitting(cls, values: Sequence[Any], settings: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """All at one rate: that of the settings, else the commonest, at most 16 kHz."""
        common = Counter(rate_hz for _, rate_hz in values).most_common(1)[0][0]
        wanted_hz = settings.get("sample_rate_hz", min(common, MAX_DEFAULT_RATE_HZ))
        check_settings({"sample_rate_hz": wanted_hz}, {"sample_rate_hz": SampleRate}, "audio")
        return [resample(samples, rate_hz, wanted_hz) for samples, rate_hz in values], {**settings, "sample_rate_hz": wanted_hz}


class TextPreparer(Preparer):
    """Texts are taken as they are; what is nothing but white space is none, unless that is kept."""

    def given(self, value: Any, where: str) -> Any:
        if not isinstance(value, str):
            raise DataError(f"{value!r} is no text.", where=where, fix="Give texts as str, and None where there is none.")
        return str(value)

    @classmethod
    def is_empty(cls, value: Any, keep_empty: bool = False) -> bool:
        return value is None or not (keep_empty or value.strip())


class TablePreparer(Preparer):
    """((F,) row, feature names) -> (F,) row in the order of the tokenizer's features. Raises DataError where a table has other columns."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self._orders: dict[tuple[Any, ...], np.ndarray] = {}

    def __call__(self, value: Any, where: object = None) -> Any:
        row, header = value
        read_as = (header, *types_of(header))
        if read_as not in self._orders:
            order = self.tokenizer.align(header, where)
            self._check_types(types_of(header), where)
            self._orders[read_as] = order
        return row[self._orders[read_as]]

    def given(self, value: Any, where: str) -> Any:
        """A row {feature: value} as the row of a table."""
        return self._given_rows(value, where)

    @cached_property
    def _given_rows(self) -> Any:
        from mmtool.preprocessing.given_rows import GivenRows

        return GivenRows(self.tokenizer.types)

    def _check_types(self, types: Types, where: object) -> None:
        """Numbers of matrices are no categories, levels or dates, even where they could count these."""
        name = next((name for name in self.tokenizer.features if name in self.tokenizer.types and name not in types), None)
        if name is not None:
            what = f"{name!r} holds numbers here, and is of the type {self.tokenizer.types[name].name} for the tokenizer."
            raise DataError(what, where=where, fix="Give a table with samples in rows, or fit a new tokenizer with --fit.")

    def reading(self, options: SourceOptions) -> SourceOptions:
        """The tokenizer's features show which way a table lies, and what its columns hold."""
        features = (*self.tokenizer.features, *self.tokenizer.dropped)
        return replace(options, table=replace(options.table, features=features, known=self.tokenizer.types))

    def is_absent(self, prepared: Any) -> bool:
        """Whether a row holds no value of any feature that the tokenizer keeps."""
        return bool(np.isnan(prepared).all())

    @classmethod
    def for_fitting(cls, values: Sequence[Any], settings: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """All in the first one's order of columns, categories counted in a list of all."""
        features = values[0][1]
        rows, types = in_common_types([(_reordered(row, header, features), types_of(header)) for row, header in values], features)
        return rows, {**settings, "features": list(features), "types": types}

    @classmethod
    def is_empty(cls, value: Any, keep_empty: bool = False) -> bool:
        return value is None or bool(np.isnan(value[0]).all())


class TrajectoryPreparer(Preparer):
    """Clips are taken as they are. Raises DataError where their length or streams are not the tokenizer's."""

    def __call__(self, value: Any, where: object = None) -> Any:
        self.tokenizer.check(value, where)
        return value

    @classmethod
    def can_fit(cls, value: Any, settings: Mapping[str, Any]) -> bool:
        """Whether the clip has the streams that are asked for."""
        return value.keys() >= set(asked_streams(settings))


def preparer_of(tokenizer: Tokenizer) -> Preparer:
    """The preparer of a fitted tokenizer, by its kind."""
    preparer: Preparer = load(kind_named(tokenizer.kind).preparer)(tokenizer)
    return preparer


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """(T,) float32 at another sample rate, by a polyphase filter."""
    if from_hz == to_hz:
        return samples
    common = gcd(from_hz, to_hz)
    return resample_poly(samples, to_hz // common, from_hz // common).astype(np.float32)


def _reordered(row: np.ndarray, header: tuple[str, ...], features: tuple[str, ...]) -> np.ndarray:
    if header == features:
        return row
    if set(header) != set(features):
        names = ", ".join(sorted(set(header) ^ set(features))[:5])
        raise DataError(f"the tables differ in the columns {names}.", where="table", fix="Give tables with the same columns.")
    return row[[header.index(name) for name in features]]
