"""Generative runs on the same missing modalities: a linear probe on their features of what is present, or of whole samples once they have
imputed the rest.

    python examples/joint_embedding/generative.py SHARDS --run NAME=RUN ... --label LABEL --missing-rate 0.7 --split test --out OUT.json

What is missing is what `mmtool adapt` removes with the same numbers, from training samples (of runs and probes alike) and, at a growing
rate, from held-out ones. A run that imputes does so by one draw.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.adaptation.batches import LabelledSamples, labelled_samples, missingness
from mmtool.adaptation.config import AdaptConfig
from mmtool.adaptation.measure import MISSING_RATES
from mmtool.common.storage import write_json
from mmtool.data.sample import Sample
from mmtool.data.shards import open_token_set
from mmtool.evaluation.tasks.probe import fit_classifier
from mmtool.imputation.imputer import Imputer
from mmtool.metrics.intervals import share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--run", action="append", required=True, metavar="NAME=RUN")
    parser.add_argument("--label", required=True)
    parser.add_argument("--missing-rate", type=float, default=0.7)
    parser.add_argument("--num-missing", type=int, default=1)
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    config = AdaptConfig(label=given.label, missing_rate=given.missing_rate, num_missing=given.num_missing)
    names = tuple(sorted(open_token_set(given.shards, split="train").tokenizers))
    train, held_out = (
        labelled_samples(open_token_set(given.shards, split=split), names, config, limit, complete_only=True)
        for split, limit in (("train", 0), (given.split, given.limit))
    )
    train = train.remove_modalities(missingness(config, config.missing_rate, ()))
    rows: list[dict[str, Any]] = []
    for text in given.run:
        name, _, path = text.partition("=")
        rows += measure(name, Imputer.open(Path(path)), train, held_out, config)
        print(f"{name}: measured", flush=True)
    write_json(given.out, {"results": rows})


def measure(name: str, imputer: Imputer, train: LabelledSamples, held_out: LabelledSamples, config: AdaptConfig) -> list[dict[str, Any]]:
    """Rows of one run, with and without imputation, at every missing rate of held-out samples."""
    rows = []
    for way in ("features", "imputed"):
        shown = (lambda samples: samples) if way == "features" else (lambda samples: imputed(imputer, samples, train.names))
        probe = fit_classifier(features(imputer, shown(train.samples)), np.array(list(map(str, train.labels))), seed=0)
        for missing_rate in MISSING_RATES:
            left = held_out.remove_modalities(missingness(config, missing_rate, ()))
            predicted = probe.predict(features(imputer, shown(left.samples)))
            accuracy = share((predicted == np.array(list(map(str, left.labels)))).astype(float))
            who = {"method": imputer.method, "seed": imputer.seed, "run": f"{name}, {way}"}
            what = {"given": list(train.names), "target": config.label, "seen": True, "metric": "accuracy, any missing"}
            rows.append({**who, **what, **asdict(accuracy), "at": missing_rate, "trained_at": config.missing_rate})
    return rows


def features(imputer: Imputer, samples: Sequence[Sample]) -> np.ndarray:
    """(N, D) features of whatever each sample holds."""
    rows: dict[int, np.ndarray] = {}
    for names, indices in by_presence(samples).items():
        rows.update(zip(indices, imputer.features([samples[i] for i in indices], names), strict=True))
    return np.stack([rows[i] for i in range(len(samples))])


def imputed(imputer: Imputer, samples: Sequence[Sample], names: Sequence[str]) -> list[Sample]:
    """The same samples with what they lack imputed from what they hold."""
    whole = list(samples)
    for held, indices in by_presence(samples).items():
        for want in sorted(set(names) - set(held)):
            imputations = imputer.impute([samples[i] for i in indices], held, want)
            for i, imputation in zip(indices, imputations, strict=True):
                whole[i] = replace(whole[i], tokens={**whole[i].tokens, want: imputation.tokens[0]})
    return whole


def by_presence(samples: Sequence[Sample]) -> dict[tuple[str, ...], list[int]]:
    """Indices of the samples that hold the same modalities."""
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, sample in enumerate(samples):
        groups[tuple(sorted(sample.tokens))].append(i)
    return groups


if __name__ == "__main__":
    main()
