"""Who attends to whom: masks are built once per batch, outside the compiled step."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

View = Literal["past", "document", "segment"]
Mask = Tensor | BlockMask
MakeMask = Callable[[Tensor, Tensor, View], Mask]

SHORT_ROW = 256  # two blocks of flex attention


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


def block_mask(document_BL: Tensor, modality_BL: Tensor, view: View) -> BlockMask:
    """The same for flex attention (Dong et al. 2024, arXiv 2412.05496), which skips blocks in which nobody sees anybody: other documents
    of a row cost nothing."""
    document, modality = document_BL.int(), modality_BL.int()

    def visible(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = document[row, query] == document[row, key]
        if view == "past":
            same = same & (query >= key)
        if view == "segment":
            same = same & (modality[row, query] == modality[row, key])
        return same

    batch, length = document.shape
    return create_block_mask(visible, batch, None, length, length, device=str(document.device))


def gpu_mask(document_BL: Tensor, modality_BL: Tensor, view: View) -> Mask:
    """The same for compiled steps on a GPU: of blocks where rows are long enough to gain by it."""
    make_mask = block_mask if document_BL.shape[1] > SHORT_ROW else attention_mask
    return make_mask(document_BL, modality_BL, view)
