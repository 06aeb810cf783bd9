"""The task `ood`: out-of-distribution detection by the features of every subset of modalities.

Mahalanobis distance (Lee et al. 2018, arXiv 1807.03888): features of training samples are fitted by one Gaussian per class with a common
covariance (shrunk after Ledoit and Wolf), and the score of a held-out sample is its distance to the nearest class. Without
classes there is one Gaussian. `ood auroc` is the chance that an out-of-distribution sample lies farther than one in distribution.

Which samples are out of distribution (`--ood`): those of other shards; some classes of the label, which the Gaussians are then fitted
without; or, where nothing is named, each class in turn, and the mean over classes. Pretraining saw no label, but may have seen samples
of the last two kinds: the question is whether unlabelled features set them apart.

Beside the runs stands the same distance on principal components of the raw values.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.covariance import ledoit_wolf

from mmtool.common.errors import UsageError
from mmtool.common.log import track
from mmtool.data.held_out import open_held_out
from mmtool.data.sample import SPLITS, Sample
from mmtool.data.shards import TokenSet
from mmtool.evaluation.figures.markdown import by_direction, subset_of
from mmtool.evaluation.figures.plots import draw_bars
from mmtool.evaluation.reference.data import Reference, draw_test
from mmtool.evaluation.reference.decoded import DecodedSamples
from mmtool.evaluation.study import Row, Side, Study, make_row
from mmtool.evaluation.tasks import Task
from mmtool.evaluation.tasks.probe import subsets, training_views
from mmtool.metrics.intervals import Estimate, bootstrap

AUROC, RAW = "ood auroc", "raw values"
SIDES: tuple[Side, Side] = ("train", "test")


@dataclass(frozen=True)
class OutOfDistribution:
    """name: in the report. samples: of other data; otherwise the `classes` of the label, or every class in turn where there are none."""

    name: str
    samples: DecodedSamples | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Points:
    """Features (n, D) of training samples and their classes (n,), of held-out samples, and of out-of-distribution ones."""

    train: np.ndarray
    train_classes: np.ndarray
    test: np.ndarray
    test_classes: np.ndarray
    ood_samples: np.ndarray


def ood_label(text: str | None) -> str | None:
    """The label that `LABEL=VALUE,...` names; None for shards or nothing."""
    return None if text is None or "=" not in text or Path(text).exists() else text.partition("=")[0]


def ood_shards(text: str | None, limit: int | None, seed: int) -> tuple[TokenSet, list[Sample]] | None:
    """The held-out split of shards that `--ood` names, and the samples to use; None where it names none."""
    if text is None or ood_label(text):
        return None
    held_out = open_held_out(Path(text))
    return held_out, draw_test(held_out, limit, seed)


def read_ood(text: str | None, reference: Reference, samples: Sequence[Sample] | None) -> OutOfDistribution:
    """The out-of-distribution samples of `--ood`, given those of `ood_shards`.

    Raises UsageError where it names no classes, or all or none of them.
    """
    if samples is not None:
        path = Path(text or "").resolve()
        return OutOfDistribution(path.parent.name if path.name in SPLITS else path.name, DecodedSamples(samples, reference.tokenizers))
    classes = tuple(value for value in (text or "").partition("=")[2].split(",") if value)
    if text and (ood_label(text) != reference.label or not set(classes) < set(reference.classes) or not classes):
        listed = ", ".join(reference.classes[:20]) or "none"
        fix = f"Write LABEL=VALUE,... with some classes of the label {reference.label} ({listed}), or give shards."
        raise UsageError(f"{text!r} names no out-of-distribution samples.", where="--ood", fix=fix)
    return OutOfDistribution(text or f"each {reference.label} in turn", classes=classes)


def measure(study: Study) -> Iterator[Row]:
    """Rows with given=subset and target=the out-of-distribution samples, of every run (with every pooling) and of raw values."""
    ood_samples, seed = read_ood(study.config.ood.samples, study.reference, study.ood_samples), study.config.seed
    for names in track(subsets(study.names), "detecting out-of-distribution samples"):
        where = (names, ood_samples.name, study.reference.graph.seen_together(names))
        for name, imputer in study.imputers.items():
            for place, pooling in enumerate(imputer.poolings):
                way = f" ({pooling} pooling)" if place else ""
                for metric, estimate in aurocs(_of_run(study, ood_samples.samples, name, names, pooling), ood_samples, seed):
                    yield make_row(name, imputer, *where, metric + way, estimate)
        for metric, estimate in aurocs(_of_raw_values(study, ood_samples.samples, names), ood_samples, seed):
            yield make_row(RAW, None, *where, metric, estimate)


def aurocs(points: Points, ood_samples: OutOfDistribution, seed: int) -> Iterator[tuple[str, Estimate]]:
    """The metric, and where every class is left out in turn also that of each class; nothing where there are no samples to compare."""
    known = sorted(set(points.train_classes) & set(points.test_classes))
    if ood_samples.samples is not None:
        held_out: list[tuple[str, ...]] = [()]
    elif ood_samples.classes:
        held_out = [ood_samples.classes]
    else:
        held_out = [(name,) for name in known] if len(known) > 1 else []
    if not held_out:
        return
    pool = np.concatenate([points.test, points.ood_samples.reshape(-1, points.test.shape[1])])
    classes = np.concatenate([points.test_classes, np.full(len(pool) - len(points.test), None)])
    positives = np.array([[name is None or name in left_out for name in classes] for left_out in held_out])
    kept = [~np.isin(points.train_classes, left_out) for left_out in held_out]
    if not all(rows.sum() > 1 for rows in kept) or not all(0 < row.sum() < len(row) for row in positives):
        return
    far = np.array([distances(points.train[rows], points.train_classes[rows], pool) for rows in kept])

    def mean_auroc(rows: np.ndarray) -> float:
        values = np.array([auroc(scores[rows], positive[rows]) for scores, positive in zip(far, positives, strict=True)])
        return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else math.nan  # a resample may miss a class

    yield AUROC, bootstrap(mean_auroc, len(pool), seed)
    if ood_samples.samples is None and not ood_samples.classes:
        for (name,), scores, positive in zip(held_out, far, positives, strict=True):
            yield f"{AUROC} of {name}", bootstrap(lambda rows, s=scores, p=positive: auroc(s[rows], p[rows]), len(pool), seed)  # type: ignore[misc]


def distances(train: np.ndarray, classes: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """(Q,) squared Mahalanobis distance of each query to the nearest class of the training points."""
    scale = train.std(0) + 1e-12
    train, queries = train / scale, queries / scale
    means = np.stack([train[classes == name].mean(0) for name in np.unique(classes)])
    spread = train - means[np.searchsorted(np.unique(classes), classes)]
    inverse = np.linalg.inv(np.linalg.cholesky(ledoit_wolf(spread, assume_centered=True)[0] + 1e-9 * np.eye(train.shape[1])))
    whitened, centres = queries @ inverse.T, means @ inverse.T
    squares = np.square(whitened).sum(1)[:, None] - 2 * whitened @ centres.T + np.square(centres).sum(1)
    return squares.min(1)


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """The chance that a positive scores higher than another one (ties count half); NaN where there is only one kind."""
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    if not num_positive or not num_negative:
        return float("nan")
    return float((rankdata(scores)[positive].sum() - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative))


def section(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """The part of the report: a figure, and a table for each pooling."""
    of_metric = [row for row in rows if row["metric"] == AUROC]
    if not of_metric:
        return []
    title = f"AUROC of detecting {of_metric[0]['target']}"
    draw_bars(folder / "ood", title, [{**row, "target": "out of distribution"} for row in of_metric], {**meta, "baselines": [RAW]})
    ways = [name for name in dict.fromkeys(row["metric"] for row in rows) if name.startswith(f"{AUROC} (")]
    lead = (
        f"Out of distribution: {of_metric[0]['target']}. AUROC of the Mahalanobis distance to the nearest class of training features "
        f"(chance 50 %), beside that of principal components of the raw values (*{RAW}*)."
    )
    tables = [by_direction(way, rows, meta, f"subset{way.removeprefix(AUROC)}", subset_of) for way in (AUROC, *ways)]
    return ["## Out-of-distribution detection", lead, "![out-of-distribution detection](ood.png)", *tables]


def _of_run(study: Study, ood_samples: DecodedSamples | None, run: str, names: Sequence[str], pooling: str) -> Points:
    views = training_views(study, run, names, pooling)
    rows, test = study.features(run, "test", names, pooling)
    train = np.concatenate([matrix for _, matrix in views]) if views else test[:0]
    classes = [_classes(study, "train", part) for part, _ in views]
    held = ood_samples.having(*names) if ood_samples else np.zeros(0, np.int64)
    ood = study.imputers[run].features([ood_samples.samples[i] for i in held], names, pooling) if ood_samples and len(held) else test[:0]
    return Points(train, np.concatenate(classes) if classes else np.zeros(0, object), test, _classes(study, "test", rows), ood)


def _of_raw_values(study: Study, ood_samples: DecodedSamples | None, names: Sequence[str]) -> Points:
    reference = study.reference
    if not all(name in reference.embeddings for name in names):
        return Points(*(np.zeros(shape) for shape in ((0, 1), 0, (0, 1), 0, (0, 1))))

    def embedded(side: DecodedSamples, rows: np.ndarray) -> np.ndarray:
        parts = [reference.embeddings[name].transform(side.values(name, rows)) for name in names] if len(rows) else []
        return np.hstack(parts) if parts else np.zeros((0, sum(_width(reference, name) for name in names)))

    train, test = (_labelled(study, side, study.side(side).having(*names)) for side in SIDES)
    ood = embedded(ood_samples, ood_samples.having(*names)) if ood_samples else embedded(study.side("test"), test[:0])
    sides = [(embedded(study.side(side), rows), _classes(study, side, rows)) for side, rows in zip(SIDES, (train, test), strict=True)]
    return Points(*sides[0], *sides[1], ood)


def _width(reference: Reference, name: str) -> int:
    return reference.embeddings[name].transform(reference.train.values(name)[:1]).shape[1]


def _labelled(study: Study, side: Side, rows: np.ndarray) -> np.ndarray:
    return study.side(side).labelled(study.reference.label, rows) if study.reference.label else rows


def _classes(study: Study, side: Side, rows: np.ndarray) -> np.ndarray:
    """(n,) classes; all alike where there are none."""
    return np.asarray(study.targets(side, rows), object) if study.reference.classes else np.full(len(rows), "", object)


TASK = Task(measure, section, needs="ood_samples")
