"""Promise: the example of blood cells splits and normalises without a look at its test, and scores what was imputed cell by cell."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

anndata, mudata = pytest.importorskip("anndata"), pytest.importorskip("mudata")
sys.path.append(str(Path(__file__).parents[1] / "examples" / "pbmc_mosaic"))
imputed, prepare, score = (importlib.import_module(name) for name in ("imputed", "prepare", "score"))


def mosaic(path: Path, test_factor: int = 1) -> Path:
    """20 cells of each batch; those of the test can be measured more deeply."""
    generator, tables = np.random.default_rng(0), {}
    for name, width, batches in (("rna", 6, ("p1_0", "p3_0", "p4_0")), ("adt", 224, ("p2_0", "p3_0", "p4_0"))):
        counts = generator.poisson(3, (60, width)).astype(np.float32)
        counts[40:] *= test_factor
        keys = [f"{batch}_{i}" for batch in batches for i in range(20)]
        table = anndata.AnnData(scipy_rows(counts))
        table.obs_names, table.var_names = keys, [f"{name}{i}" for i in range(width)]
        table.obs["batch"], table.obs["celltype"] = [key[:4] for key in keys], ["B", "NK"] * 30
        tables[name] = table
    mudata.MuData(tables).write(path)
    return path


def scipy_rows(counts: np.ndarray) -> object:
    from scipy.sparse import csr_matrix

    return csr_matrix(counts)


def prepared(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str = "cells", **options: int) -> object:
    folder.mkdir()
    monkeypatch.setattr(sys, "argv", ["prepare.py", str(mosaic(folder / "counts.h5mu", **options)), str(folder)])
    prepare.main()
    return mudata.read_h5mu(folder / f"{name}.h5mu")


def test_the_test_batch_tells_nothing_about_the_training_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = (prepared(tmp_path / str(factor), monkeypatch, test_factor=factor) for factor in (1, 100))
    for name in ("rna", "adt"):
        table, deeper = one[name], other[name]
        test = (table.obs["split"] == "test").to_numpy()
        assert set(table.obs["batch"][test]) == {"p4_0"} and test.sum() == 20
        assert set(table.obs["split"][table.obs["batch"] == "p3_0"]) == {"train", "validation"}
        np.testing.assert_array_equal(table.X[~test], deeper.X[~test])
    sums = np.expm1(one["rna"].X).sum(1)
    np.testing.assert_allclose(sums, sums[0], rtol=1e-5)
    np.testing.assert_allclose(one["adt"].X.sum(1), 0, atol=1e-3)


def test_no_training_cell_holds_both_halves_of_the_panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = prepared(tmp_path / "cells", monkeypatch, "halves")
    first, second = (set(cells[name].obs_names[cells[name].obs["split"] == "train"]) for name in ("adt_a", "adt_b"))
    assert first and second and not first & second
    assert {key for key in cells["adt_a"].obs_names if key.startswith("p4")} == {f"p4_0_{i}" for i in range(20)}


def test_correlations_are_those_of_the_cells_that_count() -> None:
    generator = np.random.default_rng(0)
    truth, values = generator.normal(size=(2, 50, 3)).astype(np.float32)
    truth[:, 1] = 4  # does not vary: left out
    values[:, 2] = 1  # says nothing: 0
    counted = generator.multinomial(50, np.full(50, 1 / 50), 2)
    found = score.correlations(truth, values, np.vstack([np.ones(50), counted]) / 50)
    for rows, value in zip((np.arange(50), *(np.repeat(np.arange(50), times) for times in counted)), found, strict=True):
        assert value == pytest.approx(np.corrcoef(truth[rows, 0], values[rows, 0])[0, 1] / 2, abs=1e-5)
    assert found[0] == pytest.approx(imputed.mean_correlation(truth, values), abs=1e-5)


def test_a_better_method_is_ahead_by_the_same_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = prepared(tmp_path / "cells", monkeypatch)
    (test,) = imputed.paired(cells, "adt", splits=("test",))
    noise = np.random.default_rng(0).normal(size=(2, *test.shape))
    for seed in (0, 1):
        imputed.save(tmp_path / "imputed" / "good" / str(seed), "rna", "adt", test.X + 0.1 * noise[seed], test)
    imputed.save(tmp_path / "imputed" / "bad" / "0", "rna", "adt", noise[0], test)
    methods = score.score(cells, tmp_path / "imputed", "test")
    rows = {row["metric"]: row for row in score.differences(methods, "good") if row["difference"] == "good - bad"}
    assert rows["correlation"]["low"] > 0.5
    table = score.markdown([*score.results(methods), *score.differences(methods, "good")], "good")
    assert "| good | 0.9" in table and "; seeds 0.9" in table and "| good - bad | +" in table and "| measured | - | 50.0 [" in table

    right = methods["good"]["rna", "adt", "correlation"]
    (path,) = (tmp_path / "imputed" / "good" / "0" / "rna").iterdir()
    shuffled = anndata.read_h5ad(path)[::-1, ::-1].copy()
    shuffled.write_h5ad(path)
    np.testing.assert_allclose(score.score(cells, tmp_path / "imputed", "test")["good"]["rna", "adt", "correlation"], right)
