"""A Cox model fitted on real tables orders patients by risk, tells imputed tables that keep it from those that do not."""

import sys
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmtool.common.errors import UsageError
from mmtool.data.labels import check_classes
from mmtool.data.sample import Sample
from mmtool.evaluation.config import EvaluationConfig
from mmtool.evaluation.reference.cox import CoxModels
from mmtool.evaluation.reference.decoded import DecodedSamples
from mmtool.evaluation.reference.features import Embedding
from mmtool.metrics.intervals import bootstrap
from mmtool.metrics.survival import concordance, outcomes_of
from mmtool.tokenizers.table import TableTokenizer

pytest.importorskip("sksurv", reason="needs the extra [survival]")


def cohort(count: int, seed: int) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Rows whose first two features set the hazard, and labels with time and event, a third of them censored."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, 10)).astype(np.float32)
    times = random.exponential(np.exp(-1.5 * rows[:, 0] + rows[:, 1]))
    censored = random.exponential(2 * np.median(times), count)
    return rows, [{"days": float(min(t, c)), "died": int(t <= c)} for t, c in zip(times, censored, strict=True)]


def sides() -> tuple[DecodedSamples, DecodedSamples, dict[str, Embedding]]:
    rows, labels = cohort(600, 1)
    tokenizer = TableTokenizer.fit(list(rows), {"features": [f"f{i}" for i in range(10)], "n_bins": 64}, 0)
    held, held_labels = cohort(200, 2)
    held_labels[0] = {}
    pools = [
        DecodedSamples(
            [Sample(f"{i}", {"genes": codes}, own) for i, (codes, own) in enumerate(zip(tokenizer.encode(list(part)), known, strict=True))],
            {"genes": tokenizer},
        )
        for part, known in ((held, held_labels), (rows, labels))
    ]
    return pools[0], pools[1], {"genes": Embedding(tokenizer, pools[1].values("genes"), 0)}


def test_risk_is_learned_and_imputed_values_are_rated_by_it() -> None:
    test, train, embeddings = sides()
    models = CoxModels(test, train, embeddings, ("days", "died"), seed=0)
    upper_bound = models.upper_bounds["c_index"]["genes"]
    assert upper_bound.value > 0.8 and upper_bound.low < upper_bound.value < upper_bound.high and upper_bound.n == 199
    everyone = test.having("genes")
    same = models.concordance_of("genes", everyone, [[value] for value in test.values("genes")])
    assert same["c_index"].value == pytest.approx(upper_bound.value)
    shuffled = np.random.default_rng(0).permutation(np.stack(test.values("genes")))
    assert models.concordance_of("genes", everyone, [[value] for value in shuffled])["c_index"].value == pytest.approx(0.5, abs=0.1)
    assert models.concordance_of("unknown", everyone, []) == {}


def test_strata_are_told_from_what_is_known_beyond_them() -> None:
    """A site that doubles the hazard twice is all that one table knows, and half of what the other knows."""
    test, train, embeddings = sides()
    for side in (test, train):
        rows = np.stack(side.values("genes"))
        for sample, row in zip(side.samples, rows, strict=True):
            sample.labels["site"] = "a" if row[0] > 0 else "b"
    test.samples[1].labels.pop("site")
    models = CoxModels(test, train, embeddings, ("days", "died"), seed=0, strata="site")
    everyone = test.having("genes")
    real = models.concordance_of("genes", everyone, [[value] for value in test.values("genes")])
    assert 0.6 < real["c_index_stratified"].value < real["c_index"].value and models.upper_bounds["c_index_stratified"]["genes"]
    alone = models.concordance_of_strata(everyone)["c_index"]
    assert 0.6 < alone.value < real["c_index"].value and alone.n == real["c_index"].n
    of_site = [[np.where(np.arange(10) == 0, np.sign(row), 0).astype(np.float32)] for row in np.stack(test.values("genes"))]
    known = models.concordance_of("genes", everyone, of_site)
    assert known["c_index"].value > 0.6 and known["c_index_stratified"].value == pytest.approx(0.5, abs=0.01)


def test_samples_that_are_compared_with_none_do_not_count() -> None:
    outcomes = np.stack([np.arange(1, 7), np.ones(6)], 1).astype(float)
    found = concordance(-np.arange(6.0), outcomes, 0, np.array([0, 0, 0, 0, 1, 2]))
    assert found.value == 1 and found.n == 4


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.5, 1.5, 2.5, 3.5], "4 different values in 4 samples, which are no classes"),
        (["a"] * 4, "1 different values"),
        (list("abcd"), "no classes"),
        ([None] * 4, "no sample has the label 'site'"),
    ],
)
def test_strata_are_classes(values: list[Any], words: str) -> None:
    samples = [Sample(f"{i}", {}, {"site": value}) for i, value in enumerate(values)]
    with pytest.raises(UsageError, match=words) as raised:
        check_classes(samples, "site", "--strata")
    assert "--strata" in str(raised.value)


def test_strata_are_not_what_is_to_be_told() -> None:
    with pytest.raises(UsageError, match="died is what is to be told"):
        EvaluationConfig(survival=("days", "died"), strata="died")


def test_strata_that_all_are_alike_tell_nothing() -> None:
    test, train, embeddings = sides()
    for sample in train.samples:
        sample.labels["site"] = "a"
    models = CoxModels(test, train, embeddings, ("days", "died"), seed=0, strata="site")
    everyone = test.having("genes")
    assert models.concordance_of_strata(everyone) == {}
    assert list(models.concordance_of("genes", everyone, [[value] for value in test.values("genes")])) == ["c_index"]


def test_too_few_events_make_no_model() -> None:
    test, train, embeddings = sides()
    for sample in train.samples[10:]:
        sample.labels.clear()
    assert CoxModels(test, train, embeddings, ("days", "died"), seed=0).models == {}


def test_concordance_of_a_perfect_order() -> None:
    outcomes = np.array([[1, 1], [2, 1], [3, 0], [4, 1]], float)
    assert concordance(np.array([4.0, 3, 2, 1]), outcomes, 0).value == 1
    assert concordance(np.array([1.0, 2, 3, 4]), outcomes, 0).value == 0
    assert concordance(np.zeros(2), np.array([[1, 0], [2, 0]], float), 0) is None


def test_concordance_is_that_of_scikit_survival_on_every_resample() -> None:
    from sksurv.metrics import concordance_index_censored

    random = np.random.default_rng(0)
    times, events = random.exponential(size=70).round(1) + 0.1, random.random(70) < 0.6
    risk = (random.normal(size=70) - times).round(1)  # ties among times and among risks

    def expected(rows: np.ndarray) -> float:
        return float(concordance_index_censored(events[rows], times[rows], risk[rows])[0])

    ours, theirs = concordance(risk, np.stack([times, events], 1), 0), bootstrap(expected, 70, 0)
    assert ours is not None and astuple(ours) == pytest.approx(astuple(theirs), abs=1e-9)


def test_stratified_concordance_is_that_of_the_strata_by_their_comparable_pairs() -> None:
    from sksurv.metrics import concordance_index_censored

    random = np.random.default_rng(0)
    times, events, strata = random.exponential(size=90), random.random(90) < 0.6, random.integers(0, 4, 90)
    risk = random.normal(size=90) - times + 5 * strata
    parts = [concordance_index_censored(events[strata == k], times[strata == k], risk[strata == k]) for k in range(4)]
    pairs = np.array([sum(part[1:4]) for part in parts])
    ours = concordance(risk, np.stack([times, events], 1), 0, strata)
    assert ours.value == pytest.approx(np.average([part[0] for part in parts], weights=pairs), abs=1e-9)


def test_outcomes_come_from_labels() -> None:
    found = outcomes_of([{"t": "12.5", "e": 1}, {"t": 3}, {"t": 0, "e": 0}], "t", "e")
    np.testing.assert_array_equal(found[0], [12.5, 1])
    assert np.isnan(found[1:]).all()
    with pytest.raises(UsageError, match="'dead'"):
        outcomes_of([{"t": 1, "e": "dead"}], "t", "e")
    with pytest.raises(UsageError, match="e is 2"):
        outcomes_of([{"t": 1, "e": 2}], "t", "e")


def test_a_missing_library_is_named_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmtool.evaluation.evaluate import evaluate

    monkeypatch.setitem(sys.modules, "sksurv.util", None)
    with pytest.raises(UsageError, match="scikit-survival"):
        evaluate([tmp_path / "no-run"], tmp_path / "no-data", tmp_path / "report", EvaluationConfig(survival=("time", "event")))
    assert not (tmp_path / "report").exists()
