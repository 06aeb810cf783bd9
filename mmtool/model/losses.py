"""Cross entropy at target positions only, over the target modality's id range only, in chunks."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmtool.model.embedding import take_targets
from mmtool.model.transformer import Transformer

# Scores held at once (in fp32 128 MiB, on a GPU 2 GiB); a larger head is recomputed chunk by chunk in the backward.
CHUNK_LOGITS, GPU_CHUNK_LOGITS = 1 << 25, 1 << 29


def loss_sums(model: Transformer, hidden_BLD: Tensor, target_indices: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Sum of cross entropies (nats) of each modality, (M,), in fp32.

    target_indices[m] (N_m,) indexes the flattened hidden states, targets[m] (N_m,) is local to the modality's range, negative where
    padded. A modality without targets gives 0, so the caller divides once by the global number of targets.
    """
    hidden_ND = hidden_BLD.flatten(0, 1)
    sums = [
        _sum(model, take_targets(hidden_ND, indices, target), target, index)
        for index, (indices, target) in enumerate(zip(target_indices, targets, strict=True))
    ]
    return torch.stack(sums)


def _sum(model: Transformer, hidden_ND: Tensor, target_N: Tensor, index: int) -> Tensor:
    if not len(target_N):
        return hidden_ND.new_zeros((), dtype=torch.float32)
    start, stop = model.layout.target_range(index)
    rows = max(1, (GPU_CHUNK_LOGITS if hidden_ND.is_cuda else CHUNK_LOGITS) // (stop - start))
    if len(target_N) <= rows:
        return _cross_entropy(model, hidden_ND, target_N, index)
    chunks = zip(hidden_ND.split(rows), target_N.split(rows), strict=True)
    parts = [checkpoint(_cross_entropy, model, hidden, target, index, use_reentrant=False) for hidden, target in chunks]
    return torch.stack(parts).sum()


def _cross_entropy(model: Transformer, hidden_ND: Tensor, target_N: Tensor, index: int) -> Tensor:
    soft_NW = None if model.ordinal is None else model.ordinal.soft_targets(target_N, index)
    if soft_NW is not None:
        return F.cross_entropy(model.logits(hidden_ND, index), soft_NW, reduction="sum")
    return F.cross_entropy(model.logits(hidden_ND, index), target_N, ignore_index=-1, reduction="sum")
