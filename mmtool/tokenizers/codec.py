"""One learned convolutional codec for spectrograms and series (1-D), pictures (2-D) and videos (3-D): patches -> tokens -> patches.

    signal --strided patch convolution--> latent grid --residual blocks--> FSQ codes --residual blocks-->
    transposed patch convolution --two light convolutions across patch borders--> signal

The residual blocks let each token see its neighbours, so that codes are spent on what neighbours do not predict.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtool.common.bounds import Count
from mmtool.common.log import track
from mmtool.tokenizers.base import PositiveNumber
from mmtool.tokenizers.fsq import FSQ
from mmtool.tokenizers.muon import Muon, is_matrix

CODEC_SETTINGS = {
    "codebook": Count,
    "levels": list | tuple,
    "width": Count,
    "depth": Count,
    "steps": Count,
    "batch": Count,
    "learning_rate": PositiveNumber,
}
LEARNING_RATE = 4e-3
HELD_OUT = 0.1  # of the training values: never trained on, the report is measured there
WARM_UP = 0.05  # of all steps
CLIP_NORM = 1.0
WINDOW_TOKENS = 16  # of a training crop of what varies in length
CODE_BATCH = 16  # rows of equal length that are encoded together
MATRIX_RATE = 5.0  # Muon's rate is AdamW's times this: a step of Muon is measured by its spectral norm

Batch = tuple[Tensor, Tensor | None]  # signal (B, C, *size), mask of valid latents (B, 1, *grid) or None where all are


@dataclass(frozen=True)
class CodecShape:
    """Everything that decides the shapes of a codec's weights.

    channels: of the signal (colours, mel bands); patch: samples per token along each dimension (its length is 1, 2 or 3);
    levels: of FSQ; width: of the latents; depth: residual blocks on each side; detail: channels at full resolution.
    """

    channels: int
    patch: tuple[int, ...]
    levels: tuple[int, ...]
    width: int = 128
    depth: int = 2
    detail: int = 16

    def to_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "CodecShape":
        fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
        return cls(**fields)


class Codec(nn.Module):
    """Signal (B, C, *size) <-> codes (B, *grid), where size = grid x patch.

    A mask (B, 1, *grid) of ones and zeros marks the valid latents of a padded batch: what lies outside of it never reaches them.
    """

    def __init__(self, shape: CodecShape) -> None:
        super().__init__()
        self.shape = shape
        conv, transposed = _CONVOLUTIONS[len(shape.patch)]
        width, num_codes, fine = shape.width, len(shape.levels), shape.channels + shape.detail
        self.patchify = conv(shape.channels, width, shape.patch, stride=shape.patch)
        self.encoder = nn.ModuleList(Block(conv, width) for _ in range(shape.depth))
        self.to_latents = nn.Sequential(ChannelNorm(width), conv(width, num_codes, 1))
        self.fsq = FSQ(shape.levels)
        self.from_latents = conv(num_codes, width, 1)
        self.decoder = nn.ModuleList(Block(conv, width) for _ in range(shape.depth))
        self.unpatchify = nn.Sequential(ChannelNorm(width), transposed(width, fine, shape.patch, stride=shape.patch))
        self.smooth_in = conv(fine, shape.detail, 3, padding=1)
        self.smooth_out = conv(shape.detail, shape.channels, 3, padding=1)

    def forward(self, signal: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The signal as its codes hold it, and the codes."""
        values, codes = self.quantize(signal, mask)
        return self.reconstruct(values, mask), codes

    def quantize(self, signal: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        latents = self.patchify(signal)
        for block in self.encoder:
            latents = block(latents, mask)
        return self.fsq(self.to_latents(latents))

    def reconstruct(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        latents = self.from_latents(values)
        for block in self.decoder:
            latents = block(latents, mask)
        rough = self.unpatchify(latents)
        fine = None if mask is None else _stretch(mask, self.shape.patch)
        hidden = F.gelu(self.smooth_in(_masked(rough, fine)))
        return rough[:, : self.shape.channels] + self.smooth_out(_masked(hidden, fine))

    def encode(self, signal: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.quantize(signal, mask)[1]

    def decode(self, codes: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.reconstruct(self.fsq.codes_to_values(codes), mask)

    def tensors(self) -> dict[str, np.ndarray]:
        return {name: tensor.detach().numpy() for name, tensor in self.state_dict().items()}

    @classmethod
    def from_tensors(cls, shape: CodecShape, tensors: Mapping[str, np.ndarray]) -> "Codec":
        codec = cls(shape).eval()
        codec.load_state_dict({name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()})
        return codec


class Block(nn.Module):
    """Residual: norm, 3-wide convolution, GELU, pointwise convolution. Only the first sees neighbours, so only it needs the mask."""

    def __init__(self, conv: type[nn.Module], width: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(width)
        self.mix = conv(width, width, 3, padding=1)
        self.out = conv(width, width, 1)

    def forward(self, latents: Tensor, mask: Tensor | None) -> Tensor:
        return latents + self.out(F.gelu(self.mix(_masked(self.norm(latents), mask))))


class ChannelNorm(nn.Module):
    """RMS norm over channels, each position by itself: neither the batch nor padding can leak in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.float().square().mean(1, keepdim=True) + 1e-6)
        return x * (scale * self.weight.view(1, -1, *[1] * (x.dim() - 2))).to(x.dtype)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one core, then give the others back.

    Convolutions this small gain at most a quarter from a second core, and take ten times as long when another process holds it. Besides,
    how sums are rounded depends on the number of threads: with one, a codec and its codes are the same on any number of cores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def fit_codec(
    shape: CodecShape,
    draw: Callable[[torch.Generator], Batch],
    *,
    steps: int,
    seed: int,
    description: str,
    learning_rate: float = LEARNING_RATE,
) -> Codec:
    """Train a codec on batches from `draw` by mean squared error.

    Muon for weight matrices and AdamW for the rest, with warm-up and cosine decay.
    The result is a function of the data, the settings and the seed (on one machine).
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        codec = Codec(shape)
    optimizers = _optimizers(codec, learning_rate)
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps)) for optimizer in optimizers]
    for _ in track(range(steps), description):
        signal, mask = draw(generator)
        reconstruction, _ = codec(signal, mask)
        codec.zero_grad(set_to_none=True)
        squared_error(reconstruction, signal, mask).backward()
        nn.utils.clip_grad_norm_(codec.parameters(), CLIP_NORM)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
    return codec.eval()


def _optimizers(codec: Codec, learning_rate: float) -> list[torch.optim.Optimizer]:
    matrices = [parameter for parameter in codec.parameters() if is_matrix(parameter)]
    rest = [parameter for parameter in codec.parameters() if not is_matrix(parameter)]
    adam = torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.98), weight_decay=1e-4)
    return [*([Muon(matrices, lr=MATRIX_RATE * learning_rate)] if matrices else []), adam]


def hold_out(num_values: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the values to train on, and of those to report on (the same where there is one value only)."""
    order = torch.randperm(num_values, generator=torch.Generator().manual_seed(seed))
    num_held = max(1, round(HELD_OUT * num_values))
    return (order[num_held:] if num_values > 1 else order), order[:num_held]


@one_thread()
@torch.no_grad()
def in_batches(run: Callable[[Tensor], Tensor], rows: Tensor, size: int) -> Tensor:
    """`run` on batches of exactly `size` rows, the last one filled up with zeros.

    How a convolution rounds depends on the shape of its batch: with one shape, the outcome of a row never depends on its neighbours.
    """
    filled = (F.pad(part, (0, 0) * (part.dim() - 1) + (0, size - len(part))) for part in rows.split(size))
    return torch.cat([run(part) for part in filled])[: len(rows)]


def crops(signals: Sequence[Tensor], patch: int, batch: int) -> Callable[[torch.Generator], Batch]:
    """Draws batches of crops (batch, C, T) of signals (C, frames), WINDOW_TOKENS tokens at most, shorter ones masked, none of them cut
    inside a token of `patch` frames."""
    tokens = min(WINDOW_TOKENS, max(signal.shape[1] for signal in signals) // patch)
    wide = tokens * patch

    def draw(generator: torch.Generator) -> Batch:
        crop, mask = torch.zeros(batch, signals[0].shape[0], wide), torch.zeros(batch, 1, tokens)
        chosen = torch.randint(len(signals), (batch,), generator=generator).tolist()
        indices = torch.rand(batch, generator=generator).tolist()
        for row, (i, index) in enumerate(zip(chosen, indices, strict=True)):
            signal = signals[i]
            start = min(int(index * (max(0, signal.shape[1] - wide) + patch)), signal.shape[1] - patch)
            size = min(wide, (signal.shape[1] - start) // patch * patch)
            crop[row, :, :size] = signal[:, start : start + size]
            mask[row, :, : size // patch] = 1
        return crop, mask

    return draw


def by_length(run: Callable[[Tensor], Tensor], rows: Sequence[Tensor]) -> list[Tensor]:
    """`run` on rows of equal length (the last dimension) together, so that nothing is padded; empty rows give nothing."""
    results = [torch.zeros(0)] * len(rows)
    for length in sorted({row.shape[-1] for row in rows} - {0}):
        indices = [i for i, row in enumerate(rows) if row.shape[-1] == length]
        outputs = in_batches(run, torch.stack([rows[i] for i in indices]), CODE_BATCH)
        for i, result in zip(indices, outputs, strict=True):
            results[i] = result
    return results


def squared_error(reconstruction: Tensor, signal: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over valid elements."""
    error = (reconstruction.float() - signal) ** 2
    if mask is None:
        return error.mean()
    weights = _stretch(mask, tuple(full // cells for full, cells in zip(signal.shape[2:], mask.shape[2:], strict=True)))
    return (error * weights).sum() / (weights.sum() * signal.shape[1])


def _rate(step: int, steps: int) -> float:
    warm_up = max(1, round(steps * WARM_UP))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def _masked(x: Tensor, mask: Tensor | None) -> Tensor:
    return x if mask is None else x * mask.to(x.dtype)


def _stretch(mask: Tensor, patch: Sequence[int]) -> Tensor:
    for dimension, factor in enumerate(patch, 2):
        mask = mask.repeat_interleave(factor, dimension)
    return mask


_CONVOLUTIONS: dict[int, tuple[Any, Any]] = {
    1: (nn.Conv1d, nn.ConvTranspose1d),
    2: (nn.Conv2d, nn.ConvTranspose2d),
    3: (nn.Conv3d, nn.ConvTranspose3d),
}
