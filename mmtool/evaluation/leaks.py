"""Whether held-out samples really are: nothing that is evaluated, or that evaluates, may have been trained on an item of theirs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.data.identity import TrainingItems, identities, source_keys
from mmtool.data.sample import Sample
from mmtool.data.shards import TokenSet
from mmtool.tokenizers.base import read_fitted_on

EXAMPLES = 3  # keys named for each learner
OF_RUN = "Evaluate on a held-out split of the shards that the run was trained on."
OF_TOKENIZER = "Tokenize anew with --fit, with the --seed, --fractions and --split-label of `mmtool shard`; then shard and train anew."
OF_REFERENCE = "Give with --train the training split of the same shards."


@dataclass(frozen=True)
class Learner:
    """Something that was trained: name in words, its items, and what to do where they are held out."""

    name: str
    items: TrainingItems
    fix: str


def tokenizers_of(tokens: TokenSet) -> list[Learner]:
    """The tokenizers of a token set, with what they were fitted on."""
    found = []
    for name, data in sorted(tokens.tokenizers.items()):
        known = read_fitted_on(data)
        items = TrainingItems(complete=False) if known is None else TrainingItems({name: known})
        found.append(Learner(f"the tokenizer of {name}", items, OF_TOKENIZER))
    return found


def reference_of(train: TokenSet, test: Sequence[Sample], name: str = "the reference classifiers", fix: str = OF_REFERENCE) -> Learner:
    """What learns from the training samples beside the runs, with those items that could be among the test samples'."""
    keys = {key for sample in test for held in sample.tokens for key in source_keys(sample.key, sample.metadata, held)}
    return Learner(name, TrainingItems.among(train, keys), fix)


def refuse_leaks(test: Sequence[Sample], learners: Iterable[Learner], where: Path) -> None:
    """Raise UsageError where any of the learners was trained on an item of a test sample; say of which it is not known."""
    learners = list(learners)
    known = _rows_by_item(test)
    leaks = [(learner, rows) for learner in learners if len(rows := _rows(learner.items, known))]
    if leaks:
        every = len(np.unique(np.concatenate([rows for _, rows in leaks])))
        parts = [f"{len(rows):,} by {learner.name} ({_examples(test, rows)})" for learner, rows in leaks]
        fixes = " ".join(dict.fromkeys(learner.fix for learner, _ in leaks))
        what = f"{every:,} of {len(test):,} test samples are not held out, they were trained on: {'; '.join(parts)}."
        raise UsageError(what, where=where, fix=f"Split every stage with the same seed and fractions. {fixes}")
    unknown = [learner.name for learner in learners if not learner.items.complete]
    if unknown:
        log(f"not known to be free of leaks, as an earlier version made them and did not record their training items: {', '.join(unknown)}")


def _rows_by_item(test: Sequence[Sample]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """modality -> (identities (N,), the sample of each (N,))."""
    found: dict[str, list[tuple[int, int]]] = {}
    for row, sample in enumerate(test):
        for name in sample.tokens:
            found.setdefault(name, []).extend((item, row) for item in identities(sample, name))
    return {
        name: (np.array([item for item, _ in pairs], np.uint64), np.array([row for _, row in pairs], np.int64))
        for name, pairs in found.items()
    }


def _rows(items: TrainingItems, known: dict[str, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The samples of which any item is among the training items, in order."""
    shared = [rows[np.isin(held, items.identities[name])] for name, (held, rows) in known.items() if name in items.identities]
    return np.unique(np.concatenate(shared)) if shared else np.zeros(0, np.int64)


def _examples(test: Sequence[Sample], rows: np.ndarray) -> str:
    return "for example " + ", ".join(repr(test[row].key) for row in rows[:EXAMPLES])
