"""The stage `tokenize`: raw files of one kind -> one token tar of one modality, its tokenizer embedded."""

import hashlib
import heapq
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.common.lock import one_writer
from mmtool.common.log import log, track
from mmtool.common.output import OutputPath
from mmtool.common.storage import sha256_bytes
from mmtool.data.identity import VARIANT_OF, TrainingItems, content_field, content_of, identity, original_field
from mmtool.data.sample import SPLITS, Modality, Sample
from mmtool.data.shard_format import MODALITY_NAME
from mmtool.data.shard_writer import write_stream
from mmtool.data.shards import open_token_set
from mmtool.kinds import KINDS, kind_named, load
from mmtool.preprocessing.encode import BATCH, Encoder
from mmtool.preprocessing.guides import guide_tables
from mmtool.preprocessing.join import FILLED, NUMBERED_ROWS, Placement
from mmtool.preprocessing.label_columns import LabelColumns
from mmtool.preprocessing.prepare import preparer_of
from mmtool.preprocessing.readers.other_formats import OtherFormats
from mmtool.preprocessing.rejects import Reject, list_rejects, refuse_many
from mmtool.preprocessing.sources import EPISODE, Item, SourceOptions, read_items
from mmtool.preprocessing.splits import Split
from mmtool.tokenizers.base import Tokenizer, from_bytes, load_tokenizer, to_bytes

MAX_FITTING_SAMPLES = 20_000
EPISODES = "trajectory"  # the kind whose files often hold a single long one
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
) -> TokenizeSummary:
    """Encode all raw samples of `kind` below `paths` into a token tar at `output` (None: standard output).

    name: of the modality. tokenizer: one fitted before (its file, a token set or a run that holds it); None fits one of the given
    `scheme` and `settings` on at most 20,000 training samples, chosen by the hash of their keys, and records which these were.
    split_label: a label that names the split. augment: extra variants of each
    training image or recording. guide: token shards whose other tables the components of a table are to predict. save_tokenizer: where
    to put the tokenizer's file besides. finally_at: where `output` will be moved to, as messages call it. Rejected samples
    (`options.on_error`) are listed in OUTPUT.rejects.jsonl. The same input gives the same bytes. Raises DataError and UsageError before
    anything is written.
    """
    started = time.monotonic()
    options, placement = replace(options or SourceOptions(), name=name), Placement(split or Split(), split_label)
    if split_label is not None and options.split_within is not None:
        raise UsageError("a label names the split of each sample.", where="--split-within", fix="Leave it or --split-label out.")
    outputs = _outputs(output, save_tokenizer, force, [*paths, tokenizer, guide, options.labels_path])
    _check(kind, name, augment, outputs)
    if tokenizer is None:
        fitted, fitting_keys = _fit(kind, paths, scheme, settings or {}, options, placement, guide, name, seed)
    else:
        if guide is not None:
            raise UsageError("a fitted tokenizer cannot be guided.", where="--guide", fix="Fit a new one with --fit.")
        fitted, fitting_keys = _fitted_before(tokenizer, kind, name, scheme, settings), set()
    options = preparer_of(fitted).reading(options)
    rejects: list[Reject] = []
    absent: list[str] = []
    columns, others = LabelColumns(), OtherFormats()
    quiet = tokenizer is None  # fitting has reported it all before
    read = read_items(kind, paths, options, rejects, columns, absent=absent, others=others, quiet=quiet, check_options=True)
    items = _with_variants(kind, track(read, f"tokenizing {name}"), placement, augment, seed)
    encoder = Encoder(fitted, name, rejects if options.on_error == "skip" else None)
    samples = _labelled(list(_samples(items, encoder, placement)), columns)
    _check_samples(samples, rejects, paths, name)
    trained = TrainingItems.of(sample for sample in samples if sample.key in fitting_keys).identities
    if name in trained:
        fitted.fitted_on = trained[name]
    data = to_bytes(fitted)
    ordered = getattr(fitted, "ordered_codes", 0)
    size, shape, positions = fitted.vocabulary_size, fitted.shape, fitted.positions
    values = 0 if shape else getattr(fitted, "patch_width", 0)
    modality = Modality(name, fitted.kind, size, shape, positions, sha256_bytes(data), max_length=0, ordered=ordered, values=values)
    if outputs.tokenizer is not None:
        with outputs.tokenizer.file() as file:
            file.write(data)
    _write(outputs.tokens, modality, data, samples)
    list_rejects(rejects, outputs.rejects, finally_at)
    _say_undivided(samples, options)
    encoder.report()
    counts = {"rejected": len(rejects), "absent": len(absent) + len(encoder.absent), "left_out": others.total}
    return _summary(modality, encoder, samples, counts, time.monotonic() - started)


def find_tokenizer(path: Path, name: str) -> Tokenizer:
    """The tokenizer of modality `name` in a tokenizer file, a run, or a token set. Raises DataError where it is not there."""
    path = Path(path)
    if path.suffix == ".safetensors" or not path.exists():
        return load_tokenizer(path)
    files = {file.stem: file for file in sorted((path / "tokenizers").glob("*.safetensors"))}  # of a run
    held = {} if files else open_token_set(path).tokenizers
    if name not in {**files, **held}:
        fix = f"Name the modality as one of: {', '.join(files or held)}."
        raise DataError(f"it holds no tokenizer for {name!r}.", where=path, fix=fix)
    return load_tokenizer(files[name]) if files else from_bytes(held[name], where=path)


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
    path = Path(output)
    return _Outputs(OutputPath(path, force, sources), tokenizer, OutputPath(path.with_name(f"{path.name}.rejects.jsonl"), True, sources))


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


def _fit(
    kind: str,
    paths: Sequence[Path],
    scheme: str | None,
    settings: Mapping[str, Any],
    options: SourceOptions,
    placement: Placement,
    guide: Path | None,
    name: str,
    seed: int,
) -> tuple[Tokenizer, set[str]]:
    """Fit a tokenizer on training samples only, and give their keys."""
    schemes, preparer = kind_named(kind).schemes, load(kind_named(kind).preparer)
    scheme = scheme or next(iter(schemes))
    if scheme not in schemes:
        raise UsageError(f"there is no scheme {scheme!r} for {kind}.", where="--scheme", fix=f"Choose from: {', '.join(schemes)}.")
    if guide is not None and (kind, scheme) != ("table", "codec"):
        fix = "Add --scheme codec, or leave it out." if kind == "table" else "Leave it out."
        raise UsageError("only a table's components can be guided.", where="--guide", fix=fix)
    columns = LabelColumns()
    items = _fitting_items(track(read_items(kind, paths, options, columns=columns, check_options=True), f"reading {kind}"), placement)
    items = [item for item in items if item.key not in columns.withdrawn]
    if options.on_error == "skip":  # what cannot be fitted to is rejected when it is encoded
        items = [item for item in items if preparer.can_fit(item.value, settings)] or items
    if not items:
        raise DataError("no sample falls into the train split.", where=f"{kind} samples", fix=_more_training_samples(kind, options))
    values, complete = preparer.for_fitting([value for item in items for value in (item.value, *item.further)], settings)
    if guide is not None:
        complete = {**complete, "guides": guide_tables(guide, name, [item.key for item in items])}
    log(f"fitting a tokenizer to {len(values)} {kind} samples")
    fitted: Tokenizer = load(schemes[scheme]).fit(values, complete, seed)
    if advice := getattr(fitted, "advice", None):
        log(f"warning: {advice}")
    return fitted, {item.key for item in items}


def _more_training_samples(kind: str, options: SourceOptions) -> str:
    fix = "Give more samples, or raise its fraction"
    if kind == EPISODES and options.clip is None:
        return f"{fix}, or divide long episodes between the splits, e.g. with --clip 32 --split-within."
    return f"{fix}." if options.clip is None else f"{fix}, or divide each episode between the splits with --split-within."


def _say_undivided(samples: Sequence[Sample], options: SourceOptions) -> None:
    """Say so where all clips are of one episode and hence lie in one split: nothing is held out."""
    episodes = {sample.metadata.get(EPISODE) for sample in samples}
    if options.clip is not None and len(episodes) == 1 and len(samples) > 1 and options.split_within is None:
        what = f"all {len(samples):,} clips are of one episode, so all lie in the {samples[0].split} split"
        log(f"{what}; --split-within divides it between train, validation and test.")


def _fitting_items(items: Iterator[Item], placement: Placement) -> list[Item]:
    """Training items in order of their keys: all, or the ones with the lowest hashes, so that file order does not matter."""
    chosen: list[tuple[int, str, Item]] = []
    for item in items:
        if placement.place(item.key, item.group, item.labels, item.metadata) == TRAIN:
            rank = -int.from_bytes(hashlib.sha256(item.key.encode()).digest()[:8], "big")
            push = heapq.heappush if len(chosen) < MAX_FITTING_SAMPLES else heapq.heappushpop
            push(chosen, (rank, item.key, item))
    return sorted((item for _, _, item in chosen), key=lambda item: item.key)


def _fitted_before(path: Path, kind: str, name: str, scheme: str | None, settings: Mapping[str, Any] | None) -> Tokenizer:
    fitted = find_tokenizer(path, name)
    if fitted.kind != kind:
        raise UsageError(f"this tokenizer is for {fitted.kind}, not {kind}.", where=path, fix=f"Give one that was fitted on {kind}.")
    if settings or scheme not in (None, fitted.scheme):
        raise UsageError("this tokenizer keeps its own scheme and settings.", where=path, fix="Leave them out, or fit a new one.")
    return fitted


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
    while batch := list(islice(items, BATCH)):
        for (item, original), tokens in zip(batch, encoder([item for item, _ in batch]), strict=True):
            lost = item.key if tokens is None and original is None else lost
            if tokens is None or (original is not None and original == lost):
                continue
            if original is None:
                identity_of_original = f"{identity(item.key, tokens):016x}"
                known = {content_field(encoder.name): content_of(item.value)}
            else:
                known = {VARIANT_OF: original, original_field(encoder.name): identity_of_original}
            rows = {} if item.rows is None else {NUMBERED_ROWS: {encoder.name: item.rows}}
            filled = {FILLED: {encoder.name: encoder.filled_in[item.key]}} if item.key in encoder.filled_in else {}
            metadata = {"group": item.group} | item.metadata | known | rows | filled
            place = placement.place(item.key, item.group, item.labels, item.metadata)
            yield Sample(item.key, {encoder.name: tokens}, item.labels, metadata, place)


def _labelled(samples: Sequence[Sample], columns: LabelColumns) -> list[Sample]:
    """All but those that were withdrawn, their labels as the columns want them."""
    kept = (sample for sample in samples if sample.metadata.get(VARIANT_OF, sample.key) not in columns.withdrawn)
    return [replace(sample, labels=columns.corrected(sample.labels)) for sample in kept]


def _check_samples(samples: Sequence[Sample], rejects: Sequence[Reject], paths: Sequence[Path], name: str) -> None:
    where = ", ".join(map(str, paths))
    refuse_many(rejects, len(samples), where)
    if not samples and rejects:
        raise DataError(f"no sample fits the tokenizer; the last: {rejects[-1].reason}", where=where, fix="Fit a new one with --fit.")
    if not samples:
        fix = "Use the tables that the tokenizer was made for, or fit a new one."
        raise DataError(f"no row holds a value of a feature that the tokenizer of {name!r} keeps.", where=where, fix=fix)


def _write(output: OutputPath | None, modality: Modality, tokenizer: bytes, samples: Sequence[Sample]) -> None:
    if output is None:
        write_stream(sys.stdout.buffer, [modality], {modality.name: tokenizer}, samples)
        sys.stdout.buffer.flush()
        return
    with output.file() as file:
        write_stream(file, [modality], {modality.name: tokenizer}, samples)


def _summary(modality: Modality, encoder: Encoder, samples: Sequence[Sample], counts: Mapping[str, int], seconds: float) -> TokenizeSummary:
    tokens = sum(len(sample.tokens[modality.name]) for sample in samples)
    variants = sum(VARIANT_OF in sample.metadata for sample in samples)
    return TokenizeSummary(
        modality=modality.name,
        kind=modality.kind,
        scheme=encoder.tokenizer.scheme,
        samples=len(samples),
        splits=dict(Counter(sample.split for sample in samples)),
        variants=variants,
        **counts,
        tokens=tokens,
        mean_length=round(tokens / len(samples), 2),
        vocabulary_size=modality.vocabulary_size,
        reconstruction=encoder.tokenizer.report,
        tokenizer=modality.tokenizer,
        clipped=encoder.clipped,
        filled=dict(sorted(encoder.filled.items())),
        seconds=round(seconds, 2),
    )
