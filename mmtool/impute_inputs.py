"""What `impute` fills: samples of a token set, or raw files, in the tokens of a run."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from mmtool.data.sample import Sample
from mmtool.data.shards import TokenSet, open_token_set, split_directories
from mmtool.errors import DataError, UsageError
from mmtool.preprocessing.prepare import Preparer
from mmtool.preprocessing.sources import SourceOptions, read_items
from mmtool.tokenizers.base import Tokenizer
from mmtool.training.run import Run, open_run

BATCH = 256


def stored_samples(run: Path, data: Path | None, split: str | None = None) -> list[Sample]:
    """The samples of a token set (None: standard input), of one split or of all.

    Raises DataError where the set was made by other tokenizers than the run's, naming both.
    """
    opened = open_run(run)
    found: list[Sample] = []
    for name in [split] if split or not data else split_directories(data):
        part = open_token_set(data, name)
        _same_tokenizers(opened, part, data or "standard input")
        found += part
    return found


def raw_samples(run: Path, files: Mapping[str, Path], options: SourceOptions | None = None) -> list[Sample]:
    """Raw files, modality -> path, encoded by the run's own tokenizers and joined by key.

    Raises UsageError for a modality the run does not know, DataError for files that cannot be read.
    """
    opened = open_run(run)
    for name in files:
        opened.layout.index(name)
    tokenizers = opened.tokenizers()
    samples: dict[str, Sample] = {}
    for name, path in files.items():
        _encode(tokenizers[name], name, path, options or SourceOptions(), samples)
    return [samples[key] for key in sorted(samples)]


def _encode(tokenizer: Tokenizer, name: str, path: Path, options: SourceOptions, samples: dict[str, Sample]) -> None:
    """Add the modality to `samples`, batch by batch."""
    prepare, items = Preparer(tokenizer), read_items(tokenizer.kind, [path], options)
    while batch := list(islice(items, BATCH)):
        codes = tokenizer.encode([prepare(item.value, item.key) for item in batch])
        for item, tokens in zip(batch, codes, strict=True):
            sample = samples.setdefault(item.key, Sample(item.key, {}, item.labels))
            sample.tokens[name] = tokens


def _same_tokenizers(run: Run, data: TokenSet, where: object) -> None:
    own = {modality.name: modality.tokenizer for modality in run.layout.modalities}
    for modality in data.modalities:
        if modality.name not in own:
            fix = f"It knows {', '.join(own)}; name the modality so in `mmtool tokenize --name`."
            raise UsageError(f"the run {run.path} knows no modality {modality.name!r}.", where=where, fix=fix)
        if modality.tokenizer != own[modality.name]:
            theirs, ours = modality.tokenizer[:12], own[modality.name][:12]
            what = f"its {modality.name} was made by the tokenizer {theirs}, but {run.path} was trained with {ours}."
            fix = f"Tokenize the raw files again with `mmtool tokenize {modality.kind} PATH... --tokenizer {run.path}`."
            raise DataError(what, where=where, fix=fix)
