"""Audio as patches of log-mel frames for continuous methods: uint8 levels between silence and the loudest, back by fast Griffin-Lim."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import torch

from mmtool.common.errors import DataError
from mmtool.tokenizers.audio import DECIBELS, FRAME_SETTINGS, RECORDING_SETTINGS, AudioTokenizer, mel_frames
from mmtool.tokenizers.base import check_settings
from mmtool.tokenizers.spectrogram import MelFrames

LEVELS = 255


class AudioPatchTokenizer(AudioTokenizer):
    """(T,) float32 at `sample_rate_hz` <-> (L, patch * mels) uint8, one token per `patch` frames of 10 ms, frame by frame.

    A level is a step of `step` nepers above the floor, so that the loudest band of the training recordings is 255. Settings of `fit`:
    sample_rate_hz, hop_ms, mels, floor_db, trim_db, normalise, patch (see AudioCodecTokenizer). Reported: the step in dB, tokens per
    second.
    """

    scheme: ClassVar[str] = "patches"
    vocabulary_size = 0
    SETTINGS = FRAME_SETTINGS | RECORDING_SETTINGS

    def __init__(self, frames: MelFrames, patch: int, step: float, trim_db: float, normalise: bool) -> None:
        self.frames, self.patch, self.step, self.trim_db, self.normalise = frames, patch, step, trim_db, normalise
        self.patch_width = patch * frames.mels
        tokens_per_s = frames.sample_rate_hz / frames.hop / patch
        self.report: dict[str, Any] = {"step_db": step * DECIBELS, "tokens_per_s": tokens_per_s}

    @classmethod
    def fit(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any], seed: int) -> Self:
        """Take the loudest band of training recordings at the setting `sample_rate_hz`; nothing is random."""
        check_settings(settings, cls.SETTINGS, "audio patches")
        if not len(values):
            raise DataError("there are no training recordings to fit a tokenizer on.", fix="Check the paths and the split fractions.")
        frames, patch = mel_frames(settings), int(settings.get("patch", 4))
        tokenizer = cls(frames, patch, 1.0, float(settings.get("trim_db", 40.0)), bool(settings.get("normalise", True)))
        loudest = max(float(tokenizer.log_mel(value).max()) for value in values)
        step = max(loudest - np.log(frames.floor), 1e-3) / LEVELS
        return cls(frames, patch, float(step), tokenizer.trim_db, tokenizer.normalise)

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Patches (L, patch * mels) of each recording; at least one. Raises DataError for a recording without samples."""
        tokens = []
        for value in values:
            levels = (self.log_mel(value).numpy() - np.log(self.frames.floor)) / self.step
            tokens.append(levels.round().clip(0, LEVELS).astype(np.uint8).T.reshape(-1, self.patch_width))
        return tokens

    def decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Sound (L * patch * hop,) float32 in [-1, 1]; no tokens are no sound."""
        floor = np.log(self.frames.floor)
        return self.sounds(
            [torch.from_numpy(rows.astype(np.float32).reshape(-1, self.frames.mels).T * self.step + floor).float() for rows in tokens]
        )

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {}, {**self.recording_state(), "patch": self.patch, "step": self.step}

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        return cls(MelFrames(**settings["frames"]), settings["patch"], settings["step"], settings["trim_db"], settings["normalise"])
