"""Robustness curves: how the accuracy of a probe falls as modalities of held-out samples go missing.

After MultiBench (Liang et al. 2021, arXiv 2107.07502). Every modality of a held-out sample is removed when a number drawn from (seed, key,
modality) is below the rate, so that what is missing at one rate is missing at all higher ones. A run predicts by one linear probe on its
features of the modalities that are left, trained on every subset of modalities that training samples hold; where none is left, the
prediction is the most frequent class. The baseline is late fusion: a logistic regression per modality on principal components of raw
values, whose probabilities are averaged over what is left.

relative robustness    area under the accuracy curve
effective robustness   area between the curve and that of late fusion, after shifting the latter to start at the same accuracy

Both areas are divided by the span of rates: the first is a mean accuracy, the second a mean difference of accuracies. (MultiBench scales
either to [0, 1] among the methods compared, which makes values depend on the other methods.)
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmtool.common.log import track
from mmtool.evaluation.figures.curves import SPARE, Line, draw_curves
from mmtool.evaluation.figures.markdown import table
from mmtool.evaluation.figures.plots import colours
from mmtool.evaluation.study import Row, Study, make_row
from mmtool.evaluation.tasks import Task
from mmtool.evaluation.tasks.probe import fit_classifier, most_frequent, subsets
from mmtool.imputation.imputer import Imputer
from mmtool.metrics.intervals import Estimate, share

RATES = tuple(round(0.1 * step, 1) for step in range(10))
CURVE, RELATIVE, EFFECTIVE = "probe accuracy by missing rate", "relative robustness", "effective robustness"
LATE_FUSION = "late fusion"
MAX_TRAINING = 4000  # views of training samples that the joint probe is trained on
RESAMPLES = 1000
Answer = Callable[[tuple[str, ...]], tuple[np.ndarray, np.ndarray]]


def measure(study: Study) -> Iterator[Row]:
    """Accuracy at every rate (`at`), and the two areas, of every run and of late fusion."""
    assert study.reference.label is not None
    test = study.reference.test
    indices = test.labelled(study.reference.label, np.arange(len(test)))
    indices = np.array([i for i in indices if len(test.samples[i].tokens) > 1], dtype=np.int64)
    known = study.targets("train", study.reference.train.labelled(study.reference.label, np.arange(len(study.reference.train))))
    if not len(indices) or len(set(known)) < 2:
        return
    truth, fallback = study.targets("test", indices), most_frequent(known)
    where = (study.names, study.reference.label, study.reference.graph.seen_together(study.names))
    left = [[remaining(study, int(i), rate) for i in indices] for rate in RATES]
    baseline = _right(late_fusion(study), left, indices, truth, fallback)
    yield from _rows(LATE_FUSION, None, where, baseline, None, study.config.seed)
    for name, imputer in track(study.imputers.items(), "removing modalities", len(study.imputers)):
        right = _right(joint_probe(study, name), left, indices, truth, fallback)
        yield from _rows(name, imputer, where, right, baseline, study.config.seed)


def remaining(study: Study, index: int, rate: float) -> tuple[str, ...]:
    """The modalities that a held-out sample keeps: a pure function of (seed, rate, key)."""
    sample = study.reference.test.samples[index]
    return tuple(name for name in study.names if name in sample.tokens and _chance(study.config.seed, sample.key, name) >= rate)


def joint_probe(study: Study, run: str) -> Answer:
    """One linear probe on features of every subset that training samples hold."""
    held = {frozenset(sample.tokens) for sample in study.reference.train.samples}
    parts = [names for names in subsets(study.names) if any(set(names) <= present for present in held)]
    views = [study.features(run, "train", names) for names in parts]
    features = np.concatenate([matrix for rows, matrix in views if len(rows)])
    classes = np.concatenate([study.targets("train", rows) for rows, _ in views if len(rows)])
    chosen = np.random.default_rng(study.config.seed).permutation(len(classes))[:MAX_TRAINING]
    probe = fit_classifier(features[chosen], classes[chosen], study.config.seed)

    def answer(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        rows, queries = study.features(run, "test", names)
        return rows, probe.predict(queries)

    return answer


def late_fusion(study: Study) -> Answer:
    """Probabilities of one logistic regression per modality, averaged over the modalities that are left."""
    reference = study.reference
    assert reference.label is not None
    classes = np.unique(study.targets("train", reference.train.labelled(reference.label, np.arange(len(reference.train)))))
    known: dict[str, dict[int, np.ndarray]] = {}
    for name, embedding in reference.embeddings.items():
        rows = reference.train.labelled(reference.label, reference.train.having(name))
        queries = reference.test.having(name)
        if len(queries) and len(set(study.targets("train", rows))) > 1:
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, C=0.1))
            model.fit(embedding.transform(reference.train.values(name, rows)), study.targets("train", rows))
            points = embedding.transform(reference.test.values(name))
            probabilities = np.zeros((len(queries), len(classes)))
            probabilities[:, np.searchsorted(classes, model.classes_)] = model.predict_proba(points)
            known[name] = dict(zip(queries.tolist(), probabilities, strict=True))
    uniform = np.full(len(classes), 1 / len(classes))

    def answer(names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        rows = reference.test.having(*names)
        votes = [np.mean([known[name][i] for name in names if name in known] or [uniform], axis=0) for i in rows.tolist()]
        return rows, classes[np.argmax(np.array(votes), axis=1)]

    return answer


def areas(right: np.ndarray, baseline: np.ndarray | None, seed: int) -> dict[str, Estimate]:
    """(rates, N) whether each answer is right, of a run and of the baseline on the same samples -> the two areas."""
    measured = {RELATIVE: right}
    if baseline is not None:
        difference = right - baseline
        measured[EFFECTIVE] = difference - difference[:1]
    return {metric: _mean(_area(values), seed) for metric, values in measured.items()}


def section(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """The part of the report: the curves, and a table of rates and areas."""
    curves = [row for row in rows if row["metric"] == CURVE]
    if not curves:
        return []
    palette = colours({**meta, "baselines": []}) | {LATE_FUSION: SPARE}
    names = [name for name in palette if any(row["run"] == name for row in curves)]
    lines = {name: Line.of([row for row in curves if row["run"] == name]) for name in names}
    title = f"accuracy of {meta['label']} while modalities go missing"
    draw_curves(folder / "robustness", title, [("", lines)], palette, "missing rate", "probe accuracy", percent_x=True)
    of_task = [*curves, *(row for row in rows if row["metric"] in (RELATIVE, EFFECTIVE))]
    return [
        "## Robustness",
        f"Modalities of held-out samples ({' + '.join(curves[0]['given'])}) are removed at random. Relative robustness is the mean "
        "accuracy along the curve, effective robustness the mean lead over late fusion once both start at the same accuracy.",
        "![robustness](robustness.png)",
        table(of_task, "missing rate", lambda row: f"{row['at']:.0%}" if "at" in row else row["metric"], lambda row: row["run"], names),
    ]


def _rows(
    name: str,
    imputer: Imputer | None,
    where: tuple[Sequence[str], str, bool],
    right: np.ndarray,
    baseline: np.ndarray | None,
    seed: int,
) -> Iterator[Row]:
    for rate, values in zip(RATES, right, strict=True):
        yield make_row(name, imputer, *where, CURVE, share(values), at=rate)
    for metric, estimate in areas(right, baseline, seed).items():
        yield make_row(name, imputer, *where, metric, estimate)


def _right(answer: Answer, left: Sequence[Sequence[tuple[str, ...]]], indices: np.ndarray, truth: np.ndarray, fallback: str) -> np.ndarray:
    """(rates, N) 1 where the answer from what is left is right."""
    known: dict[tuple[str, ...], dict[int, str]] = {(): dict.fromkeys(indices.tolist(), fallback)}
    for names in sorted({names for kept in left for names in kept} - {()}):
        rows, classes = answer(names)
        known[names] = dict(zip(rows.tolist(), classes.tolist(), strict=True))
    predicted = [[known[names][i] for names, i in zip(kept, indices.tolist(), strict=True)] for kept in left]
    return (np.array(predicted) == truth).astype(float)


def _chance(seed: int, key: str, name: str) -> float:
    """A number in [0, 1) that only these three decide."""
    digest = hashlib.blake2b(f"{seed}\0{key}\0{name}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little") / 2**56


def _area(values: np.ndarray) -> np.ndarray:
    """(rates, N) -> (N,) trapezoid areas over the equally spaced rates, divided by their span."""
    return ((values[1:] + values[:-1]) / 2).mean(0)


def _mean(values: np.ndarray, seed: int) -> Estimate:
    """Mean of (N,) values, with its spread over resampled samples."""
    random = np.random.default_rng(seed)
    means = [values[random.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate.around(values.mean(), low, high, len(values))


TASK = Task(measure, section, needs="classes")
