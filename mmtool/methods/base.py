"""What a method is: what it feeds the transformer and how it scores it, nothing else.

A method turns samples into documents (inputs and targets) and says who sees whom in them. The loop packs documents, the
transformer reads them, and the method's loss is asked at their targets.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mmtool.data.documents import Documents
from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import VocabularyLayout
from mmtool.data.masking import AnyBatch
from mmtool.data.packing import BatchShape, Most, pack, size_rows
from mmtool.data.randomness import generators
from mmtool.data.sample import Modality, Sample
from mmtool.data.sequence import Document, concatenate, segment
from mmtool.model.inputs import to_device
from mmtool.model.losses import loss_sums
from mmtool.model.masks import MakeMask, View, attention_mask
from mmtool.model.transformer import Shape, Transformer

Pack = Callable[[Sequence[Document] | Documents], AnyBatch]


@dataclass(frozen=True)
class Step:
    """What a method may know about the step it feeds. progress: 0 at the start of training, 1 at its end. seed: of this step alone."""

    number: int
    progress: float
    seed: int
    model: Transformer


class Method(ABC):
    """The objective: one document per sample, made from the sample and its own random generator, and the loss at its targets.

    view: who sees whom. What a method can do once it is trained (impute, score, represent ...) is in the protocols of protocols.py.
    """

    name: ClassVar[str]
    Options: ClassVar[type]  # a frozen dataclass: the method's own settings
    shape_defaults: ClassVar[Mapping[str, Any]] = {}  # of the transformer, where settings do not say otherwise
    view: ClassVar[View] = "past"
    of_progress: ClassVar[str] = ""  # what of it takes a share of the training

    def __init__(self, layout: VocabularyLayout, graph: CoOccurrence, options: Any) -> None:
        self.layout, self.graph, self.options = layout, graph, options

    def documents(self, samples: Sequence[Sample], seeds: Sequence[int], step: Step) -> Sequence[Document] | Documents:
        """One document per sample; `seeds[i]` is a function of (seed, epoch, sample key) alone."""
        return self.plain_documents(samples, seeds)

    def plain_documents(self, samples: Sequence[Sample], seeds: Sequence[int]) -> Sequence[Document] | Documents:
        """Documents of steps that do not depend on the model: they can be made anywhere, and before their step."""
        return [self.document(sample, random) for sample, random in zip(samples, generators(seeds), strict=True)]

    def makes_own_documents(self, step: Step) -> bool:
        """Whether `documents` of this step are not the plain ones, so that they are made in the step itself."""
        return type(self).documents is not Method.documents

    @abstractmethod
    def document(self, sample: Sample, random: np.random.Generator) -> Document:
        """What one sample is read as in training, with its targets. The generator is that of this call alone; labels are not read."""

    def typical_documents(self, samples: Sequence[Sample]) -> list[list[Document]]:
        """Documents as training will see them, one list per kind of step: the loop sizes its rows by them."""
        return [[self.document(sample, np.random.default_rng(i)) for i, sample in enumerate(samples)]]

    def model(self, shape: Shape) -> Transformer:
        """The untrained model."""
        return Transformer(shape, self.layout)

    def prepare(self, model: Transformer, samples: Sequence[Sample]) -> None:  # noqa: B027 (a hook)
        """Take from training samples, before the first step, what the model keeps of them beside its weights."""

    def size_batches(self, samples: Sequence[Sample], batch_tokens: int, row_length: int, longest: Sequence[Sample] = ()) -> dict[str, Any]:
        """The shape of a batch for samples like these, as JSON values, and its window: samples offered to a batch. longest: samples that
        have most tokens, together and of each modality."""
        kinds, most = self.typical_documents(samples), self.most([*samples, *longest])
        return size_rows(kinds, batch_tokens, row_length, len(self.layout.modalities), most)

    def most(self, samples: Sequence[Sample]) -> Most:
        """What a document of any of these samples may have."""
        sizes = np.array([[self.segment_size(modality, sample) for modality in self.layout.modalities] for sample in samples])
        return Most(int(sizes.sum(1).max()), sizes.max(0))

    def segment_size(self, modality: Modality, sample: Sample) -> int:
        """Tokens that the sample's segment of a modality has in a document, 0 where it lacks it."""
        return 1 + len(sample.tokens[modality.name]) if modality.name in sample.tokens else 0

    def packer(self, record: Mapping[str, Any]) -> Pack:
        """What puts documents into batches of a shape that `size_batches` gave."""
        return partial(pack, shape=BatchShape(record["rows"], record["length"], tuple(record["capacity"])))

    def inputs(self, batch: Any, device: torch.device, make_mask: MakeMask = attention_mask) -> tuple[Any, ...]:
        """What `forward` takes of a batch beside the model, on the device; masks are built here, outside the compiled step."""
        arrays = (batch.tokens, batch.modality, batch.slot, batch.position, batch.document)
        tokens, modality, slot, position, document = (to_device(array, device) for array in arrays)
        wanted = (batch.target_indices, batch.targets)
        target_indices, targets = ([to_device(array, device) for array in part] for part in wanted)
        return tokens, modality, slot, position, make_mask(document, modality, self.view), target_indices, targets

    def forward(self, model: Transformer, *inputs: Any) -> Tensor:
        """Sum of losses of each modality, (M,), of a batch given as `inputs`."""
        *rows, target_indices, targets = inputs
        return self.loss_sums(model, model(*rows), target_indices, targets)

    @property
    def loss_names(self) -> tuple[str, ...]:
        """What the sums of `forward` are called."""
        return self.layout.names

    def mean_loss(self, sums: Tensor, counts: np.ndarray) -> Tensor:
        """What a step descends on, from the sums of losses and the number of targets of each modality in the whole batch."""
        return sums.sum() / max(1, int(counts.sum()))

    def loss_sums(self, model: Transformer, hidden_BLD: Tensor, target_indices: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Sum of losses of each modality, (M,), in fp32; the loop divides by the number of targets."""
        return loss_sums(model, hidden_BLD, target_indices, targets)

    def validate(self, model: Transformer, samples: Sequence[Sample]) -> dict[str, float]:
        """What is measured on held-out samples at every checkpoint, by name; nothing, unless the method overrides it."""
        return {}

    def clear_cache(self) -> None:  # noqa: B027 (a hook)
        """Drop whatever is kept between steps: called at every checkpoint, so that a resumed run goes on as an uninterrupted one."""

    def segments(self, sample: Sample, names: Sequence[str], loss: Sequence[str]) -> Document:
        """The sample's modalities in this order; only those in `loss` are predicted."""
        parts = [(self.layout.index(name), sample.tokens[name], name in loss) for name in names]
        return concatenate([segment(self.layout, index, codes, loss=wanted) for index, codes, wanted in parts])

    def present(self, sample: Sample) -> list[str]:
        """The sample's modalities in the order of the data set."""
        return [name for name in self.layout.names if name in sample.tokens]
