"""Packed batches as the tensors that models read."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmtool.data.masking import MaskedBatch
from mmtool.data.packing import Batch
from mmtool.data.sequence import NO_TARGET
from mmtool.model.masks import attention_mask
from mmtool.model.patches import Patches


class Rows(NamedTuple):
    """Packed rows (R, L) as a transformer reads them; mask: (R, 1, L, L), within documents."""

    tokens: Tensor
    modality: Tensor
    slot: Tensor
    position: Tensor
    mask: Tensor


class Targets(NamedTuple):
    """What is hidden of one modality: places in the decoder's rows, local codes (or 0) with NO_TARGET where padded, patches or None."""

    places: Tensor
    codes: Tensor
    values: Tensor | None


class MaskedInputs(NamedTuple):
    """A `MaskedBatch`: what the encoder sees, what the decoder completes and how they correspond, what is to be told."""

    visible: Rows
    patches: list[Patches]
    whole: Rows
    origin: Tensor
    home: Tensor
    targets: list[Targets]
    cls: Tensor
    lengths: Tensor


def masked_inputs(batch: MaskedBatch, device: torch.device) -> MaskedInputs:
    """The batch on a device; masks are built here, outside the compiled step."""
    seen, whole = batch.visible, batch.whole
    patches, targets = [], []
    for index, values in seen.values.items():
        if len(values):
            home = np.where(seen.targets[index] == NO_TARGET, -1, seen.places[index])
            patches.append(Patches(index, to_device(values, device), to_device(home, device)))
    for index, (places, codes) in enumerate(zip(whole.places, whole.targets, strict=True)):
        told = to_device(whole.values[index], device) if index in whole.values else None
        targets.append(Targets(to_device(places, device), to_device(codes, device), told))
    shaped = (batch.origin.reshape(whole.tokens.shape), batch.home.reshape(seen.tokens.shape))
    origin, back, cls, lengths = (to_device(array, device) for array in (*shaped, batch.cls, batch.lengths))
    return MaskedInputs(_rows(seen, device), patches, _rows(whole, device), origin, back, targets, cls, lengths)


def _rows(part: Batch, device: torch.device) -> Rows:
    arrays = (part.tokens, part.modality, part.slot, part.position, part.document)
    tokens, modality, slot, position, document = (to_device(array, device) for array in arrays)
    return Rows(tokens, modality, slot, position, attention_mask(document, modality, "document"))


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
