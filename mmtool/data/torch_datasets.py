"""Shards for people's own training loops: a map-style dataset of PyTorch, and a pipeline of the package `webdataset`.

dataset = mmtool.torch_dataset("shards/", split="train", modalities=["image", "text"])
for batch in torch.utils.data.DataLoader(dataset, batch_size=32, shuffle=True, num_workers=4, collate_fn=mmtool.collate):
    batch["tokens"]["text"]  # (B, L) int64, zero behind the end of each and where a sample has none
    batch["lengths"]["text"], batch["present"]["text"]  # (B,) each
"""

import io
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmtool.common.errors import UsageError
from mmtool.common.remote_arguments import accepts_urls
from mmtool.data.sample import Modality
from mmtool.data.shards import TokenSet, open_token_set, split_directories

Item = dict[str, Any]  # key; tokens: modality -> tensor, None where it is absent; labels


class ShardDataset(Dataset[Item]):
    """Samples by number, negative ones from the end, each `{"key": str, "tokens": {modality: (L,) int64 codes, or (L, values) uint8
    patches, None where absent}, "labels": {...}}`.

    modalities: their names, vocabulary sizes, lengths and tokenizers. Workers, also spawned ones, open the shards for themselves; ranks
    share samples by `torch.utils.data.DistributedSampler`.
    """

    def __init__(self, path: Path, split: str | None, names: Sequence[str], least: int) -> None:
        self._opened = (path, split, names, least)
        self._data: TokenSet = open_token_set(path, split).only(names, least)
        self.modalities: tuple[Modality, ...] = tuple(m for m in self._data.modalities if not names or m.name in names)
        self.keys: list[str] = list(self._data.keys)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, number: int) -> Item:
        sample = self._data[number]
        return _item(sample.key, sample.tokens, sample.labels, [modality.name for modality in self.modalities])

    def __getstate__(self) -> dict[str, Any]:
        return {"opened": self._opened}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__(*state["opened"])  # type: ignore[misc]


@accepts_urls()
def torch_dataset(
    path: str | Path, *, split: str | None = None, modalities: str | Collection[str] | None = None, least: int = 1
) -> ShardDataset:
    """The samples of shards as a map-style dataset of PyTorch, verified when it is opened.

    split: of a directory of splits (None: train). modalities: those to read, or the only one (None: all). least: of these a sample must
    hold so many; others are left out. Raises UsageError for a split or modality that there is not and where none is named, DataError for
    shards that are not whole.
    """
    if modalities is not None and not modalities:
        raise UsageError("no modality is named.", where="modalities", fix="Name those to read, or leave it out to read all.")
    names = [modalities] if isinstance(modalities, str) else list(modalities or ())
    return ShardDataset(Path(path), split, names, least)


@accepts_urls()
def webdataset_pipeline(
    path: str | Path, *, split: str | None = None, modalities: str | Collection[str] | None = None, least: int = 1
) -> Any:
    """The samples of shards as a pipeline of the package `webdataset`, which reads shards from front to back.

    The items are those of `torch_dataset`; `.shuffle(1000).batched(32, collation_fn=mmtool.collate)` and all else that such pipelines have
    may follow. Every sample is read by one worker of one rank: by shards where there are enough of them for all, else by samples. Arguments
    and errors as of `torch_dataset`: the shards are verified before.
    """
    import webdataset

    known = torch_dataset(path, split=split, modalities=modalities, least=least)
    names, files, wanted = [modality.name for modality in known.modalities], _shards(Path(path), split), set(known.keys)
    stages = {"nodesplitter": _share_of_shards, "workersplitter": None, "shardshuffle": False, "empty_check": False}
    samples = webdataset.WebDataset([str(file) for file in files], **stages).compose(partial(_share_of_samples, num_shards=len(files)))
    return samples.map(partial(_decoded, names=names)).select(lambda item: item["key"] in wanted)


def collate(items: Sequence[Item]) -> dict[str, Any]:
    """Items as one batch: "key" and "labels" are lists; by modality, "tokens" are padded with zeros, (B, L) or (B, L, values), "lengths"
    (B,) int64, and "present" (B,) bool sets an absent modality apart from an empty one. Raises UsageError for no items."""
    if not items:
        raise UsageError("there are no items to make a batch of.", where="collate", fix="Give at least one item of the dataset.")
    names = list(items[0]["tokens"])
    columns = {name: [item["tokens"][name] for item in items] for name in names}
    return {
        "key": [item["key"] for item in items],
        "labels": [item["labels"] for item in items],
        "tokens": {name: _padded(column) for name, column in columns.items()},
        "lengths": {name: torch.tensor([0 if tokens is None else len(tokens) for tokens in column]) for name, column in columns.items()},
        "present": {name: torch.tensor([tokens is not None for tokens in column]) for name, column in columns.items()},
    }


def _padded(column: Sequence[Tensor | None]) -> Tensor:
    held = [tokens for tokens in column if tokens is not None]
    if not held:
        return torch.zeros((len(column), 0), dtype=torch.int64)
    batch = held[0].new_zeros((len(column), max(map(len, held)), *held[0].shape[1:]))
    for row, tokens in zip(batch, column, strict=True):
        if tokens is not None:
            row[: len(tokens)] = tokens
    return batch


def _item(key: str, tokens: Mapping[str, np.ndarray], labels: Mapping[str, Any], names: Iterable[str]) -> Item:
    tensors = {name: _tensor(tokens[name]) if name in tokens else None for name in names}
    return {"key": key, "tokens": tensors, "labels": dict(labels)}


def _tensor(tokens: np.ndarray) -> Tensor:
    """Codes in the type that embeddings take, patches as they are."""
    return torch.from_numpy(tokens if tokens.ndim > 1 else tokens.astype(np.int64))


def _shards(path: Path, split: str | None) -> list[Path]:
    """The files of a set that was verified before."""
    if path.is_file():
        return [path]
    return sorted((path if split_directories(path) == [None] else path / (split or "train")).glob("*.tar"))


def _decoded(sample: Mapping[str, Any], names: Sequence[str]) -> Item:
    """What webdataset read of a sample: bytes by suffix."""
    record = json.loads(sample["json"])
    held = [name for name in names if name in record["present"]]
    tokens = {name: np.load(io.BytesIO(sample[f"{name}.npy"]), allow_pickle=False) for name in held}
    return _item(record["key"], tokens, record["labels"], names)


def _share_of_shards(files: Iterable[Any]) -> Iterator[Any]:
    """This worker's part of the shards, where there are enough for all workers of all ranks; else every one of them."""
    shards, (part, parts) = list(files), _part()
    yield from shards[part::parts] if len(shards) >= parts else shards


def _share_of_samples(samples: Iterable[Any], num_shards: int) -> Iterator[Any]:
    """This worker's part of the samples, where shards are too few to be shared."""
    part, parts = _part()
    yield from samples if num_shards >= parts else islice(samples, part, None, parts)


def _part() -> tuple[int, int]:
    """Which worker of which rank this is, and how many there are in all."""
    from webdataset.utils import pytorch_worker_info

    rank, ranks, worker, workers = pytorch_worker_info()
    return rank * workers + worker, ranks * workers
