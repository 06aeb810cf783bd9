"""How an adapter does on held-out samples of which a growing share loses modalities, and how its predicted embeddings retrieve.

Held-out samples are encoded once; what is missing is masked in the embeddings, for each encoder reads one modality alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import permutations
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import f1_score, roc_auc_score
from torch import Tensor

from mmtool.adapt.adapter import Adapter
from mmtool.adapt.batches import LabelledSamples, encode_all, missingness, presence
from mmtool.adapt.joint_embedding import Encodings, masks_of
from mmtool.evaluation.tasks.retrieval import estimates, ranks
from mmtool.metrics.intervals import Estimate, bootstrap, share
from mmtool.metrics.survival import concordance

MISSING_RATES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
ANY = "any"
Row = dict[str, Any]


@torch.no_grad()
def curve(
    adapter: Adapter, held_out: LabelledSamples, device: torch.device, run: str, seed: int, missing_rates: Sequence[float] = MISSING_RATES
) -> Iterator[Row]:
    """One row for each missing rate and modality that is missing, and for any of them in equal parts."""
    model, goal = adapter.model.eval(), adapter.goal
    encodings = encode_all(model, held_out.samples, device)
    targets, config = goal.targets(held_out.labels), adapter.config
    removable = [(name,) for name in adapter.names] + [()]
    for missing in removable if len(adapter.names) > 1 else [()]:
        for missing_rate in missing_rates:
            protocol = missingness(config, missing_rate, missing)
            kept = held_out if config.recipe.complete else held_out.remove_modalities(protocol)
            present = torch.from_numpy(presence(kept.samples, model.names)).to(device)
            answers = goal.answers(model(masked(encodings, present), masks_of(present))[0])
            found = judge(goal.kind, answers, targets, seed)
            if found is not None:
                metric = f"{goal.metric}, {'+'.join(missing) or ANY} missing"
                point = {"at": missing_rate, "trained_at": config.missing_rate}
                yield {**row(adapter, run, adapter.names, config.target, metric, found), **point}


def masked(encodings: Encodings, present: Tensor) -> Encodings:
    """The same samples as if only `present` (N, M) were there."""
    embedding = [own * present[:, m, None] for m, own in enumerate(encodings.embedding)]
    return Encodings(embedding, [own * present[:, m, None, None] for m, own in enumerate(encodings.reading)], present)


def row(adapter: Adapter, run: str, given: Sequence[str], target: str, metric: str, found: Estimate) -> Row:
    who = {"method": adapter.config.method, "seed": adapter.config.seed, "run": run}
    return {**who, "given": list(given), "target": target, "seen": True, "metric": metric, **asdict(found)}


def judge(kind: str, answers: np.ndarray, targets: np.ndarray, seed: int) -> Estimate | None:
    """The metric of a kind of task on the samples whose label is known; None where it cannot be told.

    A class that training never saw has no target in `single` and is left out there.
    """
    known = ~np.isnan(targets[:, 0])
    answers, targets = answers[known], targets[known]
    if not len(targets):
        return None
    if kind == "single":
        return share((answers.argmax(1) == targets[:, 0]).astype(float))
    if kind == "survival":
        return concordance(answers[:, 0], targets, seed)
    statistic = {"multilabel": _macro_f1, "binary": _auroc, "regression": _r2}[kind]
    found = bootstrap(lambda rows: statistic(answers[rows], targets[rows]), len(targets), seed)
    return found if found.defined else None


def _macro_f1(answers: np.ndarray, targets: np.ndarray) -> float:
    return float(f1_score(targets > 0, answers > 0.5, average="macro", zero_division=0))


def _auroc(answers: np.ndarray, targets: np.ndarray) -> float:
    return float(roc_auc_score(targets[:, 0], answers[:, 0])) if len(np.unique(targets[:, 0])) == 2 else float("nan")


def _r2(answers: np.ndarray, targets: np.ndarray) -> float:
    spread = float(np.square(targets - targets.mean()).sum())
    return 1 - float(np.square(answers - targets).sum()) / spread if spread else float("nan")


@torch.no_grad()
def predicted_embeddings(adapter: Adapter, encodings: Encodings, given: Sequence[str], target: str) -> tuple[np.ndarray, Tensor]:
    """(rows of the samples that hold all of `given`, their embeddings (N, W) of `target` predicted from these alone, in standard units)."""
    model, m = adapter.model.eval(), adapter.model.names.index(target)
    wanted = torch.tensor([name in given for name in model.names], device=encodings.present.device)
    rows = (encodings.present[:, wanted].all(1)).nonzero()[:, 0]
    only = Encodings([own[rows] for own in encodings.embedding], [own[rows] for own in encodings.reading], encodings.present[rows])
    only = masked(only, wanted.expand(len(rows), -1))
    masks = masks_of(only.present)
    predicted = model.predictor(only.reading, masks.sources) if model.predictor is not None else []
    return rows.cpu().numpy(), model.imputed_embeddings(only, masks, predicted)[m].float()


def retrieval(adapter: Adapter, held_out: LabelledSamples, device: torch.device, run: str, seed: int, candidates: int) -> Iterator[Row]:
    """Predicted embeddings ask for real ones among as many candidates: the very sample, and where there are classes any of the same.

    Similarity is the cosine in standard units. Only methods that predict from what is present are asked.
    """
    if adapter.model.options.absent not in ("predicted", "ridge"):
        return
    chosen = np.sort(np.random.default_rng(seed).permutation(len(held_out.samples))[:candidates])
    samples, labels = [held_out.samples[i] for i in chosen], [held_out.labels[i] for i in chosen]
    encodings = encode_all(adapter.model, samples, device)
    for given, target in permutations(adapter.model.names, 2):
        m = adapter.model.names.index(target)
        asked, said = predicted_embeddings(adapter, encodings, [given], target)
        both = encodings.present[asked, m].cpu().numpy()
        rows = asked[both]
        if len(rows) < 2:
            continue
        queries, real = (F.normalize(own, dim=-1) for own in (said[torch.from_numpy(both)], encodings.embedding[m][rows]))
        for prefix, wanted in _hits(adapter.goal.kind, [labels[i] for i in rows]).items():
            for metric, found in estimates(ranks((queries @ real.T).cpu().numpy(), wanted), seed).items():
                yield row(adapter, run, [given], target, prefix + metric, found)


def _hits(kind: str, labels: Sequence[Any]) -> Mapping[str, np.ndarray]:
    found = {"": np.eye(len(labels), dtype=bool)}
    if kind in ("single", "binary"):
        names = np.array([f"\0{i}" if label is None else str(label) for i, label in enumerate(labels)], dtype=object)
        found["class "] = names[:, None] == names[None]
    return found
