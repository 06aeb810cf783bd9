"""Which samples a run imputed worst and best: those whose imputed value is farthest from the real one, and nearest to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mmtool.evaluation.reference.features import Embedding

RANKED = 3  # samples at either end


@dataclass(frozen=True)
class Ranked:
    """index: of the held-out sample. value: what was imputed. predicted: its class by the reference classifier, None where there is none.
    distance: from the real value, in the space of an `Embedding`."""

    index: int
    rank: Literal["worst", "best"]
    value: Any
    predicted: str | None
    distance: float


def rank(
    embedding: Embedding, indices: Sequence[int], true: Sequence[Any], imputed: Sequence[Any], predicted: Sequence[str | None], count: int
) -> list[Ranked]:
    """At most `count` samples at either end, the worst first; none is in both. All sequences are (N,)."""
    count = min(count, len(indices) // 2)
    if not count:
        return []
    distances = np.linalg.norm(embedding.transform(true) - embedding.transform(imputed), axis=1)
    nearest_first = np.argsort(distances, kind="stable").tolist()

    def ranked(place: int, rank: Literal["worst", "best"]) -> Ranked:
        return Ranked(int(indices[place]), rank, imputed[place], predicted[place], float(distances[place]))

    worst, best = nearest_first[: -count - 1 : -1], nearest_first[:count]
    return [*(ranked(place, "worst") for place in worst), *(ranked(place, "best") for place in best)]
