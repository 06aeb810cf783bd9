"""Time series of several channels (ECG, EEG, accelerometers): a learned codec with FSQ codes on stretches of samples, or uint8 patches.

Every channel is standardised by training data; a token stands for `patch` samples of all channels.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from mmtool.common.bounds import Count
from mmtool.common.errors import DataError, UsageError
from mmtool.common.storage import write_bytes
from mmtool.tokenizers.base import Positions, PositiveNumber, check_settings
from mmtool.tokenizers.codec import CODEC_SETTINGS, LEARNING_RATE, Codec, CodecShape, by_length, crops, fit_codec, hold_out
from mmtool.tokenizers.fsq import code_usage, levels_of

TOKEN_S, MIN_PATCH = 0.08, 4  # a token by default: seconds, and samples at least
BANDS, MIN_WINDOW = 6, 16  # of the spectra that classifiers look at, and samples of one
MAX_LEVEL = 255
SIGNAL_SETTINGS = {"sample_rate_hz": PositiveNumber, "channels": list | tuple, "patch": Count, "write_as": str}


class SignalTokenizer:
    """What both schemes share: standardised samples, spectra for classifiers, and files of series.

    channels: names, in the order of a value's columns. sample_rate_hz: of values. patch: samples per token. write_as: npz or csv.
    mean, scale: (C,) of training samples.
    """

    kind: ClassVar[str] = "signal"
    positions: Positions = "line"
    shape = None

    def __init__(
        self, channels: Sequence[str], sample_rate_hz: float, patch: int, write_as: str, mean: np.ndarray, scale: np.ndarray
    ) -> None:
        self.channels, self.sample_rate_hz, self.patch, self.write_as = tuple(channels), sample_rate_hz, patch, write_as
        self.mean, self.scale = mean, scale
        self.report: dict[str, Any] = {"tokens_per_s": sample_rate_hz / patch}

    @classmethod
    def learn(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any]) -> "SignalTokenizer":
        """What both schemes learn of training values (T, C). Raises UsageError for settings that make no sense."""
        if not len(values):
            raise DataError("there are no training series to fit a tokenizer on.", fix="Check the paths and the split fractions.")
        if "sample_rate_hz" not in settings:
            raise UsageError("the sample rate of the series is missing.", where="sample_rate_hz", fix="Give it, e.g. 250.")
        if (write_as := settings.get("write_as", "npz")) not in WRITERS:
            fix = f"Choose from: {', '.join(WRITERS)}."
            raise UsageError(f"series cannot be written as {write_as!r}.", where="--set write_as", fix=fix)
        rate_hz = settings["sample_rate_hz"]
        patch = settings.get("patch", max(MIN_PATCH, round(TOKEN_S * rate_hz)))
        rows = np.concatenate(values).astype(np.float64)
        channels = settings.get("channels", [f"ch{number}" for number in range(rows.shape[1])])
        scale = rows.std(0)
        scale = np.where(scale > 0, scale, 1.0)  # of a channel that never changes
        return SignalTokenizer(channels, rate_hz, patch, write_as, rows.mean(0).astype(np.float32), scale.astype(np.float32))

    def standard(self, value: np.ndarray) -> np.ndarray:
        """(T, C) float32, standardised, the last sample repeated up to a multiple of `patch`. Raises DataError where it does not fit."""
        if value.ndim != 2 or value.shape[1] != len(self.channels) or not len(value):
            what = f"a series must be (samples, {len(self.channels)}), not {value.shape}."
            raise DataError(what, fix="Remove it, or pass --on-error skip.")
        padded = np.pad(value, ((0, -len(value) % self.patch), (0, 0)), mode="edge")
        return ((padded - self.mean) / self.scale).astype(np.float32)

    def raw(self, standard: np.ndarray) -> np.ndarray:
        """The inverse of `standard`, without what was repeated being known."""
        return (standard * self.scale + self.mean).astype(np.float32)

    def features(self, value: np.ndarray) -> np.ndarray:
        """(frames, C * (1 + BANDS)): mean and log magnitudes in bands of frequency of each channel, as classifiers look at it."""
        window = max(MIN_WINDOW, 2 * self.patch)
        if not len(value):
            return np.zeros((0, len(self.channels) * (1 + BANDS)), np.float32)
        rows = (value - self.mean) / self.scale
        frames = np.pad(rows, ((0, -len(rows) % window), (0, 0)), mode="edge").reshape(-1, window, rows.shape[1])
        bands = np.array_split(np.abs(np.fft.rfft(frames, axis=1))[:, 1:], BANDS, axis=1)
        return np.concatenate([frames.mean(1), *(np.log1p(band.mean(1)) for band in bands)], axis=1).astype(np.float32)

    def write(self, value: np.ndarray, stem: Path) -> Path:
        """Write a series as `stem`.npz (signal, sample_rate_hz, channels) or `stem`.csv (time_s and a column per channel)."""
        path = stem.with_name(f"{stem.name}.{self.write_as}")
        write_bytes(path, WRITERS[self.write_as](self, value))
        return path

    def signal_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Tensors and settings of what is shared."""
        record = {"channels": list(self.channels), "sample_rate_hz": self.sample_rate_hz, "patch": self.patch, "write_as": self.write_as}
        return {"signal.mean": self.mean, "signal.scale": self.scale}, record

    @staticmethod
    def shared(tensors: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> dict[str, Any]:
        """The inverse of `signal_state`, as arguments."""
        return {**record, "mean": np.array(tensors["signal.mean"]), "scale": np.array(tensors["signal.scale"])}


class SignalCodecTokenizer(SignalTokenizer):
    """(T, C) float32 at `sample_rate_hz` <-> codes (L,), one per `patch` samples.

    Settings of `fit`: sample_rate_hz, channels, patch (samples per token, 80 ms by default), write_as (npz or csv), codebook or levels (of
    FSQ); width, depth, steps, batch, learning_rate of the codec. Reported on held-out training series: mean squared error of standardised
    samples (1: as bad as the mean), codebook usage, tokens per second.
    """

    scheme: ClassVar[str] = "codec"
    SETTINGS = SIGNAL_SETTINGS | CODEC_SETTINGS

    def __init__(self, codec: Codec, **shared: Any) -> None:
        super().__init__(**shared)
        self.codec, self.vocabulary_size = codec, prod(codec.shape.levels)

    @classmethod
    def fit(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any], seed: int) -> Self:
        """Train the codec on series (T, C) at the setting `sample_rate_hz`."""
        check_settings(settings, cls.SETTINGS, "signal codec")
        base = cls.learn(values, settings)
        rows = [torch.from_numpy(base.standard(value).T.copy()) for value in values]
        train, held_out = (part.tolist() for part in hold_out(len(rows), seed))
        shape = CodecShape(len(base.channels), (base.patch,), levels_of(settings, 256), settings.get("width", 64), settings.get("depth", 2))
        draw = crops([rows[i] for i in train], base.patch, settings.get("batch", 64))
        steps, rate = settings.get("steps", 800), settings.get("learning_rate", LEARNING_RATE)
        codec = fit_codec(shape, draw, steps=steps, learning_rate=rate, seed=seed, description="fitting the signal codec")
        tokenizer = cls(codec, **cls.shared(*base.signal_state()))
        codes = by_length(codec.encode, [rows[i] for i in held_out])
        pairs = zip(by_length(codec.decode, codes), (rows[i] for i in held_out), strict=True)
        error = float(torch.cat([decoded - row for decoded, row in pairs], 1).square().mean())
        tokenizer.report |= {"mse": error, **code_usage(torch.cat(codes).numpy(), tokenizer.vocabulary_size)}
        return tokenizer

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes of each series; at least one. Raises DataError for one that does not fit."""
        rows = [torch.from_numpy(self.standard(value).T.copy()) for value in values]
        return [codes.numpy() for codes in by_length(self.codec.encode, rows)]

    def decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Series (tokens * patch, C) float32; no tokens are no samples."""
        codes = [torch.from_numpy(np.asarray(row, np.int64)) for row in tokens]
        return [self.raw(_columns(rows, len(self.channels))) for rows in by_length(self.codec.decode, codes)]

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        tensors, record = self.signal_state()
        return {**self.codec.tensors(), **tensors}, {"signal": record, "codec": self.codec.shape.to_json()}

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        weights = {name: tensor for name, tensor in tensors.items() if not name.startswith("signal.")}
        codec = Codec.from_tensors(CodecShape.from_json(settings["codec"]), weights)
        return cls(codec, **cls.shared(tensors, settings["signal"]))


class SignalPatchTokenizer(SignalTokenizer):
    """(T, C) float32 at `sample_rate_hz` <-> (L, patch * C) uint8, one token per `patch` samples, sample by sample.

    0 and 255 are the least and the greatest value of each channel in training data. Settings of `fit`: sample_rate_hz, channels, patch,
    write_as (see SignalCodecTokenizer). Reported: mean squared error of standardised training samples, tokens per second.
    """

    scheme: ClassVar[str] = "patches"
    vocabulary_size = 0
    SETTINGS = SIGNAL_SETTINGS

    def __init__(self, low: np.ndarray, step: np.ndarray, **shared: Any) -> None:
        super().__init__(**shared)
        self.low, self.step = low, step
        self.patch_width = self.patch * len(self.channels)

    @classmethod
    def fit(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any], seed: int) -> Self:
        """Take the range of each channel of training series (T, C); nothing is random."""
        check_settings(settings, cls.SETTINGS, "signal patches")
        base = cls.learn(values, settings)
        rows = np.concatenate([base.standard(value) for value in values])
        low, step = rows.min(0), np.maximum(np.ptp(rows, axis=0), 1e-6) / MAX_LEVEL
        tokenizer = cls(low, step, **cls.shared(*base.signal_state()))
        tokenizer.report |= {"mse": float(np.square(tokenizer._levels(rows) * step + low - rows).mean())}
        return tokenizer

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Patches (L, patch * C) of each series; at least one. Raises DataError for one that does not fit."""
        return [self._levels(self.standard(value)).reshape(-1, self.patch_width) for value in values]

    def decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Series (L * patch, C) float32."""
        return [self.raw(rows.astype(np.float32).reshape(-1, len(self.channels)) * self.step + self.low) for rows in tokens]

    def beyond(self, value: np.ndarray) -> dict[str, int]:
        """How many samples of each channel lie beyond the range of training data; they count as its ends."""
        rows = self.standard(value)[: len(value)]
        slack = self.step / 2
        outside = ((rows < self.low - slack) | (rows > self.low + MAX_LEVEL * self.step + slack)).sum(0)
        return {name: int(count) for name, count in zip(self.channels, outside, strict=True) if count}

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        tensors, record = self.signal_state()
        return {"low": self.low, "step": self.step, **tensors}, {"signal": record}

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        return cls(np.array(tensors["low"]), np.array(tensors["step"]), **cls.shared(tensors, settings["signal"]))

    def _levels(self, rows: np.ndarray) -> np.ndarray:
        return ((rows - self.low) / self.step).round().clip(0, MAX_LEVEL).astype(np.uint8)


def _columns(rows: Tensor, channels: int) -> np.ndarray:
    """(C, T) -> (T, C); nothing of nothing."""
    return rows.reshape(channels, -1).T.numpy()


def _npz(tokenizer: SignalTokenizer, value: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.savez(data, signal=value, sample_rate_hz=np.float64(tokenizer.sample_rate_hz), channels=np.array(tokenizer.channels))
    return data.getvalue()


def _csv(tokenizer: SignalTokenizer, value: np.ndarray) -> bytes:
    lines = [",".join(("time_s", *tokenizer.channels))]
    for step, row in enumerate(value):
        lines.append(",".join(f"{number:.9g}" for number in (step / tokenizer.sample_rate_hz, *row)))
    return ("\n".join(lines) + "\n").encode()


WRITERS: dict[str, Callable[[SignalTokenizer, np.ndarray], bytes]] = {"npz": _npz, "csv": _csv}
