"""The probability that a draw is right, told from its score: Platt scaling, fitted to samples that nothing was trained on.

What is right is for whoever fits it to say (`evaluate`: a reference classifier finds the true class in the draw). Scores are in mean
nats per token: they rank the draws of one sample, and say of none how often one like it is right. A logistic curve of the score does (Platt
1999; Niculescu-Mizil and Caruana 2005, ICML), which is monotone and has two numbers, so that a few hundred draws are enough; isotonic
regression would take thousands. Where the score says nothing, the curve is flat, and every draw gets the share that is right.

A curve is of one direction (given modalities -> imputed one), one way to draw and one score: the consistency, or the log-likelihood where
that was not measured (`Imputation.score`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from mmtool.imputation.imputer import Imputation

MIN_SAMPLES = 30  # fewer say little of a share: it is known to 0.18 at best


@dataclass(frozen=True)
class ProbabilityCurve:
    """P(right | score) = 1 / (1 + exp(-(slope score + intercept))). samples: to how many it was fitted."""

    slope: float
    intercept: float
    samples: int

    @classmethod
    def fit(cls, scores: np.ndarray, right: np.ndarray) -> "ProbabilityCurve | None":
        """From scores (n, D) of D draws of n samples and whether each is right. None where that tells nothing: of fewer than 30 samples,
        or where all draws are right, or all wrong."""
        from sklearn.linear_model import LogisticRegression  # takes a second, and whoever imputes needs it not

        if len(scores) < MIN_SAMPLES or np.min(right) == np.max(right):
            return None
        flat, target = np.asarray(scores, np.float64).reshape(-1, 1), np.asarray(right, bool).ravel()
        centre, scale = flat.mean(), flat.std() or 1.0  # so that the ridge penalty of the regression is the same in all units
        fitted = LogisticRegression().fit((flat - centre) / scale, target)
        slope = float(fitted.coef_[0, 0] / scale)
        return cls(slope, float(fitted.intercept_[0] - slope * centre), len(scores))

    def __call__(self, scores: Sequence[float] | np.ndarray) -> np.ndarray:
        """Probabilities in the shape of the scores."""
        probability: np.ndarray = expit(self.slope * np.asarray(scores, np.float64) + self.intercept)
        return probability


def curves_of(answers: Sequence[Imputation], right: np.ndarray) -> dict[str, ProbabilityCurve]:
    """One for each score of the draws, as whoever imputes may measure no consistency; right: (N, draws). {} where samples are too few or
    all alike."""
    scores: dict[str, list[list[float]]] = {"log_likelihood": [answer.log_likelihood for answer in answers]}
    if answers and answers[0].consistency is not None:
        scores["consistency"] = [answer.consistency or [] for answer in answers]
    fitted = {name: ProbabilityCurve.fit(np.array(values), right) for name, values in scores.items()}
    return {name: curve for name, curve in fitted.items() if curve is not None}
