"""Values of ordered codes, on their way into and out of the transformer.

Levels of a quantity are neighbours; as mere names a model would have to learn that from data, which a few thousand rows of a table
hardly suffice for. So each position of such a segment has a
direction along which its value is added to the input, and one along which the output moves the scores of all levels together: a linear
regression between two segments is then one averaging attention away, and what the blocks add is what is not linear.
"""

import math
from statistics import NormalDist

import torch
from torch import Tensor, nn

from mmtool.data.layout import VocabularyLayout
from mmtool.model.bridge import ValueBridge

SMOOTHED = 3  # smooth functions of the value that the scores of a modality's levels share


class OrdinalPath(nn.Module):
    """values_in, values_out: (slots, D), one direction per position. curves: (SMOOTHED, D), scores as smooth functions of the value.

    smoothing: targets are spread over neighbouring levels by a normal distribution this wide, in standard deviations of the quantity.
    """

    token_value: Tensor
    basis: Tensor

    def __init__(self, layout: VocabularyLayout, width: int, num_slots: int) -> None:
        super().__init__()
        self.layout, self.smoothing = layout, 0.0
        values, basis = _tables(layout)
        self.register_buffer("token_value", values, persistent=False)
        self.register_buffer("basis", basis, persistent=False)
        self.values_in_embedding = nn.Parameter(torch.empty(num_slots, width))
        self.values_out_embedding = nn.Parameter(torch.empty(num_slots, width))
        self.curves_embedding = nn.Parameter(torch.empty(SMOOTHED, width))
        self.bridge = ValueBridge(layout, num_slots)

    def init_weights(self, generator: torch.Generator) -> None:
        """Inputs as large as those of tokens; outputs shared by all positions at first."""
        width = self.curves_embedding.shape[1]
        nn.init.normal_(self.curves_embedding, std=0.25 / math.sqrt(width), generator=generator)
        nn.init.normal_(self.values_in_embedding, std=0.02, generator=generator)
        nn.init.zeros_(self.values_out_embedding)
        nn.init.zeros_(self.bridge.weights_embedding)

    def embed(self, tokens_BL: Tensor, slot_BL: Tensor) -> Tensor:
        """(B, L, D): the value of each token along the direction of its position; 0 for tokens without one."""
        return self.token_value[tokens_BL][..., None] * self.values_in_embedding[slot_BL]

    def read(self, hidden_BLD: Tensor, slot_BL: Tensor, token_BS: Tensor, slot_BS: Tensor, mask: Tensor) -> Tensor:
        """Hidden states, moved along the first curve (the value itself) by what each position reads from them, and from the values of the
        S tokens it attends to: so much is added to the slope of the scores over the value."""
        along = (hidden_BLD * self.values_out_embedding[slot_BL].to(hidden_BLD.dtype)).sum(-1)
        bridged = self.bridge(slot_BL, self.token_value[token_BS], slot_BS, mask)
        along = (along + bridged.to(along.dtype))[..., None]
        curve = self.curves_embedding[0]
        return hidden_BLD + along * (curve / curve.square().sum().clamp(min=1e-4)).to(hidden_BLD.dtype)

    def soft_targets(self, target_N: Tensor, index: int) -> Tensor | None:
        """(N, W) target distributions of modality `index` for local targets, all 0 where padded; None where targets stay single codes."""
        start, stop = self.layout.target_range(index)
        count = self.layout.modalities[index].ordered
        if not self.smoothing or not count:
            return None
        value = self.token_value[start + 1 : start + 1 + count]
        near = torch.softmax(-((value[:, None] - value) ** 2) / (2 * self.smoothing**2), -1)
        kernel = torch.eye(stop - start, device=near.device)
        kernel[1 : 1 + count, 1 : 1 + count] = near
        return kernel[target_N.clamp(min=0)] * (target_N >= 0)[:, None]

    def head(self, start: int, stop: int) -> Tensor:
        """(stop - start, D): what is added to the rows of the head."""
        return self.basis[start:stop] @ self.curves_embedding


def has_ordered(layout: VocabularyLayout) -> bool:
    return any(modality.ordered for modality in layout.modalities)


def level_values(count: int) -> list[float]:
    """Values of `count` levels of least squared error for a quantity of mean 0 and variance 1 (Panter and Dite 1951)."""
    wide = NormalDist(0, math.sqrt(3))
    return [wide.inv_cdf((i + 0.5) / count) for i in range(count)]


def _tables(layout: VocabularyLayout) -> tuple[Tensor, Tensor]:
    """(V,) value of every id and (V, SMOOTHED) smooth functions of it: v, v^2 - 1 and (v^3 - 3 v) / 6, scaled to a similar size."""
    values, ordered = torch.zeros(layout.size), torch.zeros(layout.size, dtype=torch.bool)
    for index, modality in enumerate(layout.modalities):
        first = layout.first_code(index)
        values[first : first + modality.ordered] = torch.tensor(level_values(modality.ordered) if modality.ordered else [])
        ordered[first : first + modality.ordered] = True
    basis = torch.stack([values, (values**2 - 1) / 2, (values**3 - 3 * values) / 6], 1)
    return values, basis * ordered[:, None]
