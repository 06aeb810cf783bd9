"""Who attends to whom: masks are built once per batch, outside the compiled step."""

from typing import Literal

import torch
from torch import Tensor

View = Literal["past", "document", "segment"]


def attention_mask(document_BL: Tensor, modality_BL: Tensor, view: View) -> Tensor:
    """(B, 1, L, L) bool: who attends to whom. Padding (document 0) sees padding only.

    past: what came before in the same document (causal). document: all of it. segment: all of the same segment, so that a
    document is encoded modality by modality.
    """
    same = document_BL[:, :, None] == document_BL[:, None, :]
    if view == "past":
        length = document_BL.shape[1]
        same &= torch.ones(length, length, dtype=torch.bool, device=document_BL.device).tril()
    if view == "segment":
        same &= modality_BL[:, :, None] == modality_BL[:, None, :]
    return same[:, None]
