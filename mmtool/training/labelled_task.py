"""A labelled task: how labels become targets, their loss, what the outputs of a head predict, and by which metrics it is scored.

N samples, K outputs. A new kind of task adds one class and one line to `TASKS`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmtool.common.errors import DataError, UsageError
from mmtool.data.labels import categorical
from mmtool.metrics.classification import auroc, macro_f1, macro_f1_of_sets
from mmtool.metrics.intervals import Estimate, r_squared, share
from mmtool.metrics.survival import concordance

SEPARATORS = "|;,"  # between the classes of one sample, where they are given as text; the first that occurs counts
MAX_CLASSES = 1000
MAX_WEIGHT = 100.0
ACCURACY, MACRO_F1, AUROC, R2, C_INDEX = "accuracy", "macro f1", "auroc", "r2", "c_index"

Label = Any


class LabelledTask(ABC):
    """One labelled task, as JSON values in `state`.

    kind: its name. metrics: what it is scored by, the one that counts first.
    `encode` gives rows of fp32 targets, NaN where the label is unknown (None); these take part neither in the loss, which is a mean over
    the others (0 without any), nor in metrics.
    """

    kind: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = dict(state)

    @classmethod
    @abstractmethod
    def of(cls, labels: Sequence[Label], balanced: bool) -> "LabelledTask":
        """A task learned from the labels of training samples. balanced: rare classes weigh as much as frequent ones.

        Raises DataError where there is nothing to learn, UsageError where labels are of another kind.
        """

    @property
    def metric(self) -> str:
        """The one that counts."""
        return self.metrics[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the outputs, none where these are no classes."""
        return tuple(self.state.get("classes", ()))

    @property
    def num_outputs(self) -> int:
        return len(self.classes) or 1

    def weighted(self, weights: Sequence[float]) -> "LabelledTask":
        """The same task with weights of its classes in the loss (none: all alike)."""
        return type(self)({**self.state, "weights": list(weights) or None})

    @abstractmethod
    def encode(self, labels: Sequence[Label]) -> np.ndarray:
        """(N, T) fp32 targets of labels."""

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over the (N, K) outputs whose (N, T) targets are known."""

    @abstractmethod
    def predict(self, outputs: np.ndarray) -> np.ndarray:
        """(N, K) probabilities of classes, (N, 1) numbers in the unit of the label, or (N, 1) risks."""

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """(N,) predicted labels: classes as text, or numbers."""
        return self.predict(outputs)[:, 0]

    def measure(self, outputs: np.ndarray, targets: np.ndarray, seed: int, metrics: Sequence[str] = ()) -> dict[str, Estimate]:
        """metric -> estimate (all of the task's, or those named), on the samples whose target is known; undefined ones are left out."""
        known = self._known(targets)
        if not known.any():
            return {}
        estimates = {name: self._estimate(name, outputs[known], targets[known], seed) for name in metrics or self.metrics}
        return {name: estimate for name, estimate in estimates.items() if estimate is not None and estimate.defined}

    @abstractmethod
    def _estimate(self, metric: str, outputs: np.ndarray, targets: np.ndarray, seed: int) -> Estimate | None:
        """The estimate of one metric on known (n, K) outputs and (n, T) targets; None where it is undefined."""

    def _known(self, targets: np.ndarray) -> np.ndarray:
        return ~np.isnan(targets[:, 0])

    def _weights(self, outputs: Tensor) -> Tensor | None:
        return torch.tensor(self.state["weights"]).to(outputs) if self.state.get("weights") else None


class SingleLabel(LabelledTask):
    """One of several classes."""

    kind, metrics = "single", (ACCURACY, MACRO_F1)

    @classmethod
    def of(cls, labels: Sequence[Label], balanced: bool) -> LabelledTask:
        known = [str(label) for label in labels if label is not None]
        names, counts = np.unique(known, return_counts=True)
        _check_classes(names, least=2)
        weights = balanced_weights(counts).clip(max=MAX_WEIGHT).tolist() if balanced else None
        return cls({"classes": names.tolist(), "weights": weights})

    def encode(self, labels: Sequence[Label]) -> np.ndarray:
        """(N, 1) indices of classes; -1, -2 ... for those that training never saw, which have no loss and are never predicted right."""
        known = {name: index for index, name in enumerate(self.classes)}
        unseen = dict.fromkeys(str(label) for label in labels if label is not None and str(label) not in known)
        known |= {name: -number for number, name in enumerate(unseen, 1)}
        return np.array([[np.nan if label is None else known[str(label)]] for label in labels], np.float32).reshape(-1, 1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        known = targets[:, 0] >= 0
        if not known.any():
            return outputs.sum() * 0
        return F.cross_entropy(outputs[known], targets[known, 0].long(), weight=self._weights(outputs))

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        return torch.from_numpy(outputs).softmax(1).numpy()

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        return np.array(self.classes)[outputs.argmax(1)]

    def _estimate(self, metric: str, outputs: np.ndarray, targets: np.ndarray, seed: int) -> Estimate:
        predicted, truth = outputs.argmax(1), targets[:, 0].astype(int)
        return share((predicted == truth).astype(float)) if metric == ACCURACY else macro_f1(truth, predicted, seed)


class MultiLabel(LabelledTask):
    """Any number of classes at once, as a list or as text with separators (| ; ,), each predicted at a probability above one half."""

    kind, metrics = "multilabel", (MACRO_F1,)

    @classmethod
    def of(cls, labels: Sequence[Label], balanced: bool) -> LabelledTask:
        known = [_names_in(label) for label in labels if label is not None]
        names = sorted({name for several in known for name in several})
        _check_classes(names, least=1)
        counts = np.array([sum(name in several for several in known) for name in names])
        weights = ((len(known) - counts) / counts).clip(1 / MAX_WEIGHT, MAX_WEIGHT).tolist() if balanced else None
        return cls({"classes": names, "weights": weights})

    def encode(self, labels: Sequence[Label]) -> np.ndarray:
        """(N, K) 1 where a sample is of a class."""
        unknown = [np.nan] * self.num_outputs
        rows = [unknown if label is None else [name in _names_in(label) for name in self.classes] for label in labels]
        return np.array(rows, np.float32).reshape(-1, self.num_outputs)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        known = ~targets[:, 0].isnan()
        if not known.any():
            return outputs.sum() * 0
        return F.binary_cross_entropy_with_logits(outputs[known], targets[known], pos_weight=self._weights(outputs))

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        return torch.from_numpy(outputs).sigmoid().numpy()

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        return np.array(["|".join(np.array(self.classes)[row]) for row in self.predict(outputs) > 0.5])

    def _estimate(self, metric: str, outputs: np.ndarray, targets: np.ndarray, seed: int) -> Estimate:
        return macro_f1_of_sets(targets > 0, self.predict(outputs) > 0.5, seed)


class Binary(MultiLabel):
    """The later of two classes in order of their names, against the other."""

    kind, metrics = "binary", (AUROC,)

    @classmethod
    def of(cls, labels: Sequence[Label], balanced: bool) -> LabelledTask:
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

    def encode(self, labels: Sequence[Label]) -> np.ndarray:
        """(N, 1) 0 or 1; a class that training never saw has no place in the order of two and counts as unknown."""
        known = {self.classes[0]: 0.0, self.classes[1]: 1.0}
        return np.array([[np.nan if label is None else known.get(str(label), np.nan)] for label in labels], np.float32).reshape(-1, 1)

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        return np.array(self.classes)[(outputs[:, 0] > 0).astype(int)]

    def _estimate(self, metric: str, outputs: np.ndarray, targets: np.ndarray, seed: int) -> Estimate:
        return auroc(targets[:, 0], outputs[:, 0], seed)


class Regression(LabelledTask):
    """A number, in units of its standard deviation `deviation` in training around its `mean`."""

    kind, metrics = "regression", (R2,)

    @classmethod
    def of(cls, labels: Sequence[Label], balanced: bool) -> LabelledTask:
        known = np.array([number for number in _numbers(labels) if not np.isnan(number)])
        if len(known) < 2 or not np.std(known):
            raise DataError("the label does not vary, so there is nothing to regress on.", where="label", fix="Check --label.")
        return cls({"mean": float(known.mean()), "deviation": float(known.std())})

    def encode(self, labels: Sequence[Label]) -> np.ndarray:
        """(N, 1) standardised numbers."""
        return ((_numbers(labels) - self.state["mean"]) / self.state["deviation"]).astype(np.float32)[:, None]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        known = ~targets[:, 0].isnan()
        return F.mse_loss(outputs[known, 0], targets[known, 0]) if known.any() else outputs.sum() * 0

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        return outputs * self.state["deviation"] + self.state["mean"]

    def _estimate(self, metric: str, outputs: np.ndarray, targets: np.ndarray, seed: int) -> Estimate:
        return r_squared(targets[:, 0], outputs[:, 0], seed)


class Survival(LabelledTask):
    """A time and whether the event was observed by then; the partial likelihood of Cox, and Harrell's concordance."""

    kind, metrics = "survival", (C_INDEX,)

    @classmethod
    def of(cls, labels: Sequence[Label], balanced: bool) -> LabelledTask:
        if not any(label is not None and label[1] == 1 for label in labels):
            raise DataError("no training sample has an observed event.", where="--survival", fix="Check the labels.")
        return cls({})

    def encode(self, labels: Sequence[Label]) -> np.ndarray:
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

    def predict(self, outputs: np.ndarray) -> np.ndarray:
        return outputs

    def _estimate(self, metric: str, outputs: np.ndarray, targets: np.ndarray, seed: int) -> Estimate | None:
        return concordance(outputs[:, 0], targets, seed)


TASKS: dict[str, type[LabelledTask]] = {task.kind: task for task in (SingleLabel, MultiLabel, Binary, Regression, Survival)}


def suited(labels: Sequence[Label]) -> str:
    """The kind of task that labels call for: lists are several classes, quantities (see `data.labels.categorical`) a number, two values
    binary, other ones classes."""
    known = [label for label in labels if label is not None]
    if any(isinstance(label, list | tuple) for label in known):
        return MultiLabel.kind
    numeric = bool(known) and all(isinstance(label, int | float) and not isinstance(label, bool) for label in known)
    if numeric and not categorical(known):
        return Regression.kind
    return Binary.kind if len({str(label) for label in known}) == 2 else SingleLabel.kind


def balanced_weights(counts: np.ndarray) -> np.ndarray:
    """(K,) weights by which classes of these (K,) numbers of samples count alike, 1 on average over the samples."""
    return counts.sum() / (len(counts) * counts)


def _names_in(label: Label) -> list[str]:
    """The classes of one sample."""
    if isinstance(label, list | tuple):
        return [str(part) for part in label]
    text = str(label)
    mark = next((mark for mark in SEPARATORS if mark in text), None)
    return [part.strip() for part in text.split(mark) if part.strip()] if mark else [text] if text else []


def _numbers(labels: Sequence[Label]) -> np.ndarray:
    """(N,) labels as numbers, NaN where unknown. Raises UsageError where one is none."""
    try:
        return np.array([np.nan if label is None else float(label) for label in labels])
    except (TypeError, ValueError) as error:
        raise UsageError(f"a label is no number ({error}).", where="label", fix="Use the task `single`.") from error


def _check_classes(names: Sequence[str] | np.ndarray, least: int) -> None:
    if not least <= len(names) <= MAX_CLASSES:
        fix = "Use the task `regression`." if len(names) > MAX_CLASSES else "Check --label."
        raise DataError(f"the label has {len(names)} classes.", where="label", fix=fix)
