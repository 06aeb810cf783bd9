"""Promise: people's own loops see every sample of the shards once, with absence declared, whatever workers and ranks there are."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import mmtool
from mmtool import DataError, UsageError
from mmtool.data.sample import Sample
from mmtool.data.shards import open_token_set, write_split


@pytest.fixture(scope="module")
def shards(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`text` and `lab` of the project's training samples in four shards; every third sample lacks its text, and keys hold dots."""
    source = open_token_set(project / "shards", "train")
    samples = [
        Sample(f"{number:02d}.scan", {name: tokens for name, tokens in sample.tokens.items() if number % 3 or name == "lab"}, {"n": number})
        for number, sample in enumerate(source)
    ]
    folder = tmp_path_factory.mktemp("torch")
    per_shard = -(-len(samples) // 4)
    write_split(folder / "train", source.modalities, source.tokenizers, samples, split="train", samples_per_shard=per_shard)
    return folder


def test_items_hold_what_the_samples_do(shards: Path) -> None:
    dataset, truth = mmtool.torch_dataset(shards), open_token_set(shards, "train")
    assert len(dataset) == len(truth) and [modality.name for modality in dataset.modalities] == ["lab", "text"]
    for item, sample in zip(dataset, truth, strict=True):  # type: ignore[call-overload]
        assert item["key"] == sample.key and item["labels"] == sample.labels
        assert [name for name, tokens in item["tokens"].items() if tokens is not None] == list(sample.present)
        for name, tokens in sample.tokens.items():
            assert item["tokens"][name].dtype == torch.int64 and item["tokens"][name].tolist() == tokens.tolist()


def test_batches_are_padded_and_declare_absence(shards: Path) -> None:
    dataset = mmtool.torch_dataset(shards)
    batch = next(iter(DataLoader(dataset, batch_size=6, collate_fn=mmtool.collate)))
    assert batch["present"]["text"].tolist() == [False, True, True, False, True, True] and batch["present"]["lab"].all()
    for row, length, item in zip(batch["tokens"]["text"], batch["lengths"]["text"], (dataset[i] for i in range(6)), strict=True):
        held = item["tokens"]["text"]
        assert length == (0 if held is None else len(held)) and not row[length:].any()
        assert held is None or row[:length].equal(held)
    lacking = mmtool.collate([dataset[0], dataset[3]])
    assert lacking["tokens"]["text"].shape == (2, 0) and not lacking["present"]["text"].any()


def test_modalities_are_chosen_and_samples_without_them_left_out(shards: Path) -> None:
    dataset = mmtool.torch_dataset(shards, modalities=["text"])
    assert list(dataset[0]["tokens"]) == ["text"] and not any(int(key[:2]) % 3 == 0 for key in dataset.keys)
    both = mmtool.torch_dataset(shards, modalities=["text", "lab"], least=2)
    assert both.keys == dataset.keys
    assert {item["key"] for item in mmtool.webdataset_pipeline(shards, modalities=["text"])} == set(dataset.keys)
    with pytest.raises(UsageError, match="no modality 'image'"):
        mmtool.torch_dataset(shards, modalities=["image"])
    with pytest.raises(DataError, match="no split 'test'"):
        mmtool.webdataset_pipeline(shards, split="test")


def test_samples_are_counted_from_the_end_as_of_lists(shards: Path) -> None:
    dataset = mmtool.torch_dataset(shards)
    count = len(dataset)
    assert [dataset[number]["key"] for number in (-1, -count)] == [dataset.keys[-1], dataset.keys[0]]
    assert dataset[-1]["labels"] == {"n": count - 1} and dataset[-1]["tokens"]["lab"].equal(dataset[count - 1]["tokens"]["lab"])
    for number in (count, -count - 1):
        with pytest.raises(IndexError, match=f"no sample {number} of {count}"):
            dataset[number]


def test_nothing_to_read_or_to_batch_is_refused(shards: Path) -> None:
    for opened in (mmtool.torch_dataset, mmtool.webdataset_pipeline):
        with pytest.raises(UsageError, match="no modality is named"):
            opened(shards, modalities=[])
    with pytest.raises(UsageError, match="no items to make a batch of"):
        mmtool.collate([])


def test_the_pipeline_gives_the_items_of_the_dataset(shards: Path) -> None:
    dataset = mmtool.torch_dataset(shards)
    for item, other in zip(mmtool.webdataset_pipeline(shards), dataset, strict=True):  # type: ignore[call-overload]
        assert item["key"] == other["key"] and item["labels"] == other["labels"] and item["tokens"].keys() == other["tokens"].keys()
        for name, tokens in item["tokens"].items():
            assert (tokens is None) == (other["tokens"][name] is None) and (tokens is None or tokens.equal(other["tokens"][name]))
    (batch, *_) = mmtool.webdataset_pipeline(shards).batched(5, collation_fn=mmtool.collate)
    assert batch["tokens"]["lab"].shape == (5, 3)


def test_workers_read_every_sample_once(shards: Path) -> None:
    dataset = mmtool.torch_dataset(shards)
    loader = DataLoader(dataset, batch_size=4, num_workers=2, collate_fn=mmtool.collate)
    assert [key for batch in loader for key in batch["key"]] == dataset.keys


def test_a_dataset_is_handed_to_spawned_workers(shards: Path) -> None:
    dataset = mmtool.torch_dataset(shards, modalities=["text"])
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.keys == dataset.keys and copy[1]["tokens"]["text"].equal(dataset[1]["tokens"]["text"])
    assert len(pickle.dumps(dataset)) < 1000, "workers open the shards for themselves"


@pytest.mark.parametrize(("ranks", "workers"), [(2, 2), (3, 1), (1, 4), (2, 3), (5, 2)])
def test_ranks_and_workers_share_the_pipeline(shards: Path, monkeypatch: pytest.MonkeyPatch, ranks: int, workers: int) -> None:
    keys: list[str] = []
    shares = []
    for rank in range(ranks):
        for worker in range(workers):
            for name, value in (("RANK", rank), ("WORLD_SIZE", ranks), ("WORKER", worker), ("NUM_WORKERS", workers)):
                monkeypatch.setenv(name, str(value))
            share = [item["key"] for item in mmtool.webdataset_pipeline(shards)]
            shares.append(len(share))
            keys += share
    assert sorted(keys) == mmtool.torch_dataset(shards).keys and min(shares) > 0
    if ranks * workers > 4:  # more than there are shards
        assert max(shares) - min(shares) <= 1


def test_a_single_file_is_read_as_well(project: Path) -> None:
    dataset = mmtool.torch_dataset(project / "lab.tar", split="validation")
    assert dataset.keys == [item["key"] for item in mmtool.webdataset_pipeline(project / "lab.tar", split="validation")]
    assert 0 < len(dataset) < len(mmtool.torch_dataset(project / "lab.tar"))


def test_damage_is_refused_before_anything_is_read(shards: Path, tmp_path: Path) -> None:
    data = bytearray((shards / "train/00000.tar").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "cut.tar").write_bytes(bytes(data))
    for opened in (mmtool.torch_dataset, mmtool.webdataset_pipeline):
        with pytest.raises(DataError, match=r"cut\.tar"):
            opened(tmp_path / "cut.tar")


def test_patches_stay_bytes() -> None:
    item = {"key": "a", "labels": {}, "tokens": {"image": torch.from_numpy(np.ones((2, 3), np.uint8))}}
    batch = mmtool.collate([item, {"key": "b", "labels": {}, "tokens": {"image": None}}])
    assert batch["tokens"]["image"].shape == (2, 2, 3) and batch["tokens"]["image"].dtype == torch.uint8
