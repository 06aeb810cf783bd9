"""Which samples of a data set are held out from training: the validation split for choices during a training, the test split after it."""

from pathlib import Path

from mmtool.common.errors import DataError
from mmtool.data.sample import SPLITS
from mmtool.data.shards import TokenSet, open_token_set

TRAIN, VALIDATION, TEST = SPLITS
HELD_OUT = (TEST, VALIDATION)  # in the order in which they are taken


def held_out_path(data: Path, split: str | None = None) -> Path:
    """Where the held-out samples of `data` lie: the directory of the named split, else of test, else of validation.

    A file, which holds all splits, and a directory that is one split are given back. Raises DataError where there are only other splits.
    """
    data = Path(data)
    wanted = (split,) if split else HELD_OUT
    directory = next((data / name for name in wanted if (data / name).is_dir()), None)
    if directory is None and any((data / name).is_dir() for name in SPLITS):
        fix = "Give a directory that `mmtool shard` wrote with such a split."
        raise DataError(f"there is no held-out split ({' or '.join(wanted)}).", where=data, fix=fix)
    return directory or data


def open_held_out(data: Path, split: str | None = None) -> TokenSet:
    """The held-out samples of shards or of a file: the named split, else test, else validation; a directory that is one split as it is."""
    data = held_out_path(data, split)
    if data.is_dir():
        return open_token_set(data)
    splits = set(open_token_set(data).splits)
    return open_token_set(data, split or (VALIDATION if VALIDATION in splits and TEST not in splits else TEST))


def open_validation(data: Path) -> TokenSet | None:
    """The validation samples of shards or of a file; None where there are none."""
    data = Path(data)
    if not data.is_dir():
        return open_token_set(data, VALIDATION) if VALIDATION in open_token_set(data).splits else None
    return open_token_set(data / VALIDATION) if (data / VALIDATION).is_dir() else None
