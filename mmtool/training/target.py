"""What a finetuned run predicts: a class or a number, by a linear head on the features of a sample."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmtool.common.errors import UsageError
from mmtool.data.sample import Sample
from mmtool.methods.protocols import Representing
from mmtool.model.transformer import Transformer

PREDICTED_TOGETHER = 256


@dataclass(frozen=True)
class Target:
    """label: of the samples. classes: its values in order, none where it is a number, which is predicted in units of its standard deviation
    `scale` in training around its `mean`. have: modalities it is predicted from; pooling: how states become features."""

    label: str
    classes: tuple[str, ...]
    have: tuple[str, ...]
    pooling: str
    mean: float = 0.0
    scale: float = 1.0

    @classmethod
    def of(cls, label: str, values: Sequence[Any], number: bool, have: Sequence[str], pooling: str) -> "Target":
        """The target as training samples have it."""
        if number:
            numbers = np.array([float(value) for value in values])
            return cls(label, (), tuple(have), pooling, float(numbers.mean()), float(numbers.std()) or 1.0)
        return cls(label, tuple(sorted({str(value) for value in values})), tuple(have), pooling)

    @property
    def is_number(self) -> bool:
        return not self.classes

    def head(self, width: int) -> nn.Linear:
        """The untrained head."""
        return nn.Linear(width, len(self.classes) or 1)

    def encode(self, samples: Sequence[Sample]) -> np.ndarray:
        """(N,) places in `classes` (-1 for a class that training has not), or standardised numbers."""
        if self.is_number:
            return ((np.array([sample.number(self.label) for sample in samples]) - self.mean) / self.scale).astype(np.float32)
        places = {name: place for place, name in enumerate(self.classes)}
        return np.array([places.get(str(sample.labels[self.label]), -1) for sample in samples], np.int64)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(N,): cross entropy in nats, or squared error in squared standard deviations."""
        if self.is_number:
            return (outputs[:, 0] - targets).square()
        return F.cross_entropy(outputs, targets, reduction="none")

    def decode(self, outputs: np.ndarray) -> np.ndarray:
        """(N, O) outputs of the head -> (N,) classes as text, or numbers."""
        if self.is_number:
            return outputs[:, 0] * self.scale + self.mean
        return np.array(self.classes)[outputs.argmax(1)]

    def csv(self, samples: Sequence[Sample], outputs: np.ndarray) -> bytes:
        """Key, true value (empty where it is unknown), predicted value and, of classes, the probability of each: a line per sample."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("key", self.label, f"predicted {self.label}", *(f"p({name})" for name in self.classes)))
        shares = np.zeros((len(samples), 0)) if self.is_number else torch.softmax(torch.from_numpy(outputs), 1).numpy()
        for sample, predicted, chances in zip(samples, self.decode(outputs), shares, strict=True):
            shown = f"{predicted:.6g}" if self.is_number else predicted
            writer.writerow((sample.key, sample.labels.get(self.label, ""), shown, *(f"{chance:.4f}" for chance in chances)))
        return file.getvalue().encode()

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "classes": list(self.classes), "have": list(self.have)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Target":
        return cls(**{**record, "classes": tuple(record["classes"]), "have": tuple(record["have"])})


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
    starts = range(0, len(samples), PREDICTED_TOGETHER)
    parts = [head_outputs(model, method, target, samples[start : start + PREDICTED_TOGETHER]) for start in starts]
    return torch.cat(parts).cpu().numpy()
