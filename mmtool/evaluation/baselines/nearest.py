"""What imputation must beat: a random training sample of the target, and the nearest neighbour reached through the link.

Both answer with real data: an index into the training samples, whose target value is the imputation.
"""

from itertools import pairwise

import numpy as np
from sklearn.neighbors import NearestNeighbors

from mmtool.data.graph import CoOccurrence
from mmtool.evaluation.directions import Direction
from mmtool.evaluation.reference.decoded import DecodedSamples
from mmtool.evaluation.reference.features import Embedding


def marginal(train: DecodedSamples, target: str, count: int, seed: int) -> np.ndarray:
    """(count,) random training samples that have the target, whatever is given."""
    return np.random.default_rng(seed).choice(train.having(target), count)


class NearestNeighbour:
    """From what is given to the most similar training sample, to its partner in the next modality, and so on to the target."""

    def __init__(self, train: DecodedSamples, test: DecodedSamples, embeddings: dict[str, Embedding], graph: CoOccurrence) -> None:
        self._train, self._test, self._embeddings, self._graph = train, test, embeddings, graph
        self._vectors: dict[tuple[DecodedSamples, str], dict[int, np.ndarray]] = {}

    def __call__(self, direction: Direction, indices: np.ndarray) -> np.ndarray | None:
        """A training sample for each of the held-out samples at `indices`; None where no chain of partners leads to the target.

        Where training samples hold all of given and target, neighbours are sought by all given modalities together.
        """
        hops = self._hops(direction)
        if hops is None:
            return None
        side, nearest = self._test, indices
        for hop in hops:
            rows = self._train.having(*hop.given, hop.target)
            points, queries = self._joined(self._train, hop.given, rows), self._joined(side, hop.given, nearest)
            side, nearest = self._train, rows[_nearest(points, queries)]
        return nearest

    def _hops(self, direction: Direction) -> list[Direction] | None:
        names = {*direction.given, direction.target}
        if not names <= self._embeddings.keys():
            return None
        if len(self._train.having(*names)):
            return [direction]
        path = self._graph.path(set(direction.given), direction.target)
        if path is None or not all(name in self._embeddings for name in path):
            return None
        hops = [Direction((start,), end) for start, end in pairwise(path)]
        return hops if all(len(self._train.having(*hop.given, hop.target)) for hop in hops) else None

    def _joined(self, side: DecodedSamples, names: tuple[str, ...], rows: np.ndarray) -> np.ndarray:
        return np.hstack([self._vectors_of(side, name, rows) for name in names])

    def _vectors_of(self, side: DecodedSamples, name: str, rows: np.ndarray) -> np.ndarray:
        if (side, name) not in self._vectors:
            vectors = self._embeddings[name].transform(side.values(name))
            self._vectors[side, name] = dict(zip(side.having(name).tolist(), vectors, strict=True))
        return np.stack([self._vectors[side, name][int(row)] for row in rows])


def _nearest(points: np.ndarray, queries: np.ndarray) -> np.ndarray:
    return NearestNeighbors(n_neighbors=1).fit(points).kneighbors(queries, return_distance=False)[:, 0]
