"""What a method is: what it feeds the transformer and how it scores it, nothing else.

A method turns samples into documents (inputs and targets) and says who sees whom in them. The loop packs documents, the
transformer reads them, and the method's loss is asked at their targets. After training the method fills holes, scores and gives
features; what is written here holds for every method that predicts the next token.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, permutations
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mmtool.common.errors import UsageError
from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import VocabularyLayout
from mmtool.data.masking import AnyBatch
from mmtool.data.packing import BatchShape, pack, size_rows
from mmtool.data.sample import Sample
from mmtool.data.sequence import Document, concatenate, conditional_document, segment
from mmtool.methods.matching import mutual_information
from mmtool.model.decode import Generated, generate, mean_states, score, score_behind_each
from mmtool.model.inputs import to_device
from mmtool.model.losses import loss_sums
from mmtool.model.masks import View, attention_mask
from mmtool.model.sampling import Sampling
from mmtool.model.transformer import Shape, Transformer

Pack = Callable[[Sequence[Document]], AnyBatch]

READ_TOGETHER = 512  # samples whose hidden states are held at once


@dataclass(frozen=True)
class Step:
    """What a method may know about the step it feeds. progress: 0 at the start of training, 1 at its end. seed: of this step alone."""

    number: int
    progress: float
    seed: int
    model: Transformer


@dataclass(frozen=True)
class Route:
    """What a sample can teach: predict its real `target` given the ends of `paths`, each generated link by link from a real start."""

    target: str
    paths: tuple[tuple[str, ...], ...]

    @property
    def pseudo(self) -> list[str]:
        return [path[-1] for path in self.paths]

    @property
    def links(self) -> list[tuple[str, str]]:
        """(from, to) in the order they are walked, each once."""
        return list(dict.fromkeys(link for path in self.paths for link in pairwise(path)))


class Method:
    """Base of all methods: one document per sample, made from the sample and its own random generator.

    view: who sees whom. has_likelihood: whether `score` is defined; scores_by_token: whether it takes one pass per token;
    reads_pairs: whether `match` reads every sample with every donor. has_gallery: whether it imputes by choosing among training
    samples, which the run then keeps (`gallery`). poolings: how hidden states become the features of a sample, the usual way first.
    reconstructs: whether it tells hidden tokens from visible ones (`hidden`, `reconstruct`).
    """

    name: ClassVar[str]
    Options: ClassVar[type]  # a frozen dataclass: the method's own settings
    shape_defaults: ClassVar[Mapping[str, Any]] = {}  # of the transformer, where settings do not say otherwise
    view: ClassVar[View] = "past"
    has_likelihood: ClassVar[bool] = True
    scores_by_token: ClassVar[bool] = False
    reads_pairs: ClassVar[bool] = True
    has_gallery: ClassVar[bool] = False
    poolings: ClassVar[tuple[str, ...]] = ("mean",)
    reconstructs: ClassVar[bool] = False
    gallery: Sequence[Sample] = ()

    def __init__(self, layout: VocabularyLayout, graph: CoOccurrence, options: Any) -> None:
        self.layout, self.graph, self.options = layout, graph, options

    def documents(self, samples: Sequence[Sample], seeds: Sequence[int], step: Step) -> list[Document]:
        """One document per sample; `seeds[i]` is a function of (seed, epoch, sample key) alone."""
        return [self.document(sample, np.random.default_rng(seed)) for sample, seed in zip(samples, seeds, strict=True)]

    def document(self, sample: Sample, random: np.random.Generator) -> Document:
        raise UsageError("this method has no documents of single samples.", where=self.name)

    def typical_documents(self, samples: Sequence[Sample]) -> list[list[Document]]:
        """Documents as training will see them, one list per kind of step: the loop sizes its rows by them."""
        return [[self.document(sample, np.random.default_rng(i)) for i, sample in enumerate(samples)]]

    def model(self, shape: Shape) -> Transformer:
        """The untrained model."""
        return Transformer(shape, self.layout)

    def prepare(self, model: Transformer, samples: Sequence[Sample]) -> None:
        """Take from training samples, before the first step, what the model keeps of them beside its weights."""

    def size_batches(self, samples: Sequence[Sample], batch_tokens: int, row_length: int) -> dict[str, Any]:
        """The shape of a batch for samples like these, as JSON values, and its window: samples offered to a batch."""
        return size_rows(self.typical_documents(samples), batch_tokens, row_length, len(self.layout.modalities))

    def packer(self, record: Mapping[str, Any]) -> Pack:
        """What puts documents into batches of a shape that `size_batches` gave."""
        return partial(pack, shape=BatchShape(record["rows"], record["length"], tuple(record["capacity"])))

    def inputs(self, batch: Any, device: torch.device) -> tuple[Any, ...]:
        """What `forward` takes of a batch beside the model, on the device; masks are built here, outside the compiled step."""
        arrays = (batch.tokens, batch.modality, batch.slot, batch.position, batch.document)
        tokens, modality, slot, position, document = (to_device(array, device) for array in arrays)
        places, targets = ([to_device(array, device) for array in arrays] for arrays in (batch.places, batch.targets))
        return tokens, modality, slot, position, attention_mask(document, modality, self.view), places, targets

    def forward(self, model: Transformer, *inputs: Any) -> Tensor:
        """Sum of losses of each modality, (M,), of a batch given as `inputs`."""
        *rows, places, targets = inputs
        return self.loss_sums(model, model(*rows), places, targets)

    @property
    def loss_names(self) -> tuple[str, ...]:
        """What the sums of `forward` are called."""
        return self.layout.names

    def mean_loss(self, sums: Tensor, counts: np.ndarray) -> Tensor:
        """What a step descends on, from the sums of losses and the number of targets of each modality in the whole batch."""
        return sums.sum() / max(1, int(counts.sum()))

    def loss_sums(self, model: Transformer, hidden_BLD: Tensor, places: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
        """Sum of losses of each modality, (M,), in fp32; the loop divides by the number of targets."""
        return loss_sums(model, hidden_BLD, places, targets)

    def validate(self, model: Transformer, samples: Sequence[Sample]) -> dict[str, float]:
        """Perplexity of every modality given every other one that held-out samples have beside it: `{"text->speech": 26.1}`."""
        names = [name for name in self.layout.names if self.can_score(name)]
        found = {}
        for given, target in permutations(self.layout.names, 2):
            pairs = [sample for sample in samples if given in sample.tokens and target in sample.tokens]
            if target in names and pairs:
                nll, counts = self.score(model, pairs, [given], target)
                found[f"{given}->{target}"] = float(np.exp(min(700.0, nll.sum() / counts.sum())))
        return found

    def can_score(self, name: str) -> bool:
        """Whether `score` is defined for a modality: patches have no likelihood."""
        return self.has_likelihood and not self.layout.modalities[self.layout.index(name)].continuous

    def routes(self, present: frozenset[str]) -> list[Route]:
        """What samples holding `present` can teach of pairs that never met; nothing, unless the method is transitive."""
        return []

    def clear_cache(self) -> None:
        """Drop whatever is kept between steps: called at every checkpoint, so that a resumed run goes on as an uninterrupted one."""

    def impute(
        self,
        model: Transformer,
        samples: Sequence[Sample],
        have: Sequence[str],
        want: str,
        sampling: Sampling,
        generator: torch.Generator,
        draws: int = 1,
    ) -> Generated:
        """Draw modality `want` of each sample given its modalities `have`; all draws of the first sample come first."""
        prompts = [self.reading(sample, have) for sample in samples]
        return generate(model, prompts, self.layout.index(want), sampling=sampling, generator=generator, draws=draws)

    def score(self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], target: str) -> tuple[np.ndarray, np.ndarray]:
        """(negative log-likelihood in nats, number of tokens) of `target` given `have`, each (N,)."""
        return score(model, [conditional_document(self.layout, sample, have, target) for sample in samples])

    def consistency(
        self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], want: str, draws: Sequence[Sequence[np.ndarray]]
    ) -> np.ndarray:
        """(N, draws) mean log p per token of the modalities `have` of each sample, told from each draw of `want` alone: consistency
        (LoReTTa) as a score."""
        pairs = zip(samples, draws, strict=True)
        joined = [Sample(sample.key, {**sample.tokens, want: draw}) for sample, made in pairs for draw in made]
        scored = [self.score(model, joined, [want], name) for name in have]
        log_p, counts = -np.sum([nll for nll, _ in scored], 0), np.sum([count for _, count in scored], 0)
        return (log_p / counts).reshape(len(samples), -1)

    def can_match(self, have: Sequence[str]) -> bool:
        """Whether `match` is defined where these modalities are given."""
        return all(self.can_score(name) for name in have)

    def match(
        self,
        model: Transformer,
        samples: Sequence[Sample],
        have: Sequence[str],
        want: str,
        donors: Sequence[np.ndarray],
        references: Sequence[Sample] = (),
    ) -> np.ndarray:
        """(N, M) log of how probable each of M donors of `want` is for each sample, with the same prior for all, up to a constant per
        sample: their mutual information in nats. references: samples that show how likely a donor is anyway (see `matching`). Raises
        UsageError for given modalities without likelihood.
        """
        if not self.can_match(have):
            what = f"how well {' and '.join(have)} can be told from a donor is not known: it has no likelihood."
            raise UsageError(what, where=self.name, fix="Give other modalities, or ask another run.")
        tell = partial(self._score_pairs, model)
        return mutual_information(tell, samples, have, want, donors, references, both_ways=self.can_score(want))

    def _score_pairs(
        self, model: Transformer, given: Sequence[Sample], have: Sequence[str], others: Sequence[Sample], target: str
    ) -> np.ndarray:
        """(N, M) log p in nats of the modality `target` of each of M others, told from the modalities `have` of each of N samples."""
        if self.scores_by_token:
            joined = [[Sample("", {**each.tokens, target: other.tokens[target]}) for other in others] for each in given]
            return -np.stack([self.score(model, row, have, target)[0] for row in joined])
        prompts = [self.segments(each, have, loss=()) for each in given]
        return score_behind_each(model, prompts, [self.segments(other, [target], loss=[target]) for other in others])

    @torch.no_grad()
    def features(self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], pooling: str | None = None) -> np.ndarray:
        """(N, D) representations of the samples from their modalities `have` alone; pooling None: the first of `poolings`. Raises
        UsageError where nothing is given."""
        if not have:
            raise UsageError("nothing is given that features could tell.", where=self.name, fix="Name a modality that the samples hold.")
        return self.represent(model, samples, have, pooling or self.poolings[0]).cpu().numpy()

    def represent(self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], pooling: str) -> Tensor:
        """What `features` gives, in fp32 and with gradients: what a head is finetuned on."""
        return mean_states(model, [self.reading(sample, have) for sample in samples], self.view)

    def reading(self, sample: Sample, have: Sequence[str]) -> Document:
        """What the transformer reads when it is given these modalities of a sample and asked for nothing; what encoders read, too."""
        return self.segments(sample, have, loss=())

    def hidden(self, sample: Sample, ratio: float | None, random: np.random.Generator) -> dict[str, np.ndarray]:
        """(L,) bool of each modality of the sample: the tokens to hide, as many as in training or a share of `ratio`."""
        raise UsageError("this method hides no tokens.", where=self.name, fix="Ask a run of masked or m3ae.")

    def reconstruct(
        self, model: Transformer, samples: Sequence[Sample], have: Sequence[str], hidden: Sequence[Mapping[str, np.ndarray]]
    ) -> list[dict[str, np.ndarray]]:
        """The tokens of the modalities `have` of each sample, the hidden ones as told from all visible ones in one pass."""
        raise UsageError("this method hides no tokens.", where=self.name, fix="Ask a run of masked or m3ae.")

    def states(self, model: Transformer, have: Sequence[str], samples: Sequence[Sample]) -> np.ndarray:
        """(N, D) float32 features of any number of samples, in batches; `have` counts as a set."""
        parts = [samples[at : at + READ_TOGETHER] for at in range(0, len(samples), READ_TOGETHER)]
        return np.concatenate([self.features(model, part, sorted(have)) for part in parts]).astype(np.float32)

    def segments(self, sample: Sample, names: Sequence[str], loss: Sequence[str]) -> Document:
        """The sample's modalities in this order; only those in `loss` are predicted."""
        parts = [(self.layout.index(name), sample.tokens[name], name in loss) for name in names]
        return concatenate([segment(self.layout, index, codes, loss=wanted) for index, codes, wanted in parts])

    def present(self, sample: Sample) -> list[str]:
        """The sample's modalities in the order of the data set."""
        return [name for name in self.layout.names if name in sample.tokens]
