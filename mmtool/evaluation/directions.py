"""What is imputed from what: every direction of imputation, and whether training ever saw it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from mmtool.data.graph import CoOccurrence

FREQUENT = 3  # combinations of modalities that samples without a target hold


@dataclass(frozen=True)
class Direction:
    """Impute `target` from all of `given`."""

    given: tuple[str, ...]
    target: str

    def __str__(self) -> str:
        return f"{' + '.join(self.given)} → {self.target}"

    @property
    def slug(self) -> str:
        """The direction as part of a file name."""
        return f"{'+'.join(self.given)}-to-{self.target}"

    def seen(self, graph: CoOccurrence) -> bool:
        """Whether some training sample held all of given and target."""
        return graph.seen_together((*self.given, self.target))


def directions(names: Sequence[str], graph: CoOccurrence | None = None) -> list[Direction]:
    """Every single -> target, every pair -> target, and all others -> target; each once, single ones first. graph: of training; each target
    is also imputed from what its samples without it hold together most often, as `mmtool impute` does by default."""
    sizes = sorted({size for size in (1, 2, len(names) - 1) if 0 < size < len(names)})
    listed = [
        Direction(given, target)
        for size in sizes
        for target in names
        for given in combinations([name for name in names if name != target], size)
    ]
    if graph is not None:
        listed += [Direction(given, target) for target in names for given in _as_missing(names, graph, target) if len(given) not in sizes]
    return sorted(listed, key=lambda direction: (len(direction.given), sorted((*direction.given, direction.target)), direction.given))


def _as_missing(names: Sequence[str], graph: CoOccurrence, target: str) -> list[tuple[str, ...]]:
    """What samples without the target hold, the most frequent combinations first."""
    counts = {present & set(names): count for present, count in graph.combinations.items() if target not in present}
    frequent = sorted(counts, key=lambda present: (-counts[present], sorted(present)))
    return [tuple(name for name in names if name in present) for present in frequent[:FREQUENT] if present]
