"""Guided components of a table hold what other tables know of it, and see no pair that training does not see."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmtool.common.errors import UsageError
from mmtool.preprocessing.guides import guide_tables
from mmtool.tokenizers.table_codec import TableCodecTokenizer

COUNT, FEATURES = 600, 40


def linked_rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A table that varies most in ways of its own, and another one that shares its faintest factor."""
    random, directions = np.random.default_rng(seed), np.random.default_rng(7)
    factors = random.normal(size=(COUNT, 9)) * ([3.0] * 8 + [1.0])
    rows = factors @ directions.normal(size=(9, FEATURES)) + 0.3 * random.normal(size=(COUNT, FEATURES))
    return rows.astype(np.float32), (factors[:, 8:] + 0.3 * random.normal(size=(COUNT, 3))).astype(np.float32)


def told(tokenizer: TableCodecTokenizer) -> float:
    """R2 with which new rows' code values tell the other table, by least squares on those of training."""
    values = []
    for seed in (0, 1):
        values.append(tokenizer.code_values().of(np.stack(tokenizer.encode(list(linked_rows(seed)[0])))))
    weights = np.linalg.lstsq(values[0], linked_rows(0)[1], rcond=None)[0]
    true = linked_rows(1)[1]
    return float(1 - ((true - values[1] @ weights) ** 2).sum() / ((true - true.mean(0)) ** 2).sum())


def test_few_guided_components_predict_what_as_many_principal_ones_do_not() -> None:
    rows, other = linked_rows()
    other[::3] = np.nan
    settings = {"features": [f"f{i}" for i in range(FEATURES)], "components": 4, "n_bins": 32}
    plain = TableCodecTokenizer.fit(list(rows), settings, 0)
    guided = TableCodecTokenizer.fit(list(rows), {**settings, "guides": [other]}, 0)
    assert told(plain) < 0.2 and told(guided) > 0.6
    np.testing.assert_allclose(guided.loadings @ guided.loadings.T, np.eye(4), atol=1e-5)
    again = TableCodecTokenizer.fit(list(rows), {**settings, "guides": [other]}, 0)
    assert (again.loadings == guided.loadings).all()


def test_guides_are_what_the_protocol_left(tmp_path: Path, mmtool: Callable[..., Any]) -> None:
    rows, other = linked_rows()
    for name, values in (("genes", rows), ("proteins", other), ("sugars", -other)):
        with open(tmp_path / f"{name}.csv", "w", newline="") as file:
            header = ["patient", *(f"{name}{i}" for i in range(values.shape[1]))]
            csv.writer(file).writerows([header, *([f"p{i:03d}", *row.tolist()] for i, row in enumerate(values[:200]))])
        words = ("--fit", "--scheme", "codec", "--set", "components=3", "--key-column", "patient", "--name", name)
        assert mmtool("tokenize", "table", tmp_path / f"{name}.csv", *words, "-o", tmp_path / f"{name}.tar").code == 0
    tars = [tmp_path / f"{name}.tar" for name in ("genes", "proteins", "sugars")]
    pairs = ("--pair", "genes,proteins", "--pair", "genes,sugars")
    assert mmtool("shard", *tars, *pairs, "-o", tmp_path / "shards").code == 0
    keys = [f"p{i:03d}" for i in range(200)]
    proteins, sugars = (~np.isnan(guide).all(1) for guide in guide_tables(tmp_path / "shards", "genes", keys))
    assert proteins.sum() > 40 and sugars.sum() > 40 and not (proteins & sugars).any()
    assert len(guide_tables(tmp_path / "shards", "sugars", keys)) == 1, "proteins and sugars never meet"
    guided = (*words[:5], "--key-column", "patient", "--name", "genes", "--guide", tmp_path / "shards")
    assert mmtool("tokenize", "table", tmp_path / "genes.csv", *guided, "-o", tmp_path / "guided.tar").code == 0
    with pytest.raises(UsageError, match="no other table goes with 'fats'"):
        guide_tables(tmp_path / "shards", "fats", keys)
