"""Bounds of imputed tables corrected so that they hold the truth as often as they say: conformalized quantile regression.

Romano, Patterson and Candès 2019 (arXiv 1905.03222), split conformal: how far the true values of held-out samples lie from their bounds
is known, and each bound is moved by the quantile of these errors that makes it right for one more sample of the same kind. That holds
whatever the model is worth; a poor one gets wide intervals.

Corrected are

- bounds, not intervals: the asymmetric variant. Files hold bounds, and `q05` promises that 5 % of the values lie below, whichever other
  bound it is read with. One margin for both sides would keep that promise for symmetric errors alone, and counts and expression levels
  have others. The price is a slightly wider interval: each side is rounded up by itself, by 1 / (n + 1) at most.
- columns by their own errors, not all by errors pooled in units of their columns. A bound is read in its column, and pooled errors make
  only the mean over columns right, where some are far too sure and others not sure enough. Nor do they have a guarantee: the errors of one
  sample depend on each other. The price is that a column needs 1 / share - 1 values (19 for `q05`, 39 for 2.5 %); with fewer its bound
  would be infinite, and stays as it is.
- directions (given modalities -> imputed one) apart, as a model is surer the more it is given.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmtool.imputation.tables import Draws, quantile_rows

EXACT = 9  # decimals that count of a share: 10 * (1 - 0.9) is meant to be 1


@dataclass(frozen=True)
class Correction:
    """How bounds of one table, imputed from the same modalities, are moved.

    shares (S,): probabilities with which values lie below the bounds. offsets (S, F): what is added, on the tokenizer's scale; NaN where
    there were too few values to tell, and for categories. samples: validation samples that it was fitted to.
    """

    shares: tuple[float, ...]
    offsets: np.ndarray
    samples: int

    @classmethod
    def fit(cls, tokenizer: Any, true: np.ndarray, draws: Draws, shares: Sequence[float]) -> "Correction":
        """From the true rows (n, F) of samples that nothing was trained on, NaN where missing, and the draws that were imputed for them."""
        on_scale = _on_scale(tokenizer, quantile_rows(tokenizer, draws, shares))
        return cls(tuple(shares), offsets(tokenizer.scaled(np.asarray(true, np.float32)), on_scale, shares), len(true))

    def __call__(self, tokenizer: Any, bounds: np.ndarray) -> np.ndarray:
        """(S, N, F) bounds of all its shares, corrected; of all, for none may cross another."""
        moved = shifted(_on_scale(tokenizer, bounds), self.offsets, self.shares)
        return tokenizer.unscaled(moved.reshape(-1, moved.shape[-1])).reshape(moved.shape).astype(bounds.dtype)

    def quantile_rows(self, tokenizer: Any, draws: Draws, shares: Sequence[float]) -> np.ndarray:
        """(len(shares), N, F) corrected bounds that draws give. Raises KeyError for a share that it was not fitted to."""
        return self(tokenizer, quantile_rows(tokenizer, draws, self.shares))[self.indices(shares)]

    def indices(self, shares: Sequence[float]) -> list[int]:
        """Where they are among those that it was fitted to. Raises KeyError for one that is not."""
        known = {round(share, EXACT): index for index, share in enumerate(self.shares)}
        return [known[round(share, EXACT)] for share in shares]

    def lacks(self, shares: Sequence[float]) -> list[float]:
        """The shares that it was not fitted to."""
        known = {round(share, EXACT) for share in self.shares}
        return [share for share in shares if round(share, EXACT) not in known]

    @property
    def columns(self) -> int:
        """How many columns have any bound that is corrected."""
        return int((~np.isnan(self.offsets)).any(0).sum())


def offsets(true: np.ndarray, bounds: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """(S, F) what to add to bounds (S, n, F), so that one more value of each column lies below with a probability of at least the share,
    where that is 0.5 or more, else of at most the share. true (n, F), NaN where missing.

    Of m errors, true value - bound, it is the ceil((m + 1) share)-th smallest, or the ceil((m + 1) (1 - share))-th largest; NaN where m is
    smaller than that.
    """
    moves = np.full((len(shares), true.shape[1]), np.nan)
    for row, (share, of_share) in enumerate(zip(shares, bounds, strict=True)):
        errors = np.sort(true.astype(np.float64) - of_share, axis=0)  # NaN last
        known = (~np.isnan(errors)).sum(0)
        rank = np.ceil(np.round((known + 1) * max(share, 1 - share), EXACT)).astype(int)
        enough = np.flatnonzero(rank <= known)
        index = rank - 1 if share >= 0.5 else known - rank
        moves[row, enough] = errors[index[enough], enough]
    return moves


def samples_needed(share: float) -> int:
    """How many values of a column it takes to correct its bound for a share."""
    return max(1, math.ceil(round(1 / min(share, 1 - share), EXACT)) - 1)


def shifted(bounds: np.ndarray, moves: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """(S, N, F) bounds moved by (S, F), where that is a number. Bounds that then cross are moved outwards, from the middle on, so that none
    promises more than it did."""
    moved = bounds + np.nan_to_num(moves)[:, None]
    upper = [index for index in np.argsort(shares) if shares[index] >= 0.5]
    lower = [index for index in np.argsort(shares)[::-1] if shares[index] < 0.5]
    moved[upper] = np.maximum.accumulate(moved[upper], axis=0)
    inner = [*upper[:1], *lower]
    moved[inner] = np.minimum.accumulate(moved[inner], axis=0)
    return moved


def _on_scale(tokenizer: Any, bounds: np.ndarray) -> np.ndarray:
    """(S, N, F) bounds on the tokenizer's scale."""
    scaled: np.ndarray = tokenizer.scaled(bounds.reshape(-1, bounds.shape[-1])).reshape(bounds.shape).astype(np.float64)
    return scaled
