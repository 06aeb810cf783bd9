"""The stage `shard`: token sets in, one token set of train, validation and test out, joined on keys or aligned by a label."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.common.lock import one_writer
from mmtool.common.log import log
from mmtool.common.output import OutputPath
from mmtool.data.sample import SPLITS, Modality, Sample
from mmtool.data.shards import fingerprint_of, measured, write_split, write_stream
from mmtool.data.spool import Spool
from mmtool.preprocessing.alignment import Alignment, align
from mmtool.preprocessing.join import Collection, Placement, add_labels, collect, join, original_of
from mmtool.preprocessing.label_columns import LabelColumns
from mmtool.preprocessing.labels import LabelsFile, read_labels
from mmtool.preprocessing.overlap import check_numbered, check_overlap
from mmtool.preprocessing.protocol import MissingnessProtocol, names_of, share_of
from mmtool.preprocessing.splits import Split
from mmtool.preprocessing.tally import Leaks, Tally
from mmtool.tokenizers.base import read_features

TRAIN = SPLITS[0]


@dataclass(frozen=True)
class ShardSummary:
    """What `shard` did.

    combinations: split -> present modalities ("image+text") -> samples. together: pair -> training samples that hold both.
    absent: split -> modality -> samples without it. unmatched: modality -> keys of other inputs that it lacks (before the protocol).
    left_out: samples that the protocol has no use for. unlabelled: samples that the labels file does not name. fingerprint: by split.
    """

    output: str
    samples: dict[str, int]
    combinations: dict[str, dict[str, int]]
    together: dict[str, int]
    absent: dict[str, dict[str, int]]
    unmatched: dict[str, int]
    left_out: int
    unlabelled: int
    fingerprint: dict[str, str]
    seconds: float


@one_writer
def shard(
    inputs: Sequence[Path | None],
    output: Path | None,
    *,
    protocol: MissingnessProtocol | None = None,
    split: Split | None = None,
    alignment: Alignment | None = None,
    labels: Path | None = None,
    key_column: str | None = None,
    split_label: str | None = None,
    unpaired: bool = False,
    by_row: bool = False,
    allow_missing_parts: bool = False,
    samples_per_shard: int = 10_000,
    force: bool = False,
) -> ShardSummary:
    """Join token sets (None: standard input) into a directory of shards, one tar (a path ending in `.tar`), or standard output (None).

    protocol: which modalities samples lose. split: of groups. alignment: deal items by a label instead of joining them on keys.
    labels: CSV or TSV of further labels by key (`key_column`). split_label: a label that names the split. unpaired: a modality
    may have no key in common with any other. by_row: row numbers of files may be joined, if these have equally many rows.
    allow_missing_parts: inputs that were tokenized in parts need not be complete. The order of the inputs does not matter: same input, same
    bytes. Codes such as 02134 are text in all samples if they are in some. Raises DataError and UsageError before anything is written.
    """
    started = time.monotonic()
    protocol, placement = protocol or MissingnessProtocol(), Placement(split or Split(), split_label)
    place = None if output is None else OutputPath(output, force, [*inputs, labels])
    _check(inputs, place, alignment, labels, samples_per_shard)
    collection = collect(inputs, allow_missing_parts)
    _check_collection(collection, protocol)
    if not alignment:
        check_numbered(collection.items, by_row)
    if not alignment and not unpaired:
        check_overlap(collection.items, {name: read_features(data) for name, data in collection.tokenizers.items()})
    further = read_labels(labels, key_column) if labels else None
    record = _provenance(protocol, placement, alignment, collection)
    with Spool() as kept, Spool() as mended:
        columns = LabelColumns()
        tally = Tally(sorted(collection.modalities))
        leaks, removal = Leaks(collection), protocol.of_dealt_pairs if alignment else protocol
        for sample in _samples(collection, protocol, alignment, placement, further):
            leaks.see(sample)
            columns.add(sample.key, "joined", sample.labels)
            names = removal.kept(original_of(sample), sample.present, sample.split)
            tally.see(sample, names)
            if names:
                kept.add(replace(sample, tokens={name: sample.tokens[name] for name in names}))
        if not len(kept.of_split(TRAIN)):
            fix = "Check --pair and the keys (`mmtool info` shows what an input holds), or raise the fraction of training samples."
            raise DataError("no training sample is left.", where=", ".join(str(path or "-") for path in inputs), fix=fix)
        leaks.warn()
        columns.check()
        samples = _of_one_kind(kept, columns, mended)
        unlabelled = further.unnamed(tally.keys) if further else 0
        fingerprint = _write(place, collection, samples, record, samples_per_shard)
    summary = _summary(output, tally, {} if alignment else tally.unmatched, unlabelled, fingerprint)
    _report(summary, protocol)
    return replace(summary, seconds=round(time.monotonic() - started, 2))


def _check(
    inputs: Sequence[Path | None], output: OutputPath | None, alignment: Alignment | None, labels: Path | None, per_shard: int
) -> None:
    """Refuse what cannot end well before the long work begins."""
    if not inputs:
        raise UsageError("there is nothing to join.", where="INPUT", fix="Give at least one token set.")
    if alignment and labels:
        raise UsageError("aligned samples have keys of their own.", where="--labels", fix="Give labels when tokenizing instead.")
    if per_shard < 1:
        raise UsageError(f"{per_shard} samples make no shard.", where="--samples-per-shard", fix="Give a positive number.")
    if output is not None:
        (output.check_file if _one_file(output) else output.check_directory)()


def _check_collection(collection: Collection, protocol: MissingnessProtocol) -> None:
    if any(earlier.get("align") for earlier in collection.protocols):
        fix = "Shard the token tars that they were made of."
        raise DataError("aligned samples share items, so they cannot be split again.", where="INPUT", fix=fix)
    unknown = sorted(protocol.named - set(collection.modalities))
    if unknown:
        fix = f"The inputs hold: {', '.join(sorted(collection.modalities))}."
        raise UsageError(f"no input holds the modality {unknown[0]!r}.", where="--pair/--missing-rate", fix=fix)


def _samples(
    collection: Collection,
    protocol: MissingnessProtocol,
    alignment: Alignment | None,
    placement: Placement,
    further: LabelsFile | None,
) -> Iterator[Sample]:
    """All samples with their splits, complete as far as the inputs go."""
    if alignment:
        yield from align(collection.items, alignment, protocol, placement)
        return
    for sample in join(collection.items):
        labelled = add_labels(sample, further.rows.get(sample.key, {})) if further else sample
        placed = replace(labelled, split=placement.of(labelled))
        if placed.split == TRAIN or original_of(placed) == placed.key:
            yield placed


def _of_one_kind(samples: Spool, columns: LabelColumns, mended: Spool) -> Spool:
    """The samples, codes text throughout: an input or labels file that has none with a zero in front gives them as numbers."""
    if not columns.is_mixed:
        return samples
    for sample in samples:
        mended.add(replace(sample, labels=columns.corrected(sample.labels)))
    return mended


def _provenance(protocol: MissingnessProtocol, placement: Placement, alignment: Alignment | None, collection: Collection) -> dict[str, Any]:
    """What the manifest says of how samples came to be as they are."""
    split = {"fractions": list(placement.split.fractions), "seed": placement.split.seed, "label": placement.split_label}
    record = {**protocol.to_json(), "split": split, "align": alignment.to_json() if alignment else None}
    return {**record, "inputs": collection.protocols} if collection.protocols else record


def _write(output: OutputPath | None, collection: Collection, samples: Spool, protocol: dict[str, Any], per_shard: int) -> dict[str, str]:
    """Write all splits; gives their fingerprints."""
    modalities, tokenizers = measured(collection.modalities.values(), samples), collection.tokenizers
    if output is None:
        written = write_stream(sys.stdout.buffer, modalities, tokenizers, samples, protocol)
        sys.stdout.buffer.flush()
        return {"all": fingerprint_of(modalities, None, [written.digest])}
    if _one_file(output):
        with output.file() as file:
            written = write_stream(file, modalities, tokenizers, samples, protocol)
        return {"all": fingerprint_of(modalities, None, [written.digest])}
    return _write_directory(output, modalities, tokenizers, samples, protocol, per_shard)


def _one_file(output: OutputPath) -> bool:
    return output.path.suffix == ".tar"


def _write_directory(
    output: OutputPath,
    modalities: Sequence[Modality],
    tokenizers: Mapping[str, bytes],
    samples: Spool,
    protocol: dict[str, Any],
    per_shard: int,
) -> dict[str, str]:
    fingerprints = {}
    with output.directory() as directory:
        for split in SPLITS:
            members = samples.of_split(split)
            if len(members):
                (directory / split).mkdir()
                index = write_split(directory / split, modalities, tokenizers, members, protocol, split=split, samples_per_shard=per_shard)
                fingerprints[split] = index["fingerprint"]
    return fingerprints


def _summary(output: Path | None, tally: Tally, unmatched: dict[str, int], unlabelled: int, fingerprint: dict[str, str]) -> ShardSummary:
    by_split = {split: dict(sorted(tally.present[split].items())) for split in SPLITS if split in tally.present}
    train = [(names.split("+"), count) for names, count in by_split.get(TRAIN, {}).items()]
    pairs = combinations(tally.names, 2)
    return ShardSummary(
        output=str(output or "-"),
        samples={split: sum(counts.values()) for split, counts in by_split.items()},
        combinations=by_split,
        together={f"{a}+{b}": sum(count for names, count in train if a in names and b in names) for a, b in pairs},
        absent={split: {name: _without(name, counts) for name in tally.names} for split, counts in by_split.items()},
        unmatched=unmatched,
        left_out=tally.left_out,
        unlabelled=unlabelled,
        fingerprint=fingerprint,
        seconds=0.0,
    )


def _without(name: str, counts: Mapping[str, int]) -> int:
    return sum(count for held, count in counts.items() if name not in held.split("+"))


def _report(summary: ShardSummary, protocol: MissingnessProtocol) -> None:
    """Absence and loss are said aloud: a join on wrong keys shows here."""
    for name, count in summary.unmatched.items():
        if count:
            log(f"{count} samples have no {name}")
    if summary.left_out:
        shares = " or are beyond its share" if any(share_of(pair) < 1 for pair in protocol.pairs) else ""
        log(f"{summary.left_out} samples were left out: they hold none of the pairs{shares}, or fewer modalities than --least")
    for pair in map("+".join, sorted(map(names_of, protocol.pairs))):
        if not summary.together[pair]:
            log(f"warning: no training sample holds {pair}")
    if summary.unlabelled:
        log(f"{summary.unlabelled} samples are not named in the labels file")
