"""Packed batches as the tensors that models read."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmtool.data.masking import MaskedBatch
from mmtool.data.packing import Batch
from mmtool.data.sequence import NO_TARGET
from mmtool.model.masks import MakeMask, Mask, attention_mask
from mmtool.model.patches import Patches


class Rows(NamedTuple):
    """Packed rows (R, L) as a transformer reads them; mask: (R, 1, L, L) or of blocks, within documents."""

    tokens: Tensor
    modality: Tensor
    slot: Tensor
    position: Tensor
    mask: Mask


class Targets(NamedTuple):
    """What is hidden of one modality: flat indices in the decoder's rows, local codes (or 0) with NO_TARGET where padded, patches or
    None."""

    indices: Tensor
    codes: Tensor
    values: Tensor | None


class MaskedInputs(NamedTuple):
    """A `MaskedBatch`: what the encoder sees, what the decoder completes and how they correspond, what is to be predicted."""

    visible: Rows
    patches: list[Patches]
    whole: Rows
    ids_restore: Tensor
    ids_keep: Tensor
    targets: list[Targets]
    cls: Tensor
    lengths: Tensor


def masked_inputs(batch: MaskedBatch, device: torch.device, make_mask: MakeMask = attention_mask) -> MaskedInputs:
    """The batch on a device; masks are built here, outside the compiled step."""
    seen, whole = batch.visible, batch.whole
    patches, targets = [], []
    for index, values in seen.values.items():
        if len(values):
            indices = np.where(seen.targets[index] == NO_TARGET, -1, seen.target_indices[index])
            patches.append(Patches(index, to_device(values, device), to_device(indices, device)))
    for index, (indices, codes) in enumerate(zip(whole.target_indices, whole.targets, strict=True)):
        hidden_values = to_device(whole.values[index], device) if index in whole.values else None
        targets.append(Targets(to_device(indices, device), to_device(codes, device), hidden_values))
    shaped = (batch.ids_restore.reshape(whole.tokens.shape), batch.ids_keep.reshape(seen.tokens.shape))
    ids_restore, ids_keep, cls, lengths = (to_device(array, device) for array in (*shaped, batch.cls, batch.lengths))
    rows = _rows(seen, device, make_mask), _rows(whole, device, make_mask)
    return MaskedInputs(rows[0], patches, rows[1], ids_restore, ids_keep, targets, cls, lengths)


def _rows(part: Batch, device: torch.device, make_mask: MakeMask) -> Rows:
    arrays = (part.tokens, part.modality, part.slot, part.position, part.document)
    tokens, modality, slot, position, document = (to_device(array, device) for array in arrays)
    return Rows(tokens, modality, slot, position, make_mask(document, modality, "document"))


def to_device(array: np.ndarray, device: torch.device) -> Tensor:
    """The array as a tensor there; the copy to a GPU does not wait."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def document_means(hidden_LD: Tensor, rows: Batch, skipped: int) -> Tensor:
    """(N, D) mean of the states of each document, without those of the token `skipped`; L counts over all rows."""
    starts, size = rows.starts, rows.tokens.size
    order = np.argsort(starts)
    owner = order[np.searchsorted(starts[order], np.arange(size), side="right") - 1]
    real = (rows.document.reshape(-1) > 0) & (rows.tokens.reshape(-1) != skipped)
    shares = (owner == np.arange(len(starts))[:, None]) & real
    shares = shares / np.maximum(shares.sum(1, keepdims=True), 1)
    return to_device(shares.astype(np.float32), hidden_LD.device) @ hidden_LD
