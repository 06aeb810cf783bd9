"""The stage `tokenize`: raw files of one kind -> one token tar of one modality, its tokenizer embedded."""

import hashlib
import heapq
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from mmtool.console import talk, track
from mmtool.data.identity import VARIANT_OF, TrainingItems, identity, original_field
from mmtool.data.sample import SPLITS, Modality, Sample
from mmtool.data.shard_format import MODALITY_NAME
from mmtool.data.shard_writer import write_stream
from mmtool.data.shards import open_token_set
from mmtool.errors import DataError, UsageError
from mmtool.preprocessing.augment import VARIANTS
from mmtool.preprocessing.guides import guide_tables
from mmtool.preprocessing.join import Placement
from mmtool.preprocessing.prepare import Preparer, prepare_for_fitting
from mmtool.preprocessing.sources import Item, Reject, SourceOptions, read_items
from mmtool.preprocessing.splits import Split
from mmtool.storage import atomic_file, canonical_json, refuse_overwrite, sha256_bytes, write_bytes
from mmtool.tokenizers import SCHEMES
from mmtool.tokenizers.base import Tokenizer, from_bytes, load_tokenizer, to_bytes

MAX_FITTING_SAMPLES = 20_000
BATCH = 256
TRAIN = SPLITS[0]


@dataclass(frozen=True)
class TokenizeSummary:
    """What `tokenize` did. `reconstruction`: what fitting the tokenizer measured; `tokenizer`: its fingerprint."""

    modality: str
    kind: str
    scheme: str
    samples: int
    splits: dict[str, int]
    variants: int
    rejected: int
    tokens: int
    mean_length: float
    vocabulary_size: int
    reconstruction: dict[str, Any]
    tokenizer: str
    seconds: float


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
) -> TokenizeSummary:
    """Encode all raw samples of `kind` below `paths` into a token tar at `output` (None: standard output).

    name: of the modality. tokenizer: one fitted before (its file, a token set or a run that holds it); None fits one of the given
    `scheme` and `settings` on at most 20,000 training samples, chosen by the hash of their keys, and records which these were.
    split_label: a label that names the split. augment: extra variants of each
    training image or recording. guide: token shards whose other tables the components of a table are to tell. save_tokenizer: where
    to put the tokenizer's file besides. Rejected samples (`options.on_error`) are listed
    in OUTPUT.rejects.jsonl. The same input gives the same bytes. Raises DataError and UsageError before anything is written.
    """
    started = time.monotonic()
    options, placement = options or SourceOptions(), Placement(split or Split(), split_label)
    _check(kind, name, output, augment, force, save_tokenizer)
    if tokenizer is None:
        fitted, fitting_keys = _fit(kind, paths, scheme, settings or {}, options, placement, guide, name, seed)
    else:
        if guide is not None:
            raise UsageError("a fitted tokenizer cannot be guided.", where="--guide", fix="Fit a new one with --fit.")
        fitted, fitting_keys = _fitted_before(tokenizer, kind, name, scheme, settings), set()
    rejects: list[Reject] = []
    items = track(read_items(kind, paths, options, rejects), f"tokenizing {name}")
    samples = list(_samples(_with_variants(kind, items, placement, augment, seed), fitted, name, placement))
    if fitting_keys:
        fitted.fitted_on = TrainingItems.of(sample for sample in samples if sample.key in fitting_keys).identities[name]
    data = to_bytes(fitted)
    ordered = getattr(fitted, "ordered_codes", 0)
    size, shape, positions = fitted.vocabulary_size, fitted.shape, fitted.positions
    values = 0 if shape else getattr(fitted, "patch_width", 0)
    modality = Modality(name, fitted.kind, size, shape, positions, sha256_bytes(data), max_length=0, ordered=ordered, values=values)
    if save_tokenizer is not None:
        write_bytes(save_tokenizer, data, force)
    _write(output, modality, data, samples, force)
    _list_rejects(rejects, output)
    return _summary(modality, fitted, samples, len(rejects), time.monotonic() - started)


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


def _check(kind: str, name: str, output: Path | None, augment: int, force: bool, save_tokenizer: Path | None) -> None:
    """Refuse what cannot end well before the long work begins."""
    for path in (output, save_tokenizer):
        if path is not None:
            refuse_overwrite(Path(path), force)
    if not MODALITY_NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a modality.", where="--name", fix="Use a-z, 0-9, - and _, a letter first.")
    if augment < 0 or (augment and kind not in VARIANTS):
        fix = f"Only these have variants: {', '.join(VARIANTS)}."
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
    schemes = [own for held, own in SCHEMES if held == kind]
    if not schemes or (scheme or schemes[0]) not in schemes:
        raise UsageError(f"there is no scheme {scheme!r} for {kind}.", where="--scheme", fix=f"Choose from: {', '.join(schemes)}.")
    if guide is not None and (kind, scheme) != ("table", "codec"):
        fix = "Add --scheme codec, or leave it out." if kind == "table" else "Leave it out."
        raise UsageError("only a table's components can be guided.", where="--guide", fix=fix)
    items = _fitting_items(track(read_items(kind, paths, options), f"reading {kind}"), placement)
    if not items:
        raise DataError("no sample falls into the train split.", where=f"{kind} samples", fix="Give more samples, or raise its fraction.")
    values, complete = prepare_for_fitting(kind, [item.value for item in items], settings)
    if guide is not None:
        complete = {**complete, "guides": guide_tables(guide, name, [item.key for item in items])}
    talk(f"fitting a tokenizer to {len(values)} {kind} samples")
    fitted: Tokenizer = SCHEMES[kind, scheme or schemes[0]]().fit(values, complete, seed)
    return fitted, {item.key for item in items}


def _fitting_items(items: Iterator[Item], placement: Placement) -> list[Item]:
    """Training items in order of their keys: all, or the ones with the lowest hashes, so that file order does not matter."""
    chosen: list[tuple[int, str, Item]] = []
    for item in items:
        if placement.place(item.key, item.group, item.labels) == TRAIN:
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
    """Each item, and behind a training one its variants, as (item, key of the original or None)."""
    for item in items:
        yield item, None
        for number in range(1, augment + 1 if placement.place(item.key, item.group, item.labels) == TRAIN else 1):
            key = f"{item.key}~{number}"
            yield replace(item, key=key, value=VARIANTS[kind](item.value, key, seed)), item.key


def _samples(items: Iterator[tuple[Item, str | None]], tokenizer: Tokenizer, name: str, placement: Placement) -> Iterator[Sample]:
    """Encode batch by batch. A variant carries the identity of its original, which stands before it."""
    prepare, identity_of_original = Preparer(tokenizer), ""
    while batch := list(islice(items, BATCH)):
        codes = tokenizer.encode([prepare(item.value, item.key) for item, _ in batch])
        for (item, original), tokens in zip(batch, codes, strict=True):
            if original is None:
                identity_of_original = f"{identity(item.key, tokens):016x}"
            variant = {} if original is None else {VARIANT_OF: original, original_field(name): identity_of_original}
            metadata = {"group": item.group} | item.metadata | variant
            yield Sample(item.key, {name: tokens}, item.labels, metadata, placement.place(item.key, item.group, item.labels))


def _write(output: Path | None, modality: Modality, tokenizer: bytes, samples: Sequence[Sample], force: bool) -> None:
    if output is None:
        write_stream(sys.stdout.buffer, [modality], {modality.name: tokenizer}, samples)
        sys.stdout.buffer.flush()
        return
    with atomic_file(output, force) as file:
        write_stream(file, [modality], {modality.name: tokenizer}, samples)


def _list_rejects(rejects: Sequence[Reject], output: Path | None) -> None:
    """One JSON line per rejected sample beside the output, or on standard error where there is no file."""
    lines = [canonical_json(asdict(reject)) for reject in rejects]
    if output is None:
        for line in lines:
            talk(f"rejected: {line}")
        return
    path = output.with_name(f"{output.name}.rejects.jsonl")
    path.unlink(missing_ok=True)
    if lines:
        write_bytes(path, ("\n".join(lines) + "\n").encode())
        talk(f"{len(lines)} samples were rejected; the reasons are in {path}")


def _summary(modality: Modality, tokenizer: Tokenizer, samples: Sequence[Sample], rejected: int, seconds: float) -> TokenizeSummary:
    tokens = sum(len(sample.tokens[modality.name]) for sample in samples)
    variants = sum("variant_of" in sample.metadata for sample in samples)
    return TokenizeSummary(
        modality=modality.name,
        kind=modality.kind,
        scheme=tokenizer.scheme,
        samples=len(samples),
        splits=dict(Counter(sample.split for sample in samples)),
        variants=variants,
        rejected=rejected,
        tokens=tokens,
        mean_length=round(tokens / len(samples), 2),
        vocabulary_size=modality.vocabulary_size,
        reconstruction=tokenizer.report,
        tokenizer=modality.tokenizer,
        seconds=round(seconds, 2),
    )
