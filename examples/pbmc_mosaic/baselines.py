"""The mean of training cells, ridge regression and k nearest neighbours, fitted on training cells that hold both tables; settings are those
of the highest mean correlation on validation cells.

    python examples/pbmc_mosaic/baselines.py CELLS.h5mu OUT [--through LINK]

With --through, of tables that never met, two of them are chained: what is given -> the link, the link -> the target.
"""

import argparse
from collections.abc import Callable, Sequence
from itertools import pairwise, permutations, product
from pathlib import Path

import mudata
import numpy as np
from imputed import TEST, TRAIN, VALIDATION, mean_correlation, paired, save
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ALPHAS = [10.0**power for power in range(0, 6)]
COMPONENTS, NEIGHBOURS = [5, 10, 20, 40], [5, 10, 20, 40, 80]
Predict = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--through")
    given = parser.parse_args()
    cells = mudata.read_h5mu(given.cells)
    ends = [name for name in cells.mod if name != given.through]
    for start, target in permutations(ends, 2):
        path = [start, given.through, target] if given.through else [start, target]
        have, want = paired(cells, start, target, splits=(VALIDATION, TEST))
        for name, fit in {"mean": fit_mean, "ridge": fit_ridge, "k nearest": fit_nearest}.items():
            values = have.X
            for link in pairwise(path):
                values = best_of(fit, cells, *link)(values)
            save(given.out / name / "0", start, target, values, want)


def best_of(fit: Callable[..., Sequence[tuple[str, Predict]]], cells: mudata.MuData, start: str, target: str) -> Predict:
    train, validation = (paired(cells, start, target, splits=(split,)) for split in (TRAIN, VALIDATION))
    tried = fit(train[0].X, train[1].X)
    scores = [mean_correlation(validation[1].X, predict(validation[0].X)) for _, predict in tried]
    best = int(np.argmax(scores))
    print(f"{start} -> {target}: {tried[best][0]} of {len(train[0])} cells, validation {scores[best]:.3f}", flush=True)
    return tried[best][1]


def fit_mean(given: np.ndarray, target: np.ndarray) -> Sequence[tuple[str, Predict]]:
    return [("mean", lambda rows: np.tile(target.mean(0), (len(rows), 1)))]


def fit_ridge(given: np.ndarray, target: np.ndarray) -> Sequence[tuple[str, Predict]]:
    return [(f"ridge {alpha:g}", make_pipeline(StandardScaler(), Ridge(alpha)).fit(given, target).predict) for alpha in ALPHAS]


def fit_nearest(given: np.ndarray, target: np.ndarray) -> Sequence[tuple[str, Predict]]:
    """By principal components of what is given."""
    tried = []
    for components, neighbours in product(COMPONENTS, NEIGHBOURS):
        if max(components, neighbours) < len(given):
            near = make_pipeline(PCA(components, random_state=0), KNeighborsRegressor(neighbours, weights="distance"))
            tried.append((f"{neighbours} nearest by {components} components", near.fit(given, target).predict))
    return tried


if __name__ == "__main__":
    main()
