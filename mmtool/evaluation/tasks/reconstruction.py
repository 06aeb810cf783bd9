"""The task `reconstruct`: masked tokens of held-out samples, predicted from visible ones, as in the training of masked methods.

The share of tokens that is masked in every modality of a sample is that of training, or `--mask-ratio`. What is masked of a modality is
predicted twice: from all that is visible of the sample, and from what is visible of that modality alone.

masked accuracy    share of masked codes that are predicted right, mean over samples (Wilson's interval), beside always predicting
                   the code that is most frequent in training
masked r2          share of the variance of masked values of patches that is explained, pooled over samples (bootstrap)

The sheet shows samples masked, reconstructed and as they are; see reconstruction_sheet.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.common.log import track
from mmtool.common.storage import atomic_file
from mmtool.data.sample import Sample
from mmtool.evaluation.figures.markdown import by_direction
from mmtool.evaluation.figures.plots import draw_bars
from mmtool.evaluation.figures.reconstruction_sheet import draw_sheet
from mmtool.evaluation.study import Row, Study, make_row
from mmtool.evaluation.tasks import Task
from mmtool.imputation.imputer import Imputer
from mmtool.metrics.intervals import Estimate, bootstrap, share

ACCURACY, R2, FREQUENT = "masked accuracy", "masked r2", "most frequent code"
SHEETS = "reconstructions*.png"


def measure(study: Study) -> Iterator[Row]:
    """Rows with target=modality and given=what is partly visible, of every run that predicts masked tokens."""
    baselines: set[tuple[str, tuple[str, ...]]] = set()
    for name, imputer in track(_runs(study), "reconstructing"):
        for target in study.names:
            for given in _views(study, target):
                samples = study.samples("test", study.reference.test.having(*given))
                seen = imputer.graph.seen_together(given)
                masks = imputer.hide(samples, study.config.reconstruct.mask_ratio, study.config.seed)
                if not seen or not any(of_sample[target].any() for of_sample in masks):
                    continue
                predicted = imputer.reconstruct(samples, given, masks)
                for metric, estimate in score(samples, predicted, masks, target, study.config.seed).items():
                    yield make_row(name, imputer, given, target, seen, metric, estimate)
                if samples[0].tokens[target].ndim == 1 and (target, given) not in baselines:
                    baselines.add((target, given))
                    yield make_row(FREQUENT, None, given, target, seen, ACCURACY, _frequent(study, samples, masks, target))


def score(
    samples: Sequence[Sample],
    predicted: Sequence[Mapping[str, np.ndarray]],
    masks: Sequence[Mapping[str, np.ndarray]],
    target: str,
    seed: int,
) -> dict[str, Estimate]:
    """How well the masked tokens of `target` are predicted; samples of which none is masked do not count."""
    pairs = [
        (sample.tokens[target][mask[target]], tokens[target][mask[target]])
        for sample, tokens, mask in zip(samples, predicted, masks, strict=True)
        if mask[target].any()
    ]
    if pairs[0][0].ndim == 1:
        return {ACCURACY: share(np.array([(true == guess).mean() for true, guess in pairs]))}
    mean = np.concatenate([true for true, _ in pairs]).mean(0)
    errors = np.array([np.square(true.astype(float) - guess).sum() for true, guess in pairs])
    spreads = np.array([np.square(true - mean).sum() for true, _ in pairs])
    return {R2: bootstrap(lambda rows: float(1 - errors[rows].sum() / max(spreads[rows].sum(), 1e-12)), len(pairs), seed)}


def section(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """The part of the report: a table and a figure of each metric, and the sheets that are there."""
    parts = []
    for metric, title in ((ACCURACY, "accuracy of masked codes"), (R2, "R² of masked values")):
        of_metric = [row for row in rows if row["metric"] == metric]
        if of_metric:
            stem = metric.replace(" ", "_")
            draw_bars(folder / stem, title, of_metric, {**meta, "baselines": [FREQUENT]})
            parts += [f"### {title[0].upper()}{title[1:]}", f"![{title}]({stem}.png)"]
            parts.append(by_direction(metric, of_metric, meta, "visible → masked"))
    ratio = meta["config"]["reconstruct"]["mask_ratio"]
    how_many = "as many as in training" if ratio is None else f"{ratio:.0%} of them"
    lead = f"Tokens of every modality are masked, {how_many}, and predicted in one pass."
    sheets = [f"![masked, reconstructed, original]({path.name})" for path in sorted(folder.glob(SHEETS))]
    return ["## Reconstructions", lead, *sheets, *parts] if parts else []


def _views(study: Study, target: str) -> list[tuple[str, ...]]:
    """The modality alone, and beside all those that training samples hold with it."""
    held = [names for names in study.reference.graph.combinations if target in names]
    largest = [tuple(name for name in study.names if name in names) for names in held if not any(names < other for other in held)]
    return sorted({(target,), *largest}, key=lambda names: (len(names), names))


def _frequent(study: Study, samples: Sequence[Sample], masks: Sequence[Mapping[str, np.ndarray]], target: str) -> Estimate:
    train = study.samples("train", study.reference.train.having(target))
    counts = np.bincount(np.concatenate([sample.tokens[target] for sample in train])) if train else np.zeros(1)
    predicted = [{target: np.full_like(sample.tokens[target], counts.argmax())} for sample in samples]
    return score(samples, predicted, masks, target, study.config.seed)[ACCURACY]


def examples(study: Study, imputer: Imputer) -> tuple[list[Sample], list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    """(samples, their masks, all of their tokens as predicted) for the sheet: the most complete held-out samples, of many classes."""
    reference, random = study.reference, np.random.default_rng(study.config.seed)
    seen: dict[str, int] = {}
    ranked: list[tuple[int, int, int, Sample]] = []
    for i in random.permutation(len(reference.test)):
        sample, label = reference.test.samples[int(i)], reference.class_of(int(i)) or ""
        ranked.append((-len(sample.tokens), seen.get(label, 0), len(ranked), sample))
        seen[label] = seen.get(label, 0) + 1
    samples = [entry[-1] for entry in sorted(ranked, key=lambda entry: entry[:3])[: study.config.contact_samples]]
    masks = imputer.hide(samples, study.config.reconstruct.mask_ratio, study.config.seed)
    predicted = [
        imputer.reconstruct([sample], [name for name in study.names if name in sample.tokens], [mask])[0]
        for sample, mask in zip(samples, masks, strict=True)
    ]
    return samples, masks, predicted


def write_sheets(folder: Path, study: Study) -> None:
    """`reconstructions.png` (of several runs `reconstructions-1.png` ... in their order)."""
    runs = _runs(study)
    for place, (name, imputer) in enumerate(runs, 1):
        samples, masks, predicted = examples(study, imputer)
        if samples:
            stem = "reconstructions" if len(runs) == 1 else f"reconstructions-{place}"
            with atomic_file(folder / f"{stem}.png", force=True) as file:
                draw_sheet(name, imputer, samples, masks, predicted).save(file, "PNG", optimize=True)


def _runs(study: Study) -> list[tuple[str, Imputer]]:
    return [(name, imputer) for name, imputer in study.imputers.items() if imputer.reconstructs]


TASK = Task(measure, section, needs="masks", write_samples=write_sheets)
