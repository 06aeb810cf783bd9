"""What a finetuned run predicts: a class or a number, by a linear head on the features of a sample.

prediction accuracy    share of samples whose class is predicted right (Wilson's interval)
prediction macro f1    mean over classes of the harmonic mean of precision and recall (bootstrap)
prediction r2          explained share of the variance of a number (bootstrap)
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmtool.common.errors import UsageError
from mmtool.data.sample import Sample
from mmtool.methods.protocols import Representing
from mmtool.metrics.intervals import Estimate
from mmtool.model.transformer import Transformer
from mmtool.training.labelled_task import ACCURACY, MACRO_F1, R2, LabelledTask, Regression, SingleLabel

PREDICT_BATCH = 256
PREDICTION = "prediction {}"  # what metrics of heads are called beside others of a report
PREDICTION_ACCURACY, PREDICTION_MACRO_F1, PREDICTION_R2 = (PREDICTION.format(metric) for metric in (ACCURACY, MACRO_F1, R2))


@dataclass(frozen=True)
class Target:
    """label: of the samples. have: modalities it is predicted from. pooling: how states become features. task: the label as one of several
    classes, or as a number."""

    label: str
    have: tuple[str, ...]
    pooling: str
    task: LabelledTask

    @classmethod
    def of(cls, label: str, values: Sequence[Any], number: bool, have: Sequence[str], pooling: str) -> "Target":
        """The target as training samples have it."""
        if number:
            numbers = np.array([float(value) for value in values])
            return cls(label, tuple(have), pooling, _number(float(numbers.mean()), float(numbers.std()) or 1.0))
        return cls(label, tuple(have), pooling, SingleLabel({"classes": sorted({str(value) for value in values})}))

    @property
    def classes(self) -> tuple[str, ...]:
        """Values of the label in order, none where it is a number."""
        return self.task.classes

    @property
    def is_number(self) -> bool:
        return not self.classes

    def head(self, width: int) -> nn.Linear:
        """The untrained head."""
        return nn.Linear(width, self.task.num_outputs)

    def encode(self, samples: Sequence[Sample]) -> np.ndarray:
        """(N, 1) targets of labelled samples, see `LabelledTask.encode`. Raises DataError for what is no number among numbers."""
        return self.task.encode([sample.number(self.label) if self.is_number else sample.labels[self.label] for sample in samples])

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """(N, O) outputs of the head -> (N,) classes as text, or numbers."""
        return self.task.decode(outputs)

    def measure(self, outputs: np.ndarray, samples: Sequence[Sample], seed: int) -> dict[str, Estimate]:
        """Metrics of (N, O) outputs of the head on labelled samples."""
        estimates = self.task.measure(outputs, self.encode(samples), seed)
        return {PREDICTION.format(metric): estimate for metric, estimate in estimates.items()}

    def csv(self, samples: Sequence[Sample], outputs: np.ndarray) -> bytes:
        """Key, true value (empty where it is unknown), predicted value and, of classes, the probability of each: a line per sample."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("key", self.label, f"predicted {self.label}", *(f"p({name})" for name in self.classes)))
        probabilities = np.zeros((len(samples), 0)) if self.is_number else self.task.predict(outputs)
        for sample, predicted, of_classes in zip(samples, self.decode(outputs), probabilities, strict=True):
            shown = f"{predicted:.6g}" if self.is_number else predicted
            writer.writerow((sample.key, sample.labels.get(self.label, ""), shown, *(f"{share:.4f}" for share in of_classes)))
        return file.getvalue().encode()

    def to_json(self) -> dict[str, Any]:
        number = {"mean": self.task.state.get("mean", 0.0), "scale": self.task.state.get("deviation", 1.0)}
        return {"label": self.label, "classes": list(self.classes), "have": list(self.have), "pooling": self.pooling, **number}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Target":
        classes = {"classes": list(record["classes"])}
        task = SingleLabel(classes) if record["classes"] else _number(record["mean"], record["scale"])
        return cls(record["label"], tuple(record["have"]), record["pooling"], task)


def _number(mean: float, deviation: float) -> Regression:
    return Regression({"mean": mean, "deviation": deviation})


def head_outputs(
    model: Transformer, method: Representing, target: Target, samples: Sequence[Sample], dropped: Tensor | None = None
) -> Tensor:
    """(N, O) outputs of the head, with gradients; every sample is seen through those of the target's modalities that it holds.

    dropped: (N, D) factors on the features. Raises UsageError where a sample holds none of them.
    """
    assert model.task_head is not None
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, sample in enumerate(samples):
        groups.setdefault(tuple(name for name in target.have if name in sample.tokens), []).append(i)
    if () in groups:
        what = f"the sample holds none of {', '.join(target.have)}, from which {target.label} is predicted."
        raise UsageError(what, where=samples[groups[()][0]].key, fix="Leave it out, or finetune on what it holds.")
    parts = [method.represent(model, [samples[i] for i in rows], names, target.pooling) for names, rows in groups.items()]
    order = torch.tensor([i for rows in groups.values() for i in rows], device=model.head.device)
    features = torch.cat(parts)[order.argsort()]
    return model.task_head(features if dropped is None else features * dropped)


@torch.no_grad()
def predict(model: Transformer, method: Representing, target: Target, samples: Sequence[Sample]) -> np.ndarray:
    """(N, O) outputs of the head."""
    starts = range(0, len(samples), PREDICT_BATCH)
    parts = [head_outputs(model, method, target, samples[start : start + PREDICT_BATCH]) for start in starts]
    return torch.cat(parts).cpu().numpy()
