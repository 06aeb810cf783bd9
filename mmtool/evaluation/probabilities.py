"""Is a draw right as often as its probability says? The curves that tell it, fitted on validation samples, judged on test samples."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.evaluation.figures.curves import Line, draw_curves
from mmtool.evaluation.figures.markdown import direction_of, run_names, table
from mmtool.evaluation.figures.plots import colours
from mmtool.evaluation.study import Row
from mmtool.imputation.calibration import FILE
from mmtool.imputation.imputer import Imputation
from mmtool.imputation.probability import ProbabilityCurve
from mmtool.metrics.calibration import BINS, bin_of, brier_score, expected_calibration_error
from mmtool.metrics.intervals import Estimate, bootstrap, share

MEAN, ECE, BRIER, BY_PROBABILITY = "mean probability", "expected calibration error", "brier score", "accuracy by probability"
UNCALIBRATED, CALIBRATED = "uncalibrated", "calibrated"
MEASURES = {ECE: expected_calibration_error, BRIER: brier_score}
TITLES = {MEAN: "Mean probability (the accuracy is that by *chance* above)", ECE: "Expected calibration error", BRIER: "Brier score"}


def judged(
    curves: Mapping[str, ProbabilityCurve], answers: Sequence[Imputation], right: np.ndarray, seed: int
) -> Iterator[tuple[str, Estimate, float | None]]:
    """(metric, estimate, place on the x-axis of a curve) of the probabilities of these draws, by the score that ranks them; right:
    (N, draws). As drawn, the probability is e to the score: the mean probability of a code, which is what one might take it for."""
    score, _ = answers[0].score()
    scores = np.array([answer.score()[1] for answer in answers])
    right = right.astype(float)
    for name, probability in ((UNCALIBRATED, np.exp(np.minimum(scores, 0))), (CALIBRATED, curves[score](scores))):
        for metric, estimate, at in _of_probability(probability, right, seed):
            yield _named(metric, name), estimate, at


def _of_probability(probability: np.ndarray, right: np.ndarray, seed: int) -> Iterator[tuple[str, Estimate, float | None]]:
    yield MEAN, share(probability.mean(1)), None
    for metric, measure in MEASURES.items():
        yield metric, bootstrap(partial(_measured, measure, probability, right), len(right), seed), None
    index, sample = bin_of(probability), np.indices(right.shape)[0]
    for number in np.unique(index):
        inside = index == number
        accuracy = replace(share(right[inside], sample[inside]), n=len(np.unique(sample[inside])))
        yield BY_PROBABILITY, accuracy, (float(number) + 0.5) / BINS


def _measured(measure: Callable[[np.ndarray, np.ndarray], float], probability: np.ndarray, right: np.ndarray, rows: np.ndarray) -> float:
    """Of all draws of the samples at `rows` (bootstrap resamples samples, whose draws belong together)."""
    return measure(probability[rows].ravel(), right[rows].ravel())


def paragraphs(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """The part of the report: probabilities before and after; nothing where none were fitted."""
    fitted = [row["validation_samples"] for row in rows if row["metric"] == _named(ECE, CALIBRATED)]
    if not fitted:
        return []
    panels = [(name, _lines(_named(BY_PROBABILITY, name), rows, meta)) for name in (UNCALIBRATED, CALIBRATED)]
    title = "is a draw right as often as its probability says?"
    draw_curves(folder / "probability", title, panels, colours(meta), "probability", "accuracy", percent_x=True, diagonal=True)
    many = f"{min(fitted)} to {max(fitted)}" if min(fitted) < max(fitted) else str(fitted[0])
    parts = [
        "### Probability of being right",
        "A draw is right where the reference classifier finds the true class in it. *Uncalibrated*: e to the score by which draws are "
        "ranked (consistency, or likelihood), in mean nats per token. *Calibrated*: a logistic curve of that score (Platt scaling), fitted "
        f"to validation samples ({many} of a direction) and judged on test samples; `mmtool impute --calibration` writes it ({FILE}).",
        "![probability](probability.png)",
    ]
    for metric, words in TITLES.items():
        names = {_named(metric, name): f"{{}}, {name}" for name in (UNCALIBRATED, CALIBRATED)}
        shown = [{**row, "run": names[row["metric"]].format(row["run"])} for row in rows if row["metric"] in names]
        order = [title.format(run) for run in run_names(meta) for title in names.values()]
        parts += [f"{words}:", table(shown, "direction", direction_of, lambda row: row["run"], order)]
    return parts


def pooled(rows: Sequence[Row]) -> list[Row]:
    """One row per bin: the mean over directions, weighted by samples, with the interval of a share of that many."""
    means = []
    for at, group in groupby(sorted(rows, key=lambda row: row["at"]), key=lambda row: row["at"]):
        part = list(group)
        weights = np.array([row["n"] for row in part], float)
        mean = float(np.average([row["value"] for row in part], weights=weights))
        estimate = share(np.full(int(weights.sum()), mean))
        means.append({"at": at, "value": mean, "low": estimate.low, "high": estimate.high})
    return means


def _lines(metric: str, rows: Sequence[Row], meta: Mapping[str, Any]) -> dict[str, Line]:
    """All directions together, of each run that has any."""
    lines = {name: Line.of(pooled([row for row in rows if (row["metric"], row["run"]) == (metric, name)])) for name in run_names(meta)}
    return {name: line for name, line in lines.items() if line.x}


def _named(metric: str, how: str) -> str:
    return f"{metric}, {how}"
