"""LoReTTa: linking modalities with a transitive and commutative pre-training strategy.

Tran, Dicente Cid, Lahiani, Theis, Peng, Klaiman, NeurIPS 2023, arXiv 2305.14243. From data in which only (A, B) and (B, C) occur
together it learns A <-> C:

1. commutative causal masked modelling on what is really there (`CM3`);
2. transitive modelling: from a real (a, b) the model generates c from b, and is trained to predict the *real* a given the *pseudo*
   c; and the other way round from (b, c). No loss falls on pseudo tokens and no gradient runs through sampling.

With more modalities the pseudo modality is reached along the shortest path of the co-occurrence graph, one generated link after the
other. What the authors left open is an option here.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import VocabularyLayout
from mmtool.data.sample import Sample
from mmtool.data.sequence import Document, segment
from mmtool.errors import UsageError
from mmtool.methods.base import Step
from mmtool.methods.cm3 import CM3, CM3Options
from mmtool.model.decode import Sampling, generate


@dataclass(frozen=True)
class LoReTTaOptions(CM3Options):
    """warmup: share of training spent on real pairs only, until the links work.
    transitive_share: share of the later steps that are transitive.
    all_share: share of transitive documents that hold all modalities, pseudo and real, in random order.
    pseudo_loss: also predict the pseudo tokens (the literal pseudocode of the authors).
    temperature, top_k: how pseudo modalities are drawn (top_k 0: all codes)."""

    warmup: float = 0.4
    transitive_share: float = 0.25
    all_share: float = 0.25
    pseudo_loss: bool = False
    temperature: float = 1.0
    top_k: int = 0


@dataclass(frozen=True)
class Route:
    """A never-seen pair to be trained: predict the real `target` given `path[-1]`, generated link by link from the real `path[0]`."""

    target: str
    path: tuple[str, ...]

    @property
    def pseudo(self) -> str:
        return self.path[-1]


class LoReTTa(CM3):
    name = "loretta"
    Options = LoReTTaOptions

    def __init__(self, layout: VocabularyLayout, graph: CoOccurrence, options: LoReTTaOptions) -> None:
        super().__init__(layout, graph, options)
        if not any(self.routes(frozenset(present)) for present in graph.combinations):
            raise UsageError(
                f"LoReTTa needs a linking modality, but no missing pair of {', '.join(layout.names)} can be reached through another.",
                where="--method loretta",
                fix="Where every pair occurs, or none is connected, use `--method cm3`.",
            )

    def documents(self, samples: Sequence[Sample], seeds: Sequence[int], step: Step) -> list[Document]:
        if not self.is_transitive(step):
            return super().documents(samples, seeds, step)
        randoms = [np.random.default_rng(seed) for seed in seeds]
        routes = [self.choose(frozenset(sample.tokens), random) for sample, random in zip(samples, randoms, strict=True)]
        pseudo = self.imagine(samples, routes, step)
        return [
            self.transitive_document(sample, route, made, random) if route else self.document(sample, random)
            for sample, route, made, random in zip(samples, routes, pseudo, randoms, strict=True)
        ]

    def is_transitive(self, step: Step) -> bool:
        """After the warm-up, a fixed share of the steps, evenly spread (a function of the step number alone)."""
        share = self.options.transitive_share
        return step.progress >= self.options.warmup and int((step.number + 1) * share) > int(step.number * share)

    def routes(self, present: frozenset[str]) -> list[Route]:
        """All never-seen pairs (pseudo, target) that samples holding `present` can teach, each by its shortest path."""
        found = []
        for target in sorted(present):
            for missing in self.layout.names:
                if missing in present or self.graph.linked(missing, target):
                    continue
                path = self.graph.path(present - {target}, missing) or self.graph.path({target}, missing)
                if path:
                    found.append(Route(target, tuple(path)))
        return found

    def choose(self, present: frozenset[str], random: np.random.Generator) -> Route | None:
        routes = self.routes(present)
        return routes[random.integers(len(routes))] if routes else None

    def imagine(self, samples: Sequence[Sample], routes: Sequence[Route | None], step: Step) -> list[dict[str, np.ndarray]]:
        """The pseudo modalities of each sample: its route walked link by link, all samples of the same link in one decode."""
        made: list[dict[str, np.ndarray]] = [{} for _ in samples]
        generator = torch.Generator(device=step.model.head.device).manual_seed(step.seed)
        sampling = Sampling(self.options.temperature, self.options.top_k or None)
        for link in range(max((len(route.path) for route in routes if route), default=1) - 1):
            groups: dict[tuple[str, str], list[int]] = defaultdict(list)
            for i, route in enumerate(routes):
                if route and link + 1 < len(route.path):
                    groups[route.path[link], route.path[link + 1]].append(i)
            for (source, wanted), members in sorted(groups.items()):
                prompts = [self._prompt(source, made[i].get(source, samples[i].tokens.get(source))) for i in members]
                codes = generate(step.model, prompts, self.layout.index(wanted), sampling=sampling, generator=generator).codes
                for i, drawn in zip(members, codes, strict=True):
                    made[i][wanted] = drawn
        return made

    def _prompt(self, source: str, codes: np.ndarray | None) -> Document:
        assert codes is not None, "a route starts at a modality the sample holds"
        return segment(self.layout, self.layout.index(source), codes, loss=False)

    def transitive_document(self, sample: Sample, route: Route, pseudo: dict[str, np.ndarray], random: np.random.Generator) -> Document:
        """[pseudo, real target], or now and then all modalities in random order; the loss falls on the real ones."""
        joined = Sample(sample.key, {**pseudo, **sample.tokens})
        real = list(sample.tokens)
        names = [route.pseudo, route.target]
        if random.random() < self.options.all_share:
            names = sorted(joined.tokens)
            random.shuffle(names)
        loss = names if self.options.pseudo_loss else [name for name in names if name in real]
        return self.segments(joined, names, loss)

    def typical_documents(self, samples: Sequence[Sample]) -> list[list[Document]]:
        """Those of real steps, and transitive ones in which another sample's tokens stand for the pseudo modality."""
        donors = {name: sample.tokens[name] for sample in samples for name in sample.tokens}
        transitive = []
        for i, sample in enumerate(samples):
            random = np.random.default_rng(i)
            route = self.choose(frozenset(sample.tokens), random)
            if route and all(name in donors for name in route.path):
                pseudo = {name: donors[name] for name in route.path[1:]}
                transitive.append(self.transitive_document(sample, route, pseudo, random))
        return [*super().typical_documents(samples), *([transitive] if transitive else [])]
