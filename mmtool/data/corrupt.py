"""Regularisation of what is read, not of what is predicted: some levels of tables are hidden from the model in each step.

A few thousand rows are soon memorised; a model that never sees all values of a row at once has to use what rows share. Randomness
is an argument, so that an interrupted run goes on bit for bit.
"""

from dataclasses import replace

import numpy as np

from mmtool.data.layout import PADDING, VocabularyLayout
from mmtool.data.masking import AnyBatch, MaskedBatch


def drop_values(batch: AnyBatch, layout: VocabularyLayout, share: float, seed: int) -> AnyBatch:
    """The batch with this share of the inputs that are ordered levels replaced by padding; targets, their indices and masks stay."""
    if isinstance(batch, MaskedBatch):
        visible = drop_values(batch.visible, layout, share, seed)
        assert not isinstance(visible, MaskedBatch)
        return replace(batch, visible=visible)
    ordered = np.zeros(layout.size, bool)
    for index, modality in enumerate(layout.modalities):
        ordered[layout.first_code(index) : layout.first_code(index) + modality.ordered] = True
    hidden = ordered[batch.tokens] & (np.random.default_rng(seed).random(batch.tokens.shape) < share)
    return replace(batch, tokens=np.where(hidden, PADDING, batch.tokens))
