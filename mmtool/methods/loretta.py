"""LoReTTa: linking modalities with a transitive and commutative pre-training strategy.

Tran, Dicente Cid, Lahiani, Theis, Peng, Klaiman, NeurIPS 2023, arXiv 2305.14243. From data in which only (A, B) and (B, C) occur
together it learns A <-> C:

1. commutative causal masked modelling on what is really there (`commutative`);
2. transitive modelling: from a real (a, b) the model generates c from b, and is trained to predict the *real* a given the *pseudo*
   c; and the other way round from (b, c). A sample with a alone is walked a -> b -> c; from b alone both a and c are generated. No
   loss falls on pseudo tokens and no gradient runs through sampling.

With more modalities the pseudo modality is reached along the shortest path of the co-occurrence graph, one generated link after the
other. Of several draws of a pseudo modality the one is kept given which its source is most probable: the consistency the authors speak of,
as a choice. What they left open is an option here.

One thing is not theirs: in half of the transitive documents the pseudo c is predicted from the real a (`distillation`). That is
sequence-level distillation (Kim and Rush 2016, arXiv 1606.07947), in which the model, given the link, teaches itself to do without. What
was generated for a sample serves in two documents so, one of each direction, and only half as much has to be generated.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from mmtool.common.bounds import Count, Natural, NotNegative, Share
from mmtool.common.errors import UsageError
from mmtool.data.documents import Documents
from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import VocabularyLayout
from mmtool.data.packing import Most
from mmtool.data.sample import Sample
from mmtool.data.sequence import Document
from mmtool.methods.base import Step
from mmtool.methods.commutative import Commutative, CommutativeOptions
from mmtool.methods.protocols import ImputationRequest, Route
from mmtool.model.sampling import Sampling
from mmtool.model.transformer import Transformer

Pseudo = dict[str, np.ndarray]


@dataclass(frozen=True)
class LoReTTaOptions(CommutativeOptions):
    """Settings of LoReTTa, and those of commutative modelling."""

    warmup: Share = 0.4
    """Share of training spent on real pairs only, until the links work."""
    transitive_share: Share = 0.25
    """Share of the later steps that are transitive."""
    all_share: Share = 0.25
    """Share of transitive documents that hold all modalities, pseudo and real, in random order."""
    distillation: Share = 0.5
    """Share of transitive documents of one pseudo modality that predict it from the real one: a chain through the real link, distilled into
    the direct direction.

    All others predict the real one from the pseudo one, as the authors always do (0). A pseudo modality serves in one document of each as
    far as the share allows."""
    pseudo_loss: bool = False
    """Also predict the pseudo tokens (the literal pseudocode of the authors)."""
    temperature: NotNegative = 0.7
    """Of the draws of pseudo modalities."""
    top_k: Natural = 0
    """Pseudo modalities are drawn from the k most likely codes; 0: from all."""
    guidance: NotNegative = 0.0
    """How much more the evidence counts that pseudo modalities are drawn from."""
    draws: Count = 4
    """Of so many, the one is taken given which the modality it was drawn from is most probable (consistency; 1: any)."""
    rare: Share = 0.0
    """Pairs of modalities that fewer samples hold than this share of the rarest link between them are taught transitively as well, beside
    the few that are there (0: only pairs that never occur)."""
    refresh: Natural = 0
    """Steps for which a pseudo modality of a sample may be used again; 0: generated anew in every step."""


class LoReTTa(Commutative):
    name = "loretta"
    Options = LoReTTaOptions
    of_progress = "warm-up"

    def __init__(self, layout: VocabularyLayout, graph: CoOccurrence, options: LoReTTaOptions) -> None:
        super().__init__(layout, graph.without_rare(options.rare), options)
        self._cache: dict[tuple[str, tuple[str, str]], tuple[int, np.ndarray]] = {}
        self._teachers = Counter[frozenset[str]]()
        for present, count in graph.combinations.items():
            for route in self.routes(present):
                self._teachers.update(dict.fromkeys(self._never_met(route), count))
        if not self._teachers:
            raise UsageError(
                f"LoReTTa needs a linking modality, but no missing pair of {', '.join(layout.names)} can be reached through another.",
                where="--method loretta",
                fix="Where every pair occurs, or none is connected, use `--method commutative`; where one hardly occurs, "
                + ("raise `method.rare`." if options.rare else "add `--set method.rare=0.2`."),
            )

    def documents(self, samples: Sequence[Sample], seeds: Sequence[int], step: Step) -> Sequence[Document] | Documents:
        if not self.is_transitive(step):
            return super().documents(samples, seeds, step)
        randoms = [np.random.default_rng(seed) for seed in seeds]
        routes = [self.choose(frozenset(sample.tokens), random) for sample, random in zip(samples, randoms, strict=True)]
        plan = self.plan(routes, randoms)
        used = sorted({i for i, _ in plan})
        pseudo = dict(zip(used, self.generate_pseudo([samples[i] for i in used], [routes[i] for i in used], step), strict=True))

        def document(i: int, distilled: bool, random: np.random.Generator) -> Document:
            route = routes[i]
            return self.transitive_document(samples[i], route, pseudo[i], random, distilled) if route else self.document(samples[i], random)

        return [document(i, distilled, random) for (i, distilled), random in zip(plan, randoms, strict=True)]

    def plan(self, routes: Sequence[Route | None], randoms: Sequence[np.random.Generator]) -> list[tuple[int, bool]]:
        """For each document of a transitive step the number of its sample, and whether it is distilled.

        Samples whose route has one pseudo modality go in twos, of which the first may stand for both, with a document of each direction.
        """
        share = self.options.distillation
        plan = [(i, False) for i in range(len(routes))]
        single = [i for i, route in enumerate(routes) if route and len(route.pseudo) == 1]
        for first, second in zip(single[::2], single[1::2], strict=False):
            if randoms[first].random() < 2 * min(share, 1 - share):
                plan[second] = (first, True)
            else:
                plan[first], plan[second] = (first, share > 0.5), (second, share > 0.5)
        if len(single) % 2:
            plan[single[-1]] = (single[-1], randoms[single[-1]].random() < share)
        return plan

    def makes_own_documents(self, step: Step) -> bool:
        return self.is_transitive(step)

    def is_transitive(self, step: Step) -> bool:
        """After the warm-up, a fixed share of the steps, evenly spread (a function of the step number alone)."""
        share = self.options.transitive_share
        return step.progress >= self.options.warmup and int((step.number + 1) * share) > int(step.number * share)

    def routes(self, present: frozenset[str]) -> list[Route]:
        """All that samples holding `present` can teach: each never-seen pair (pseudo, target) by its shortest path; and, from a lone
        linking modality, itself given two pseudo modalities that never met."""
        routes = []
        for target in sorted(present):
            for missing in self.layout.names:
                if missing in present or self.graph.linked(missing, target):
                    continue
                path = self.graph.path(present - {target}, missing) or self.graph.path({target}, missing)
                if path:
                    routes.append(Route(target, (tuple(path),)))
        if len(present) == 1:
            (link,) = present
            pairs = combinations(sorted(self.graph.neighbours(link)), 2)
            routes += [Route(link, ((link, a), (link, b))) for a, b in pairs if not self.graph.linked(a, b)]
        return routes

    def choose(self, present: frozenset[str], random: np.random.Generator) -> Route | None:
        """A route, those of pairs that few samples teach more often: every missing edge gets its share of steps."""
        routes = self.routes(present)
        if not routes:
            return None
        need = np.array([1 / min(self._teachers[pair] for pair in self._never_met(route)) for route in routes])
        return routes[random.choice(len(routes), p=need / need.sum())]

    def _never_met(self, route: Route) -> list[frozenset[str]]:
        """The pairs that a route teaches."""
        pairs = combinations([*route.pseudo, route.target], 2)
        return [frozenset(pair) for pair in pairs if not self.graph.linked(*pair)]

    def generate_pseudo(self, samples: Sequence[Sample], routes: Sequence[Route | None], step: Step) -> list[Pseudo]:
        """The pseudo modalities of each sample: its route walked link by link, all samples of the same link in one decode."""
        pseudo: list[Pseudo] = [{} for _ in samples]
        links = [route.links if route else [] for route in routes]
        generator = torch.Generator(device=step.model.head.device).manual_seed(step.seed)
        for number in range(max(map(len, links), default=0)):
            groups: dict[tuple[str, str], list[int]] = defaultdict(list)
            for i, walked in enumerate(links):
                if number < len(walked):
                    groups[walked[number]].append(i)
            for link, members in sorted(groups.items()):
                drawn = self._draw([Sample(samples[i].key, {**pseudo[i], **samples[i].tokens}) for i in members], link, step, generator)
                for i, codes in zip(members, drawn, strict=True):
                    pseudo[i][link[1]] = codes
        return pseudo

    def _draw(self, samples: Sequence[Sample], link: tuple[str, str], step: Step, generator: torch.Generator) -> list[np.ndarray]:
        """One link for all samples: drawn from the model as it is now, or, with `refresh`, a little while ago."""
        fresh = [sample for sample in samples if self._age(sample.key, link, step) >= max(1, self.options.refresh)]
        sampling = Sampling(self.options.temperature, self.options.top_k or None, self.options.guidance)
        if fresh:
            codes = self._most_consistent(step.model, fresh, link, sampling, generator)
            if not self.options.refresh:
                return codes
            self._cache.update({(sample.key, link): (step.number, drawn) for sample, drawn in zip(fresh, codes, strict=True)})
        return [self._cache[sample.key, link][1] for sample in samples]

    def _most_consistent(
        self, model: Transformer, samples: Sequence[Sample], link: tuple[str, str], sampling: Sampling, generator: torch.Generator
    ) -> list[np.ndarray]:
        """Of several draws for each sample the one given which the source of the link is most probable."""
        (source, pseudo), draws = link, self.options.draws
        codes = self.impute(model, samples, ImputationRequest([source], pseudo, sampling, draws), generator).codes
        if draws == 1:
            return codes
        grouped = [codes[start : start + draws] for start in range(0, len(codes), draws)]
        best = self.consistency(model, samples, [source], pseudo, grouped).argmax(1)
        return [its_draws[chosen] for its_draws, chosen in zip(grouped, best, strict=True)]

    def _age(self, key: str, link: tuple[str, str], step: Step) -> float:
        cached = self._cache.get((key, link))
        return step.number - cached[0] if cached and self.options.refresh else float("inf")

    def clear_cache(self) -> None:
        self._cache.clear()

    def transitive_document(
        self, sample: Sample, route: Route, pseudo: Pseudo, random: np.random.Generator, distilled: bool = False
    ) -> Document:
        """[pseudo, real target], or now and then all modalities in random order; the loss falls on the real ones. Distilled: [real, pseudo
        target]."""
        joined = Sample(sample.key, {**pseudo, **sample.tokens})
        real = list(sample.tokens)
        names = [*route.pseudo, route.target]
        if distilled:
            return self.segments(joined, [route.target, *route.pseudo], route.pseudo)
        if random.random() < self.options.all_share:
            names = sorted(joined.tokens)
            random.shuffle(names)
        loss = names if self.options.pseudo_loss else [name for name in names if name in real]
        return self.segments(joined, names, loss)

    def most(self, samples: Sequence[Sample]) -> Most:
        """Pseudo modalities may be as long as the longest of the data set."""
        tokens, targets = super().most(samples)
        longest = {modality.name: 1 + modality.max_length for modality in self.layout.modalities}
        held = {frozenset(sample.tokens) for sample in samples}
        more = {present: max([0, *(self._walked(present, route, longest) for route in self.routes(present))]) for present in held}
        together = max(sum(1 + len(codes) for codes in sample.tokens.values()) + more[frozenset(sample.tokens)] for sample in samples)
        return Most(max(tokens, together), np.maximum(targets, list(longest.values())))

    def _walked(self, present: frozenset[str], route: Route, sizes: Mapping[str, int]) -> int:
        """Tokens of what a route adds to a sample."""
        return sum(sizes[name] for name in {end for _, end in route.links} - present)

    def typical_documents(self, samples: Sequence[Sample]) -> list[list[Document]]:
        """Those of real steps, and transitive ones in which another sample's tokens stand for the pseudo modality."""
        donors = {name: sample.tokens[name] for sample in samples for name in sample.tokens}
        transitive = []
        for i, sample in enumerate(samples):
            random = np.random.default_rng(i)
            route = self.choose(frozenset(sample.tokens), random)
            if route and all(name in donors for _, name in route.links):
                pseudo = {name: donors[name] for _, name in route.links}
                distilled = len(route.pseudo) == 1 and random.random() < self.options.distillation
                transitive.append(self.transitive_document(sample, route, pseudo, random, distilled))
        return [*super().typical_documents(samples), *([transitive] if transitive else [])]
