"""Linear probes: how much of the label a linear model predicts from frozen features of every subset of modalities.

For a subset S the features are `Imputer.features(samples, S)`, of held-out samples that hold all of S. What the probe is trained on:

* S seen together: the training samples that hold all of S, seen through S alone.
* S never seen together: no training sample holds S. Each training sample is seen through the part of S it holds, and the probe is trained
  on the union of these views; a part that lies inside another one that occurs is left out. From pairs (a, b) and (b, c), the probe of
  {a, c} is trained on views {a} and {c}, that of {a, b, c} on {a, b} and {b, c}. It is tested on whole S, of which it saw no example:
  it works as far as the features of S lie where those of its parts do.

Classes: multinomial logistic regression, the penalty chosen by cross-validation on the training part. Numbers: ridge regression.
Few-shot probes are trained on k training samples per class, drawn several times, with the penalty fixed at 1.

A run that has several poolings (the state of a CLS token, the mean of all states) is probed with each; the metric names those that are
not its usual one.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mmtool.common.log import track
from mmtool.evaluation.figures.curves import Line, draw_curves
from mmtool.evaluation.figures.markdown import by_direction, subset_of
from mmtool.evaluation.figures.plots import colours, draw_bars
from mmtool.evaluation.study import Row, Study, make_row
from mmtool.evaluation.tasks import Task
from mmtool.metrics.intervals import crossed, r_squared, share

ACCURACY, R2, MAJORITY = "probe accuracy", "probe r2", "most frequent class"
SHOTS, SHOT_DRAWS = (1, 5, 10, 20), 10
PENALTIES = (0.01, 0.1, 1.0, 10.0)  # C of the logistic regression, on standardised features
FOLDS = 3
MANY = 5  # with more modalities than this only subsets of one, two, all but one and all are probed


def measure(study: Study) -> Iterator[Row]:
    """Rows with given=subset and target=label; of every run, and of always predicting the most frequent class."""
    assert study.reference.label is not None
    probes = [
        (names, run, index, pooling)
        for names in subsets(study.names)
        for run, imputer in study.imputers.items()
        for index, pooling in enumerate(imputer.poolings)
    ]
    for names, run, index, pooling in track(probes, "probing"):
        imputer, way = study.imputers[run], f" ({pooling} pooling)" if index else ""
        features, targets = training_part(study, run, names, pooling)
        rows, queries = study.features(run, "test", names, pooling)
        if not len(rows) or len(set(targets)) < 2:
            continue
        truth, seen = study.targets("test", rows), imputer.graph.seen_together(names)
        where = (names, study.reference.label, seen)
        if study.reference.regression:
            predicted = fit_ridge(features, targets).predict(queries)
            yield make_row(run, imputer, *where, R2 + way, r_squared(truth, predicted, study.config.seed))
            continue
        if run == next(iter(study.imputers)) and not index:
            yield make_row(MAJORITY, None, *where, ACCURACY, share(truth == most_frequent(targets)))
        probe = fit_classifier(features, targets, study.config.seed)
        yield make_row(run, imputer, *where, ACCURACY + way, share(probe.predict(queries) == truth))
        for shots, right in few_shots(features, targets, queries, truth, study.config.seed):
            yield make_row(run, imputer, *where, f"{ACCURACY}{way}, {shots} shots", crossed(right, study.config.seed), at=shots)


def subsets(names: Sequence[str]) -> list[tuple[str, ...]]:
    """All non-empty subsets, the small ones first; of many modalities only those of one, two, all but one and all."""
    sizes = range(1, len(names) + 1) if len(names) <= MANY else sorted({1, 2, len(names) - 1, len(names)})
    return [subset for size in sizes for subset in combinations(names, size)]


def views(present: Sequence[frozenset[str]], names: Sequence[str]) -> list[tuple[str, ...]]:
    """The largest parts of `names` that training samples hold, given the sets of modalities they hold."""
    parts = {held & set(names) for held in present} - {frozenset()}
    largest = [part for part in parts if not any(part < other for other in parts)]
    return sorted(tuple(name for name in names if name in part) for part in largest)


def training_part(study: Study, run: str, names: Sequence[str], pooling: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """(features (N, D), targets (N,)) of training samples, each seen through the part of `names` that occurs."""
    parts = training_views(study, run, names, pooling)
    if not parts:
        return np.zeros((0, 1)), np.zeros(0)
    targets = np.concatenate([study.targets("train", rows) for rows, _ in parts])
    return np.concatenate([matrix for _, matrix in parts]), targets


def training_views(study: Study, run: str, names: Sequence[str], pooling: str | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """(indices (n,), features (n, D)) of training samples for each part of `names` that occurs."""
    parts = views([frozenset(sample.tokens) for sample in study.reference.train.samples], names)
    features = [study.features(run, "train", part, pooling) for part in parts]
    return [(rows, matrix) for rows, matrix in features if len(rows)]


def fit_classifier(features: np.ndarray, classes: np.ndarray, seed: int) -> Any:
    """Standardised features, then logistic regression with the penalty of the best cross-validated accuracy."""
    folds = min(FOLDS, int(np.unique(classes, return_counts=True)[1].min()))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    if folds < 2:
        return _fit(model, features, classes)
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    return _fit(GridSearchCV(model, {"logisticregression__C": list(PENALTIES)}, cv=split), features, classes)


def fit_ridge(features: np.ndarray, numbers: np.ndarray) -> Any:
    """Standardised features, then ridge regression with the penalty of the best leave-one-out error."""
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13))).fit(features, numbers)


def few_shots(
    features: np.ndarray, classes: np.ndarray, queries: np.ndarray, truth: np.ndarray, seed: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(k, (draws, N) whether each query was right) for every k of which each class has enough training samples."""
    indices = [np.flatnonzero(classes == name) for name in np.unique(classes)]
    for shots in SHOTS:
        if min(len(index) for index in indices) < shots:
            return
        random = np.random.default_rng((seed, shots))
        drawn = [np.concatenate([random.permutation(index)[:shots] for index in indices]) for _ in range(SHOT_DRAWS)]
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        yield shots, np.stack([_fit(model, features[rows], classes[rows]).predict(queries) == truth for rows in drawn]).astype(float)


def _fit(model: Any, features: np.ndarray, classes: np.ndarray) -> Any:
    """Weak penalties may use up their iterations: such a probe is evaluated as it is, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, classes)


def most_frequent(classes: np.ndarray) -> str:
    names, counts = np.unique(classes, return_counts=True)
    return str(names[counts.argmax()])


def section(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """The part of the report: probes of every subset, and curves over the number of shots."""
    of_task = [row for row in rows if row["metric"].startswith((ACCURACY, R2)) and row["target"] == meta["label"]]
    if not of_task:
        return []
    metric = R2 if any(row["metric"] == R2 for row in of_task) else ACCURACY
    title = f"linear probes of {meta['label']} on frozen features of each subset of modalities"
    heads = [row for row in of_task if row["metric"] == metric]
    draw_bars(folder / "probes", title, heads, {**meta, "baselines": [MAJORITY]})
    parts = ["## Linear probes", "Subsets in **bold** never occurred together in training; their probes were trained on their parts."]
    parts += ["![linear probes](probes.png)", by_direction(metric, heads, meta, "subset", subset_of)]
    ways = [name for name in dict.fromkeys(row["metric"] for row in of_task) if name.startswith(metric) and name.endswith("pooling)")]
    parts += [by_direction(way, of_task, meta, f"subset{way.removeprefix(metric)}", subset_of) for way in ways]
    curves = [row for row in of_task if row["metric"].endswith("shots")]
    if curves:
        _draw_shots(folder / "few_shots", [row for row in curves if "pooling" not in row["metric"]], meta)
        parts += ["### Few shots", f"Mean over {SHOT_DRAWS} draws of k labelled training samples per class."]
        parts += ["![few-shot probes](few_shots.png)"]
        for name in dict.fromkeys(row["metric"] for row in curves):
            shots = name.removeprefix(f"{ACCURACY}, ")
            parts.append(f"**{shots} per class**\n\n{by_direction(name, curves, meta, 'subset', subset_of)}")
    return parts


def _draw_shots(stem: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> None:
    panels = []
    for names in dict.fromkeys(tuple(row["given"]) for row in rows):
        of_subset = [row for row in rows if tuple(row["given"]) == names]
        seen = any(row["seen"] for row in of_subset)
        lines = {run["name"]: Line.of([row for row in of_subset if row["run"] == run["name"]]) for run in meta["runs"]}
        panels.append((" + ".join(names) + ("" if seen else " (never seen)"), {name: line for name, line in lines.items() if line.x}))
    draw_curves(
        stem, f"few-shot probes of {meta['label']}", panels, colours(meta), "labelled samples per class", "accuracy", logarithmic=True
    )


TASK = Task(measure, section, needs="label")
