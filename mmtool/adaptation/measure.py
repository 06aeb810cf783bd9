"""How an adapter does on held-out samples of which a growing share loses modalities, and how its predicted embeddings retrieve.

Held-out samples are encoded once; what is missing is masked in the embeddings, for each encoder reads one modality alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmtool.adaptation.adapter import Adapter
from mmtool.adaptation.batches import LabelledSamples, encode_all, missingness, presence
from mmtool.adaptation.joint_embedding import Encodings, masks_of
from mmtool.evaluation.study import Row, make_row
from mmtool.evaluation.tasks.retrieval import estimates, ranks

MISSING_RATES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
ANY = "any"


@dataclass(frozen=True)
class MeasureOptions:
    """missing_rates: shares of held-out samples that lose modalities. limit: samples at most (None: all). candidates: of a retrieval.
    seed: of what is drawn."""

    missing_rates: tuple[float, ...] = MISSING_RATES
    limit: int | None = None
    candidates: int = 100
    seed: int = 0


@torch.no_grad()
def robustness_rows(adapter: Adapter, run: str, held_out: LabelledSamples, device: torch.device, options: MeasureOptions) -> Iterator[Row]:
    """One row for each missing rate and modality that is missing, and for any of them in equal parts. run: name of the adapter."""
    model, task, config = adapter.model.eval(), adapter.task, adapter.config
    encodings, targets = encode_all(model, held_out.samples, device), task.encode(held_out.labels)
    removable = [(name,) for name in adapter.names] + [()]
    for missing in removable if len(adapter.names) > 1 else [()]:
        for missing_rate in options.missing_rates:
            protocol = missingness(config, missing_rate, missing)
            kept = held_out if config.recipe.complete else held_out.remove_modalities(protocol)
            present = torch.from_numpy(presence(kept.samples, model.names)).to(device)
            outputs = model(masked(encodings, present), masks_of(present))[0].float().cpu().numpy()
            for metric, estimate in task.measure(outputs, targets, options.seed, [task.metric]).items():
                name = f"{metric}, {'+'.join(missing) or ANY} missing"
                point = make_row(run, adapter, adapter.names, config.target, True, name, estimate, at=missing_rate)
                yield {**point, "trained_at": config.missing_rate}


def masked(encodings: Encodings, present: Tensor) -> Encodings:
    """The same samples as if only `present` (N, M) were there."""
    embedding = [rows * present[:, m, None] for m, rows in enumerate(encodings.embedding)]
    return Encodings(embedding, [rows * present[:, m, None, None] for m, rows in enumerate(encodings.reading)], present)


@torch.no_grad()
def predicted_embeddings(adapter: Adapter, encodings: Encodings, given: Sequence[str], target: str) -> tuple[np.ndarray, Tensor]:
    """(indices of the samples that hold all of `given`, their embeddings (N, W) of `target` predicted from these alone, in standard
    units)."""
    model, m = adapter.model.eval(), adapter.model.names.index(target)
    wanted = torch.tensor([name in given for name in model.names], device=encodings.present.device)
    indices = encodings.present[:, wanted].all(1).nonzero()[:, 0]
    given_only = masked(encodings.of(indices), wanted.expand(len(indices), -1))
    masks = masks_of(given_only.present)
    predicted = model.predictor(given_only.reading, masks.sources) if model.predictor is not None else []
    return indices.cpu().numpy(), model.imputed_embeddings(given_only, masks, predicted)[m].float()


def retrieval_rows(adapter: Adapter, run: str, held_out: LabelledSamples, device: torch.device, options: MeasureOptions) -> Iterator[Row]:
    """Predicted embeddings as queries for real ones, among as many candidates: a hit is the very sample, and where there are classes any
    sample of the same.

    Similarity is the cosine in standard units. Only methods that predict from what is present are measured.
    """
    if adapter.model.options.absent not in ("predicted", "ridge"):
        return
    chosen = np.sort(np.random.default_rng(options.seed).permutation(len(held_out.samples))[: options.candidates])
    samples, labels = [held_out.samples[i] for i in chosen], [held_out.labels[i] for i in chosen]
    encodings = encode_all(adapter.model, samples, device)
    for given, target in permutations(adapter.model.names, 2):
        m = adapter.model.names.index(target)
        indices, predicted = predicted_embeddings(adapter, encodings, [given], target)
        both = encodings.present[indices, m].cpu().numpy()
        rows = indices[both]
        if len(rows) < 2:
            continue
        queries, real = (F.normalize(side, dim=-1) for side in (predicted[torch.from_numpy(both)], encodings.embedding[m][rows]))
        for prefix, hits in _hits(adapter.task.kind, [labels[i] for i in rows]).items():
            for metric, estimate in estimates(ranks((queries @ real.T).cpu().numpy(), hits), options.seed).items():
                yield make_row(run, adapter, [given], target, True, prefix + metric, estimate)


def _hits(kind: str, labels: Sequence[Any]) -> Mapping[str, np.ndarray]:
    """prefix of the metric -> (N, N) whether a candidate is a hit of a query."""
    hits = {"": np.eye(len(labels), dtype=bool)}
    if kind in ("single", "binary"):
        names = np.array([f"\0{i}" if label is None else str(label) for i, label in enumerate(labels)], dtype=object)
        hits["class "] = names[:, None] == names[None]
    return hits
