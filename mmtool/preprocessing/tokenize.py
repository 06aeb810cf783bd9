"""The stage `tokenize`: raw files of one kind -> one token tar of one modality, its tokenizer embedded."""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.common.lock import one_writer
from mmtool.common.log import log, track
from mmtool.common.output import OutputPath
from mmtool.common.storage import sha256_bytes
from mmtool.data.identity import VARIANT_OF, TrainingItems, content_field, identity, original_field
from mmtool.data.sample import SPLITS, Modality, Sample
from mmtool.data.shard_format import MODALITY_NAME, PART
from mmtool.data.shard_writer import write_shard
from mmtool.data.spool import Spool
from mmtool.kinds import KINDS, is_pretrained, kind_named, load
from mmtool.preprocessing.decoding import IN_PROCESS, Decoding, opens_engine
from mmtool.preprocessing.encode import BATCH, Encoder
from mmtool.preprocessing.fit import fit, fitted_before
from mmtool.preprocessing.join import FILLED, NUMBERED_ROWS, Placement
from mmtool.preprocessing.label_columns import LabelColumns
from mmtool.preprocessing.prepare import preparer_of
from mmtool.preprocessing.readers.other_formats import OtherFormats
from mmtool.preprocessing.rejects import Reject, list_rejects, refuse_many
from mmtool.preprocessing.sources import Item, SourceOptions, read_items
from mmtool.preprocessing.splits import Split
from mmtool.preprocessing.survey import Labelled, Survey
from mmtool.tokenizers.base import Tokenizer, to_bytes

TRAIN = SPLITS[0]


@dataclass(frozen=True)
class TokenizeSummary:
    """What `tokenize` did. `absent`: samples without text or any value, which are none of `samples`; `left_out`: files of
    other formats in the folders and archives given; `reconstruction`: what fitting the
    tokenizer measured; `tokenizer`: its fingerprint.

    clipped: part of a value (the stream of a trajectory) -> how many `values` in how many `samples` the codes do not reach.
    filled: column of a table -> how many missing values of it have no code of their own.
    """

    modality: str
    kind: str
    scheme: str
    samples: int
    splits: dict[str, int]
    variants: int
    rejected: int
    absent: int
    left_out: int
    tokens: int
    mean_length: float
    vocabulary_size: int
    reconstruction: dict[str, Any]
    tokenizer: str
    clipped: dict[str, dict[str, int]]
    filled: dict[str, int]
    seconds: float


@one_writer
@opens_engine
def tokenize(
    kind: str,
    paths: Sequence[Path],
    output: Path | None,
    *,
    name: str,
    tokenizer: Path | None = None,
    scheme: str | None = None,
    settings: Mapping[str, Any] | None = None,
    options: SourceOptions | None = None,
    split: Split | None = None,
    split_label: str | None = None,
    augment: int = 0,
    guide: Path | None = None,
    seed: int = 0,
    force: bool = False,
    save_tokenizer: Path | None = None,
    finally_at: Path | None = None,
    decoding: Decoding = IN_PROCESS,
) -> TokenizeSummary:
    """Encode all raw samples of `kind` below `paths` into a token tar at `output` (None: standard output).

    name: of the modality. tokenizer: one fitted before (its file, a token set or a run that holds it); None fits one of the given
    `scheme` and `settings` on at most 20,000 training samples (and 1 GiB), chosen by the hash of their keys, and records which these were.
    split_label: a label that names the split. augment: extra variants of each training image or recording. guide: token shards whose other
    tables the components of a table are to predict. save_tokenizer: where to put the tokenizer's file besides. finally_at: where `output`
    will be moved to, as messages call it. decoding: in which processes files are read. Rejected samples (`options.on_error`) are listed in
    OUTPUT.rejects.jsonl. The same input gives the same bytes in any number of processes. Memory does not grow with the tokens, which are
    kept in a temporary file (`data.spool`) until all are there. Raises DataError and UsageError before anything is written.
    """
    started = time.monotonic()
    options, placement = replace(options or SourceOptions(), name=name), Placement(split or Split(), split_label)
    if split_label is not None and options.split_within is not None:
        raise UsageError("a label names the split of each sample.", where="--split-within", fix="Leave it or --split-label out.")
    outputs = _outputs(output, save_tokenizer, force, [*paths, tokenizer, guide, options.labels_path])
    _check(kind, name, augment, outputs)
    if tokenizer is None and not is_pretrained(scheme):
        fitted, fitting_keys = fit(kind, paths, scheme, settings or {}, options, placement, guide, name, seed, decoding)
    elif guide is not None:
        raise UsageError("a fitted tokenizer cannot be guided.", where="--guide", fix="Fit a new one with --fit.")
    else:
        fitted, fitting_keys = fitted_before(tokenizer, kind, name, scheme, settings), set()
    rejects: list[Reject] = []
    absent: list[str] = []
    columns, others = LabelColumns(), OtherFormats()
    encoder = Encoder(fitted, name, rejects if options.on_error == "skip" else None)
    how: dict[str, Any] = {"absent": absent, "others": others, "quiet": bool(fitting_keys)}  # fitting has reported all before
    how |= {"check_options": True, "decoding": decoding, "steps": encoder.steps(raw=bool(augment))}  # variants are made of raw values
    read = read_items(kind, paths, preparer_of(fitted).reading(options), rejects, columns, **how)
    with Spool() as spool, closing(read):
        items = _with_variants(kind, track(read, f"tokenizing {name}"), placement, augment, seed)
        survey = Survey()
        for sample in _samples(items, encoder, placement):
            spool.add(sample)
            survey.add(sample, name)
        samples = Labelled(spool, columns)
        if columns.withdrawn:
            survey = Survey.of(samples, name)
        _check_samples(survey.samples, rejects, paths, name, options.part)
        if fitting_keys:
            fitted_to = TrainingItems.of(sample for sample in samples if sample.key in fitting_keys)
            fitted.fitted_on, fitted.fitted_contents = fitted_to.identities.get(name), fitted_to.contents.get(name)
        modality = _write(outputs, fitted, name, survey.max_length, samples, options.part)
    list_rejects(rejects, outputs.rejects, finally_at)
    survey.log_undivided(options)
    encoder.report()
    counts = {"rejected": len(rejects), "absent": len(absent) + len(encoder.absent), "left_out": others.total}
    return _summary(modality, encoder, survey, counts, time.monotonic() - started)


@dataclass(frozen=True)
class _Outputs:
    """Where tokens and the list of rejected samples go (None: standard output and standard error), and the tokenizer (None: nowhere)."""

    tokens: OutputPath | None
    tokenizer: OutputPath | None
    rejects: OutputPath | None


def _outputs(output: Path | None, save_tokenizer: Path | None, force: bool, inputs: Sequence[Path | None]) -> _Outputs:
    """An earlier list of rejects belongs to the tokens that are replaced, or that are not there any more."""
    sources = [path and Path(path) for path in inputs]
    tokenizer = None if save_tokenizer is None else OutputPath(Path(save_tokenizer), force, sources)
    if output is None:
        return _Outputs(None, tokenizer, None)
    tokens = OutputPath(Path(output), force, sources)
    return _Outputs(tokens, tokenizer, tokens.beside(".rejects.jsonl"))


def _check(kind: str, name: str, augment: int, outputs: _Outputs) -> None:
    """Refuse what cannot end well before the long work begins."""
    for place in (outputs.tokens, outputs.tokenizer, outputs.rejects):
        if place is not None:
            place.check_file()
    if not MODALITY_NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a modality.", where="--name", fix="Use a-z, 0-9, - and _, a letter first.")
    if augment < 0 or (augment and kind_named(kind).augmentation is None):
        fix = f"Only these have variants: {', '.join(name for name, entry in KINDS.items() if entry.augmentation)}."
        raise UsageError(f"{augment} variants of {kind} cannot be made.", where="--augment", fix=fix)


def _with_variants(kind: str, items: Iterator[Item], placement: Placement, augment: int, seed: int) -> Iterator[tuple[Item, str | None]]:
    """Each item, and behind a training one its variants, as (item, key of the original or None): its further values, and what augmentation
    makes of the first. The further values of other items are left out, and counted."""
    entry = kind_named(kind)
    vary = load(entry.augmentation) if entry.augmentation else None
    taken = left_out = 0
    for item in items:
        yield item, None
        if placement.place(item.key, item.group, item.labels, item.metadata) != TRAIN:
            left_out += len(item.further)
            continue
        taken += len(item.further)
        keys = (f"{item.key}~{number}" for number in count(1))
        for value, key in zip(item.further, keys, strict=False):
            yield replace(item, key=key, value=value, further=()), item.key
        for key in islice(keys, augment if vary else 0):
            assert vary is not None
            yield replace(item, key=key, value=vary(item.value, key, seed), further=()), item.key
    if taken or left_out:
        log(f"several {kind}s of one sample: {taken:,} more are variants of training samples, {left_out:,} of held-out ones are left out")


def _samples(items: Iterator[tuple[Item, str | None]], encoder: Encoder, placement: Placement) -> Iterator[Sample]:
    """Encode batch by batch. A variant carries the identity of its original, which stands before it."""
    identity_of_original, lost = "", None  # the original whose variants follow; or one without tokens
    prepared = ((encoder.prepared(item), original) for item, original in items)
    while batch := list(islice(prepared, BATCH)):
        for (item, original), tokens in zip(batch, encoder([item for item, _ in batch]), strict=True):
            lost = item.key if tokens is None and original is None else lost
            if tokens is None or (original is not None and original == lost):
                continue
            if original is None:
                identity_of_original = f"{identity(item.key, tokens):016x}"
                known = {content_field(encoder.name): item.value.content}
            else:
                known = {VARIANT_OF: original, original_field(encoder.name): identity_of_original}
            rows = {} if item.rows is None else {NUMBERED_ROWS: {encoder.name: item.rows}}
            filled = {FILLED: {encoder.name: encoder.filled_in[item.key]}} if item.key in encoder.filled_in else {}
            metadata = {"group": item.group} | item.metadata | known | rows | filled
            place = placement.place(item.key, item.group, item.labels, item.metadata)
            yield Sample(item.key, {encoder.name: tokens}, item.labels, metadata, place)


def _check_samples(samples: int, rejects: Sequence[Reject], paths: Sequence[Path], name: str, part: str | None) -> None:
    """Raise DataError where too many samples were rejected, or none is left; a part may be empty, which is logged."""
    where = ", ".join(map(str, paths))
    refuse_many(rejects, samples, where)
    if not samples and rejects:
        raise DataError(f"no sample fits the tokenizer; the last: {rejects[-1].reason}", where=where, fix="Fit a new one with --fit.")
    if not samples and part is not None:
        log(f"warning: the part {part} of {name} is empty")
        return
    if not samples:
        fix = "Use the tables that the tokenizer was made for, or fit a new one."
        raise DataError(f"no row holds a value of a feature that the tokenizer of {name!r} keeps.", where=where, fix=fix)


def _write(outputs: _Outputs, fitted: Tokenizer, name: str, max_length: int, samples: Iterable[Sample], part: str | None) -> Modality:
    """Write the tokenizer and the samples, which are in order of their keys; gives their modality."""
    data, size, shape = to_bytes(fitted), fitted.vocabulary_size, fitted.shape
    ordered, width = getattr(fitted, "ordered_codes", 0), 0 if shape else getattr(fitted, "patch_width", 0)
    modality = Modality(name, fitted.kind, size, shape, fitted.positions, sha256_bytes(data), max_length, ordered=ordered, values=width)
    if outputs.tokenizer is not None:
        with outputs.tokenizer.file() as file:
            file.write(data)
    with nullcontext(sys.stdout.buffer) if outputs.tokens is None else outputs.tokens.file() as file:
        write_shard(file, [modality], {name: data}, samples, {PART: part} if part else {})
        file.flush()
    return modality


def _summary(modality: Modality, encoder: Encoder, survey: Survey, counts: Mapping[str, int], seconds: float) -> TokenizeSummary:
    return TokenizeSummary(
        modality=modality.name,
        kind=modality.kind,
        scheme=encoder.tokenizer.scheme,
        samples=survey.samples,
        splits={split: survey.splits[split] for split in SPLITS if survey.splits[split]},
        variants=survey.variants,
        **counts,
        tokens=survey.tokens,
        mean_length=round(survey.tokens / max(survey.samples, 1), 2),
        vocabulary_size=modality.vocabulary_size,
        reconstruction=encoder.tokenizer.report,
        tokenizer=modality.tokenizer,
        clipped=encoder.clipped,
        filled=dict(sorted(encoder.filled.items())),
        seconds=round(seconds, 2),
    )
