"""A study without training: tables whose codes show the class, and an imputer whose features are these codes."""

import numpy as np
from test_training import CLASSES, LENGTH, TOKENIZER, modality, sample

from mmtool.data.graph import CoOccurrence
from mmtool.evaluation.config import EvaluationConfig
from mmtool.evaluation.reference.data import Reference
from mmtool.evaluation.reference.decoded import DecodedSamples
from mmtool.evaluation.study import Study
from mmtool.tokenizers.base import from_bytes


class CodesAsFeatures:
    """A run whose features are the mean one-hot codes of what it is given."""

    method, seed, has_likelihood, scores_by_token = "codes", 0, False, False
    poolings: tuple[str, ...] = ("mean",)
    target = None

    def __init__(self, train):
        self.graph = CoOccurrence.of(each.present for each in train)
        self.modalities = [modality(name) for name in "abc"]

    def features(self, samples, have, pooling=None):
        codes = np.stack([[each.tokens[name] for name in have] for each in samples]).astype(int)
        shifts = np.array([ord(name) for name in have])[None, :, None]
        aligned = (codes - shifts) % CLASSES
        return np.eye(CLASSES, dtype=np.float32)[aligned].mean(1).reshape(len(samples), LENGTH * CLASSES)


def toy_study(combinations=("ab", "bc"), label="class", imputer=CodesAsFeatures, train=None, test=None):
    train = train or [sample(f"{names}-{i}", i % CLASSES, names) for names in combinations for i in range(80)]
    test = test or [sample(f"t-{i}", i % CLASSES, "abc", "test") for i in range(60)]
    tokenizers = {name: from_bytes(TOKENIZER) for name in "abc"}
    graph = CoOccurrence.of(each.present for each in train)
    reference = Reference(DecodedSamples(test, tokenizers), DecodedSamples(train, tokenizers), tokenizers, graph, label, 0)
    return Study(reference, {"codes": imputer(train)}, EvaluationConfig())


def found(rows, **wanted):
    """The only row with these fields (`given` as a string of names)."""
    chosen = [row for row in rows if all(("".join(row[name]) if name == "given" else row.get(name)) == wanted[name] for name in wanted)]
    assert len(chosen) == 1, (wanted, len(chosen))
    return chosen[0]
