"""What a labelled task asks of a model: outputs per sample, their loss against labels, and what they say in the end.

A new kind of task adds one class and one line to `GOALS`. Labels that are unknown (None) take no part in the loss.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmtool.common.errors import DataError, UsageError

SEPARATORS = "|;,"  # between the classes of one sample, where they are given as text; the first that occurs counts
MAX_CLASSES = 1000
MAX_WEIGHT = 100.0

Label = Any


class Goal:
    """One labelled task. num_outputs: per sample. classes: their names, where outputs are classes.

    `targets` are rows of fp32 numbers, NaN where the label is unknown; `loss` is a mean over the known ones, 0 without any.
    """

    kind: ClassVar[str]
    metric: ClassVar[str]

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = dict(state)

    @classmethod
    def of(cls, labels: Sequence[Label], balanced: bool) -> "Goal":
        """A task learned from the labels of training samples. balanced: rare classes weigh as much as frequent ones."""
        raise NotImplementedError

    @property
    def classes(self) -> list[str]:
        return list(self.state.get("classes", ()))

    @property
    def num_outputs(self) -> int:
        return len(self.classes)

    def targets(self, labels: Sequence[Label]) -> np.ndarray:
        raise NotImplementedError

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        raise NotImplementedError

    def answers(self, outputs: Tensor) -> np.ndarray:
        """What the metric looks at: class probabilities (N, K), one number (N, 1), or a risk (N, 1)."""
        raise NotImplementedError

    def _weights(self) -> Tensor | None:
        return torch.tensor(self.state["weights"]) if self.state.get("weights") else None


class SingleLabel(Goal):
    """One of several classes; accuracy."""

    kind, metric = "single", "accuracy"

    @classmethod
    def of(cls, labels: Sequence[Label], balanced: bool) -> "Goal":
        known = [str(label) for label in labels if label is not None]
        names, counts = np.unique(known, return_counts=True)
        _check_classes(names, least=2)
        weights = (len(known) / (len(names) * counts)).clip(max=MAX_WEIGHT).tolist() if balanced else None
        return cls({"classes": names.tolist(), "weights": weights})

    def targets(self, labels: Sequence[Label]) -> np.ndarray:
        """(N, 1) places of classes; a class that training never saw counts as unknown."""
        place = {name: i for i, name in enumerate(self.classes)}
        return np.array([[np.nan if label is None else place.get(str(label), np.nan)] for label in labels], np.float32).reshape(-1, 1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        known = ~targets[:, 0].isnan()
        if not known.any():
            return outputs.sum() * 0
        weights = self._weights()
        return F.cross_entropy(outputs[known], targets[known, 0].long(), weight=None if weights is None else weights.to(outputs))

    def answers(self, outputs: Tensor) -> np.ndarray:
        return outputs.float().softmax(-1).cpu().numpy()


class MultiLabel(Goal):
    """Any number of classes at once, as a list or as text with separators (| ; ,); macro F1 at a probability of one half."""

    kind, metric = "multilabel", "macro f1"

    @classmethod
    def of(cls, labels: Sequence[Label], balanced: bool) -> "Goal":
        known = [_several(label) for label in labels if label is not None]
        names = sorted({name for own in known for name in own})
        _check_classes(names, least=1)
        counts = np.array([sum(name in own for own in known) for name in names])
        weights = ((len(known) - counts) / counts).clip(1 / MAX_WEIGHT, MAX_WEIGHT).tolist() if balanced else None
        return cls({"classes": names, "weights": weights})

    def targets(self, labels: Sequence[Label]) -> np.ndarray:
        rows = [[np.nan] * self.num_outputs if own is None else [name in _several(own) for name in self.classes] for own in labels]
        return np.array(rows, np.float32).reshape(-1, self.num_outputs)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        known = ~targets[:, 0].isnan()
        if not known.any():
            return outputs.sum() * 0
        weights = self._weights()
        weight = None if weights is None else weights.to(outputs)
        return F.binary_cross_entropy_with_logits(outputs[known], targets[known], pos_weight=weight)

    def answers(self, outputs: Tensor) -> np.ndarray:
        return outputs.float().sigmoid().cpu().numpy()


class Binary(MultiLabel):
    """The later of two classes in order of their names, against the other; area under the ROC curve."""

    kind, metric = "binary", "auroc"

    @classmethod
    def of(cls, labels: Sequence[Label], balanced: bool) -> "Goal":
        names = sorted({str(label) for label in labels if label is not None})
        if len(names) != 2:
            fix = "Use the task `single`." if len(names) > 2 else "Check --label."
            raise DataError(f"a binary task has two classes, the label has {len(names)}.", where="label", fix=fix)
        positive = np.mean([str(label) == names[1] for label in labels if label is not None])
        weights = [float(np.clip((1 - positive) / positive, 1 / MAX_WEIGHT, MAX_WEIGHT))] if balanced else None
        return cls({"classes": names, "weights": weights})

    @property
    def num_outputs(self) -> int:
        return 1

    def targets(self, labels: Sequence[Label]) -> np.ndarray:
        place = {self.classes[0]: 0.0, self.classes[1]: 1.0}
        return np.array([[np.nan if label is None else place.get(str(label), np.nan)] for label in labels], np.float32).reshape(-1, 1)


class Regression(Goal):
    """A number; the share of its variance that is explained (R2)."""

    kind, metric = "regression", "r2"

    @classmethod
    def of(cls, labels: Sequence[Label], balanced: bool) -> "Goal":
        known = _numbers(labels)[:, 0]
        known = known[~np.isnan(known)]
        if len(known) < 2 or not np.std(known):
            raise DataError("the label does not vary, so there is nothing to regress on.", where="label", fix="Check --label.")
        return cls({"mean": float(known.mean()), "deviation": float(known.std())})

    @property
    def num_outputs(self) -> int:
        return 1

    def targets(self, labels: Sequence[Label]) -> np.ndarray:
        return _numbers(labels)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        known = ~targets[:, 0].isnan()
        if not known.any():
            return outputs.sum() * 0
        return F.mse_loss(outputs[known, 0], (targets[known, 0] - self.state["mean"]) / self.state["deviation"])

    def answers(self, outputs: Tensor) -> np.ndarray:
        return outputs.float().cpu().numpy() * self.state["deviation"] + self.state["mean"]


class Survival(Goal):
    """A time and whether the event was observed by then; the partial likelihood of Cox, and Harrell's concordance."""

    kind, metric = "survival", "c_index"

    @classmethod
    def of(cls, labels: Sequence[Label], balanced: bool) -> "Goal":
        if not any(label is not None and label[1] == 1 for label in labels):
            raise DataError("no training sample has an observed event.", where="--survival", fix="Check the labels.")
        return cls({})

    @property
    def num_outputs(self) -> int:
        return 1

    def targets(self, labels: Sequence[Label]) -> np.ndarray:
        """(N, 2) time and event."""
        return np.array([(np.nan, np.nan) if label is None else label for label in labels], np.float32).reshape(-1, 2)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Breslow's negative log partial likelihood within the batch, per event: each event against all who were at risk then."""
        known = ~targets[:, 0].isnan()
        risk, time, event = outputs[known, 0], targets[known, 0], targets[known, 1] > 0
        if not event.any():
            return outputs.sum() * 0
        at_risk = time[None] >= time[event, None]
        among = risk[None].expand(len(at_risk), -1).masked_fill(~at_risk, -torch.inf)
        return (among.logsumexp(1) - risk[event]).mean()

    def answers(self, outputs: Tensor) -> np.ndarray:
        return outputs.float().cpu().numpy()


GOALS: dict[str, type[Goal]] = {goal.kind: goal for goal in (SingleLabel, MultiLabel, Binary, Regression, Survival)}


def suited(labels: Sequence[Label]) -> str:
    """The kind of task that labels call for: lists are several classes, fractions a number, two values binary, others classes."""
    known = [label for label in labels if label is not None]
    if any(isinstance(label, list | tuple) for label in known):
        return MultiLabel.kind
    numbers = bool(known) and all(isinstance(label, int | float) and not isinstance(label, bool) for label in known)
    if numbers and (any(float(label) != int(label) for label in known) or len(set(known)) > MAX_CLASSES):
        return Regression.kind
    return Binary.kind if len({str(label) for label in known}) == 2 else SingleLabel.kind


def _several(label: Label) -> list[str]:
    if isinstance(label, list | tuple):
        return [str(part) for part in label]
    text = str(label)
    mark = next((mark for mark in SEPARATORS if mark in text), None)
    return [part.strip() for part in text.split(mark) if part.strip()] if mark else [text] if text else []


def _numbers(labels: Sequence[Label]) -> np.ndarray:
    try:
        return np.array([[np.nan if label is None else float(label)] for label in labels], np.float32).reshape(-1, 1)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a label is no number ({error}).", where="label", fix="Use the task `single`.") from error


def _check_classes(names: Sequence[str] | np.ndarray, least: int) -> None:
    if not least <= len(names) <= MAX_CLASSES:
        fix = "Use the task `regression`." if len(names) > MAX_CLASSES else "Check --label."
        raise DataError(f"the label has {len(names)} classes.", where="label", fix=fix)
