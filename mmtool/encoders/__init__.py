"""Frozen encoders of one modality behind one interface (`mmtool.model.encoder.Encoder`), by where they come from.

A run of this toolkit, or a local directory in Hugging Face format. Nothing is downloaded and no code of a model directory is run.
"""

from mmtool.encoders.open import open_encoder, training_items_of
from mmtool.model.encoder import Encoded, Encoder, Inputs, Pool, Tuning

__all__ = ["Encoded", "Encoder", "Inputs", "Pool", "Tuning", "open_encoder", "training_items_of"]
