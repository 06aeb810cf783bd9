"""Imputations as values, for Python."""

from dataclasses import dataclass
from typing import Any

from mmtool.imputation.imputer import Imputation
from mmtool.imputation.probability import ProbabilityCurve
from mmtool.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class Imputed:
    """Draws of one missing modality of one sample, the best first.

    values: decoded, one per draw: images (H, W, C) uint8, recordings (T,) float32 in [-1, 1], texts as str, table rows (F,) float32, in
    which categories, levels and dates are numbers (`mmtool.tokenizers.column_types`; `mmtool.imputation.frames.as_frame` reads them),
    trajectories as streams by name. log_likelihood: mean nats per token of each draw. consistency: mean nats per token of the given
    modalities under each draw (by a chain, see `ChainedImputer.impute`), None where it was not asked for or nothing given has a
    likelihood. probability: that each draw is right, None without a calibration that tells it. through: what was drawn on the way.
    """

    key: str
    values: list[Any]
    log_likelihood: list[float]
    consistency: list[float] | None
    probability: list[float] | None = None
    through: tuple[str, ...] = ()

    @classmethod
    def of(cls, key: str, imputation: Imputation, tokenizer: Tokenizer, curve: ProbabilityCurve | None = None) -> "Imputed":
        """The draws of a sample, decoded."""
        order, back = imputation.best_first(), imputation.consistency
        _, scores = imputation.score()
        return cls(
            key,
            list(tokenizer.decode([imputation.tokens[i] for i in order])),
            [imputation.log_likelihood[i] for i in order],
            None if back is None else [back[i] for i in order],
            None if curve is None else curve([scores[i] for i in order]).tolist(),
            imputation.through,
        )
