"""The co-occurrence graph: modalities as nodes, an edge where training samples hold both."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, pairwise
from typing import Any


@dataclass(frozen=True)
class CoOccurrence:
    """What occurred together in training: `combinations` counts the samples of each set of present modalities.

    rare: pairs that are no edges though some samples hold both.
    """

    combinations: Mapping[frozenset[str], int]
    rare: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def of(cls, present: Iterable[Iterable[str]]) -> "CoOccurrence":
        """Count the sets of present modalities, one per sample."""
        return cls(Counter(frozenset(names) for names in present))

    def __or__(self, other: "CoOccurrence") -> "CoOccurrence":
        """What occurred together in either, the same samples counted once: so often as in the one that has more of a combination."""
        known = {*self.combinations, *other.combinations}
        return CoOccurrence({names: max(self.combinations.get(names, 0), other.combinations.get(names, 0)) for names in known})

    @cached_property
    def edges(self) -> dict[tuple[str, str], int]:
        """Samples per pair (a, b), a < b."""
        counts: Counter[tuple[str, str]] = Counter()
        for names, count in self.combinations.items():
            for pair in combinations(sorted(names), 2):
                if pair not in self.rare:
                    counts[pair] += count
        return dict(sorted(counts.items()))

    def without_rare(self, share: float) -> "CoOccurrence":
        """The same without edges of fewer samples than this share of the rarest link on a way around them, the rarest edge first."""
        graph = self
        for pair, count in sorted(self.edges.items(), key=lambda edge: edge[1]):
            without = replace(graph, rare=graph.rare | {pair})
            around = without.path({pair[0]}, pair[1])
            if around and count < share * without.weakest_link(around):
                graph = without
        return graph

    def linked(self, a: str, b: str) -> bool:
        """Whether there is an edge between them: samples that hold both."""
        return (min(a, b), max(a, b)) in self.edges

    def seen_together(self, names: Iterable[str]) -> bool:
        """Whether some sample holds all of them."""
        wanted = frozenset(names)
        return any(wanted <= present for present in self.combinations)

    def neighbours(self, name: str) -> list[str]:
        """Linked modalities, the most frequent link first, then by name."""
        counts = {(set(pair) - {name}).pop(): count for pair, count in self.edges.items() if name in pair}
        return sorted(counts, key=lambda other: (-counts[other], other))

    def path(self, sources: Iterable[str], target: str) -> list[str] | None:
        """Shortest path from any source to the target (both ends included), or None. A source that is the target is its own path."""
        queue = deque([name] for name in sorted(sources))
        reached = {path[0] for path in queue}
        while queue:
            path = queue.popleft()
            if path[-1] == target:
                return path
            for other in self.neighbours(path[-1]):
                if other not in reached:
                    reached.add(other)
                    queue.append([*path, other])
        return None

    def linking_modalities(self) -> list[str]:
        """Modalities that lie strictly inside a shortest path between two that never occur together."""
        names = sorted(set().union(*self.combinations)) if self.combinations else []
        inside: set[str] = set()
        for a, b in combinations(names, 2):
            path = self.path({a}, b)
            if path and not self.linked(a, b):
                inside.update(path[1:-1])
        return sorted(inside)

    def weakest_link(self, path: Sequence[str]) -> int:
        """Samples of the rarest link on a path."""
        return min((self.edges.get((min(pair), max(pair)), 0) for pair in pairwise(path)), default=0)

    def to_json(self) -> list[dict[str, Any]]:
        rows = [{"modalities": sorted(names), "samples": count} for names, count in self.combinations.items()]
        return sorted(rows, key=lambda row: (len(row["modalities"]), row["modalities"]))

    @classmethod
    def from_json(cls, rows: Iterable[Mapping[str, Any]]) -> "CoOccurrence":
        return cls({frozenset(row["modalities"]): row["samples"] for row in rows})
