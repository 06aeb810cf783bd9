"""Practitioners' imputers find linear structure, also through a link, and know what they cannot answer."""

import numpy as np
import pytest

from mmtool.data.graph import CoOccurrence
from mmtool.evaluation.baselines.tabular import (
    TABULAR_BASELINES,
    Scaler,
    TabularImputer,
    TrainingTables,
    chained_equations,
    kernel_ridge_chain,
    mean_of_training,
    nearest_neighbours,
    ridge_chain,
)
from mmtool.evaluation.directions import Direction
from mmtool.metrics.regression import compare_tables

A_TO_C, A_TO_B = Direction(("a",), "c"), Direction(("a",), "b")


def world(count: int, seed: int) -> dict[str, np.ndarray]:
    """Three tables that are linear in the same four factors."""
    random, mixing = np.random.default_rng(seed), np.random.default_rng(9)
    factors = random.normal(size=(count, 4))
    sizes = {"a": 10, "b": 14, "c": 8}
    return {
        name: (3 + factors @ mixing.normal(size=(4, f)) + 0.3 * random.normal(size=(count, f))).astype(np.float32)
        for name, f in sizes.items()
    }


def training(pairs: tuple[tuple[str, ...], ...] = (("a", "b"), ("b", "c"))) -> TrainingTables:
    tables = world(600, 1)
    present = [pairs[i % len(pairs)] for i in range(600)]
    for name, rows in tables.items():
        rows[[name not in held for held in present]] = np.nan
    return TrainingTables(tables, CoOccurrence.of(present))


def r2(direction: Direction, answer: np.ndarray | None) -> float:
    assert answer is not None
    return compare_tables(world(200, 2)[direction.target], answer, seed=0)["r2"].value


@pytest.mark.parametrize(
    ("imputer", "least"),
    [(ridge_chain, 0.8), (kernel_ridge_chain, 0.75), (nearest_neighbours, 0.6), (mean_of_training, -0.1)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_linear_structure_is_found_directly_and_through_the_link(imputer, least) -> None:
    given = world(200, 2)
    assert r2(A_TO_B, imputer(training(), A_TO_B, given)) > least
    assert r2(A_TO_C, imputer(training(), A_TO_C, given)) > least - 0.15


def test_the_kernel_bends_where_ridge_is_straight() -> None:
    random = np.random.default_rng(0)
    a = random.normal(size=(600, 3)).astype(np.float32)
    tables = {"a": a, "b": np.square(a) + 0.1 * random.normal(size=a.shape).astype(np.float32)}
    train, held = (
        TrainingTables({name: rows[:400] for name, rows in tables.items()}, CoOccurrence.of([("a", "b")] * 400)),
        tables["a"][400:],
    )
    told = {
        imputer: compare_tables(tables["b"][400:], imputer(train, A_TO_B, {"a": held}), seed=0)["r2"].value
        for imputer in (ridge_chain, kernel_ridge_chain)
    }
    assert told[kernel_ridge_chain] > 0.8 > 0.3 > told[ridge_chain]


def test_chained_equations_find_what_was_seen_together() -> None:
    """Through a link they have no reason to: of a pair that never occurs nothing tells them how it depends beyond the link."""
    assert r2(A_TO_B, chained_equations(training(), A_TO_B, world(200, 2))) > 0.75


def test_the_mean_explains_nothing() -> None:
    assert r2(A_TO_C, mean_of_training(training(), A_TO_C, world(200, 2))) == pytest.approx(0, abs=0.05)


def test_two_given_tables_are_used_together_where_training_held_them() -> None:
    both, given = Direction(("a", "b"), "c"), world(200, 2)
    for imputer in (ridge_chain, nearest_neighbours):
        assert r2(both, imputer(training((("a", "b", "c"),)), both, given)) >= r2(
            A_TO_C, imputer(training((("a", "b", "c"),)), A_TO_C, given)
        )


@pytest.mark.parametrize("imputer", TABULAR_BASELINES.values(), ids=TABULAR_BASELINES)
@pytest.mark.parametrize("single", ["b", "c"])
def test_tables_of_one_column_stay_tables(imputer: TabularImputer, single: str) -> None:
    pairs = [("a", "b"), ("b", "c")]
    tables = {name: rows[:, :1] if name == single else rows for name, rows in world(60, 1).items()}
    for name, rows in tables.items():
        rows[[name not in pairs[i % 2] for i in range(60)]] = np.nan
    answer = imputer(TrainingTables(tables, CoOccurrence.of([pairs[i % 2] for i in range(60)])), A_TO_C, world(5, 2))
    assert answer is not None and answer.shape == (5, tables["c"].shape[1])


def test_missing_values_inside_rows_are_accepted() -> None:
    train, given = training(), world(200, 2)
    given["a"][::3, 2] = np.nan
    for imputer in TABULAR_BASELINES.values():
        assert np.isfinite(imputer(train, A_TO_C, given)).all()


def test_unlinked_tables_have_no_answer() -> None:
    train = training((("a",), ("b", "c")))
    assert all(chain(train, A_TO_C, world(5, 2)) is None for chain in (ridge_chain, kernel_ridge_chain))
    assert nearest_neighbours(train, A_TO_C, world(5, 2)) is None


def test_an_outlier_does_not_decide_the_scale() -> None:
    rows = np.random.default_rng(0).normal(size=(2000, 1)).astype(np.float32)
    rows[0] = 17_036
    assert Scaler.of(rows).scale[0] == pytest.approx(1, abs=0.1)


def test_chained_equations_that_do_not_converge_say_nothing(recwarn: pytest.WarningsRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtool.evaluation.baselines.tabular.CHAINED_ROUNDS", 2)
    assert chained_equations(training(), A_TO_B, {"a": world(4, 2)["a"]}) is not None
    assert not [warning for warning in recwarn if "criterion" in str(warning.message)]
