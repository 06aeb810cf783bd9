"""Either table from the other by the factors of MOFA+ (mofapy2; Argelaguet et al. 2020, doi 10.1186/s13059-020-02015-1).

    PYTHON examples/pbmc_mosaic/mofa.py CELLS.h5mu OUT [--factors 10,20,40] [--iterations N]

PYTHON: of an environment with mofapy2 and mudata. Trained on the training cells, of which a table may be missing. The factors of a held-out
cell are their posterior mean under the trained weights and noise, given one table; the other table is what the weights make of them. The
number of factors is the one with the highest mean correlation on validation cells.
"""

import argparse
from pathlib import Path

import mudata
import numpy as np
from imputed import TEST, TRAIN, VALIDATION, cells_of, mean_correlation, paired, save
from mofapy2.run.entry_point import entry_point

NAMES = ("rna", "adt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--factors", default="5,10,20,40")
    parser.add_argument("--iterations", type=int, default=1000)
    given = parser.parse_args()
    cells = mudata.read_h5mu(given.cells)
    held_out = dict(zip(NAMES, paired(cells, *NAMES, splits=(VALIDATION, TEST)), strict=True))
    models = {factors: Factors(cells, int(factors), given.iterations) for factors in given.factors.split(",")}
    for start, target in (NAMES, NAMES[::-1]):
        truth = held_out[target]
        validates = (truth.obs["split"] == VALIDATION).to_numpy()
        tried = []
        for factors, model in models.items():
            values = model.predict(start, target, held_out[start].X)
            tried.append((mean_correlation(truth.X[validates], values[validates]), values))
            print(f"{start} -> {target}, {factors} factors: validation {tried[-1][0]:.3f}", flush=True)
        save(given.out / "MOFA+" / "0", start, target, max(tried, key=lambda trial: trial[0])[1], truth)


class Factors:
    """Trained weights (F, K), noise precisions (F,) and means (F,) of each table."""

    def __init__(self, cells: mudata.MuData, factors: int, iterations: int) -> None:
        tables = {name: cells_of(cells[name], TRAIN) for name in NAMES}
        keys = sorted({key for table in tables.values() for key in table.obs_names})
        self.means = {name: table.X.mean(0) for name, table in tables.items()}
        centred = []
        for name, table in tables.items():
            rows = np.full((len(keys), table.n_vars), np.nan)
            rows[np.searchsorted(keys, table.obs_names)] = table.X - self.means[name]
            centred.append([rows])
        mofa = entry_point()
        mofa.set_data_options()
        features = [[f"{name} {feature}" for feature in table.var_names] for name, table in tables.items()]
        mofa.set_data_matrix(centred, views_names=[*NAMES], groups_names=["all"], samples_names=[keys], features_names=features)
        mofa.set_model_options(factors=factors)
        mofa.set_train_options(iter=iterations, convergence_mode="medium", seed=0, quiet=True)
        mofa.build()
        mofa.run()
        nodes = mofa.model.getNodes()
        weights, noise = nodes["W"].getExpectations(), nodes["Tau"].getExpectations()
        self.weights = {name: part["E"] for name, part in zip(NAMES, weights, strict=True)}
        self.squares = {name: part["E2"] for name, part in zip(NAMES, weights, strict=True)}
        self.precisions = {name: np.atleast_2d(part["E"])[0] for name, part in zip(NAMES, noise, strict=True)}

    def predict(self, start: str, target: str, rows: np.ndarray) -> np.ndarray:
        """Rows (N, F) of one table -> the other (N, G)."""
        weighted = self.weights[start] * self.precisions[start][:, None]
        precision = weighted.T @ self.weights[start]
        np.fill_diagonal(precision, 1 + self.precisions[start] @ self.squares[start])
        factors = np.linalg.solve(precision, weighted.T @ (rows - self.means[start]).T).T
        return factors @ self.weights[target].T + self.means[target]


if __name__ == "__main__":
    main()
