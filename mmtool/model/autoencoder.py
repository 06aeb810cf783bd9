"""A masked autoencoder of the shared blocks: the transformer encodes visible tokens, a lighter one completes the document.

B encoder rows, L their length, D width; C decoder rows, T their length, E decoder width; N targets, W values of a patch.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtool.data.layout import VocabularyLayout
from mmtool.model.embedding import Embedding
from mmtool.model.inputs import MaskedInputs, Rows
from mmtool.model.patches import FixedPositions, Patches, take_rows
from mmtool.model.transformer import Block, Linear, RMSNorm, Shape, Transformer, num_slots

DECODER_POSITION_SCALE = 1.0  # hidden tokens are alike but for their positions: with 0.3, texts wholly hidden came out in disorder
PIXEL_NORM = 1e-2  # added to the variance of a patch that is normalised


class MaskedAutoencoder(Transformer):
    """The encoder is the transformer itself: tokens of CLS and what is visible in, hidden states out.

    `complete` gives a state for every token of the documents, hidden ones included; `logits` and `patch_outputs` read them.
    `length_logits` predicts from the encoder's CLS how many tokens a modality has. norm_pix: patches are predicted less their mean and
    divided by their deviation, and these two beside them.
    """

    def __init__(self, shape: Shape, layout: VocabularyLayout, decoder: Shape, norm_pix: bool = False) -> None:
        super().__init__(shape, layout)
        kinds = len(layout.modalities) + 1  # CLS has a type of its own
        self.norm_pix, self.decoder_shape, self.ordinal = norm_pix, decoder, None
        self.modality_embedding = Embedding(kinds, shape.width)
        self.narrow = Linear(shape.width, decoder.width, bias=decoder.bias)
        self.mask_embedding = Embedding(kinds, decoder.width)
        self.decoder_type_embedding = Embedding(kinds, decoder.width)
        self.decoder_slot_embedding = Embedding(num_slots(layout), decoder.width)
        self.decoder_fixed = FixedPositions(layout, decoder.width, DECODER_POSITION_SCALE) if decoder.positions != "rotary" else None
        self.decoder_blocks = nn.ModuleList(Block(decoder) for _ in range(decoder.depth))
        self.decoder_norm = RMSNorm(decoder.width)
        self.head = nn.Parameter(torch.empty(layout.size, decoder.width))
        self.patch_heads, self.length_heads = nn.ModuleDict(), nn.ModuleDict()
        for index, modality in enumerate(layout.modalities):
            if modality.continuous:
                self.patch_heads[f"m{index}"] = Linear(decoder.width, modality.patch_width + 2 * norm_pix)
            if not modality.fixed_length:
                self.length_heads[f"m{index}"] = Linear(shape.width, modality.max_length + 1)

    def states(self, given: MaskedInputs) -> tuple[Tensor, Tensor]:
        """States of the encoder (B, L, D), and of the decoder, flat (C T, E)."""
        hidden = self.encode(given.visible, given.patches)
        return hidden, self.complete(hidden, given.whole, given.ids_restore, given.ids_keep).flatten(0, 1)

    def encode(self, visible: Rows, patches: Sequence[Patches]) -> Tensor:
        """(B, L, D) states of what is visible, after the final norm."""
        return self(*visible, patches=patches)

    def complete(self, hidden_BLD: Tensor, whole: Rows, ids_restore_CT: Tensor, ids_keep_BL: Tensor) -> Tensor:
        """(C, T, E) states of every token of the documents; ids_restore, ids_keep: see `MaskedBatch`."""
        encoded = take_rows(self.narrow(hidden_BLD).flatten(0, 1), ids_restore_CT.flatten(), ids_keep_BL.flatten())
        masks = self.mask_embedding(whole.modality) * (ids_restore_CT < 0)[..., None]
        x = masks + self.decoder_type_embedding(whole.modality) + self.decoder_slot_embedding(whole.slot)
        if self.decoder_fixed is not None:
            x = x + self.decoder_fixed(whole.position)
        x = encoded.view(*ids_restore_CT.shape, -1) + x.to(self.compute_dtype)
        cos_sin = self.decoder_shape.cos_sin(whole.position, x.dtype)
        for block in self.decoder_blocks:
            x = self._run(block, x, cos_sin, whole.mask, None)
        return self.decoder_norm(x)

    def patch_outputs(self, states_NE: Tensor, index: int) -> Tensor:
        """(N, W) in fp32, or (N, W + 2) with `norm_pix`: standardised values, or normalised ones, their mean and deviation."""
        return self.patch_heads[f"m{index}"](states_NE).float()

    def patch_errors(self, states_NE: Tensor, index: int, values_NW: Tensor) -> Tensor:
        """(N,) mean squared errors of predicted patches."""
        assert self.patches is not None
        true, predicted = self.patches.standard(index, values_NW), self.patch_outputs(states_NE, index)
        if not self.norm_pix:
            return (predicted - true).square().mean(-1)
        mean, deviation = true.mean(-1, keepdim=True), (true.var(-1, keepdim=True, correction=0) + PIXEL_NORM).sqrt()
        wanted = torch.cat(((true - mean) / deviation, mean, deviation), -1)
        errors = (predicted - wanted).square()
        return errors[:, :-2].mean(-1) + errors[:, -2:].sum(-1)

    def patch_values(self, states_NE: Tensor, index: int) -> Tensor:
        """(N, W) uint8 patches as predicted."""
        assert self.patches is not None
        predicted = self.patch_outputs(states_NE, index)
        if self.norm_pix:
            predicted = predicted[:, :-2] * predicted[:, -1:].clamp(min=0) + predicted[:, -2:-1]
        return self.patches.raw(index, predicted)

    def length_logits(self, cls_ND: Tensor, index: int) -> Tensor:
        """(N, longest + 1) scores of the number of tokens of modality `index`, in fp32."""
        return self.length_heads[f"m{index}"](cls_ND).float()

    def init_weights(self, generator: torch.Generator) -> None:
        """As every transformer; a patch enters about as large as its position, whatever its width."""
        super().init_weights(generator)
        if self.patches is not None:
            linear: Any
            for linear in self.patches.linears.values():
                nn.init.normal_(linear.weight, std=0.2 / math.sqrt(linear.in_features), generator=generator)

    def batch_flops(self, batch: Any) -> int:
        """6 per weight and token that meets it, plus attention: the encoder meets visible tokens only."""
        visible, whole = batch.visible, batch.whole
        inner, outer = (
            6 * sum(p.numel() for p in blocks.parameters() if p.ndim == 2) + 12 * shape.depth * shape.width * rows.tokens.shape[1]
            for blocks, shape, rows in ((self.blocks, self.shape, visible), (self.decoder_blocks, self.decoder_shape, whole))
        )
        heads = 6 * sum(
            int(count) * self.decoder_shape.width * (modality.patch_width or modality.vocabulary_size)
            for count, modality in zip(batch.num_targets, self.layout.modalities, strict=False)
        )
        return visible.num_tokens * inner + whole.num_tokens * outer + heads


def cross_entropies(scores_NW: Tensor, target_N: Tensor) -> Tensor:
    """Sum over valid targets, in nats."""
    return F.cross_entropy(scores_NW, target_N, ignore_index=-1, reduction="sum")
