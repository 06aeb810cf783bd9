"""Verbs that make token sets, shards, and a look at them, and one that verifies artefacts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mmtool.common.bounds import plain
from mmtool.common.errors import UsageError
from mmtool.verbs.arguments import PathLike, Paths, as_names, as_paths, optional_path, takes_urls

if TYPE_CHECKING:
    from mmtool.evaluation.peek import PeekSummary
    from mmtool.preprocessing.manifest import ManifestSummary
    from mmtool.preprocessing.shard import ShardSummary
    from mmtool.preprocessing.tokenize import TokenizeSummary


@takes_urls
def tokenize(
    kind: str,
    paths: Paths,
    output: PathLike,
    *,
    name: str | None = None,
    tokenizer: PathLike | None = None,
    scheme: str | None = None,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    split_label: str | None = None,
    augment: int = 0,
    guide: PathLike | None = None,
    source: Mapping[str, Any] | None = None,
    workers: int = 0,
    timeout_s: float = 60.0,
    engine: Literal["local", "ray"] = "local",
    ray_address: str | None = None,
    seed: int = 0,
    force: bool = False,
    **settings: Any,
) -> TokenizeSummary:
    """Turn raw files of one kind into tokens of one modality.

    name: of the modality (default: the kind). tokenizer: one fitted before, or what holds one; None fits one to the training samples with
    these settings (`size=64`), or takes one from elsewhere (`scheme="hf:encodec/"`). source: how raw files are read, by the fields of
    `SourceOptions` and, for tables, of `TableOptions` (`{"key_column": "patient", "unseen": "missing"}`). workers: processes that read and
    decode (0: this one), for at most `timeout_s` each sample. engine: "ray" has them read on a Ray cluster instead (the extra `ray`), at
    `ray_address` or as `ray.init` finds or starts one; Ray that runs in this process is used, and left running. Raises DataError for files
    that cannot be read, UsageError for settings that do not exist.

        mmtool.tokenize("text", "notes.csv", "tokens/text.tar", source={"text_column": "note"})
    """
    from mmtool.preprocessing.tokenize import tokenize as write_tokens

    return write_tokens(
        kind,
        as_paths(paths),
        Path(output),
        name=name or kind,
        scheme=scheme,
        settings=plain(settings),
        augment=plain(augment),
        guide=optional_path(guide),
        **_stage(tokenizer, fractions, split_label, source, seed, force, workers, timeout_s, engine, ray_address),
    )


@takes_urls
def tokenize_manifest(
    manifest: PathLike,
    output: PathLike,
    columns: Mapping[str, str],
    *,
    tokenizer: PathLike | None = None,
    schemes: Mapping[str, str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    split_label: str | None = None,
    source: Mapping[str, Any] | None = None,
    workers: int = 0,
    timeout_s: float = 60.0,
    engine: Literal["local", "ray"] = "local",
    ray_address: str | None = None,
    seed: int = 0,
    force: bool = False,
) -> ManifestSummary:
    """Turn several columns of one table into tokens of one modality each, in a folder of token sets NAME.tar.

    columns: name of each modality (or NAME:KIND) -> its column, of paths, files or texts; an empty cell is an absent modality. tokenizer: a
    run, or an earlier output; None fits new ones. schemes, settings: by modality. source, workers, timeout_s,
    engine, ray_address: as for `tokenize`.

        mmtool.tokenize_manifest("data.csv", "tokens/", {"image": "image_path", "text": "caption"}, settings={"image": {"size": 32}})
    """
    from mmtool.preprocessing.manifest import tokenize_manifest as write_token_sets

    settings = plain(settings or {})
    stage = _stage(tokenizer, fractions, split_label, source, seed, force, workers, timeout_s, engine, ray_address)
    return write_token_sets(Path(manifest), Path(output), columns, schemes=schemes, settings=settings, **stage)


@takes_urls
def shard(
    inputs: Paths,
    output: PathLike,
    *,
    pairs: str | Iterable[str | tuple[str, str]] = (),
    align: str | None = None,
    labels: PathLike | None = None,
    key_column: str | None = None,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    split_label: str | None = None,
    unpaired: bool = False,
    by_row: bool = False,
    allow_missing_parts: bool = False,
    samples_per_shard: int = 10_000,
    seed: int = 0,
    force: bool = False,
    **options: Any,
) -> ShardSummary:
    """Join token sets on keys into one set of train, validation and test shards.

    pairs: `"image,text"` or `("image", "text")`; a training sample keeps one of these and loses the rest. align: deal items by this label,
    which all inputs have, instead of joining them on keys. labels: CSV or TSV of further labels by key (`key_column`). unpaired: a modality
    may have no key in common with any other. by_row: row numbers of files may be joined. allow_missing_parts: of inputs that were
    tokenized in parts some may be missing. options: the other fields of `MissingnessProtocol` (`missing_rate=0.3`,
    `missing_rate={"image": 0.5}`, `keep_unpaired=True` ...) and, with `align`, of `Alignment` (`pairs_per_class`, `aligned_per_class`).
    Raises DataError where no keys meet or parts are missing, UsageError for options that do not exist.

        mmtool.shard(["tokens/image.tar", "tokens/text.tar", "tokens/speech.tar"], "shards/", pairs=["image,text", "image,speech"])
    """
    from mmtool.common.options import divide
    from mmtool.preprocessing.protocol import Alignment, MissingnessProtocol, read_pairs
    from mmtool.preprocessing.shard import shard as write_shards
    from mmtool.preprocessing.splits import Split

    for name in {"missing", "apply_to"} & set(options):
        options[name] = as_names(options[name])
    fractions, seed, samples_per_shard, options = plain((fractions, seed, samples_per_shard, options))
    of_protocol, of_alignment = divide(options, MissingnessProtocol, Alignment)
    if of_alignment and align is None:
        raise UsageError(f"{next(iter(of_alignment))} is of use with align alone.", fix="Name the label, e.g. align='digit'.")
    return write_shards(
        as_paths(inputs),
        Path(output),
        protocol=MissingnessProtocol(pairs=read_pairs([pairs] if isinstance(pairs, str) else pairs), seed=seed, **of_protocol),
        split=Split(fractions, seed),
        alignment=Alignment(align, **of_alignment) if align is not None else None,
        labels=optional_path(labels),
        key_column=key_column,
        split_label=split_label,
        unpaired=unpaired,
        by_row=by_row,
        allow_missing_parts=allow_missing_parts,
        samples_per_shard=samples_per_shard,
        force=force,
    )


@takes_urls
def peek(
    data: PathLike, output: PathLike, *, split: str | None = None, samples: int = 12, seed: int = 0, force: bool = False
) -> PeekSummary:
    """Write some samples of a token set as files and as one picture, to look at before anything is trained.

    mmtool.peek("shards/", "look/", samples=20)
    """
    from mmtool.evaluation.peek import peek as write_samples

    return write_samples(Path(data), Path(output), split=split, samples=plain(samples), seed=plain(seed), force=force)


@takes_urls
def lint(path: PathLike, *, repair: bool = False) -> list[str]:
    """Every problem found in an artefact, none if it is whole.

    repair: first remove what interrupted commands left in and beside it (temporary files and folders, half-deleted checkpoints, locks),
    never data; each thing is named on standard error. Without, they are named alone. Raises UsageError where a process begins to write
    there meanwhile.

        mmtool.lint("run/", repair=True)
    """
    from mmtool.artefacts import lint as verify
    from mmtool.common.leftovers import report_leftovers

    return verify(Path(path), report_leftovers(Path(path), repair))


def _stage(
    tokenizer: PathLike | None,
    fractions: tuple[float, float, float],
    split_label: str | None,
    source: Mapping[str, Any] | None,
    seed: int,
    force: bool,
    workers: int,
    timeout_s: float,
    engine: Literal["local", "ray"],
    ray_address: str | None,
) -> dict[str, Any]:
    """What tokenizing one modality and several have in common, as the library takes it."""
    from mmtool.preprocessing.decoding import Decoding
    from mmtool.preprocessing.readers.entries import SourceOptions
    from mmtool.preprocessing.splits import Split

    return {
        "tokenizer": optional_path(tokenizer),
        "options": SourceOptions.of(source or {}),
        "split": Split(plain(fractions), plain(seed)),
        "split_label": split_label,
        "seed": plain(seed),
        "force": force,
        "decoding": Decoding(plain(workers), plain(timeout_s), engine, ray_address),
    }
