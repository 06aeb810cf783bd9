"""Predictors of absent embeddings: from what is read of any present modalities to the standardised embedding of any other one.

All take reading[m] (B, P, W_m) and sources (B, M, M), which says from which modalities (last axis) each one is predicted, and give one
(B, W_m) for each modality; rows without a source are defined but mean nothing.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS = 4
LAYERS = 2


class MLPPredictor(nn.Module):
    """Two layers: every source is read into one inner vector, their mean goes through GELU and is written per target.

    With two modalities this is the MLP on concatenated prompt outputs; with more, inner vectors are shared between targets, so that the
    number of weights grows with the modalities and not with their pairs.
    """

    def __init__(self, widths: Sequence[int], num_prompts: int, width: int) -> None:
        super().__init__()
        self.read = nn.ModuleList(nn.Linear(num_prompts * outer, width) for outer in widths)
        self.write = nn.ModuleList(nn.Linear(width, outer) for outer in widths)

    def forward(self, reading: Sequence[Tensor], sources: Tensor) -> list[Tensor]:
        inner = torch.stack([read(states.flatten(1)) for read, states in zip(self.read, reading, strict=True)], dim=1)
        share = sources / sources.sum(-1, keepdim=True).clamp(min=1)
        hidden = self.between(share @ inner)
        return [write(hidden[:, m]) for m, write in enumerate(self.write)]

    def between(self, inner: Tensor) -> Tensor:
        return F.gelu(inner)


class LinearPredictor(MLPPredictor):
    """A linear map whose rank is the inner width."""

    def between(self, inner: Tensor) -> Tensor:
        return inner


class TransformerPredictor(nn.Module):
    """A learned query per target beside the projected outputs of its sources, two blocks, and the query's state is written."""

    def __init__(self, widths: Sequence[int], num_prompts: int, width: int) -> None:
        super().__init__()
        self.read = nn.ModuleList(nn.Linear(outer, width) for outer in widths)
        self.write = nn.ModuleList(nn.Linear(width, outer) for outer in widths)
        self.kind = nn.Parameter(0.02 * torch.randn(len(widths), width))
        self.query = nn.Parameter(0.02 * torch.randn(len(widths), width))
        block = nn.TransformerEncoderLayer(width, HEADS, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, LAYERS, norm=nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, reading: Sequence[Tensor], sources: Tensor) -> list[Tensor]:
        parts = [read(states) + kind for read, states, kind in zip(self.read, reading, self.kind, strict=True)]
        tokens, length = torch.cat(parts, dim=1), parts[0].shape[1]
        predicted = []
        for m, write in enumerate(self.write):
            hidden = (~sources[:, m]).repeat_interleave(length, dim=1)
            row = torch.cat((self.query[m].expand(len(tokens), 1, -1), tokens), dim=1)
            state = self.blocks(row, src_key_padding_mask=F.pad(hidden, (1, 0), value=False))
            predicted.append(write(state[:, 0]))
        return predicted


PREDICTORS: dict[str, type[nn.Module]] = {"mlp": MLPPredictor, "linear": LinearPredictor, "transformer": TransformerPredictor}
