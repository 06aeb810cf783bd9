"""What enters a transformer beside codes: patches of continuous modalities, and fixed positions."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmtool.data.layout import VocabularyLayout
from mmtool.model.attention import axis_shares

POSITION_SCALE = 0.3  # of sines and cosines that are added to embeddings
LONGEST_WAVELENGTH = 10_000.0


class Patches(NamedTuple):
    """Patches of one continuous modality (its index). values: (N, W) uint8; indices: (N,) flat index of the token of
    each, -1 where padded."""

    modality: int
    values: Tensor
    indices: Tensor


def has_patches(layout: VocabularyLayout) -> bool:
    return any(modality.continuous for modality in layout.modalities)


class PatchEmbedding(nn.Module):
    """A linear layer per continuous modality on standardised patches: their mean of each value subtracted, divided by one deviation.

    `fit` sets mean and deviation from training patches; they are kept with the weights.
    """

    def __init__(self, layout: VocabularyLayout, width: int) -> None:
        super().__init__()
        self.layout = layout
        self.linears = nn.ModuleDict()
        for index, modality in enumerate(layout.modalities):
            if modality.continuous:
                self.linears[f"m{index}"] = nn.Linear(modality.patch_width, width)
                self.register_buffer(f"mean{index}", torch.full((modality.patch_width,), 127.5))
                self.register_buffer(f"scale{index}", torch.tensor(64.0))

    def fit(self, index: int, values_NW: Tensor) -> None:
        """Take mean and deviation from (N, W) uint8 patches of modality `index`."""
        values = values_NW.double()
        mean = values.mean(0)
        self._buffer("mean", index).copy_(mean)
        self._buffer("scale", index).copy_((values - mean).square().mean().sqrt().clamp(min=1.0))

    def standard(self, index: int, values_NW: Tensor) -> Tensor:
        """uint8 values -> fp32 of about mean 0 and variance 1."""
        return (values_NW.float() - self._buffer("mean", index)) / self._buffer("scale", index)

    def raw(self, index: int, standard_NW: Tensor) -> Tensor:
        """The inverse of `standard`, as uint8."""
        values = standard_NW.float() * self._buffer("scale", index) + self._buffer("mean", index)
        return values.round().clamp(0, 255).to(torch.uint8)

    def forward(self, tokens_BL: Tensor, patches: Any, dtype: torch.dtype) -> Tensor:
        """(B, L, D): the embedding of every patch at its token, 0 elsewhere."""
        tokens, total = tokens_BL.flatten(), None
        for index, values, indices in patches:
            content = self.content(index, values, dtype)
            is_patch = tokens == self.layout.patch_id(index)
            placed = take_rows(content, torch.where(is_patch, is_patch.cumsum(0) - 1, -1), indices)
            total = placed if total is None else total + placed
        assert total is not None
        return total.view(*tokens_BL.shape, -1)

    def content(self, index: int, values: Tensor, dtype: torch.dtype) -> Tensor:
        """(..., D) embeddings of patches (..., W) of modality `index`."""
        linear: Any = self.linears[f"m{index}"]
        return nn.functional.linear(self.standard(index, values).to(dtype), linear.weight.to(dtype), linear.bias.to(dtype))

    def _buffer(self, name: str, index: int) -> Tensor:
        return getattr(self, f"{name}{index}")


class FixedPositions(nn.Module):
    """Sines and cosines of the position, times `scale`, each axis of the grid in its share of the width (on a line all axes carry the same
    position); nothing is added at position 0, where members of a set are."""

    table: Tensor

    def __init__(self, layout: VocabularyLayout, width: int, scale: float) -> None:
        super().__init__()
        length = 2 + max((modality.max_length for modality in layout.modalities), default=0)
        shares, waves = axis_shares(width // 2, layout.axes), []
        for count in shares:
            angles = torch.arange(length)[:, None] * LONGEST_WAVELENGTH ** (-torch.arange(count) / count)
            waves += [angles.sin(), angles.cos()]
        self._widths = [2 * count for count in shares]
        self.register_buffer("table", scale * (torch.cat(waves, 1) - torch.cat(waves, 1)[0]), persistent=False)

    def forward(self, position_BLA: Tensor) -> Tensor:
        """(B, L, D)."""
        place = position_BLA.clamp(max=len(self.table) - 1)
        return torch.cat([waves[place[..., axis]] for axis, waves in enumerate(self.table.split(self._widths, 1))], -1)


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, index_S: Tensor, inverse_N: Tensor) -> Tensor:
        ctx.save_for_backward(inverse_N)
        return _gathered(x_ND, index_S)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _gathered(gradient, ctx.saved_tensors[0]), None, None


def take_rows(x_ND: Tensor, index_S: Tensor, inverse_N: Tensor) -> Tensor:
    """(S, D): row index[s] of x, or 0 where index is -1. inverse: the index of each row of x in the result, -1 where it is not taken.

    Each row is taken once at most, so the gradient is gathered as well: no scatter, whose order would have to be fixed.
    """
    return _TakeRows.apply(x_ND, index_S, inverse_N)


def _gathered(x_ND: Tensor, index_S: Tensor) -> Tensor:
    return x_ND[index_S.clamp(min=0)] * (index_S >= 0)[:, None]
