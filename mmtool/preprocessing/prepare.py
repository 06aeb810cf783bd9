"""From the values of sources to those of tokenizers: recordings at the tokenizer's sample rate, table rows in the order of its features."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import gcd
from typing import Any

import numpy as np
from scipy.signal import resample_poly

from mmtool.common.errors import DataError
from mmtool.tokenizers.base import SampleRate, check_settings

MAX_DEFAULT_RATE_HZ = 16_000  # carries speech; music needs --set sample_rate_hz=44100


class Preparer:
    """Turns the value of an item into what a fitted tokenizer's `encode` takes.

    Raises DataError where a table's columns, or the length and streams of a clip, are not the tokenizer's.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._places: dict[tuple[str, ...], np.ndarray] = {}

    def __call__(self, value: Any, where: object = None) -> Any:
        if self.tokenizer.kind == "audio":
            samples, rate = value
            return resample(samples, rate, self.tokenizer.sample_rate_hz)
        if self.tokenizer.kind == "trajectory":
            self.tokenizer.check(value, where)
        if self.tokenizer.kind != "table":
            return value
        row, header = value
        if header not in self._places:
            self._places[header] = self.tokenizer.align(header, where)
        return row[self._places[header]]

    def is_absent(self, prepared: Any) -> bool:
        """Whether a table row holds no value of any feature that the tokenizer keeps."""
        return self.tokenizer.kind == "table" and bool(np.isnan(prepared).all())


def is_absent(value: Any, keep_empty: bool = False) -> bool:
    """Whether the value of an item is none at all: no text (nothing but white space, unless that is kept), or a row without any value."""
    if value is None or isinstance(value, str):
        return value is None or not (keep_empty or value.strip())
    return isinstance(value, tuple) and isinstance(value[1], tuple) and bool(np.isnan(value[0]).all())


def prepare_for_fitting(kind: str, values: Sequence[Any], settings: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Values and settings for `fit`: recordings at one rate (by default the commonest, at most 16 kHz), tables in one order of columns."""
    if kind == "audio":
        common = Counter(rate for _, rate in values).most_common(1)[0][0]
        rate = settings.get("sample_rate_hz", min(common, MAX_DEFAULT_RATE_HZ))
        check_settings({"sample_rate_hz": rate}, {"sample_rate_hz": SampleRate}, "audio")
        return [resample(samples, own, rate) for samples, own in values], {**settings, "sample_rate_hz": rate}
    if kind == "table":
        features = values[0][1]
        return [_reordered(row, header, features) for row, header in values], {**settings, "features": list(features)}
    return list(values), dict(settings)


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
