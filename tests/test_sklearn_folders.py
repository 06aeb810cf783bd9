"""Promise: an estimator never takes the run of another one for its own, and its run lasts as long as anybody holds it."""

import gc
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from mmtool import UsageError
from mmtool.sklearn import MultimodalImputer

Frames = dict[str, pd.DataFrame]
TRAINING = {"compile": "off", "batch_tokens": 256, "value_epochs": 0, "validation_samples": 8, "shape": {"depth": 1, "width": 32}}
TINY: dict[str, Any] = {"preset": "tiny", "steps": 2, "bins": 8, "draws": 4, "settings": TRAINING}


def tables(seed: int = 0) -> Frames:
    random = np.random.default_rng(seed)
    factor, people = random.normal(size=(40, 1)), [f"p{number:02d}" for number in range(40)]
    return {name: pd.DataFrame(factor + random.normal(0, 0.1, (40, 2)), people, [f"{name}0", f"{name}1"]) for name in ("a", "b")}


def test_a_folder_that_another_estimator_was_fitted_in_is_refused(tmp_path: Path) -> None:
    first = MultimodalImputer(**TINY, work_dir=tmp_path / "work").fit(tables())
    new = {"a": tables()["a"].iloc[:3]}
    complete = first.transform(new)["b"]
    first.save(tmp_path / "saved")
    second = clone(first).fit(tables(1))
    for take in (lambda: first.save(tmp_path / "again"), lambda: pickle.dumps(first), lambda: first.donors(new)):
        with pytest.raises(UsageError, match=r"work: the folder no longer holds what this estimator was fitted to.*work_dir for each"):
            take()
    assert not (tmp_path / "again").exists() and first.transform(new)["b"].equals(complete), "the run was opened before"
    assert len(second.donors(new)["b"]) == 3 and MultimodalImputer.load(tmp_path / "saved").transform(new)["b"].equals(complete)


def test_a_run_outlives_its_estimator_and_the_folder_goes_with_it() -> None:
    run = MultimodalImputer(**TINY).fit(tables()).run_
    gc.collect()
    folder = run.imputer.run.path
    assert folder.is_dir() and run.imputer.training_items.identities
    imputer = run.imputer
    del run
    gc.collect()
    assert folder.is_dir(), "what it is underneath needs it as well"
    del imputer
    gc.collect()
    assert not folder.exists()
