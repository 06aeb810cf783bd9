"""Joins token sets: the items of every modality, put together by key into samples, labels merged, absence left open."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.common.log import log
from mmtool.data.identity import GROUP, VARIANT_OF
from mmtool.data.sample import SPLITS, Modality, Sample
from mmtool.data.shard_format import PART
from mmtool.data.shards import TokenSet, open_token_set, split_directories
from mmtool.preprocessing.items import NUMBERED_ROWS as NUMBERED_ROWS
from mmtool.preprocessing.items import Items
from mmtool.preprocessing.parts import missing
from mmtool.preprocessing.readers.entries import SPLIT_WITHIN
from mmtool.preprocessing.splits import Split

SPLIT_NAMES = {**{name: name for name in SPLITS}, "val": "validation", "valid": "validation", "dev": "validation"}
FILLED = "filled_values"  # metadata: modality -> how many missing values of a table row its tokens stand for likely ones of


@dataclass
class Collection:
    """What the inputs hold: modalities, tokenizer files, and items (samples of one modality) by name; and which parts of the samples those
    inputs state that were tokenized in parts."""

    modalities: dict[str, Modality] = field(default_factory=dict)
    tokenizers: dict[str, bytes] = field(default_factory=dict)
    items: dict[str, Items] = field(default_factory=dict)
    count: int = 0
    parts: dict[str, list[str]] = field(default_factory=dict)
    protocols: list[dict[str, Any]] = field(default_factory=list)

    def add(self, token_set: TokenSet, where: object) -> None:
        """Take in one token set. Raises DataError for a key given twice in a modality, and for two modalities of one name."""
        for modality in token_set.modalities:
            self._add_modality(modality, where)
            self.tokenizers[modality.name] = token_set.tokenizers[modality.name]
        protocol = {name: value for name, value in token_set.protocol.items() if name != PART}
        if protocol and protocol not in self.protocols:
            self.protocols.append(protocol)
        for modality in token_set.modalities if PART in token_set.protocol else ():
            self.parts.setdefault(modality.name, []).append(str(token_set.protocol[PART]))
        self.count += 1
        for modality in token_set.modalities:
            self.items[modality.name].add(token_set, self.count, where)

    def _add_modality(self, modality: Modality, where: object) -> None:
        known = self.modalities.setdefault(modality.name, modality)
        self.items.setdefault(modality.name, Items(modality.name))
        if known.tokenizer != modality.tokenizer:
            what = f"the modality {modality.name!r} comes from two tokenizers, {known.tokenizer[:12]} and {modality.tokenizer[:12]}."
            raise DataError(what, where=where, fix="Tokenize both with the same one (--tokenizer), or name them apart (--name).")
        self.modalities[modality.name] = replace(known, max_length=max(known.max_length, modality.max_length))


@dataclass(frozen=True)
class Placement:
    """Which split an item belongs to: by the label `split_label` where it is given, else the one that its episode was divided to, else by
    the hash of its group."""

    split: Split
    split_label: str | None = None

    def of(self, sample: Sample) -> str:
        return self.place(sample.key, group_of(sample), sample.labels, sample.metadata)

    def place(self, key: str, group: str, labels: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
        """Raises DataError for a label that names no split."""
        if self.split_label is None:
            return str(metadata.get(SPLIT_WITHIN) or self.split.of(group))
        stated = labels.get(self.split_label)
        if str(stated) not in SPLIT_NAMES:
            what = f"the label {self.split_label!r} is {stated!r}, which is no split."
            raise DataError(what, where=key, fix=f"Use {', '.join(SPLITS)}.")
        return SPLIT_NAMES[str(stated)]


def collect(inputs: Sequence[Path | None], allow_missing_parts: bool = False) -> Collection:
    """Open all inputs (None: standard input; a shards directory: every split of it). Raises DataError where a modality was tokenized in
    parts of which some are not there, unless that is allowed."""
    if sum(path is None for path in inputs) > 1:
        raise UsageError("standard input can be read once only.", where="-", fix="Write one of the streams to a file first.")
    collection = Collection()
    for path in inputs:
        for split in split_directories(path) if path else [None]:
            collection.add(open_token_set(path, split), path or "standard input")
    for name, parts in collection.parts.items():
        if lacking := missing(parts):
            what = f"parts of {name} are not among the inputs: {', '.join(lacking)}."
            if not allow_missing_parts:
                fix = "Give their token sets as well, or pass --allow-missing-parts to do without these samples."
                raise DataError(what, where="INPUT", fix=fix)
            log(f"warning: {what}")
    return collection


def join(items: Mapping[str, Items]) -> Iterator[Sample]:
    """One sample per key, in order of the keys. An augmented variant of a sample takes its other modalities from the original.

    Raises DataError where two modalities state different labels or groups for a key.
    """
    for key in sorted(set().union(*items.values())):
        parts = [by_key[key] for _, by_key in sorted(items.items()) if key in by_key]
        original = next((part.metadata[VARIANT_OF] for part in parts if VARIANT_OF in part.metadata), None)
        if original is not None:
            held = {name for part in parts for name in part.tokens}
            parts += [by_key[original] for name, by_key in sorted(items.items()) if name not in held and original in by_key]
        yield _merged(key, parts)


def group_of(sample: Sample) -> str:
    """What is split as one: the group of the sample, the original of a variant, or the sample itself."""
    return str(sample.metadata.get(GROUP) or original_of(sample))


def original_of(sample: Sample) -> str:
    """The key of the sample that this one is a variant of; its own where it is none."""
    return str(sample.metadata.get(VARIANT_OF) or sample.key)


def add_labels(sample: Sample, labels: Mapping[str, Any]) -> Sample:
    """The sample with further labels. Raises DataError where it has one of them with another value."""
    return replace(sample, labels=_merge(sample.key, [sample.labels, labels]))


def _merged(key: str, parts: Sequence[Sample]) -> Sample:
    tokens = {name: values for part in parts for name, values in part.tokens.items()}
    metadata = {name: value for part in reversed(parts) for name, value in part.metadata.items()}
    metadata[GROUP] = _common_group(key, parts)
    for counts in (NUMBERED_ROWS, FILLED):
        by_modality = {name: count for part in parts for name, count in part.metadata.get(counts, {}).items()}
        metadata |= {counts: by_modality} if by_modality else {}
    return Sample(key, tokens, _merge(key, [part.labels for part in parts]), metadata, parts[0].split)


def _common_group(key: str, parts: Sequence[Sample]) -> str:
    """The group that was given for a key; inputs tokenized without groups say nothing else than the key itself."""
    given = {group_of(part) for part in parts} - {original_of(part) for part in parts}
    if len(given) > 1:
        what = f"its modalities belong to different groups: {', '.join(sorted(given))}."
        raise DataError(what, where=key, fix="Give the same --group-column to all of them.")
    return given.pop() if given else original_of(parts[0])


def _merge(key: str, all_labels: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All labels; one that is missing here is taken from there."""
    merged: dict[str, Any] = {}
    for labels in all_labels:
        for name, value in labels.items():
            known = merged.get(name)
            if known is None or (isinstance(value, str) and not isinstance(known, str) and str(known) == value):
                merged[name] = value  # a code as text: an input without a zero in front has it as a number
            elif value is not None and known != value and str(value) != known:
                what = f"the label {name!r} is {known!r} in one input and {value!r} in another."
                raise DataError(what, where=key, fix="Correct it, or give the labels another name.")
    return merged
