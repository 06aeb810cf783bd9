"""Training of the value networks: the last, short part of a training on tables (see `model/values.py`).

Networks learn what the method saw: each table given those that occur with it; of a transitive method also pairs that never met: the link
gives the expected values of the absent table, and a network learns to predict these from the real one on the other side of the link. The
mean is what minimises a squared error, so targets need not be drawn; a table among the given is drawn by the transformer, since means vary
less than real values do.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import torch
from torch import Tensor

from mmtool.common.log import log
from mmtool.data.sample import Sample
from mmtool.data.shards import TokenSet
from mmtool.methods.base import Method
from mmtool.methods.protocols import ImputationRequest, Transitive, imputing, representing
from mmtool.model.transformer import Transformer
from mmtool.model.values import NETWORKS, Direction, ValueDecoder, ValueNetwork, code_values
from mmtool.tokenizers.base import Tokenizer

MAX_SAMPLES = 20_000  # of each combination of modalities
MIN_SAMPLES = 16  # with fewer there is no network
BATCH, LEARNING_RATE, WEIGHT_DECAY = 64, 1e-3, 0.05
WARMUP_STEPS = 50
HELD_OUT_EVERY = 10  # every tenth row decides whether hidden states are read
AT_ONCE = 512  # samples drawn together


@dataclass(frozen=True)
class Pairs:
    """Samples that hold all of `given` (real or drawn), and the values of the target to predict from it."""

    given: tuple[str, ...]
    target: str
    samples: Sequence[Sample]
    values: np.ndarray


def fit_values(
    model: Transformer, method: Method, tokenizers: dict[str, Tokenizer], train: TokenSet, epochs: int, seed: int
) -> ValueDecoder:
    """Networks for every direction between tables that the method has learned from the train split."""
    fitter = _Fitter(model, method, ValueDecoder(code_values(tokenizers)), epochs, seed)
    groups = _groups(train, set(fitter.decoder.tables), seed)
    for name in fitter.decoder.tables:
        held = [sample.tokens[name] for samples in groups.values() for sample in samples if name in sample.tokens]
        if held:
            fitter.decoder.note_moments(name, held)
    rare, usual = fitter.real_pairs(groups)
    fitter.fit(usual)
    fitter.fit([*rare, *fitter.transitive_pairs(groups)])
    return fitter.decoder


def _groups(train: TokenSet, tables: set[str], seed: int) -> dict[frozenset[str], list[Sample]]:
    """Training samples by the tables that they hold."""
    numbers: dict[frozenset[str], list[int]] = defaultdict(list)
    for i in np.random.default_rng(seed).permutation(len(train)):
        held = frozenset(train.present(int(i))) & tables
        if held and len(numbers[held]) < MAX_SAMPLES:
            numbers[held].append(int(i))
    return {held: [train[i] for i in sorted(rows)] for held, rows in sorted(numbers.items(), key=lambda item: sorted(item[0]))}


class _Fitter:
    def __init__(self, model: Transformer, method: Method, decoder: ValueDecoder, epochs: int, seed: int) -> None:
        self.model, self.method, self.decoder, self.epochs, self.seed = model, method, decoder, epochs, seed

    def fit(self, pairs: Sequence[Pairs]) -> None:
        """Networks for each direction, on all pairs that there are for it."""
        by_direction: dict[tuple[tuple[str, ...], str], list[Pairs]] = defaultdict(list)
        for part in pairs:
            by_direction[part.given, part.target].append(part)
        for (given, target), parts in by_direction.items():
            samples = [sample for part in parts for sample in part.samples]
            if len(samples) < MIN_SAMPLES or self.decoder.knows(given, target):
                continue
            log(f"learning values of {target} given {' and '.join(given)} from {len(samples):,} samples")
            rows = self.decoder.joined(given, samples), self.states(given, samples), np.concatenate([part.values for part in parts])
            units = self.decoder.tables[target].units.astype(np.float32)
            rows = _useful(*rows, units, self.epochs, self.seed)
            direction = self.decoder.directions[given, target] = _fit(*rows, units, self.epochs, self.seed)
            direction.note_variance(*rows[:2])
            if not direction.reads_states:
                log(f"{target} given {' and '.join(given)}: predicted from the values alone, which hidden states do not improve")

    def real_pairs(self, groups: dict[frozenset[str], list[Sample]]) -> tuple[list[Pairs], list[Pairs]]:
        """Each table given every set of other tables that occurs with it: those with two tables that hardly ever meet, and all others."""
        rare, usual = list[Pairs](), list[Pairs]()
        for held, samples in groups.items():
            for target in sorted(held):
                for given in _subsets(held - {target}):
                    met = all(self.method.graph.linked(*pair) for pair in combinations([*given, target], 2))
                    (usual if met else rare).append(Pairs(given, target, samples, self.decoder.joined([target], samples)))
        return rare, usual

    def transitive_pairs(self, groups: dict[frozenset[str], list[Sample]]) -> list[Pairs]:
        """By the method's routes from real samples whose last link was learned: the pseudo table given the real one, with and without
        where the route starts; and each of these two given the other and the pseudo table."""
        pairs = []
        for held, samples in groups.items():
            for route in self.method.routes(held) if isinstance(self.method, Transitive) else ():
                path = route.paths[0]
                if len(route.paths) > 1 or path[0] == route.target or not set(path) <= set(self.decoder.tables):
                    continue
                if not self.decoder.knows(path[-2:-1], path[-1]):
                    continue
                pseudo, expected = path[-1], self.expected(path, samples)
                pairs.append(Pairs((route.target,), pseudo, samples, expected))
                pairs.append(Pairs(tuple(sorted({route.target, path[0]})), pseudo, samples, expected))
                drawn = self.drawn(path, samples)
                for real, predicted in ((route.target, path[0]), (path[0], route.target)):
                    pairs.append(Pairs(tuple(sorted({real, pseudo})), predicted, drawn, self.decoder.joined([predicted], samples)))
        return pairs

    def expected(self, path: Sequence[str], samples: Sequence[Sample]) -> np.ndarray:
        """Expected values of the end of a path, 0 for features without values; what lies between is drawn."""
        *before, end = path
        start = self.drawn(before, samples)
        return np.nan_to_num(self.decoder.expected((before[-1],), end, start, self.states))

    def drawn(self, path: Sequence[str], samples: Sequence[Sample]) -> list[Sample]:
        """The samples with what the transformer draws along the path, link by link."""
        drawn, generator = list(samples), torch.Generator(device=self.model.head.device).manual_seed(self.seed)
        for start, end in pairwise(path):
            for first in range(0, len(drawn), AT_ONCE):
                part = drawn[first : first + AT_ONCE]
                codes = imputing(self.method).impute(self.model, part, ImputationRequest([start], end), generator).codes
                drawn[first : first + AT_ONCE] = [
                    Sample(sample.key, {**sample.tokens, end: row}) for sample, row in zip(part, codes, strict=True)
                ]
        return drawn

    def states(self, given: Sequence[str], samples: Sequence[Sample]) -> np.ndarray:
        return representing(self.method).states(self.model, given, samples)


def _subsets(names: frozenset[str]) -> Iterator[tuple[str, ...]]:
    for size in range(1, len(names) + 1):
        yield from combinations(sorted(names), size)


def _useful(
    given: np.ndarray, states: np.ndarray, target: np.ndarray, units: np.ndarray, epochs: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows, without their hidden states where these do not help to predict every tenth row, which two trial fits do not see.

    They help where the mean squared error is lower with them by more than its standard error over these rows: what costs a pass of the
    transformer must be worth it (the one-standard-error rule: Hastie, Tibshirani and Friedman, The Elements of Statistical Learning,
    section 7.10). States of a transformer trained for a short time rather disturb: R2 of mirna given rppa on TCGA .072 with those of 240
    steps, .096 without.
    """
    held = np.arange(len(given)) % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    errors = []
    for read in (states[:, :0], states):
        trial = _fit(given[~held], read[~held], target[~held], units, epochs, seed, networks=1)
        errors.append(np.square((trial(given[held], read[held]) - target[held]) / units).mean(axis=1))
    gain = errors[0] - errors[1]
    helps = len(gain) > 1 and gain.mean() > gain.std(ddof=1) / math.sqrt(len(gain))
    return given, states if helps else states[:, :0], target


def _fit(
    given: np.ndarray, states: np.ndarray, target: np.ndarray, units: np.ndarray, epochs: int, seed: int, networks: int = NETWORKS
) -> Direction:
    direction = Direction.begin(given, states, target, units, range(networks * seed, networks * (seed + 1)))
    rows = direction.standard("given", given), direction.standard("state", states), direction.standard("target", target)
    for number, network in enumerate(direction.networks):
        _train(network, *rows, steps=max(1, epochs * len(given) // BATCH), seed=networks * seed + number)
    return direction


def _train(network: ValueNetwork, given: Tensor, states: Tensor, target: Tensor, steps: int, seed: int) -> None:
    """Squared error by AdamW with warm-up and cosine decay to 0."""
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):  # dropout knows the global generator only
        torch.manual_seed(seed)
        for step in range(steps):
            rate = min(1.0, (step + 1) / WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / steps))
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * rate
            rows = torch.randint(0, len(given), (min(BATCH, len(given)),), generator=generator)
            loss = (network(given[rows], states[rows]) - target[rows]).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    network.eval()
