"""What is imputed from what: every direction of imputation, and whether training ever saw it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from mmtool.data.graph import CoOccurrence


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


def directions(names: Sequence[str]) -> list[Direction]:
    """Every single -> target, every pair -> target, and all others -> target; each once, single ones first."""
    sizes = sorted({size for size in (1, 2, len(names) - 1) if 0 < size < len(names)})
    listed = [
        Direction(given, target)
        for size in sizes
        for target in names
        for given in combinations([name for name in names if name != target], size)
    ]
    return sorted(listed, key=lambda direction: (len(direction.given), sorted((*direction.given, direction.target)), direction.given))
