"""Looking up rows, with gradients that a GPU sums in parallel and yet in a fixed order.

The gradient of a lookup adds up all positions that hold the same id. Where order is fixed, a GPU's scatter goes through them one after the
other, and there are tens of thousands of each modality's in a batch; torch's own gradient of an embedding sorts them and sums them in
parts, but `torch.compile` takes it apart into the former. Behind a custom operator it stays whole.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mmtool.model.patches import take_rows


class Embedding(nn.Embedding):
    """`nn.Embedding`, on a CPU and on a GPU."""

    def forward(self, index: Tensor) -> Tensor:
        return _Lookup.apply(self.weight, index) if index.is_cuda else super().forward(index)


def take_targets(states_ND: Tensor, indices: Tensor, targets: Tensor) -> Tensor:
    """States (T, D) at the flat indices, in ascending order, of a modality's targets, which are negative where padded (behind all others).
    Each is taken once, so that on a GPU the gradient is gathered as well."""
    if not states_ND.is_cuda or not len(indices):
        return states_ND[indices]
    ascending = torch.where(targets >= 0, indices, len(states_ND))
    every = torch.arange(len(states_ND), device=indices.device)
    place = torch.searchsorted(ascending, every).clamp(max=len(indices) - 1)
    return take_rows(states_ND, torch.where(targets >= 0, indices, -1), torch.where(ascending[place] == every, place, -1))


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight_VD: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = len(weight_VD)
        return weight_VD[index]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _embedding_gradient(gradient.contiguous(), ctx.saved_tensors[0], ctx.rows), None


@torch.library.custom_op("mmtool::embedding_gradient", mutates_args=())
def _embedding_gradient(gradient: Tensor, index: Tensor, rows: int) -> Tensor:
    return torch.ops.aten.embedding_dense_backward(gradient, index, rows, -1, False)


@_embedding_gradient.register_fake
def _(gradient: Tensor, index: Tensor, rows: int) -> Tensor:
    return gradient.new_empty(rows, gradient.shape[-1])
