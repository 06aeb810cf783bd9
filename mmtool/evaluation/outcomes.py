"""One method on one direction: what it imputed, how reference classifiers and the truth rate it, and the estimates that follow."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from mmtool.common.errors import DataError
from mmtool.common.log import track
from mmtool.data.identity import clusters
from mmtool.evaluation.baselines.nearest import NearestNeighbour, marginal
from mmtool.evaluation.baselines.tables import Answered, TabularBaselines
from mmtool.evaluation.config import EvaluationConfig
from mmtool.evaluation.directions import Direction, directions
from mmtool.evaluation.ranked import RANKED, Ranked, rank
from mmtool.evaluation.reference.cox import alone
from mmtool.evaluation.reference.data import Reference
from mmtool.evaluation.reference.decoded import decode_all
from mmtool.evaluation.uncertainty import CORRECTED, correcting_samples, correction_of, uncertainty
from mmtool.imputation.chain import ChainedImputer, chained
from mmtool.imputation.conformal import Correction
from mmtool.imputation.imputer import Imputation, Imputer
from mmtool.imputation.tables import mean_rows
from mmtool.metrics.columns import compare_columns
from mmtool.metrics.intervals import Estimate, perplexity, share
from mmtool.tokenizers.base import ValueCodes

MARGINAL, NEAREST = "marginal sample", "nearest neighbour"
SCORED_BY_TOKEN = 128  # samples at most that are scored by a method that takes one pass for each of their tokens
Shown = dict[int, tuple[Any, str | None]]
Run = Imputer | ChainedImputer


@dataclass(frozen=True)
class Outcome:
    """What one method (a run or a baseline) imputed in one direction.

    name: as in the report. run: whose outcome it is, None for a baseline. estimates: metric -> estimate. shown: sample index ->
    (imputed value, its class by the reference classifier or None), for the samples of the contact sheet. ranked: the samples that a run
    imputed worst and best. correction: of the bounds of a table, where validation samples show how far off they are.
    """

    name: str
    direction: Direction
    seen: bool
    run: Run | None
    estimates: dict[str, Estimate]
    shown: Shown = field(repr=False)
    ranked: Sequence[Ranked] = field(default=(), repr=False)
    correction: Correction | None = field(default=None, repr=False)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One row per metric, as in report.json."""
        method = {"method": self.run.method, "seed": self.run.seed} if self.run else {"method": self.name, "seed": None}
        where = {"run": self.name, "given": list(self.direction.given), "target": self.direction.target, "seen": self.seen}
        for metric, estimate in self.estimates.items():
            fitted = {"validation_samples": self.correction.samples} if self.correction and metric.endswith(CORRECTED) else {}
            yield {**method, **where, "metric": metric, **asdict(estimate), **fitted}


def all_outcomes(reference: Reference, imputers: Mapping[str, Imputer], config: EvaluationConfig, answered: Answered) -> Iterator[Outcome]:
    """Every run and baseline on every direction for which there are held-out samples; behind a run its chain, where there is one.

    answered: see `TabularBaselines`."""
    chains = {name: ChainedImputer(imputers[name], link_seed=config.seed) for name in config.impute.chain}
    neighbours = NearestNeighbour(reference.train, reference.test, reference.embeddings, reference.graph)
    tabular = TabularBaselines(reference, answered)
    trials = [Trial(reference, direction, config) for direction in directions(list(reference.tokenizers), reference.graph)]
    for trial in track([trial for trial in trials if len(trial.indices)], "imputing"):
        for name, imputer in imputers.items():
            if imputer.graph.path(trial.direction.given, trial.direction.target):
                yield trial.of_run(name, imputer)
            if name in chains and chains[name].path(trial.direction.given, trial.direction.target):
                yield trial.of_run(chained(name), chains[name])
        yield from trial.of_baselines(neighbours)
        yield from trial.of_tabular(tabular)
        yield from trial.of_strata()


class Trial:
    """One direction and the held-out samples it is tried on.

    indices: samples that hold all of given, and whose imputed target can be rated (by its class, or against the true target).
    """

    def __init__(self, reference: Reference, direction: Direction, config: EvaluationConfig) -> None:
        self.reference, self.direction, self.config = reference, direction, config
        self.complete = reference.test.having(*direction.given, direction.target)
        self.classifier = reference.classifiers.get(direction.target)
        given = reference.test.having(*direction.given)
        self.labelled = reference.test.labelled(reference.label, given) if reference.label and self.classifier else given[:0]
        self.indices = np.union1d(self.complete, self.labelled)
        self.shown = self._samples_to_show(config.contact_samples)

    def of_run(self, name: str, imputer: Run) -> Outcome:
        """Impute and score with one run."""
        answers = imputer.impute(
            self._samples(self.indices), self.direction.given, self.direction.target,
            seed=self.config.seed, params=self.config.params, draws=self.config.draws,
        )  # fmt: skip
        values = self._values(answers)
        predicted = self._classified(values)
        correction = correction_of(imputer, self.reference, self.direction, self._correcting, self.config)
        estimates = self._perplexity(name, imputer) | self._estimates(values, predicted) | self._uncertainty(answers, correction)
        seen, shown, ranked = self.direction.seen(imputer.graph), self._shown(values, predicted), self._ranked(values, predicted)
        return Outcome(name, self.direction, seen, imputer, estimates, shown, ranked, correction)

    def of_baselines(self, neighbours: NearestNeighbour) -> Iterator[Outcome]:
        """The same for baselines that answer with training samples."""
        train, target = self.reference.train, self.direction.target
        if not len(train.having(target)):
            return
        yield self.of_training_samples(MARGINAL, marginal(train, target, len(self.indices), self.config.seed))
        nearest = neighbours(self.direction, self.indices)
        if nearest is not None:
            yield self.of_training_samples(NEAREST, nearest)

    def of_tabular(self, tabular: TabularBaselines) -> Iterator[Outcome]:
        """The same for imputers of whole tables, where all that is given and wanted are tables."""
        seen = self.direction.seen(self.reference.graph)
        for name, rows in tabular.answers(self.direction, self.indices):
            values = [[row] for row in rows]
            predicted = self._classified(values)
            yield Outcome(name, self.direction, seen, None, self._estimates(values, predicted), self._shown(values, predicted))

    def of_strata(self) -> Iterator[Outcome]:
        """What the stratum alone tells of survival, where strata were named."""
        models = self.reference.cox_models
        estimates = models.concordance_of_strata(self.indices) if models else {}
        if estimates:
            yield Outcome(alone(self.reference.strata), self.direction, self.direction.seen(self.reference.graph), None, estimates, {})

    def of_training_samples(self, name: str, answers: np.ndarray, run: Imputer | None = None) -> Outcome:
        """The outcome of answering with the training samples at `answers`, one for each of `indices`."""
        values = [[value] for value in self.reference.train.values(self.direction.target, answers)]
        predicted = self.reference.train_predictions(self.direction.target, answers)[:, None] if self.classifier else None
        seen = self.direction.seen(run.graph if run else self.reference.graph)
        return Outcome(name, self.direction, seen, run, self._estimates(values, predicted), self._shown(values, predicted))

    def _values(self, answers: Sequence[Imputation]) -> list[list[Any]]:
        """Draws of each sample; of tables the one row that is the answer, their mean."""
        if isinstance(self._tokenizer, ValueCodes):
            rows = mean_rows(self._tokenizer, [answer.tokens for answer in answers], [answer.expected for answer in answers])
            return [[row] for row in rows]
        flat, draws = decode_all(self._tokenizer, [tokens for answer in answers for tokens in answer.tokens]), self.config.draws
        return [flat[i : i + draws] for i in range(0, len(flat), draws)]

    def _classified(self, values: Sequence[Sequence[Any]]) -> np.ndarray | None:
        """(samples, draws) classes by the reference classifier."""
        if not self.classifier:
            return None
        return self.classifier.predict([value for row in values for value in row]).reshape(len(values), -1)

    def _uncertainty(self, answers: Sequence[Imputation], correction: Correction | None) -> dict[str, Estimate]:
        """How far the intervals that several draws of a table give can be trusted."""
        if not isinstance(self._tokenizer, ValueCodes) or not len(self.complete):
            return {}
        draws = [answers[row].tokens for row in np.searchsorted(self.indices, self.complete)]
        true = self.reference.table(self.reference.test, self.direction.target, self.complete)
        return uncertainty(self._tokenizer, true, draws, self.config.seed, correction)

    @cached_property
    def _correcting(self) -> np.ndarray:
        return correcting_samples(self.reference, self.direction, self.config)

    def _estimates(self, values: Sequence[Sequence[Any]], predicted: np.ndarray | None) -> dict[str, Estimate]:
        """values: draws per sample; predicted: (samples, draws) classes."""
        estimates = {}
        if predicted is not None and self.reference.label and len(self.labelled):
            classes = predicted[np.searchsorted(self.indices, self.labelled)]
            right = classes == self.reference.test.labels(self.reference.label, self.labelled)[:, None]
            estimates["accuracy"] = share(right.mean(1), self._clusters(self.labelled))
        if self._tokenizer.kind == "table" and len(self.complete):
            true = self.reference.table(self.reference.test, self.direction.target, self.complete)
            imputed = np.array([values[row][0] for row in np.searchsorted(self.indices, self.complete)])  # the one row that is the answer
            estimates |= compare_columns(self._tokenizer.one_hot.categorical, true, imputed, self.config.seed)
        if self.reference.cox_models:
            estimates |= self.reference.cox_models.concordance_of(self.direction.target, self.indices, values)
        return estimates

    def _perplexity(self, name: str, imputer: Run) -> dict[str, Estimate]:
        """Perplexity of the true target over the samples that have it; {} where there is none (continuous, or retrieved)."""
        if not len(self.complete) or not self._tokenizer.vocabulary_size or not imputer.has_likelihood:
            return {}
        scored = self.complete[:: -(-len(self.complete) // SCORED_BY_TOKEN)] if imputer.scores_by_token else self.complete
        scores = np.array(imputer.score(self._samples(scored), self.direction.given, self.direction.target), dtype=np.float64)
        if not np.isfinite(scores).all():
            what = f"the run gives no finite likelihood for {self.direction}."
            raise DataError(what, where=name, fix="Its training diverged: train it again.")
        return {"perplexity": perplexity(scores[:, 0], scores[:, 1], self.config.seed, self._clusters(scored))}

    def _shown(self, values: Sequence[Sequence[Any]], predicted: np.ndarray | None) -> Shown:
        """The first draw of the samples to show."""
        rows = np.searchsorted(self.indices, self.shown)
        classes = [str(predicted[row, 0]) if predicted is not None else None for row in rows]
        return {i: (values[row][0], name) for i, row, name in zip(self.shown, rows, classes, strict=True)}

    def _ranked(self, values: Sequence[Sequence[Any]], predicted: np.ndarray | None) -> list[Ranked]:
        """By the first draw, of the samples that have the true target."""
        embedding, count = self.reference.embeddings.get(self.direction.target), min(RANKED, self.config.contact_samples)
        if embedding is None or not count or not len(self.complete):
            return []
        rows = np.searchsorted(self.indices, self.complete)
        true = self.reference.test.values(self.direction.target, self.complete)
        classes = [str(predicted[row, 0]) if predicted is not None else None for row in rows]
        return rank(embedding, self.complete.tolist(), true, [values[row][0] for row in rows], classes, count)

    def _samples_to_show(self, count: int) -> list[int]:
        """Samples to show: complete ones first, and as many classes as possible, in order of their classes."""
        complete, seen = set(self.complete.tolist()), Counter[str]()
        ranked = []
        for i in sorted(self.indices.tolist(), key=lambda i: i not in complete):
            label = self.reference.class_of(i) or ""
            ranked.append((i not in complete, seen[label], label, i))
            seen[label] += 1
        return [i for *_, i in sorted(sorted(ranked)[:count], key=lambda entry: entry[2:])]

    def _clusters(self, indices: np.ndarray) -> np.ndarray:
        """Samples of one number share a source, and so are no independent evidence (see `clusters`)."""
        return clusters(self._samples(indices), [*self.direction.given, self.direction.target])

    def _samples(self, indices: np.ndarray) -> list[Any]:
        return [self.reference.test.samples[i] for i in indices]

    @property
    def _tokenizer(self) -> Any:
        return self.reference.tokenizers[self.direction.target]
