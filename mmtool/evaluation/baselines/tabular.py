"""What a careful practitioner gets without a generative model: imputers of whole tables, reached through the linking modality.

Each takes training tables with missing rows and the given tables of other samples, and answers with the target table. Where training
samples hold given and target together it learns from these; where they never do, it goes through the modalities between them: a chain.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Protocol

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (importing it makes IterativeImputer available)
from sklearn.impute import IterativeImputer
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import BayesianRidge, RidgeCV
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline

from mmtool.data.graph import CoOccurrence
from mmtool.evaluation.directions import Direction
from mmtool.tokenizers.table_rows import centre_and_scale, quantiles

Tables = Mapping[str, np.ndarray]  # modality -> (N, F), a row of NaN where a sample lacks it
CLIP = 0.001  # share cut off on either side of a feature: one value of 17,036 among z-scores would decide every fit
NEIGHBOURS, NEAR_COMPONENTS = 8, 80  # chosen on validation patients of TCGA: all columns of 1,526 instead of 80 components halve the R2
RIDGE_PENALTIES = np.logspace(-2, 3, 11)  # of rows with a mean squared norm of 1
KERNEL_WIDTHS, KERNEL_FOLDS = (0.3, 1.0, 3.0), 3  # gamma, for rows of the same norm
LANDMARKS = 1000  # rows that the kernel is approximated by
CHAINED_COMPONENTS = 24  # per modality: chained equations over thousands of columns would take hours
CHAINED_ROUNDS = 5


@dataclass(frozen=True)
class Scaler:
    """Clipped and standardised columns, missing values at 0, and the inverse."""

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray) -> "Scaler":
        low, high = np.nan_to_num(quantiles(rows, np.array([CLIP, 1 - CLIP])))
        clipped = np.clip(rows, low, high).astype(np.float64)
        return cls(low, high, *centre_and_scale(clipped))

    def clip(self, rows: np.ndarray) -> np.ndarray:
        return np.clip(rows, self.low, self.high)

    def standard(self, rows: np.ndarray) -> np.ndarray:
        return np.nan_to_num((self.clip(rows).astype(np.float64) - self.mean) / self.scale)

    def raw(self, standard: np.ndarray) -> np.ndarray:
        return self.clip(standard * self.scale + self.mean).astype(np.float32)


class TrainingTables:
    """Training tables with missing rows, scaled; held: modality -> (N,) whether a sample has it."""

    def __init__(self, tables: Tables, graph: CoOccurrence) -> None:
        self.graph = graph
        self.held: dict[str, np.ndarray] = {name: np.asarray(~np.isnan(rows).all(1)) for name, rows in tables.items()}
        self.scalers = {name: Scaler.of(rows[self.held[name]]) for name, rows in tables.items()}
        self.standard = {name: self.scalers[name].standard(rows) for name, rows in tables.items()}

    def having(self, *names: str) -> np.ndarray:
        return np.flatnonzero(np.stack([self.held[name] for name in names]).all(0))

    def joined(self, names: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """(n, F) columns of several modalities, each with the same weight as a whole."""
        return _join([self.standard[name][rows] for name in names])

    def near(self, names: Sequence[str], rows: np.ndarray) -> np.ndarray:
        """(n, C) leading components of several modalities, in which neighbours are sought."""
        return _join([self.near_space(name).transform(self.standard[name][rows]) for name in names])

    @cache  # noqa: B019  (lives as long as one evaluation)
    def near_space(self, name: str) -> PCA:
        return _reduction(self.standard[name][self.held[name]], NEAR_COMPONENTS)

    def given(self, direction: Direction, given: Tables) -> dict[str, np.ndarray]:
        return {name: self.scalers[name].standard(given[name]) for name in direction.given}

    def hops(self, direction: Direction) -> list[tuple[tuple[str, ...], str]] | None:
        """From what is given to the target, link by link; None where no chain of tables leads there."""
        names = (*direction.given, direction.target)
        if not all(name in self.held for name in names):
            return None
        if len(self.having(*names)):
            return [(direction.given, direction.target)]
        path = self.graph.path(set(direction.given), direction.target)
        if path is None or not all(name in self.held for name in path):
            return None
        return [((start,), end) for start, end in pairwise(path)]


def mean_of_training(train: TrainingTables, direction: Direction, given: Tables) -> np.ndarray | None:
    """The training mean of every feature."""
    if direction.target not in train.scalers:
        return None
    scaler = train.scalers[direction.target]
    return np.tile(scaler.mean.astype(np.float32), (_count(direction, given), 1))


def ridge_chain(train: TrainingTables, direction: Direction, given: Tables) -> np.ndarray | None:
    """Ridge regression from link to link, each penalty chosen by leave-one-out."""
    return _chain(train, direction, given, lambda x, y: RidgeCV(RIDGE_PENALTIES, alpha_per_target=False).fit(x, y))


def kernel_ridge_chain(train: TrainingTables, direction: Direction, given: Tables) -> np.ndarray | None:
    """The same with a Gaussian kernel (by Nystroem's approximation), whose width is chosen by cross-validation."""

    def fit(x: np.ndarray, y: np.ndarray) -> Fitted:
        landmarks = max(1, min(LANDMARKS, len(x) * (KERNEL_FOLDS - 1) // KERNEL_FOLDS))
        kernel = make_pipeline(Nystroem(n_components=landmarks, random_state=0), RidgeCV(RIDGE_PENALTIES, alpha_per_target=False))
        folds = min(KERNEL_FOLDS, len(x))
        return GridSearchCV(kernel, {"nystroem__gamma": KERNEL_WIDTHS}, cv=folds).fit(x, y) if folds > 1 else kernel.fit(x, y)

    return _chain(train, direction, given, fit)


def nearest_neighbours(train: TrainingTables, direction: Direction, given: Tables) -> np.ndarray | None:
    """The mean of the nearest neighbours. Through a link: neighbours among samples whose target was imputed from the link first."""
    hops = train.hops(direction)
    if hops is None:
        return None
    names, target = hops[-1]
    rows = train.having(*names, target)
    points, answers = train.near(names, rows), train.standard[target][rows]
    for (start, link), (after, _) in zip(hops[-2::-1], hops[:0:-1], strict=True):
        rows = train.having(*start, *after)
        answers = _neighbours(points, answers).predict(train.near(after, rows))  # pseudo-targets of samples that hold start and link
        points = train.near(start, rows)
        assert link in after
    queries = train.given(direction, given)
    imputed = _neighbours(points, answers).predict(_join([train.near_space(name).transform(queries[name]) for name in hops[0][0]]))
    return train.scalers[target].raw(imputed)


def chained_equations(train: TrainingTables, direction: Direction, given: Tables) -> np.ndarray | None:
    """Iterative imputation (MICE-like) of the leading components of all modalities at once, training rows and queries together.

    For pairs never seen together it is known to fail: given the link, an imputed modality is a copy of it, and regressions on both
    may weigh them in any way.
    """
    if train.hops(direction) is None:
        return None
    queries, count = train.given(direction, given), _count(direction, given)
    reduced = {name: _reduction(rows[train.held[name]], CHAINED_COMPONENTS) for name, rows in train.standard.items()}
    blocks = []
    for name, rows in train.standard.items():
        known = np.where(train.held[name][:, None], reduced[name].transform(rows), np.nan)
        rows_of_queries = reduced[name].transform(queries[name]) if name in queries else np.full((count, known.shape[1]), np.nan)
        blocks.append(np.vstack([known, rows_of_queries]))
    table = np.hstack(blocks)
    bounds = {"min_value": np.nanmin(table, 0), "max_value": np.nanmax(table, 0)}  # without them rounds run away from each other
    imputer = IterativeImputer(BayesianRidge(), max_iter=CHAINED_ROUNDS, tol=1e-2, random_state=0, skip_complete=True, **bounds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of rounds is part of the baseline
        imputed = imputer.fit_transform(table)[-count:]
    start = dict(zip(train.standard, np.cumsum([0, *(block.shape[1] for block in blocks)]), strict=False))
    width = reduced[direction.target].n_components_
    components = imputed[:, start[direction.target] : start[direction.target] + width]
    return train.scalers[direction.target].raw(reduced[direction.target].inverse_transform(components))


class Fitted(Protocol):
    """A regression of sklearn."""

    def predict(self, rows: np.ndarray) -> np.ndarray: ...


TabularImputer = Callable[[TrainingTables, Direction, Tables], np.ndarray | None]
TABULAR_BASELINES: dict[str, TabularImputer] = {
    "training mean": mean_of_training,
    "ridge (chain)": ridge_chain,
    "kernel ridge (chain)": kernel_ridge_chain,
    "k nearest (chain)": nearest_neighbours,
    "chained equations": chained_equations,
}


def _chain(
    train: TrainingTables, direction: Direction, given: Tables, fit: Callable[[np.ndarray, np.ndarray], Fitted]
) -> np.ndarray | None:
    hops = train.hops(direction)
    if hops is None:
        return None
    queries = train.given(direction, given)
    imputed = [queries[name] for name in hops[0][0]]
    for names, target in hops:
        rows = train.having(*names, target)
        answers = train.standard[target][rows]
        predicted = fit(train.joined(names, rows), answers).predict(_join(imputed))
        imputed = [predicted.reshape(-1, answers.shape[1])]  # of a single column sklearn gives (n,)
    return train.scalers[direction.target].raw(imputed[0])


def _join(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Columns side by side, each modality divided by the root of its number of columns."""
    return np.hstack([part / np.sqrt(part.shape[1]) for part in parts])


def _neighbours(points: np.ndarray, answers: np.ndarray) -> KNeighborsRegressor:
    return KNeighborsRegressor(n_neighbors=min(NEIGHBOURS, len(points)), weights="distance").fit(points, answers)


def _reduction(rows: np.ndarray, components: int) -> PCA:
    return PCA(min(components, *rows.shape), random_state=0).fit(rows)


def _count(direction: Direction, given: Tables) -> int:
    return len(given[direction.given[0]])
