"""Retrieval finds held-out partners across modalities, seen together or not, and is honest about classes, ties and chance."""

from math import comb

import numpy as np
import pytest
from toy_study import found, toy_study

from mmtool.evaluation.config import EvaluationConfig, RetrievalOptions
from mmtool.evaluation.evaluate import evaluate
from mmtool.evaluation.tasks import retrieval


def asked_for(candidates: int) -> EvaluationConfig:
    return EvaluationConfig(tasks=("retrieval",), retrieval=RetrievalOptions(candidates))


def test_ranks_count_who_is_better_and_half_of_the_ties() -> None:
    scores = np.array([[3.0, 1.0, 2.0], [5.0, 4.0, 4.0], [0.0, 0.0, 0.0]])
    assert retrieval.ranks(scores, np.eye(3, dtype=bool)).tolist() == [1, 2.5, 2]
    classes = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], dtype=bool)
    assert retrieval.ranks(scores, classes).tolist() == [1, 2.5, 1.5]


def test_chance_is_exact() -> None:
    alone = retrieval.by_chance(np.eye(20, dtype=bool))
    assert (alone["recall@1"].value, alone["recall@10"].value, alone["median rank"].value) == (pytest.approx(0.05), 0.5, 10.5)
    pairs = retrieval.by_chance(np.kron(np.eye(10, dtype=bool), np.ones((2, 2), dtype=bool)))
    assert pairs["recall@5"].value == pytest.approx(1 - comb(18, 5) / comb(20, 5))


def test_every_pair_is_asked_both_ways_and_marked() -> None:
    rows = list(retrieval.measure(toy_study()))
    assert {("".join(row["given"]), row["target"]) for row in rows} == {(a, b) for a in "abc" for b in "abc" if a != b}
    assert not found(rows, run="codes", given="a", target="c", metric="recall@1")["seen"]
    assert found(rows, run="codes", given="a", target="b", metric="recall@1")["seen"]
    same_class = found(rows, run="codes", given="c", target="a", metric="class recall@1")
    assert same_class["value"] > 0.95 and same_class["n"] == 60
    assert found(rows, run="chance", given="c", target="a", metric="class recall@1")["value"] == pytest.approx(0.25)
    assert not [row for row in rows if "likelihood" in row["metric"]]


def test_without_a_label_only_the_sample_itself_is_a_hit() -> None:
    rows = list(retrieval.measure(toy_study(label=None)))
    assert {row["metric"] for row in rows} == {"recall@1", "recall@5", "recall@10", "median rank"}


@pytest.mark.thorough
def test_trained_runs_retrieve_by_features_and_by_likelihood(toy, tmp_path, capsys) -> None:
    runs, config = [toy / "contrastive", toy / "commutative"], asked_for(40)
    done = evaluate(runs, toy / "shards" / "validation", tmp_path / "report", config)
    by_features = found(done.rows, run="contrastive", given="a", target="b", metric="class recall@1")
    by_likelihood = found(done.rows, run="commutative", given="a", target="b", metric="class recall@1 (likelihood)")
    assert by_features["value"] > 0.5 and by_likelihood["value"] > 0.5
    assert not [row for row in done.rows if row["run"] == "contrastive" and "likelihood" in row["metric"]]
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| class recall@1 | contrastive | commutative | commutative (likelihood) | chance | n |" in text
    assert (tmp_path / "report" / "retrieval-class.png").exists()


def test_a_ranking_that_would_take_forever_is_left_out_in_words(toy, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(retrieval, "MAX_PASSES", 100)
    done = evaluate([toy / "commutative"], toy / "shards", tmp_path / "report", asked_for(11))
    assert not [row for row in done.rows if "likelihood" in row["metric"]]
    assert "--candidates" in capsys.readouterr().err
