"""Scales, means and covariances of embeddings: their standard units, and absent ones imputed by the mean or by ridge regression."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the mean variance; the one that predicts left-out rows best is taken
LEFT_OUT = 5  # every fifth row chooses the penalty
LEAST_DEVIATION = 1e-2  # of the root mean square deviation of a modality: dimensions that hardly vary are not blown up


class Scale(nn.Module):
    """Centre and deviation of each of W dimensions over training samples, taken once, before training: the units of all that follows."""

    centre: Tensor
    deviation: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def calibrate(self, rows: Tensor) -> None:
        """rows: (N, W). With fewer than two, units stay as they are."""
        if len(rows) > 1:
            deviation = rows.std(0)
            self.centre.copy_(rows.mean(0))
            self.deviation.copy_(deviation.clamp(min=float(LEAST_DEVIATION * deviation.square().mean().sqrt() + 1e-6)))

    def forward(self, rows: Tensor) -> Tensor:
        return (rows - self.centre) / self.deviation

    def restore(self, standard: Tensor) -> Tensor:
        return standard * self.deviation + self.centre


class Moments(nn.Module):
    """Moments of the standardised embeddings of training samples, (sum of W,) and, for ridge regression, (sum of W, sum of W).

    `fit` follows the embeddings as the encoders are tuned. Covariances between two modalities are those of the samples that hold both, so
    complete samples are not needed.
    """

    means: Tensor
    covariance: Tensor
    penalty: Tensor

    def __init__(self, widths: Sequence[int], covariances: bool) -> None:
        super().__init__()
        total = sum(widths)
        starts = [sum(widths[:m]) for m in range(len(widths) + 1)]
        self.columns = [slice(start, stop) for start, stop in pairwise(starts)]
        self.register_buffer("means", torch.zeros(total))
        self.register_buffer("covariance", torch.zeros((total, total) if covariances else (0, 0)))
        self.register_buffer("penalty", torch.tensor(1.0))
        self._solved: dict[tuple[int, ...], Tensor] = {}

    def fit(self, embeddings: Sequence[Tensor], present: Tensor) -> None:
        """Means, and where they were asked for covariances and the penalty, of (N, W) embeddings per modality, present where (N, M)."""
        joined = torch.cat(list(embeddings), dim=1)
        self._solved = {}
        for m, columns in enumerate(self.columns):
            if present[:, m].any():
                self.means[columns] = embeddings[m][present[:, m]].mean(0)
        if self.covariance.numel():
            held = torch.arange(len(joined), device=joined.device) % LEFT_OUT == 0
            self._fit_covariance(joined[~held], present[~held])
            errors = []
            for penalty in PENALTIES:
                self.penalty.fill_(penalty)
                self._solved = {}
                errors.append(self._error([embedding[held] for embedding in embeddings], present[held]))
            self.penalty.fill_(PENALTIES[min(range(len(errors)), key=errors.__getitem__)])
            self._solved = {}
            self._fit_covariance(joined, present)

    def mean(self, m: int) -> Tensor:
        return self.means[self.columns[m]]

    def ridge(self, embeddings: Sequence[Tensor], visible: Tensor) -> list[Tensor]:
        """The expectation of every modality given the other visible ones, one regression per set of them: (B, W) each."""
        expected = [self.mean(m).expand_as(embedding).clone() for m, embedding in enumerate(embeddings)]
        for pattern in visible.unique(dim=0):
            rows = (visible == pattern).all(1)
            for m in range(len(embeddings)):
                given = [s for s in pattern.nonzero()[:, 0].tolist() if s != m]
                if given:
                    centred = torch.cat([embeddings[s][rows] - self.mean(s) for s in given], dim=1)
                    expected[m][rows] = self.mean(m) + centred @ self._weights((m, *given))
        return expected

    def _weights(self, key: tuple[int, ...]) -> Tensor:
        """(sum of W of the given, W of the target) of the regression of key[0] on key[1:]."""
        if key not in self._solved:
            at = torch.cat([torch.arange(self.columns[s].start, self.columns[s].stop, device=self.means.device) for s in key[1:]])
            given = self.covariance[at][:, at]
            damped = given + self.penalty * given.diagonal().mean().clamp(min=1e-12) * torch.eye(len(at), device=given.device)
            self._solved[key] = torch.linalg.lstsq(damped, self.covariance[at][:, self.columns[key[0]]]).solution
        return self._solved[key]

    def _fit_covariance(self, joined: Tensor, present: Tensor) -> None:
        for a, first in enumerate(self.columns):
            for b, second in enumerate(self.columns):
                both = present[:, a] & present[:, b]
                left, right = (joined[both][:, columns] for columns in (first, second))
                left, right = (part - part.mean(0) if len(part) else part for part in (left, right))
                self.covariance[first, second] = left.T @ right / max(1, len(left) - 1)
        if len(self.columns) > 2:  # blocks of different samples need not fit together: the nearest covariance that does
            values, vectors = torch.linalg.eigh(self.covariance)
            self.covariance.copy_((vectors * values.clamp(min=0)) @ vectors.T)

    def _error(self, embeddings: Sequence[Tensor], present: Tensor) -> float:
        """Squared error of what is known, each modality predicted from all other ones."""
        total = 0.0
        for m, expected in enumerate(self.ridge(embeddings, present)):
            rows = present[:, m] & (present.sum(1) > 1)
            total += float((expected[rows] - embeddings[m][rows]).square().sum())
        return total
