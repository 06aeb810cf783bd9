"""Does a run know when it is right? The reference classifier predicts the class of several draws per missing modality.

Ranking: accuracy of the draw that consistency (how well the given modalities are predicted from it) puts first, of the likeliest draw, of
any draw (chance), and the share of samples for which at least one draw is right (the bound of every ranking).

Calibration: the class that most draws are classified as is the answer, the share of draws that agree with it the confidence. A calibrated
run is right as often as its draws agree; the expected calibration error is the mean gap between the two, weighted by samples.

Probability: how often a draw of its score is right, fitted on validation samples (see probabilities.py). Tables have none, as their draws
are averaged.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.common.log import log, track
from mmtool.data.sample import Sample
from mmtool.evaluation.directions import Direction, directions
from mmtool.evaluation.figures.curves import Line, draw_curves
from mmtool.evaluation.figures.markdown import by_direction, direction_of, table
from mmtool.evaluation.figures.plots import colours, draw_bars
from mmtool.evaluation.probabilities import judged, paragraphs, pooled
from mmtool.evaluation.reference.decoded import DecodedSamples, decode_all
from mmtool.evaluation.study import Row, Study, make_row
from mmtool.evaluation.tasks import Task
from mmtool.imputation.calibration import key_of
from mmtool.imputation.imputer import Imputation, Imputer
from mmtool.imputation.probability import MIN_SAMPLES, ProbabilityCurve, curves_of
from mmtool.metrics.intervals import Estimate, bootstrap, share
from mmtool.tokenizers.base import ValueCodes

DRAWS, MAX_SAMPLES = 8, 200
BEST = f"accuracy, best of {DRAWS} by "
CONSISTENCY, LIKELIHOOD, CHANCE = BEST + "consistency", BEST + "likelihood", BEST + "chance"
ANY = f"accuracy, any of {DRAWS}"
RANKINGS = (CHANCE, LIKELIHOOD, CONSISTENCY, ANY)
BY_RANK, BY_AGREEMENT, ERROR = "accuracy by consistency rank", "accuracy by agreement", "calibration error"


def measure(study: Study) -> Iterator[Row]:
    """Rows of every run and direction; curves have the rank, the agreement or the probability as their place `at`."""
    classified = [
        direction for direction in directions(study.names, study.reference.graph) if direction.target in study.reference.classifiers
    ]
    for direction in track(classified, "drawing"):
        test = _labelled(study, study.reference.test, direction)
        for name, imputer in study.imputers.items():
            if test and imputer.graph.path(direction.given, direction.target):
                yield from _of_run(study, name, imputer, direction, test)


def _of_run(study: Study, name: str, imputer: Imputer, direction: Direction, test: Sequence[Sample]) -> Iterator[Row]:
    seed, where = study.config.seed, (direction.given, direction.target, direction.seen(imputer.graph))
    answers, predicted, truth = _drawn(study, imputer, direction, test)
    for metric, estimate in ranking(answers, predicted == truth[:, None]).items():
        yield make_row(name, imputer, *where, metric, estimate)
    if answers[0].consistency is not None:
        ordered = _in_order(predicted == truth[:, None], [answer.consistency or [] for answer in answers])
        for rank, values in enumerate(ordered.T, 1):
            yield make_row(name, imputer, *where, BY_RANK, share(values), at=rank)
    agreement, right = plurality(predicted, truth)
    for level in np.unique(agreement):
        yield make_row(name, imputer, *where, BY_AGREEMENT, share(right[agreement == level]), at=float(level))
    estimate = bootstrap(lambda rows: calibration_error(agreement[rows], right[rows]), len(right), seed)
    yield make_row(name, imputer, *where, ERROR, estimate)
    curves = _curves(study, imputer, direction)
    if curves:
        study.curves[name][key_of(direction.given, direction.target)] = curves
        fitted = {"validation_samples": max(curve.samples for curve in curves.values())}
        for metric, estimate, at in judged(curves, answers, predicted == truth[:, None], seed):
            yield {**make_row(name, imputer, *where, metric, estimate, at), **fitted}


def _drawn(
    study: Study, imputer: Imputer, direction: Direction, samples: Sequence[Sample]
) -> tuple[list[Imputation], np.ndarray, np.ndarray]:
    """Draws of labelled samples, (N, DRAWS) their classes by the reference classifier, and (N,) the true ones."""
    reference = study.reference
    answers = imputer.impute(
        samples, direction.given, direction.target,
        seed=study.config.seed, params=study.config.params, draws=DRAWS, consistency=True,
    )  # fmt: skip
    flat = decode_all(reference.tokenizers[direction.target], [tokens for answer in answers for tokens in answer.tokens])
    predicted = reference.classifiers[direction.target].predict(flat).reshape(-1, DRAWS).astype(str)
    return answers, predicted, np.array([str(sample.labels[str(reference.label)]) for sample in samples])


def _curves(study: Study, imputer: Imputer, direction: Direction) -> dict[str, ProbabilityCurve]:
    """How probable draws are right by their scores, told by validation samples; where these do not tell it, that is said."""
    validation = study.reference.validation
    if validation is None or isinstance(study.reference.tokenizers[direction.target], ValueCodes):
        return {}
    samples = _labelled(study, validation, direction)
    if len(samples) < MIN_SAMPLES:
        few = f"{len(samples)} labelled validation samples hold what is given, of {MIN_SAMPLES} or more that it takes"
        log(f"no probability of being right is fitted to {direction}: {few}")
        return {}
    answers, predicted, truth = _drawn(study, imputer, direction, samples)
    curves = curves_of(answers, predicted == truth[:, None])
    if not curves:
        log(f"no probability of being right is fitted to {direction}: all draws for validation samples are right, or all are wrong")
    return curves


def ranking(answers: Sequence[Imputation], right: np.ndarray) -> dict[str, Estimate]:
    """Accuracy of each way to choose among the draws; right: (N, draws)."""
    right = right.astype(float)
    accuracies = {CHANCE: share(right.mean(1)), LIKELIHOOD: share(_in_order(right, [answer.log_likelihood for answer in answers])[:, 0])}
    if answers[0].consistency is not None:
        accuracies[CONSISTENCY] = share(_in_order(right, [answer.consistency or [] for answer in answers])[:, 0])
    return accuracies | {ANY: share(right.max(1))}


def plurality(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """predicted: (N, draws) classes. (share of draws of the most frequent class, 1 where that class is right), both (N,)."""
    agreement, right = np.zeros(len(predicted)), np.zeros(len(predicted))
    for place, (votes, true) in enumerate(zip(predicted, truth, strict=True)):
        names, counts = np.unique(votes, return_counts=True)
        leading = names[counts == counts.max()]
        agreement[place] = counts.max() / len(votes)
        right[place] = (true in leading) / len(leading)
    return agreement, right


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean gap between confidence and accuracy over the levels of confidence, weighted by samples (Guo et al. 2017, arXiv 1706.04599)."""
    levels = np.unique(confidence)
    gaps = [abs(right[confidence == level].mean() - level) * (confidence == level).sum() for level in levels]
    return float(np.sum(gaps) / len(confidence))


def section(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """The part of the report: what ranking gains, and whether agreement can be trusted."""
    chosen = [row for row in rows if row["metric"] in RANKINGS]
    if not chosen:
        return []
    shown = [{**row, "run": f"{row['run']}: {_short(row['metric'])}"} for row in chosen]
    names = [f"{run['name']}: {_short(way)}" for run in meta["runs"] for way in RANKINGS]
    figures = [_draw_ranking(folder, place, run["name"], chosen, meta) for place, run in enumerate(meta["runs"], 1)]
    panels = _panels(rows, meta)
    title = f"is a run right as often as its {DRAWS} draws agree?"
    x_label = "share of draws of the same class"
    draw_curves(folder / "calibration", title, panels, colours(meta), x_label, "accuracy", percent_x=True, diagonal=True)
    return [
        "## Confidence",
        f"{DRAWS} draws per missing modality. *chance* is the accuracy of one draw, *any of {DRAWS}* the share of samples with a right "
        "draw among them: no ranking can do better.",
        *(f"![ranking]({figure}.png)" for figure in figures if figure),
        table(shown, "direction", direction_of, lambda row: row["run"], names),
        "### Calibration",
        "The confidence is the share of draws that are classified as the same class; the error its mean distance from the accuracy.",
        "![calibration](calibration.png)",
        by_direction(ERROR, rows, meta),
        *paragraphs(folder, rows, meta),
    ]


def _draw_ranking(folder: Path, place: int, run: str, rows: Sequence[Row], meta: Mapping[str, Any]) -> str | None:
    """One figure per run, as colours stand for ways of ranking; None for a run that has no draws."""
    of_run = [{**row, "run": _short(row["metric"])} for row in rows if row["run"] == run]
    if not of_run:
        return None
    ranked = {**meta, "runs": [{"name": _short(way)} for way in RANKINGS], "baselines": []}
    draw_bars(folder / f"ranking-{place}", f"accuracy of the best of {DRAWS} draws of {run}, by what ranks them", of_run, ranked)
    return f"ranking-{place}"


def _short(metric: str) -> str:
    return metric.removeprefix(BEST).removeprefix("accuracy, ")


def _panels(rows: Sequence[Row], meta: Mapping[str, Any]) -> list[tuple[str, dict[str, Line]]]:
    """Agreement against accuracy, all directions together, apart for what was seen and never seen."""
    panels = []
    for seen, title in ((False, "never seen together"), (True, "seen together")):
        of_panel = [row for row in rows if row["metric"] == BY_AGREEMENT and row["seen"] is seen]
        lines = {run["name"]: Line.of(pooled([row for row in of_panel if row["run"] == run["name"]])) for run in meta["runs"]}
        if of_panel:
            panels.append((title, {name: line for name, line in lines.items() if line.x}))
    return panels


def _labelled(study: Study, side: DecodedSamples, direction: Direction) -> list[Sample]:
    """At most `MAX_SAMPLES` random labelled samples of a side that hold what is given."""
    assert study.reference.label is not None
    rows = side.labelled(study.reference.label, side.having(*direction.given))
    return [side.samples[i] for i in np.sort(np.random.default_rng(study.config.seed).permutation(rows)[:MAX_SAMPLES])]


def _in_order(right: np.ndarray, scores: Sequence[Sequence[float]]) -> np.ndarray:
    """(N, draws) with the draw of the highest score first in every row."""
    return np.take_along_axis(right, np.argsort(-np.array(scores), axis=1, kind="stable"), 1).astype(float)


TASK = Task(measure, section, needs="classes", upper_bounds=("accuracy",))
