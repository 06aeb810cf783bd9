"""A run that begins with the weights of another one: of the same modalities, or of more, whose embeddings are then fresh."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.common.errors import DataError, UsageError
from mmtool.common.log import log
from mmtool.common.urls import as_given
from mmtool.data.identity import identities
from mmtool.data.sample import Sample
from mmtool.data.shards import TokenSet
from mmtool.methods import METHODS
from mmtool.model.transfer import transfer
from mmtool.model.transformer import Shape, Transformer
from mmtool.training.checkpoint import MODEL, Checkpoint
from mmtool.training.config import PretrainConfig
from mmtool.training.run import INIT_FROM, Run, open_run, same_tokenizers


@dataclass(frozen=True)
class InitialRun:
    """The run that another one begins with, and its weights."""

    run: Run
    weights: Checkpoint

    @classmethod
    def open(cls, path: Path) -> "InitialRun":
        """The run at a path, with the weights that it is used with."""
        run = open_run(path)
        return cls(run, run.checkpoint())

    @property
    def fingerprint(self) -> str:
        """sha256 of the weights."""
        return str(self.weights.state["sha256"][MODEL])

    def to_json(self) -> dict[str, Any]:
        """What the new run keeps: where its weights come from, and what those were trained on."""
        step, record = self.weights.state["step"], self.run.record
        origin = {
            "run": self.run.path.resolve().name,
            "path": as_given(str(self.run.path.resolve())),
            "step": step,
            "sha256": self.fingerprint,
        }
        return {**origin, "data": record["data"], **({INIT_FROM: record[INIT_FROM]} if INIT_FROM in record else {})}

    def check(self, shape: Shape, config: PretrainConfig, data: TokenSet, where: object) -> None:
        """Raise UsageError where the new run lacks a modality of this one or has another shape, DataError for another tokenizer."""
        names = [modality.name for modality in data.modalities]
        if missing := [name for name in self.run.layout.names if name not in names]:
            fix = "Shard the data with it: a run begins with the weights of one that has the same modalities, or fewer."
            raise UsageError(f"the data has no modality {missing[0]!r}, which {self.run.path} was trained on.", where=where, fix=fix)
        same_tokenizers(self.run, data, where, more=True)
        before, now = self.run.shape.to_json(), shape.to_json()
        if differing := [f"{name} {now[name]} instead of {before[name]}" for name in before if before[name] != now[name]]:
            begun = self.run.config
            of_method = METHODS[begun.method].shape_defaults != METHODS[config.method].shape_defaults
            method = f" --method {begun.method}" if of_method else ""
            sizes = "".join(f" --set shape.{name}={value}" for name, value in begun.shape.items())
            what = f"the preset {config.preset} of {config.method} is not the shape of {self.run.path}: {', '.join(differing)}."
            raise UsageError(what, where="--init-from", fix=f"Add{method} --preset {begun.preset}{sizes}.")


def unseen(run: Run, samples: Sequence[Sample]) -> list[Sample]:
    """Validation samples of which the run, and the one that it begins with, have trained on nothing; says how many are left out."""
    known = run.training_items().identities
    kept = [
        sample
        for sample in samples
        if not any(np.isin(list(identities(sample, name)), known[name]).any() for name in sample.tokens if name in known)
    ]
    if len(kept) < len(samples):
        origin = run.record[INIT_FROM]["run"]
        log(f"{len(samples) - len(kept)} of {len(samples)} validation samples are left out: the run {origin} was trained on them")
    return kept


def load_initial(model: Transformer, origin: Mapping[str, Any], given: Path | None) -> None:
    """Put the weights into a model that begins with them. origin: what the run keeps of it; given: where it lies now, if it was moved.

    Raises DataError where they are not there any more.
    """
    path = given or Path(origin["path"])
    initial = InitialRun.open(path)
    if initial.fingerprint != origin["sha256"]:
        name = f"{origin['step']:08d}"
        initial = InitialRun(initial.run, initial.run.checkpoint(name)) if (initial.run.checkpoints / name).is_dir() else initial
    if initial.fingerprint != origin["sha256"]:
        fix = "Give with --init-from a copy of the run as it was then, or pass --force to begin anew."
        raise DataError("the run was trained further since this one was begun with its weights.", where=path, fix=fix)
    old, new = initial.run.layout, model.layout
    transfer(initial.weights.model, old, model, initial.run.config.method)
    fresh = [name for name in new.names if name not in old.names]
    added = f"; {', '.join(fresh)} {'is' if len(fresh) == 1 else 'are'} new to it, with fresh embeddings" if fresh else ""
    log(f"beginning with the weights of {path} (step {origin['step']}){added}")
    if new.axes != old.axes:
        log(f"positions have {new.axes} axes now, {old.axes} before: what the weights know of places has to be learned anew")
