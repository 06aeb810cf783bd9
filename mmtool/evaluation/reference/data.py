"""The real data an evaluation stands on: held-out samples, a pool of training samples, and the classifiers trained on the pool."""

from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from mmtool.common.errors import DataError, UsageError
from mmtool.data.graph import CoOccurrence
from mmtool.data.held_out import open_held_out
from mmtool.data.labels import is_number
from mmtool.data.sample import Sample
from mmtool.data.shard_format import ABSENT
from mmtool.data.shards import TokenSet, open_token_set
from mmtool.evaluation.reference.classifiers import ReferenceClassifier
from mmtool.evaluation.reference.cox import C_INDEX, STRATIFIED, CoxModels
from mmtool.evaluation.reference.decoded import DecodedSamples
from mmtool.evaluation.reference.features import Embedding
from mmtool.metrics.intervals import Estimate, share
from mmtool.tokenizers.base import Tokenizer
from mmtool.tokenizers.code_values import OneHot
from mmtool.tokenizers.table_rows import TableRows, quantiles

CLIP = 0.001  # share of raw values clipped on either side: one of 17,036 among z-scores would decide every mean

UPPER_BOUNDS = ("accuracy", C_INDEX, STRATIFIED)  # metrics of imputed data that real data bounds

RawTables = Mapping[str, Mapping[str, np.ndarray]]  # modality -> key -> (F,) row, in the order of the tokenizer's features


class Reference:
    """Held-out samples `test`, training samples `train`, and what is fitted on the latter.

    graph: co-occurrence in training. label: by which classifiers classify, None where samples carry none; classes: its values among
    test samples; regression: whether it is a number without classes, which nothing is classified by. Fitted when first used,
    embeddings: of every modality with two training samples or more; classifiers: of those whose training samples carry at least two
    classes; cox_models: of survival, where labels hold it.
    survival: labels that hold a time and its event; strata: one within whose classes it is compared as well.
    raw: modality -> key -> row as it was before tokenizing, for tables whose truth is to be free of traces of the tokenizer.
    validation: samples that calibrate runs (see validation.py), held out like the test samples and none of these.
    """

    def __init__(
        self,
        test: DecodedSamples,
        train: DecodedSamples,
        tokenizers: Mapping[str, Tokenizer],
        graph: CoOccurrence,
        label: str | None,
        seed: int,
        raw: RawTables | None = None,
        survival: tuple[str, str] | None = None,
        validation: DecodedSamples | None = None,
        strata: str | None = None,
    ) -> None:
        self.raw, self.validation = raw or {}, validation
        self.test, self.train, self.tokenizers, self.graph, self.label = test, train, tokenizers, graph, label
        labelled = test.labelled(label, np.arange(len(test))) if label else ()
        self.regression = is_number(test.samples, label)
        self.classes = sorted(set(test.labels(label, labelled))) if label and not self.regression else []
        self._seed, self._survival, self.strata = seed, survival, strata
        self._train_classes: dict[str, dict[int, str]] = {}
        self._bounds: dict[str, np.ndarray] = {}

    def table(self, side: DecodedSamples, name: str, indices: np.ndarray) -> np.ndarray:
        """(n, F) rows of the raw table, the most extreme values clipped; where none was given, as the tokenizer decodes them."""
        if name not in self.raw:
            return np.stack(side.values(name, indices))
        return np.clip(self._raw_rows(side, name, indices), *self._raw_bounds(name))

    def _raw_bounds(self, name: str) -> np.ndarray:
        """(2, F) values that all but a thousandth of training values on either side lie between."""
        if name not in self._bounds:
            rows = self._raw_rows(self.train, name, self.train.having(name))
            bounds = np.nan_to_num(quantiles(rows, np.array([CLIP, 1 - CLIP])))
            categorical = self.one_hot(name).categorical
            self._bounds[name] = np.where(categorical, np.array([[-np.inf], [np.inf]]), bounds).astype(bounds.dtype)
        return self._bounds[name]

    def one_hot(self, name: str) -> OneHot:
        """How the rows of a table become numbers that have means."""
        one_hot: OneHot = self.tokenizers[name].one_hot  # type: ignore[attr-defined]  # tokenizers of tables have it
        return one_hot

    def _raw_rows(self, side: DecodedSamples, name: str, indices: np.ndarray) -> np.ndarray:
        known = self.raw[name]
        keys = [side.samples[int(i)].key for i in indices]
        missing = next((key for key in keys if key not in known), None)
        if missing is not None:
            raise DataError(
                f"the sample {missing!r} has {name}, but no row in its raw table, whose keys are {', '.join(map(repr, [*known][:3]))} ...",
                where=f"--raw {name}",
                fix="Give the table that it was tokenized from, with the --key-column and --label-pattern that `tokenize` had.",
            )
        return np.stack([known[key] for key in keys])

    @cached_property
    def embeddings(self) -> dict[str, Embedding]:
        return {name: self._embedding(name, self._seed) for name in self.tokenizers if self._can_embed(name)}

    @cached_property
    def classifiers(self) -> dict[str, ReferenceClassifier]:
        return self._train_classifiers(self._seed) if self.label and not self.regression else {}

    @cached_property
    def cox_models(self) -> CoxModels | None:
        if not self._survival:
            return None
        return CoxModels(self.test, self.train, self.embeddings, self._survival, self._seed, self.strata)

    def upper_bounds(self, metric: str) -> dict[str, Estimate]:
        """modality -> a metric of `UPPER_BOUNDS` on the real values of test samples, where these have some."""
        if metric in (C_INDEX, STRATIFIED):
            return self.cox_models.upper_bounds[metric] if self.cox_models else {}
        return {name: accuracy for name in self.classifiers if (accuracy := self._accuracy(name))}

    @property
    def told_outright(self) -> dict[str, list[str]]:
        """Label, time and event of survival -> the tables that hold a column of its name: given one, nothing is left to predict."""
        tables = {name: tokenizer.features for name, tokenizer in self.tokenizers.items() if isinstance(tokenizer, TableRows)}
        judged = dict.fromkeys(name for name in (self.label, *(self._survival or ())) if name)
        found = {label: [name for name, columns in tables.items() if label in columns] for label in judged}
        return {label: holding for label, holding in found.items() if holding}

    def class_of(self, index: int) -> str | None:
        """The class of a test sample, as text."""
        value = self.test.samples[index].labels.get(self.label) if self.label else None
        return None if value is None else str(value)

    def train_predictions(self, name: str, indices: np.ndarray) -> np.ndarray:
        """(n,) classes of training samples by the reference classifier of a modality (classified once)."""
        if name not in self._train_classes:
            classes = self.classifiers[name].predict(self.train.values(name))
            self._train_classes[name] = dict(zip(self.train.having(name).tolist(), classes, strict=True))
        return np.array([self._train_classes[name][int(i)] for i in indices])

    def _can_embed(self, name: str) -> bool:
        return len(self.train.having(name)) > 1

    def _embedding(self, name: str, seed: int) -> Embedding:
        return Embedding(self.tokenizers[name], self.train.values(name), seed)

    def _train_classifiers(self, seed: int) -> dict[str, ReferenceClassifier]:
        assert self.label is not None
        classifiers = {}
        for name, embedding in self.embeddings.items():
            rows = self.train.labelled(self.label, self.train.having(name))
            labels = self.train.labels(self.label, rows)
            if len(set(labels)) > 1:
                classifiers[name] = ReferenceClassifier(embedding, self.train.values(name, rows), labels, seed)
        return classifiers

    def _accuracy(self, name: str) -> Estimate | None:
        assert self.label is not None
        rows = self.test.labelled(self.label, self.test.having(name))
        if not len(rows):
            return None
        return share(self.classifiers[name].predict(self.test.values(name, rows)) == self.test.labels(self.label, rows))


def open_sides(data: Path, train: Path | None) -> tuple[TokenSet, TokenSet]:
    """(held-out set, training set): `data` is a split such as `shards/test`, or shards (directory or file) holding splits.

    The training set is, unless named, the split `train` beside or inside `data`. Raises UsageError where the two are one.
    """
    test = open_held_out(Path(data))
    if train is None:
        train = training_set(Path(data))
        if not train.exists():
            what = "classifiers and baselines need training data, and there is no `train` beside it."
            raise UsageError(what, where=data, fix="Name it with --train.")
    train_set = _open_split(Path(train), "train")
    check_held_out(test, train_set.fingerprint, data)
    return test, train_set


def training_set(data: Path) -> Path:
    """Where the training samples are that belong to held-out ones at `data`: inside or beside it."""
    return data if data.is_file() or (data / "train").is_dir() else data.resolve().parent / "train"


def check_held_out(test: TokenSet, trained_on: str, where: Path) -> None:
    """Raise UsageError where the samples are those with the fingerprint `trained_on`."""
    if test.fingerprint == trained_on:
        fix = "Give another split, such as shards/test, or the shards directory."
        raise UsageError("these are the training samples, not held-out ones.", where=where, fix=fix)


def _open_split(path: Path, split: str) -> TokenSet:
    """The named split of a file or a directory of splits; a directory that is one split is opened as it is."""
    return open_token_set(path, split if path.is_file() or (path / split).is_dir() else None)


def judged_rows(tokens: TokenSet, complete: bool) -> np.ndarray:
    """Which samples an evaluation may use: all, or those that hold every modality."""
    return np.flatnonzero((tokens.lengths != ABSENT).all(1)) if complete else np.arange(len(tokens))


def draw_test(test: TokenSet, limit: int | None, seed: int, *, complete: bool = False) -> list[Sample]:
    """At most `limit` random samples of the held-out set, in their order; complete: of those that hold every modality.

    Raises DataError where there are none.
    """
    rows = judged_rows(test, complete)
    if complete and len(test) and not len(rows):
        what = f"none of {len(test):,} held-out samples holds all of {', '.join(modality.name for modality in test.modalities)}."
        raise DataError(what, where="--complete", fix="Leave it out: every direction is then measured on the samples that show it.")
    if limit is not None and limit < len(rows):
        rows = np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))
    if not len(rows):
        raise DataError("there are no held-out samples.", fix="Evaluate on a split that has samples (see `mmtool shard --split`).")
    return [test[int(i)] for i in rows]


def draw_train(train: TokenSet, seed: int, limit: int) -> list[Sample]:
    """Random training samples, at most `limit` of every combination of modalities."""
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i in range(len(train)):
        groups[tuple(sorted(train.present(i)))].append(i)
    random = np.random.default_rng(seed)
    rows = [random.permutation(groups[names])[:limit] for names in sorted(groups)]
    return [train[int(i)] for i in np.sort(np.concatenate(rows))] if rows else []
