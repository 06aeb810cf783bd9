"""The task `reconstruct`: hidden tokens of held-out samples, told from visible ones, as in the training of masked methods.

Every modality of a sample loses the share of its tokens that it lost in training, or `--mask-ratio`. What is hidden of a modality is told
twice: from all that is visible of the sample, and from what is visible of that modality alone.

masked accuracy    share of hidden codes that are told right, mean over samples (Wilson's interval), beside always saying the
                   code that is most frequent in training
masked r2          share of the variance of hidden values of patches that is told, pooled over samples (bootstrap)

The sheet shows samples masked, reconstructed and as they are; see reconstruction_sheet.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.common.log import track
from mmtool.data.sample import Sample
from mmtool.evaluation.figures.markdown import by_direction
from mmtool.evaluation.figures.plots import draw_bars
from mmtool.evaluation.study import Row, Study, row
from mmtool.impute.imputer import Imputer
from mmtool.metrics.intervals import Estimate, bootstrap, share

ACCURACY, R2, FREQUENT = "masked accuracy", "masked r2", "most frequent code"
SHEETS = "reconstructions*.png"


def measure(study: Study) -> Iterator[Row]:
    """Rows with target=modality and given=what is partly visible, of every run that tells hidden tokens."""
    asked = [(name, imputer) for name, imputer in study.imputers.items() if imputer.reconstructs]
    told_before: set[tuple[str, tuple[str, ...]]] = set()
    for name, imputer in track(asked, "reconstructing", len(asked)):
        for target in study.names:
            for given in _views(study, target):
                samples = study.samples("test", study.reference.test.having(*given))
                seen = imputer.graph.seen_together(given)
                hidden = imputer.hide(samples, study.settings.mask_ratio, study.settings.seed)
                if not seen or not any(masks[target].any() for masks in hidden):
                    continue
                told = imputer.reconstruct(samples, given, hidden)
                for metric, estimate in judge(samples, told, hidden, target, study.settings.seed).items():
                    yield row(name, imputer, given, target, seen, metric, estimate)
                if samples[0].tokens[target].ndim == 1 and (target, given) not in told_before:
                    told_before.add((target, given))
                    yield row(FREQUENT, None, given, target, seen, ACCURACY, _frequent(study, samples, hidden, target))


def judge(
    samples: Sequence[Sample], told: Sequence[Mapping[str, np.ndarray]], hidden: Sequence[Mapping[str, np.ndarray]], target: str, seed: int
) -> dict[str, Estimate]:
    """How right the hidden tokens of `target` are; samples of which none is hidden do not count."""
    pairs = [
        (sample.tokens[target][masks[target]], said[target][masks[target]])
        for sample, said, masks in zip(samples, told, hidden, strict=True)
        if masks[target].any()
    ]
    if pairs[0][0].ndim == 1:
        return {ACCURACY: share(np.array([(true == said).mean() for true, said in pairs]))}
    mean = np.concatenate([true for true, _ in pairs]).mean(0)
    errors = np.array([np.square(true.astype(float) - said).sum() for true, said in pairs])
    spreads = np.array([np.square(true - mean).sum() for true, _ in pairs])
    return {R2: bootstrap(lambda rows: float(1 - errors[rows].sum() / max(spreads[rows].sum(), 1e-12)), len(pairs), seed)}


def section(folder: Path, rows: Sequence[Row], meta: Mapping[str, Any]) -> list[str]:
    """The part of the report: a table and a figure of each metric, and the sheets that are there."""
    parts = []
    for metric, title in ((ACCURACY, "hidden codes told right"), (R2, "R² of hidden values")):
        own = [each for each in rows if each["metric"] == metric]
        if own:
            stem = metric.replace(" ", "_")
            draw_bars(folder / stem, title, own, {**meta, "baselines": [FREQUENT]})
            parts += [f"### {title[0].upper()}{title[1:]}", f"![{title}]({stem}.png)", by_direction(metric, own, meta, "visible → hidden")]
    ratio = meta["settings"]["mask_ratio"]
    how_many = "as many as in training" if ratio is None else f"{ratio:.0%} of them"
    lead = f"Tokens of every modality are hidden, {how_many}, and told in one pass."
    sheets = [f"![masked, reconstructed, original]({path.name})" for path in sorted(folder.glob(SHEETS))]
    return ["## Reconstructions", lead, *sheets, *parts] if parts else []


def _views(study: Study, target: str) -> list[tuple[str, ...]]:
    """The modality alone, and beside all others that training samples hold with it."""
    full = [held for held in study.reference.graph.combinations if target in held]
    largest = [tuple(name for name in study.names if name in held) for held in full if not any(held < other for other in full)]
    return sorted({(target,), *largest}, key=lambda names: (len(names), names))


def _frequent(study: Study, samples: Sequence[Sample], hidden: Sequence[Mapping[str, np.ndarray]], target: str) -> Estimate:
    train = study.samples("train", study.reference.train.having(target))
    counts = np.bincount(np.concatenate([sample.tokens[target] for sample in train])) if train else np.zeros(1)
    said = [{target: np.full_like(sample.tokens[target], counts.argmax())} for sample in samples]
    return judge(samples, said, hidden, target, study.settings.seed)[ACCURACY]


def examples(study: Study, imputer: Imputer) -> tuple[list[Sample], list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    """(samples, what is hidden of each, all of its tokens as told) for the sheet: the most complete held-out samples, of many classes."""
    reference, random = study.reference, np.random.default_rng(study.settings.seed)
    met: dict[str, int] = {}
    ranked: list[tuple[int, int, int, Sample]] = []
    for i in random.permutation(len(reference.test)):
        sample, label = reference.test.samples[int(i)], reference.class_of(int(i)) or ""
        ranked.append((-len(sample.tokens), met.get(label, 0), len(ranked), sample))
        met[label] = met.get(label, 0) + 1
    samples = [each[-1] for each in sorted(ranked, key=lambda each: each[:3])[: study.settings.contact_samples]]
    hidden = imputer.hide(samples, study.settings.mask_ratio, study.settings.seed)
    told = [
        imputer.reconstruct([sample], [name for name in study.names if name in sample.tokens], [masks])[0]
        for sample, masks in zip(samples, hidden, strict=True)
    ]
    return samples, hidden, told
