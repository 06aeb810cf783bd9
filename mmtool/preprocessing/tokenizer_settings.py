"""The settings of new tokenizers that have options."""

from dataclasses import dataclass
from typing import Annotated

from mmtool.common.options import Option

TOKENIZER = "Tokenizer"  # panel of the help


@dataclass(frozen=True)
class TokenizerSettings:
    """Those that most often matter. A tokenizer has its part of them, and others, which `--set` takes; None: as it is usual there."""

    size: Annotated[int | None, Option(panel=TOKENIZER)] = None
    """Side of an image in pixels."""
    patch: Annotated[int | None, Option(panel=TOKENIZER)] = None
    """Pixels or frames that become one token."""
    codebook: Annotated[int | None, Option(panel=TOKENIZER)] = None
    """Codes of a learned codec."""
    sample_rate_hz: Annotated[int | None, Option(panel=TOKENIZER)] = None
    """Of recordings."""
    vocabulary_size: Annotated[int | None, Option(panel=TOKENIZER)] = None
    """Pieces of a text."""
    n_bins: Annotated[int | None, Option(panel=TOKENIZER)] = None
    """Bins of a feature (table) or stream (trajectory; item ids need one each), or levels of a component."""
