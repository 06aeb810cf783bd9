"""Sound <-> log-mel frames: the front end of the audio codec, and its inverse by fast Griffin-Lim.

Frame i is centred on the middle of its hop, so that n frames stand for exactly n hops of sound.
"""

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

MOMENTUM = 0.99  # Perraudin, Balazs & Sondergaard 2013, "A fast Griffin-Lim algorithm"
TINY = 1e-10


@dataclass(frozen=True)
class MelFrames:
    """The transform and its settings. Sound is float32 (B, samples), log-mel float32 (B, mels, frames) in nepers (natural log).

    hop, window: in samples; floor_db: level (relative to full scale) below which all is called silence.
    """

    sample_rate_hz: int
    hop: int
    window: int
    mels: int
    floor_db: float
    filters: Tensor = field(init=False, repr=False, compare=False)  # (mels, bins)

    def __post_init__(self) -> None:
        object.__setattr__(self, "filters", mel_filters(self.sample_rate_hz, self.window, self.mels))

    @property
    def floor(self) -> float:
        return 10 ** (self.floor_db / 20)

    def log_mel(self, sound: Tensor) -> Tensor:
        """(B, frames x hop) -> (B, mels, frames)."""
        return (self.filters @ self._spectra(sound).abs()).clamp(min=self.floor).log()

    def sound(self, log_mel: Tensor, iterations: int) -> Tensor:
        """(B, mels, frames) -> (B, frames x hop): magnitudes by `linear_magnitudes`, phases by fast Griffin-Lim.

        Every clip starts from the same random phases: its sound does not depend on its batch.
        """
        magnitudes = self.linear_magnitudes(log_mel)
        generator = torch.Generator().manual_seed(0)
        angles = 2 * math.pi * torch.rand(magnitudes.shape[1:], generator=generator)
        spectra = torch.polar(magnitudes, angles.expand_as(magnitudes))
        previous = torch.zeros_like(spectra)
        for _ in range(iterations):
            consistent = self._spectra(self._overlap_add(spectra))
            ahead = consistent + MOMENTUM * (consistent - previous)
            spectra = magnitudes * ahead / (ahead.abs() + TINY)
            previous = consistent
        return self._overlap_add(spectra)

    def linear_magnitudes(self, log_mel: Tensor, iterations: int = 50) -> Tensor:
        """Non-negative magnitudes (B, bins, frames) whose mel bands are the given ones.

        Multiplicative updates (Lee & Seung 2001) from the filters' transpose: smooth, never negative, no matrix to invert.
        """
        mel = log_mel.exp()
        mel = torch.where(mel <= self.floor * 1.001, torch.zeros_like(mel), mel)
        target = self.filters.T @ mel
        magnitudes = target.clone()
        for _ in range(iterations):
            magnitudes = magnitudes * target / (self.filters.T @ (self.filters @ magnitudes) + TINY)
        return magnitudes

    def _spectra(self, sound: Tensor) -> Tensor:
        margin = self._margin
        padded = F.pad(sound, (margin, self.window - self.hop - margin))
        return torch.stft(padded, self.window, self.hop, window=self._hann, center=False, return_complex=True) / self._hann.sum() * 2

    def _overlap_add(self, spectra: Tensor) -> Tensor:
        frames = torch.fft.irfft(spectra * self._hann.sum() / 2, self.window, dim=1) * self._hann[:, None]
        energy = self._hann.square()[:, None].expand(1, self.window, spectra.shape[2])
        length = spectra.shape[2] * self.hop
        total, weight = (self._fold(part)[:, self._margin : self._margin + length] for part in (frames, energy))
        return total / weight

    def _fold(self, frames: Tensor) -> Tensor:
        length = (frames.shape[2] - 1) * self.hop + self.window
        return F.fold(frames, (1, length), (1, self.window), stride=(1, self.hop))[:, 0, 0]

    @property
    def _hann(self) -> Tensor:
        return torch.hann_window(self.window)

    @property
    def _margin(self) -> int:
        return (self.window - self.hop) // 2


def mel_filters(sample_rate_hz: int, window: int, mels: int) -> Tensor:
    """Triangular filters (mels, window / 2 + 1), evenly spaced on the mel scale (HTK's formula), each of sum 1.

    A triangle narrower than the spacing of bins would miss them all: neighbours are taken at least one bin apart.
    """
    bins = torch.arange(window // 2 + 1, dtype=torch.float64) * sample_rate_hz / window
    highest = 2595 * math.log10(1 + sample_rate_hz / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, highest, mels + 2, dtype=torch.float64) / 2595) - 1)
    bin_width = sample_rate_hz / window
    below = (corners[1:-1] - corners[:-2]).clamp(min=bin_width)[:, None]
    above = (corners[2:] - corners[1:-1]).clamp(min=bin_width)[:, None]
    distance = bins[None] - corners[1:-1, None]
    triangles = torch.where(distance < 0, 1 + distance / below, 1 - distance / above).clamp(min=0)
    return (triangles / triangles.sum(1, keepdim=True)).float()
