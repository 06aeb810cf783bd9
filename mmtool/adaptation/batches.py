"""Labelled samples some of whose modalities are missing, and batches of them as encoders take them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmtool.adaptation.config import AdaptConfig
from mmtool.adaptation.joint_embedding import Encodings, JointEmbedding
from mmtool.common.errors import DataError
from mmtool.data.loader import drawn, sample_seed
from mmtool.data.sample import SPLITS, Sample
from mmtool.data.shards import TokenSet
from mmtool.metrics.survival import outcomes_of
from mmtool.model.encoder import Inputs
from mmtool.preprocessing.protocol import MissingnessProtocol

ENCODE_BATCH = 256


def missingness(config: AdaptConfig, missing_rate: float, missing: Sequence[str]) -> MissingnessProtocol:
    """The protocol by which a share of samples loses modalities: a function of (seed, protocol, missing rate, key) alone."""
    return MissingnessProtocol(
        missing_rate=missing_rate,
        apply_to=SPLITS,
        seed=config.missing_seed,
        missing=tuple(missing),
        num_missing=config.num_missing,
    )


@dataclass(frozen=True)
class LabelledSamples:
    """Samples that hold at least one of the modalities `names`: present (N, M), labels (N,), None where unknown."""

    names: tuple[str, ...]
    samples: list[Sample]
    labels: list[Any]

    @property
    def present(self) -> np.ndarray:
        return presence(self.samples, self.names)

    def remove_modalities(self, protocol: MissingnessProtocol) -> "LabelledSamples":
        """The same samples without what the protocol takes."""
        return replace(self, samples=[_without(sample, self.names, protocol) for sample in self.samples])


def presence(samples: Sequence[Sample], names: Sequence[str]) -> np.ndarray:
    """(N, M) whether each sample holds each modality."""
    return np.array([[name in sample.tokens for name in names] for sample in samples], dtype=bool).reshape(-1, len(names))


def labelled_samples(
    tokens: TokenSet, names: Sequence[str], config: AdaptConfig, limit: int = 0, complete_only: bool = False
) -> LabelledSamples:
    """The samples of a token set that hold any of the modalities, with their labels; `limit` of them, chosen by hash (0: all).

    complete_only: only those that hold all of the modalities.
    Raises DataError where none carries the label.
    """
    least = len(names) if complete_only else 1
    chosen = [i for i in range(len(tokens)) if len(set(tokens.present(i)) & set(names)) >= least]
    if not chosen:
        what = f"no sample holds {' and '.join(names) if complete_only else ' or '.join(names)}."
        raise DataError(what, where="--encoder", fix="Train on all samples (complete_only=false), or name fewer encoders.")
    if limit and len(chosen) > limit:
        order = sorted(chosen, key=lambda i: sample_seed(config.missing_seed, 0, f"limit/{tokens.keys[i]}"))
        chosen = sorted(order[:limit])
    samples = [tokens[i] for i in chosen]
    labels = labels_of(samples, config)
    if all(label is None for label in labels):
        known = sorted({name for sample in samples[:100] for name in sample.labels})
        fix = f"Labels here: {', '.join(known) or 'none'}; `mmtool shard --labels FILE` adds more."
        raise DataError(f"no sample with {' or '.join(names)} carries the label {config.target!r}.", where="--label", fix=fix)
    return LabelledSamples(tuple(names), samples, labels)


def labels_of(samples: Sequence[Sample], config: AdaptConfig) -> list[Any]:
    """The label of each sample, (time, event) where survival is predicted; None where it is unknown."""
    if not config.survival:
        return [sample.labels.get(config.label) for sample in samples]
    time, event = config.survival
    outcomes = outcomes_of([sample.labels for sample in samples], time, event)
    return [None if np.isnan(row).any() else tuple(row.tolist()) for row in outcomes]


def _without(sample: Sample, names: tuple[str, ...], protocol: MissingnessProtocol) -> Sample:
    kept = protocol.kept(sample.key, [name for name in names if name in sample.tokens], sample.split)
    return replace(sample, tokens={name: sample.tokens[name] for name in kept})


@dataclass
class ShuffledBatches:
    """An endless stream of batches: their order and randomness are functions of (seed, epoch, key), its state is `consumed`."""

    data: LabelledSamples
    size: int
    seed: int
    consumed: int = 0

    def next(self) -> tuple[np.ndarray, list[int]]:
        """(indices of the samples, one seed for each)."""
        pairs = list(drawn(self.consumed, self.size, len(self.data.samples), self.seed))
        self.consumed += self.size
        seeds = [sample_seed(self.seed, epoch, self.data.samples[i].key) for epoch, i in pairs]
        return np.array([i for _, i in pairs]), seeds


def encode(model: JointEmbedding, samples: Sequence[Sample], device: torch.device) -> Encodings:
    """The outputs of the model's encoders for whatever these samples hold."""
    present = torch.from_numpy(presence(samples, model.names)).to(device)
    inputs: list[Inputs] = []
    for encoder in model.encoders:
        held = [sample for sample in samples if encoder.modality in sample.tokens]
        inputs.append({name: value.to(device) for name, value in encoder.prepare(held).items()} if held else {})  # type: ignore[operator]
    return model.encode(inputs, present)


@torch.no_grad()
def encode_all(model: JointEmbedding, samples: Sequence[Sample], device: torch.device) -> Encodings:
    """The same for any number of samples, batch by batch, on the device and without gradients."""
    parts = [encode(model, batch, device) for batch in _batches(samples)]
    columns = range(len(model.names))
    return Encodings(
        [torch.cat([part.embedding[m] for part in parts]) for m in columns],
        [torch.cat([part.reading[m] for part in parts]) for m in columns],
        torch.cat([part.present for part in parts]),
    )


def _batches(samples: Sequence[Sample]) -> Iterator[Sequence[Sample]]:
    return (samples[start : start + ENCODE_BATCH] for start in range(0, len(samples), ENCODE_BATCH))


def as_tensor(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(values).to(device)
