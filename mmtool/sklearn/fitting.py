"""Data frames -> a run, by the stages of the command line: tokenize, shard, pretrain; and where the run of an estimator lies."""

import shutil
import tempfile
import warnings
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from mmtool import verbs
from mmtool.api import Run, load
from mmtool.common.errors import DataError, UsageError
from mmtool.common.log import heard_by
from mmtool.common.storage import write_bytes
from mmtool.data.sample import Sample
from mmtool.data.shards import open_token_set
from mmtool.preprocessing.frames import keys_of
from mmtool.preprocessing.splits import Split
from mmtool.sklearn.categories import declared_categories
from mmtool.sklearn.containers import Frames
from mmtool.sklearn.errors import in_words_of_the_estimator
from mmtool.tokenizers.base import Tokenizer, ValueCodes
from mmtool.training.checkpoint import best_of, newest_checkpoint
from mmtool.training.run import CHECKPOINTS, open_run

MARK = ".mmtool-imputer"  # of folders that fitting may replace
TABLES, TOKENS, SHARDS, RUN, TRAIN = "tables", "tokens", "shards", "run", "train"


class TemporaryFolder:
    """A folder that is deleted when nothing holds this object any longer."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="mmtool-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def stay(self) -> None:
        """What a finalizer calls that holds the folder until then."""


class Home:
    """The folder of a fitted estimator: `tables/NAME.csv`, `tokens/NAME.tar`, `shards/` and `run/`. None: a temporary one, which goes with
    the estimator and its run. run: where the run lies in it ("": it is the run). Pickled, it is the run and its training samples."""

    def __init__(self, path: Path | None = None, run: str = RUN) -> None:
        self._temporary = TemporaryFolder() if path is None else None
        self.path = self._temporary.path if self._temporary is not None else Path(path or "")
        self._run = self.path / run

    def claim(self) -> None:
        """Make the folder one to fit in. Raises UsageError where it holds what another fit did not write."""
        if self.path.exists() and any(self.path.iterdir()) and not (self.path / MARK).exists():
            raise UsageError("the folder is not empty.", where=self.path, fix="Give another work_dir, or none.")
        write_bytes(self.path / MARK, b"")

    @cached_property
    def run(self) -> Run:
        """The run, opened."""
        run = load(self._run)
        if not isinstance(run, Run):
            raise UsageError("this is an adapter, no run.", where=self._run, fix="Give what `mmtool pretrain` wrote.")
        if self._temporary is not None:  # whoever keeps the run alone reads files of it as well
            weakref.finalize(run.imputer, self._temporary.stay)
        return run

    def check(self) -> None:
        """Raise UsageError where the folder no longer holds the run that was opened, and its training samples."""
        fitted = self.run.imputer
        try:
            there = open_run(self._run)
            same = there.checkpoint().weights == fitted.weights and str(there.record["data"]) == fitted.trained_on
            samples = self.path / SHARDS / TRAIN
            same = same and (not samples.is_dir() or open_token_set(self.path / SHARDS, TRAIN).fingerprint == fitted.trained_on)
        except DataError:
            same = False
        if not same:
            what = "the folder no longer holds what this estimator was fitted to: another fit, or another training, wrote to it since."
            raise UsageError(what, where=self.path, fix="Fit again, with a work_dir for each estimator, or none.")

    def tables(self) -> dict[str, Tokenizer]:
        """The run's tokenizers. Raises UsageError where one is not of tables."""
        tokenizers = self.run.imputer.tokenizers
        other = next((name for name, tokenizer in tokenizers.items() if not isinstance(tokenizer, ValueCodes)), None)
        if other is not None:
            what = f"{other} is {tokenizers[other].kind}, no table."
            raise UsageError(what, where=self._run, fix="Open the run with mmtool.load, which imputes all kinds.")
        return tokenizers

    @cached_property
    def training_samples(self) -> list[Sample]:
        """Raises UsageError for a run alone, beside which there are none."""
        if not (self.path / SHARDS / TRAIN).is_dir():
            raise UsageError("the training samples are not known.", where=self.path, fix="Fit the imputer, or load what its save() wrote.")
        self.check()
        return list(open_token_set(self.path / SHARDS, TRAIN))

    def files(self) -> dict[str, bytes]:
        """Path -> content of all that imputing needs: the run with its newest checkpoint, and the training samples. Raises UsageError where
        that is not what was opened."""
        self.check()
        checkpoints = self._run / CHECKPOINTS
        newest = newest_checkpoint(checkpoints)
        kept = {newest.path, best_of(newest.path)} if newest else set()
        older = [folder for folder in checkpoints.iterdir() if folder not in kept]
        files = {f"{RUN}/{name}": path for name, path in _files(self._run).items() if not any(folder in path.parents for folder in older)}
        if (samples := self.path / SHARDS / TRAIN).is_dir():
            files |= {f"{SHARDS}/{TRAIN}/{name}": path for name, path in _files(samples).items()}
        return {name: path.read_bytes() for name, path in files.items()}

    def put(self, files: Mapping[str, bytes]) -> None:
        """The inverse of `files`."""
        for name, content in files.items():
            write_bytes(self.path / name, content)

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files()}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        self.put(state["files"])


def _files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def fit_run(
    frames: Frames,
    home: Home,
    *,
    tokenizers: Mapping[str, Mapping[str, Any]],
    column_types: Mapping[str, str],
    validation_fraction: float,
    seed: int,
    training: Mapping[str, Any],
) -> None:
    """Train a run on tables. tokenizers: modality -> `scheme` and settings. training: the settings of `pretrain`.

    Raises what the verbs raise, in the words of the estimator.
    """
    home.claim()
    split = Split((1 - validation_fraction, validation_fraction, 0.0), seed)
    token_sets = []
    for name, frame in frames.items():
        table, key = _write_table(frame, name, home.path / TABLES)
        declared = {**declared_categories(frame), **{column: text for column, text in column_types.items() if column in frame.columns}}
        source = {"key_column": key, "transpose": False, "unseen": "missing", "column_types": declared}
        tokens = home.path / TOKENS / f"{name}.tar"
        settings = dict(tokenizers[name])
        with in_words_of_the_estimator({name: frame}, home.path / TABLES):
            verbs.tokenize("table", table, tokens, name=name, source=source, fractions=split.fractions, seed=seed, force=True, **settings)
        token_sets.append(tokens)
    with in_words_of_the_estimator(frames):
        verbs.shard(token_sets, home.path / SHARDS, fractions=split.fractions, seed=split.seed, force=True)
        verbs.pretrain(home.path / SHARDS, home.path / RUN, seed=seed, force=True, **training)


@contextmanager
def quietly(verbose: bool) -> Iterator[None]:
    """What is said on standard error is said where `verbose`; else warnings alone, as Python's."""
    if verbose:
        yield
        return
    messages: list[str] = []
    try:
        with heard_by(messages.append):
            yield
    finally:
        for line in "\n".join(messages).splitlines():
            if line.startswith("warning: "):
                warnings.warn(line.removeprefix("warning: "), UserWarning, stacklevel=4)


def _write_table(frame: Any, name: str, folder: Path) -> tuple[Path, str]:
    """Write a frame as CSV, its index as the first column; gives the path and the name of that column."""
    key = "key"
    while key in frame.columns:
        key += "_"
    path = folder / f"{name}.csv"
    write_bytes(path, frame.set_axis(keys_of(frame.index, name)).to_csv(index_label=key).encode())
    return path, key
