"""The settings of M3AE (see m3ae.py)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmtool.common.bounds import Count, Natural, NotNegative, Share


@dataclass(frozen=True)
class M3AEOptions:
    """Settings of the masked autoencoder."""

    mask_ratio: Share = 0.75
    """Share of tokens hidden in every modality."""
    mask_ratios: Mapping[str, Share] = field(default_factory=dict)
    """The same of single modalities (`method.mask_ratios.text=0.5`)."""
    hide_share: Share = 0.2
    """Share of samples of several modalities in which one of them is hidden whole, as when it is imputed (the paper: 0)."""
    norm_pix: bool = False
    """Patches are predicted less their mean, divided by their deviation."""
    continuous_weight: NotNegative = 1.0
    """Of the losses of patches."""
    discrete_weight: NotNegative = 0.5
    """Of the losses of codes."""
    weights: Mapping[str, NotNegative] = field(default_factory=dict)
    """Of the losses of single modalities (`method.weights.text=0.5`)."""
    length_weight: NotNegative = 0.1
    """Of predicting how many tokens a modality of varying length has."""
    decoder_depth: Natural = 0
    """Blocks of the decoder; 0: the paper's 8, and fewer for encoders narrower than 384."""
    decoder_width: Natural = 0
    """Width of the decoder; 0: the paper's 512, and less for encoders narrower than 384."""
    decode_steps: Count = 8
    """Passes of iterative decoding (see `masked`)."""
    confidence_noise: NotNegative = 1.0
    """Gumbel noise on the confidences of early passes (see `masked`)."""
