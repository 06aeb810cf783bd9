"""Whether held-out samples really are: nothing that is evaluated, or that evaluates, may have been trained on an item of theirs.

A file that was renamed is the same item still. Contents repeat in honest data as well, though: captions do, and coarse tables. How often
they do is seen among the training items themselves, so test items whose content was trained on under other keys are leaks where there are
more of them than such repeats explain. Other content under a key that was trained on is named, and counts as held out: names repeat, too.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.data.identity import TrainingItems, identities, key_id, noted_content, original_key, source_keys
from mmtool.data.sample import Sample
from mmtool.data.shards import TokenSet
from mmtool.tokenizers.base import FITTED_CONTENTS, read_fitted_on

Rows = dict[str, tuple[np.ndarray, np.ndarray]]  # modality -> what items are known by (N,), the sample of each (N,)
EXAMPLES = 3  # keys named for each learner
DEVIATIONS = 3  # standard deviations of a Poisson count, beyond which repeats are no chance
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
    learners = []
    for name, data in sorted(tokens.tokenizers.items()):
        known, contents = read_fitted_on(data), read_fitted_on(data, FITTED_CONTENTS)
        of_modality = {} if contents is None else {name: contents}
        items = TrainingItems(complete=False) if known is None else TrainingItems({name: known}, contents=of_modality)
        learners.append(Learner(f"the tokenizer of {name}", items, OF_TOKENIZER))
    return learners


def reference_of(train: TokenSet, test: Sequence[Sample], name: str = "the reference classifiers", fix: str = OF_REFERENCE) -> Learner:
    """What learns from the training samples beside the runs, with those items that could be among the test samples'."""
    keys = {key for sample in test for modality in sample.tokens for key in source_keys(sample.key, sample.metadata, modality)}
    return Learner(name, TrainingItems.among(train, keys), fix)


def refuse_leaks(test: Sequence[Sample], learners: Iterable[Learner], where: Path) -> None:
    """Raise UsageError where any of the learners was trained on an item of a test sample; log of which it is not known."""
    learners = list(learners)
    known = _rows_by(test, identities)
    leaks = []
    for learner in learners:
        rows = _rows(learner.items, known)
        renamed = _renamed(learner, test, rows)
        _log_same_keys(learner, test, np.union1d(rows, renamed))
        leaks += [(learner, how, part) for how, part in (("", rows), (" under other keys", renamed)) if len(part)]
    if leaks:
        count = len(np.unique(np.concatenate([rows for _, _, rows in leaks])))
        parts = [f"{len(rows):,} by {learner.name}{how} ({_examples(test, rows)})" for learner, how, rows in leaks]
        fixes = " ".join(dict.fromkeys(learner.fix for learner, _, _ in leaks))
        what = f"{count:,} of {len(test):,} test samples are not held out, they were trained on: {'; '.join(parts)}."
        raise UsageError(what, where=where, fix=f"Split every stage with the same seed and fractions, under the same keys. {fixes}")
    unknown = [learner.name for learner in learners if not learner.items.complete]
    if unknown:
        log(f"not known to be free of leaks, as earlier versions recorded no training items: {', '.join(unknown)}")


def without_leaks(samples: Sequence[Sample], learners: Iterable[Learner]) -> list[Sample]:
    """The samples of which none of the learners was trained on an item."""
    items = [learner.items for learner in learners]
    return [sample for sample in samples if not any(known.holds(sample) for known in items)]


def _renamed(learner: Learner, test: Sequence[Sample], leaked: np.ndarray) -> np.ndarray:
    """The samples whose content a learner was trained on under other keys, where these are more than repeats in training explain."""
    renamed = np.zeros(0, np.int64)
    for name, trained in learner.items.contents.items():
        noted = {row: noted_content(sample, name) for row, sample in enumerate(test) if name in sample.tokens}
        held = {row: content for row, content in noted.items() if content is not None}
        rows = np.array(list(held), np.int64)
        sources = np.array([key_id(original_key(test[row], name)) for row in rows], np.uint64)
        same = np.isin(np.array(list(held.values()), np.uint64), trained) & ~np.isin(rows, leaked)
        expected = len(np.unique(sources)) * _share_of_repeats(trained)
        if len(np.unique(sources[same])) > expected + DEVIATIONS * expected**0.5:
            renamed = np.union1d(renamed, rows[same])
        elif same.any():
            what = f"{same.sum():,} of {len(test):,} test samples have the content of {name} items that {learner.name} was trained on"
            log(f"{what} under other keys. Training items repeat each other as often, so these are judged as held out.")
    return renamed


def _share_of_repeats(contents: np.ndarray) -> float:
    """How probable it is that an item has the content of another, by Laplace's rule of succession: of few items little is known."""
    _, counts = np.unique(contents, return_counts=True)
    return float((counts[counts > 1].sum() + 1) / (len(contents) + 1))


def _log_same_keys(learner: Learner, test: Sequence[Sample], leaked: np.ndarray) -> None:
    pairs = [(row, key_id(original_key(sample, name))) for row, sample in enumerate(test) for name in sample.tokens]
    rows, keys = np.array([row for row, _ in pairs], np.int64), np.array([key for _, key in pairs], np.uint64)
    same = np.setdiff1d(rows[np.isin(keys, learner.items.keys)], leaked)
    if len(same):
        what = f"{len(same):,} of {len(test):,} test samples have keys that {learner.name} was trained on, with other content"
        log(f"{what} ({_examples(test, same)}); they count as held out.")


def _rows_by(test: Sequence[Sample], of: Callable[[Sample, str], Iterable[int]]) -> Rows:
    by_modality: dict[str, list[tuple[int, int]]] = {}
    for row, sample in enumerate(test):
        for name in sample.tokens:
            by_modality.setdefault(name, []).extend((item, row) for item in of(sample, name))
    return {
        name: (np.array([item for item, _ in pairs], np.uint64), np.array([row for _, row in pairs], np.int64))
        for name, pairs in by_modality.items()
    }


def _rows(items: TrainingItems, known: Rows) -> np.ndarray:
    """The samples of which any item is among the training items, in order."""
    shared = [rows[np.isin(held, items.identities[name])] for name, (held, rows) in known.items() if name in items.identities]
    return np.unique(np.concatenate(shared)) if shared else np.zeros(0, np.int64)


def _examples(test: Sequence[Sample], rows: np.ndarray) -> str:
    return "for example " + ", ".join(repr(test[row].key) for row in rows[:EXAMPLES])
