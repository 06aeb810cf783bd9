"""The tokenizer of a modality: fitted to training samples only, or one that was fitted before."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError, UsageError
from mmtool.common.log import log, track
from mmtool.data.sample import SPLITS
from mmtool.data.shards import open_token_set
from mmtool.kinds import PRETRAINED, kind_named, load
from mmtool.preprocessing.decoding import Decoding, Steps
from mmtool.preprocessing.guides import guide_tables
from mmtool.preprocessing.join import Placement
from mmtool.preprocessing.label_columns import LabelColumns
from mmtool.preprocessing.reservoir import Reservoir
from mmtool.preprocessing.sources import Item, SourceOptions, read_items
from mmtool.tokenizers.base import Tokenizer, check_settings, from_bytes, load_tokenizer

MAX_FITTING_SAMPLES, MAX_FITTING_BYTES = 20_000, 1 << 30
EPISODES = "trajectory"  # the kind whose files often hold a single long one
TRAIN = SPLITS[0]


def fit(
    kind: str,
    paths: Sequence[Path],
    scheme: str | None,
    settings: Mapping[str, Any],
    options: SourceOptions,
    placement: Placement,
    guide: Path | None,
    name: str,
    seed: int,
    decoding: Decoding,
) -> tuple[Tokenizer, set[str]]:
    """Fit a tokenizer on training samples only, and give their keys."""
    schemes, preparer = kind_named(kind).schemes, load(kind_named(kind).preparer)
    scheme = scheme or next(iter(schemes))
    if scheme not in schemes:
        raise UsageError(f"there is no scheme {scheme!r} for {kind}.", where="--scheme", fix=f"Choose from: {', '.join(schemes)}.")
    if guide is not None and (kind, scheme) != ("table", "codec"):
        fix = "Add --scheme codec, or leave it out." if kind == "table" else "Leave it out."
        raise UsageError("only a table's components can be guided.", where="--guide", fix=fix)
    tokenizer, columns = load(schemes[scheme]), LabelColumns()  # imported before processes are forked that need it
    if hasattr(tokenizer, "SETTINGS"):  # before files are read for hours
        check_settings(settings, tokenizer.SETTINGS, f"{kind} {scheme}")
    steps = Steps(partial(preparer.reduced, settings=settings))
    with closing(read_items(kind, paths, options, columns=columns, check_options=True, decoding=decoding, steps=steps)) as read:
        items = _fitting_items(track(read, f"reading {kind}"), placement)
    items = [item for item in items if item.key not in columns.withdrawn]
    if options.on_error == "skip":  # what cannot be fitted to is rejected when it is encoded
        items = [item for item in items if preparer.can_fit(item.value, settings)] or items
    if not items:
        raise DataError("no sample falls into the train split.", where=f"{kind} samples", fix=_more_training_samples(kind, options))
    values, complete = preparer.for_fitting([value for item in items for value in (item.value, *item.further)], settings)
    if guide is not None:
        complete = {**complete, "guides": guide_tables(guide, name, [item.key for item in items])}
    log(f"fitting a tokenizer to {len(values)} {kind} samples")
    fitted: Tokenizer = tokenizer.fit(values, complete, seed)
    if advice := getattr(fitted, "advice", None):
        log(f"warning: {advice}")
    return fitted, {item.key for item in items}


def _more_training_samples(kind: str, options: SourceOptions) -> str:
    fix = "Give more samples, or raise its fraction"
    if kind == EPISODES and options.clip is None:
        return f"{fix}, or divide long episodes between the splits, e.g. with --clip 32 --split-within."
    return f"{fix}." if options.clip is None else f"{fix}, or divide each episode between the splits with --split-within."


def _fitting_items(items: Iterable[Item], placement: Placement) -> list[Item]:
    """Training items in order of their keys: all, or the ones with the lowest hashes, so that file order does not matter."""
    reservoir = Reservoir(MAX_FITTING_SAMPLES, MAX_FITTING_BYTES)
    for item in items:
        if placement.place(item.key, item.group, item.labels, item.metadata) == TRAIN:
            reservoir.add(item)
    if len(reservoir) < reservoir.num_seen:
        log(f"of {reservoir.num_seen:,} training samples the {len(reservoir):,} with the lowest hashes of their keys are fitted to")
    return reservoir.items()


def pretrained(kind: str, scheme: str, settings: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that `hf:PATH` names. Raises UsageError for a kind that has none, DataError where there is none at the path."""
    schemes, path = kind_named(kind).schemes, Path(scheme.partition(":")[2])
    if PRETRAINED not in schemes:
        raise UsageError(f"there are no pretrained tokenizers for {kind}.", where="--scheme", fix=f"Choose from: {', '.join(schemes)}.")
    if not path.exists():
        raise DataError("there is no such file or directory.", where=path, fix="Check the path behind hf:.")
    opened: Tokenizer = load(schemes[PRETRAINED]).open(path, settings)
    return opened


def fitted_before(path: Path | None, kind: str, name: str, scheme: str | None, settings: Mapping[str, Any] | None) -> Tokenizer:
    """The tokenizer of modality `name` at a path; None: the one that a scheme `hf:PATH` names. Raises UsageError where it does not suit."""
    if path is None:
        return pretrained(kind, scheme or "", settings or {})
    fitted = find_tokenizer(path, name)
    if fitted.kind != kind:
        raise UsageError(f"this tokenizer is for {fitted.kind}, not {kind}.", where=path, fix=f"Give one that was fitted on {kind}.")
    if settings or scheme not in (None, fitted.scheme):
        raise UsageError("this tokenizer keeps its own scheme and settings.", where=path, fix="Leave them out, or fit a new one.")
    return fitted


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
