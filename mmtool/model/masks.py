"""Who may look at whom: masks are built once per batch, outside the compiled step."""

import torch
from torch import Tensor


def document_mask(document_BL: Tensor, *, causal: bool) -> Tensor:
    """(B, 1, L, L) bool: within the own document, and, when causal, not ahead. Padding (document 0) sees padding only."""
    same = document_BL[:, :, None] == document_BL[:, None, :]
    if causal:
        length = document_BL.shape[1]
        same &= torch.ones(length, length, dtype=torch.bool, device=document_BL.device).tril()
    return same[:, None]
