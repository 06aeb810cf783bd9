"""Audio: a learned codec on log-mel frames with FSQ codes, several frames to a token; back to sound by fast Griffin-Lim."""

import io
import math
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import soundfile
import torch
from torch import Tensor

from mmtool.common.bounds import Bounds, Count
from mmtool.common.errors import DataError, UsageError
from mmtool.common.storage import write_bytes
from mmtool.tokenizers.base import Number, Positions, PositiveNumber, SampleRate, check_settings
from mmtool.tokenizers.codec import CODEC_SETTINGS, LEARNING_RATE, Codec, CodecShape, by_length, crops, fit_codec, hold_out
from mmtool.tokenizers.fsq import code_usage, levels_of
from mmtool.tokenizers.spectrogram import MelFrames

WINDOW_S = 0.032  # of a spectrum; the nearest power of two of samples is taken
SILENCE = 1e-4  # a peak too low to be brought to full scale
DECIBELS = 20 / math.log(10)  # in a neper
PHASE_ITERATIONS = 32
FULL_SCALE = 0.9  # of decoded recordings, where loudness was normalised
FRAME_SETTINGS = {
    "sample_rate_hz": SampleRate,
    "hop_ms": PositiveNumber,
    "mels": Count,
    "floor_db": Annotated[Number, Bounds(high=0, open_high=True)],
    "patch": Count,
}
RECORDING_SETTINGS = {"trim_db": Annotated[Number, Bounds(0)], "normalise": bool}


class AudioTokenizer:
    """What both schemes share: log-mel frames of recordings, and sound from them.

    trim_db: ends this far under the peak are cut (0 keeps them); normalise: the peak is brought to full scale; patch: frames per token.
    """

    kind: ClassVar[str] = "audio"
    positions: Positions = "line"
    shape = None
    frames: MelFrames
    patch: int
    trim_db: float
    normalise: bool

    @property
    def sample_rate_hz(self) -> int:
        return self.frames.sample_rate_hz

    def log_mel(self, value: np.ndarray) -> Tensor:
        """(mels, frames), the number of frames a multiple of `patch`. Raises DataError for a recording without samples."""
        return _log_mel(self.frames, value, self.patch, self.trim_db, self.normalise)

    def sounds(self, log_mels: Sequence[Tensor]) -> list[np.ndarray]:
        """(mels, frames) each -> sound (frames * hop,) float32 in [-1, 1]; no frames are no sound."""
        sounds = by_length(lambda part: self.frames.sound(part, PHASE_ITERATIONS), log_mels)
        return [self._at_full_scale(sound.numpy()) for sound in sounds]

    def features(self, value: np.ndarray) -> np.ndarray:
        """Log-mel frames (frames, mels) of a recording, as classifiers look at it; none of an empty one."""
        if not len(value):
            return np.zeros((0, self.frames.mels), np.float32)
        return _log_mel(self.frames, value, 1, self.trim_db, self.normalise).T.numpy()

    def write(self, value: np.ndarray, stem: Path) -> Path:
        """Write a recording as `stem`.wav, mono, 16 bit."""
        path, data = stem.with_name(stem.name + ".wav"), io.BytesIO()
        soundfile.write(data, np.clip(value, -1, 1), self.sample_rate_hz, format="WAV", subtype="PCM_16")
        write_bytes(path, data.getvalue())
        return path

    def recording_state(self) -> dict[str, Any]:
        """The settings of what is shared, as JSON values."""
        frames = {name: getattr(self.frames, name) for name in ("sample_rate_hz", "hop", "window", "mels", "floor_db")}
        return {"frames": frames, "trim_db": self.trim_db, "normalise": self.normalise}

    def _at_full_scale(self, sound: np.ndarray) -> np.ndarray:
        """With the peak at FULL_SCALE where loudness was normalised (silence stays silent), else clipped."""
        peak = float(np.abs(sound).max(initial=0.0))
        gain = FULL_SCALE / peak if self.normalise and peak > SILENCE else 1.0
        return np.clip(sound * gain, -1, 1).astype(np.float32)


class AudioCodecTokenizer(AudioTokenizer):
    """(T,) float32 at `sample_rate_hz` <-> codes (L,), one per `patch` frames of 10 ms.

    Settings of `fit`: sample_rate_hz, hop_ms, mels, floor_db (quieter is silence), trim_db (ends this far under the peak are cut; 0
    keeps them), normalise (bring the peak to full scale), patch (frames per token), codebook or levels (of FSQ); width, depth, steps,
    batch, learning_rate of the codec. Reported on held-out training recordings: mean squared error of standardised log-mel frames
    (1: as bad as the mean), codebook usage, tokens per second.
    """

    scheme: ClassVar[str] = "codec"
    SETTINGS = FRAME_SETTINGS | RECORDING_SETTINGS | CODEC_SETTINGS

    def __init__(self, frames: MelFrames, codec: Codec, mean: np.ndarray, scale: np.ndarray, trim_db: float, normalise: bool) -> None:
        self.frames, self.codec, self.trim_db, self.normalise = frames, codec, trim_db, normalise
        self._mean, self._scale = torch.from_numpy(mean)[:, None], torch.from_numpy(scale)[:, None]
        self.vocabulary_size, self.patch = prod(codec.shape.levels), codec.shape.patch[0]
        self.report: dict[str, Any] = {}

    @classmethod
    def fit(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any], seed: int) -> Self:
        """Train the codec on recordings at the setting `sample_rate_hz`."""
        check_settings(settings, cls.SETTINGS, "audio codec")
        if not len(values):
            raise DataError("there are no training recordings to fit a tokenizer on.", fix="Check the paths and the split fractions.")
        frames, patch = mel_frames(settings), int(settings.get("patch", 4))
        trim_db, normalise = float(settings.get("trim_db", 40.0)), bool(settings.get("normalise", True))
        log_mels = [_log_mel(frames, value, patch, trim_db, normalise) for value in values]
        train, held_out = (part.tolist() for part in hold_out(len(values), seed))
        together = torch.cat([log_mels[i] for i in train], 1)
        mean, scale = together.mean(1), together.std(1, correction=0).clamp(min=1e-3)
        shape = CodecShape(frames.mels, (patch,), levels_of(settings, 512), settings.get("width", 128), settings.get("depth", 3))
        draw = crops([(log_mels[i] - mean[:, None]) / scale[:, None] for i in train], patch, settings.get("batch", 64))
        steps, rate = settings.get("steps", 800), settings.get("learning_rate", LEARNING_RATE)
        codec = fit_codec(shape, draw, steps=steps, learning_rate=rate, seed=seed, description="fitting the audio codec")
        tokenizer = cls(frames, codec, mean.numpy(), scale.numpy(), trim_db, normalise)
        tokenizer.report = tokenizer._measure([log_mels[i] for i in held_out])
        return tokenizer

    def _measure(self, log_mels: Sequence[Tensor]) -> dict[str, Any]:
        codes = by_length(self._codes, log_mels)
        pairs = zip(by_length(self._log_mels, codes), log_mels, strict=True)
        errors = torch.cat([decoded - log_mel for decoded, log_mel in pairs], 1)
        return {
            "mse": float((errors / self._scale).square().mean()),
            "log_mel_rmse_db": float(errors.square().mean().sqrt()) * DECIBELS,
            "tokens_per_s": self.sample_rate_hz / self.frames.hop / self.patch,
            **code_usage(torch.cat(codes).numpy(), self.vocabulary_size),
        }

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes of each recording; at least one. Raises DataError for a recording without samples."""
        log_mels = [self.log_mel(value) for value in values]
        return [codes.numpy() for codes in by_length(self._codes, log_mels)]

    def decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Sound (tokens * patch * hop,) float32 in [-1, 1]; no tokens are no sound."""
        codes = [torch.from_numpy(np.asarray(row, np.int64)) for row in tokens]
        return self.sounds(by_length(self._log_mels, codes))

    def _codes(self, log_mels: Tensor) -> Tensor:
        """(B, mels, frames) -> (B, frames / patch)."""
        return self.codec.encode((log_mels - self._mean) / self._scale)

    def _log_mels(self, codes: Tensor) -> Tensor:
        """(B, L) -> (B, mels, L * patch)."""
        return self.codec.decode(codes) * self._scale + self._mean

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        settings = {**self.recording_state(), "codec": self.codec.shape.to_json()}
        return {**self.codec.tensors(), "mel.mean": self._mean[:, 0].numpy(), "mel.scale": self._scale[:, 0].numpy()}, settings

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        codec_tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("mel.")}
        codec = Codec.from_tensors(CodecShape.from_json(settings["codec"]), codec_tensors)
        mean, scale = (np.array(tensors[name]) for name in ("mel.mean", "mel.scale"))
        return cls(MelFrames(**settings["frames"]), codec, mean, scale, settings["trim_db"], settings["normalise"])


def mel_frames(settings: Mapping[str, Any]) -> MelFrames:
    if "sample_rate_hz" not in settings:
        raise UsageError("the sample rate of the recordings is missing.", where="sample_rate_hz", fix="Give it, e.g. 16000.")
    rate = settings["sample_rate_hz"]
    hop = round(rate * settings.get("hop_ms", 10.0) / 1000)
    window = 2 ** round(math.log2(rate * WINDOW_S))
    if not 1 <= hop <= window // 2:
        longest = 500 * window / rate
        fix = f"Use at most {longest:g}, so that windows of {2 * longest:g} ms overlap, and no less than one sample."
        raise UsageError(f"frames cannot be {settings.get('hop_ms', 10.0)} ms apart.", where="--set hop_ms", fix=fix)
    mels = settings.get("mels", 40 if rate <= 8000 else 64)
    return MelFrames(rate, hop, window, mels, float(settings.get("floor_db", -60.0)))


def _log_mel(frames: MelFrames, value: np.ndarray, patch: int, trim_db: float, normalise: bool) -> Tensor:
    """(mels, frames), the number of frames a multiple of `patch`, silence appended."""
    sound = trimmed(np.asarray(value, np.float32), frames.hop, trim_db)
    peak = float(np.abs(sound).max())
    if normalise and peak > 0:
        sound = sound / peak
    step = frames.hop * patch
    padded = np.pad(sound, (0, -len(sound) % step))
    return frames.log_mel(torch.from_numpy(padded)[None])[0]


def trimmed(sound: np.ndarray, hop: int, trim_db: float) -> np.ndarray:
    """The recording without ends whose level in a hop lies more than `trim_db` under the loudest hop (0: as it is)."""
    if not len(sound):
        raise DataError("the recording is empty.", fix="Remove it, or pass --on-error skip.")
    if trim_db <= 0:
        return sound
    padded = np.pad(sound, (0, -len(sound) % hop)).reshape(-1, hop)
    level = np.sqrt(np.square(padded).mean(1))
    loud = np.flatnonzero(level >= level.max() * 10 ** (-trim_db / 20))
    return sound[loud[0] * hop : (loud[-1] + 1) * hop]
