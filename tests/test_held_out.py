"""Which samples are held out is the same for every verb: the named split, else test, else validation, in directories and within a file."""

from pathlib import Path

import pytest
from test_training import TOKENIZER, modality, sample

from mmtool.common.errors import DataError
from mmtool.data.held_out import held_out_path, open_held_out, open_validation
from mmtool.data.shards import open_token_set, write_split, write_stream

SPLITS = ("train", "validation", "test")


def shards(folder: Path, splits: tuple[str, ...]) -> Path:
    for split in splits:
        (folder / split).mkdir(parents=True)
        samples = [sample(f"{split}-{i}", i, "a", split) for i in range(3)]
        write_split(folder / split, [modality("a")], {"a": TOKENIZER}, samples, {}, split=split)
    return folder


def tar(path: Path, splits: tuple[str, ...]) -> Path:
    samples = [sample(f"{split}-{i}", i, "a", split) for split in splits for i in range(3)]
    with open(path, "wb") as file:
        write_stream(file, [modality("a")], {"a": TOKENIZER}, samples)
    return path


@pytest.mark.parametrize("make", [shards, tar])
def test_test_comes_before_validation_and_a_named_split_before_both(tmp_path: Path, make) -> None:
    every, no_test = make(tmp_path / "every", SPLITS), make(tmp_path / "none", SPLITS[:2])
    for data, split, wanted in ((every, None, "test"), (every, "validation", "validation"), (no_test, None, "validation")):
        assert set(open_held_out(data, split).splits) == {wanted}
        assert open_held_out(data, split).fingerprint == open_token_set(data, wanted).fingerprint
    with pytest.raises(DataError):
        open_held_out(no_test, "test")


@pytest.mark.parametrize("make", [shards, tar])
def test_without_validation_samples_there_is_no_validation(tmp_path: Path, make) -> None:
    assert open_validation(make(tmp_path / "train", SPLITS[:1])) is None
    validation = open_validation(make(tmp_path / "both", SPLITS[:2]))
    assert validation is not None and set(validation.splits) == {"validation"}


def test_a_directory_that_is_one_split_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = shards(tmp_path / "shards", SPLITS)
    assert held_out_path(folder / "train") == folder / "train" and held_out_path(folder) == folder / "test"
    assert set(open_held_out(folder / "validation").splits) == {"validation"}
    with pytest.raises(DataError, match="no held-out split"):
        held_out_path(shards(tmp_path / "lone", SPLITS[:1]))
