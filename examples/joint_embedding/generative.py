"""What generative runs make of the same holes: a linear probe on their features of what is present, or of whole samples once they have
imputed the rest.

    python examples/joint_embedding/generative.py SHARDS --run NAME=RUN ... --label LABEL --eta 0.7 --lose 1 --split test --out OUT.json

Holes are those of `mmtool adapt` with the same numbers, in training samples (on which runs were trained and probes are) and, at a growing
share, in held-out ones. A run that imputes does so by one draw.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.adapt.batches import Labelled, holes, labelled
from mmtool.adapt.config import AdaptConfig
from mmtool.adapt.measure import ETAS
from mmtool.common.storage import write_json
from mmtool.data.sample import Sample
from mmtool.data.shards import open_token_set
from mmtool.evaluation.tasks.probe import fit_classifier
from mmtool.impute.imputer import Imputer
from mmtool.metrics.intervals import share


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--run", action="append", required=True, metavar="NAME=RUN")
    parser.add_argument("--label", required=True)
    parser.add_argument("--eta", type=float, default=0.7)
    parser.add_argument("--lose", type=int, default=1)
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    config = AdaptConfig(label=given.label, eta=given.eta, lose=given.lose)
    names = tuple(sorted(open_token_set(given.shards, split="train").tokenizers))
    train, held_out = (
        labelled(open_token_set(given.shards, split=split), names, config, limit, whole=True)
        for split, limit in (("train", 0), (given.split, given.limit))
    )
    train = train.with_holes(holes(config, config.eta, ()))
    rows: list[dict[str, Any]] = []
    for text in given.run:
        name, _, path = text.partition("=")
        rows += judge(name, Imputer.open(Path(path)), train, held_out, config)
        print(f"{name}: judged", flush=True)
    write_json(given.out, {"results": rows})


def judge(name: str, imputer: Imputer, train: Labelled, held_out: Labelled, config: AdaptConfig) -> list[dict[str, Any]]:
    """Rows of one run, with and without imputation, at every share of held-out samples with holes."""
    rows = []
    for way in ("features", "imputed"):
        shown = (lambda samples: samples) if way == "features" else (lambda samples: filled(imputer, samples, train.names))
        probe = fit_classifier(features(imputer, shown(train.samples)), np.array(list(map(str, train.labels))), seed=0)
        for eta in ETAS:
            left = held_out.with_holes(holes(config, eta, ()))
            said = probe.predict(features(imputer, shown(left.samples)))
            found = share((said == np.array(list(map(str, left.labels)))).astype(float))
            who = {"method": imputer.method, "seed": imputer.seed, "run": f"{name}, {way}"}
            what = {"given": list(train.names), "target": config.label, "seen": True, "metric": "accuracy, any missing"}
            rows.append({**who, **what, **asdict(found), "at": eta, "trained_at": config.eta})
    return rows


def features(imputer: Imputer, samples: Sequence[Sample]) -> np.ndarray:
    """(N, D) features of whatever each sample holds."""
    found: dict[int, np.ndarray] = {}
    for names, places in by_presence(samples).items():
        found.update(zip(places, imputer.features([samples[i] for i in places], names), strict=True))
    return np.stack([found[i] for i in range(len(samples))])


def filled(imputer: Imputer, samples: Sequence[Sample], names: Sequence[str]) -> list[Sample]:
    """The same samples with what they lack imputed from what they hold."""
    whole = list(samples)
    for held, places in by_presence(samples).items():
        for want in sorted(set(names) - set(held)):
            made = imputer.impute([samples[i] for i in places], held, want)
            for i, each in zip(places, made, strict=True):
                whole[i] = replace(whole[i], tokens={**whole[i].tokens, want: each.tokens[0]})
    return whole


def by_presence(samples: Sequence[Sample]) -> dict[tuple[str, ...], list[int]]:
    """Places of the samples that hold the same modalities."""
    found: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, sample in enumerate(samples):
        found[tuple(sorted(sample.tokens))].append(i)
    return found


if __name__ == "__main__":
    main()
