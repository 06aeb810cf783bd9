"""What `impute` reads: samples of a token set, or raw files, in the tokens of a run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mmtool.common.log import log
from mmtool.data.sample import Sample
from mmtool.data.shards import open_token_set, split_directories
from mmtool.preprocessing.encode import Encoder
from mmtool.preprocessing.join import NUMBERED_ROWS
from mmtool.preprocessing.overlap import check_rows
from mmtool.preprocessing.prepare import preparer_of
from mmtool.preprocessing.sources import SourceOptions, read_items
from mmtool.tokenizers.base import Tokenizer
from mmtool.training.run import open_run, same_tokenizers


def stored_samples(run: Path, data: Path | None, split: str | None = None) -> list[Sample]:
    """The samples of a token set (None: standard input), of one split or of all.

    Raises DataError where the set was made by other tokenizers than the run's, naming both.
    """
    opened = open_run(run)
    samples: list[Sample] = []
    for name in [split] if split or not data else split_directories(data):
        part = open_token_set(data, name)
        same_tokenizers(opened, part, data or "standard input")
        samples += part
    return samples


def raw_samples(run: Path, files: Mapping[str, Path], options: SourceOptions | None = None, *, by_row: bool = False) -> list[Sample]:
    """Raw files, modality -> path, encoded by the run's tokenizers and joined by key; what is empty is absent.

    by_row: row numbers of files may be joined, if these have equally many rows. Raises UsageError for a modality the run does not know,
    DataError for files that cannot be read.
    """
    opened = open_run(run)
    for name in files:
        opened.layout.index(name)
    tokenizers = opened.tokenizers()
    samples: dict[str, Sample] = {}
    for name, path in files.items():
        _encode(tokenizers[name], name, path, replace(options or SourceOptions(), name=name), samples)
    if len(files) > 1 and all(len(sample.tokens) < 2 for sample in samples.values()):
        log(f"warning: no key occurs in two of {', '.join(files)}: each sample has one modality alone.")
    for key, sample in samples.items():
        check_rows(key, sample.metadata.get(NUMBERED_ROWS, {}), by_row)
    return [samples[key] for key in sorted(samples)]


def _encode(tokenizer: Tokenizer, name: str, path: Path, options: SourceOptions, samples: dict[str, Sample]) -> None:
    """Add the modality to `samples`, batch by batch."""
    encoder = Encoder(tokenizer, name)
    for item, tokens in encoder.stream(read_items(tokenizer.kind, [path], preparer_of(tokenizer).reading(options))):
        sample = samples.setdefault(item.key, Sample(item.key, {}, item.labels))
        sample.tokens[name] = tokens
        if item.rows is not None:
            sample.metadata.setdefault(NUMBERED_ROWS, {})[name] = item.rows
    encoder.report()
