"""How well cells were imputed: a table in Markdown, and the same numbers as one line of JSON.

    python examples/pbmc_mosaic/score.py CELLS.h5mu IMPUTED [--against METHOD] [--split test]

Reads IMPUTED/METHOD/SEED/GIVEN/TARGET.h5ad. Correlation: Pearson's over cells, mean over features. Cell type: share of cells whose type a
classifier (logistic regression), fitted on measured values of the batch p3, tells from imputed values. Brackets are 95 % intervals
over 1,000 resamples of the cells, the same ones for all methods; methods with several seeds count by the mean over these.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import anndata
import mudata
import numpy as np
from imputed import PAIRED, TRAIN, cells_of
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

RESAMPLES = 1000
LEAST = 1e-6  # features and imputations that vary less are constants
METRICS = ("correlation", "cell type")
Scores = dict[tuple[str, str, str], np.ndarray]  # given, target, metric -> (S, 1 + RESAMPLES): of each seed, of all cells and of resamples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path)
    parser.add_argument("imputed", type=Path)
    parser.add_argument("--against", default="commutative", help="method whose differences from all others are stated")
    parser.add_argument("--split", default="test")
    given = parser.parse_args()
    methods = score(mudata.read_h5mu(given.cells), given.imputed, given.split)
    rows = [*results(methods), *differences(methods, given.against)]
    print(markdown(rows, given.against), end="\n\n")
    print(json.dumps({"split": given.split, "results": rows}, ensure_ascii=False))


def score(cells: mudata.MuData, imputed: Path, split: str) -> dict[str, Scores]:
    judges = {name: Judge(cells, name, split) for name in cells.mod}
    found: dict[str, dict[tuple[str, str, str], list[np.ndarray]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(imputed.glob("*/*/*/*.h5ad")):
        method, _, given, target = path.relative_to(imputed).with_suffix("").parts
        for metric, values in judges[target].scores(anndata.read_h5ad(path)).items():
            found[method][given, target, metric].append(values)
    methods = {method: {where: np.stack(seeds) for where, seeds in scores.items()} for method, scores in found.items()}
    return {"measured": {("", name, "cell type"): judge.ceiling()[None] for name, judge in judges.items()}, **methods}


class Judge:
    """Of imputed values of one table. weights: (1 + RESAMPLES, N) how often each cell counts, first all once."""

    def __init__(self, cells: mudata.MuData, name: str, split: str) -> None:
        self.truth = cells_of(cells[name], split)
        train = cells_of(cells[name], TRAIN)
        train = train[train.obs["batch"] == PAIRED]
        self.classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train.X, train.obs["celltype"])
        num = len(self.truth)
        resamples = np.random.default_rng(0).multinomial(num, np.full(num, 1 / num), RESAMPLES)
        self.weights = np.vstack([np.ones(num), resamples]) / num

    def scores(self, imputed: anndata.AnnData) -> dict[str, np.ndarray]:
        values = imputed[self.truth.obs_names, self.truth.var_names].X
        return {"correlation": correlations(self.truth.X, values, self.weights), "cell type": self.accuracies(values)}

    def ceiling(self) -> np.ndarray:
        return self.accuracies(self.truth.X)

    def accuracies(self, values: np.ndarray) -> np.ndarray:
        return self.weights @ (self.classifier.predict(values) == self.truth.obs["celltype"])


def correlations(truth: np.ndarray, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """truth, values (N, F), weights (R, N) with rows that sum to 1 -> (R,) Pearson's correlation over weighted cells, mean over the
    features whose true values vary among these; 0 where the others do not."""
    x, y = (array.astype(np.float64) - array.mean(0) for array in (truth, values))
    means = weights @ x, weights @ y
    variances = [np.maximum(weights @ array**2 - mean**2, 0) for array, mean in zip((x, y), means, strict=True)]
    lengths = np.sqrt(variances[0] * variances[1])
    covariances = weights @ (x * y) - means[0] * means[1]
    found = np.where(lengths > LEAST**2, covariances / np.maximum(lengths, LEAST**2), 0)
    return found.mean(1, where=variances[0] > LEAST**2)


def results(methods: dict[str, Scores]) -> list[dict[str, Any]]:
    rows = []
    for method, scores in methods.items():
        for (given, target, metric), values in scores.items():
            seeds = [round(float(value), 4) for value in values[:, 0]]
            where = {"method": method, "given": given, "target": target, "metric": metric}
            rows.append({**where, **interval(values.mean(0)), "seeds": seeds})
    return rows


def differences(methods: dict[str, Scores], one: str) -> list[dict[str, Any]]:
    """Of a method from each other one, paired by cells."""
    rows = []
    for method, scores in methods.items():
        for (given, target, metric), values in scores.items():
            if method != one and (given, target, metric) in methods.get(one, {}):
                gaps = methods[one][given, target, metric].mean(0) - values.mean(0)
                where = {"given": given, "target": target, "metric": metric}
                rows.append({"difference": f"{one} - {method}", **where, **interval(gaps)})
    return rows


def interval(values: np.ndarray) -> dict[str, float]:
    """The value of all cells, and the middle 95 % of those of resamples."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return {name: round(float(number), 4) for name, number in (("value", values[0]), ("low", low), ("high", high))}


def markdown(rows: list[dict[str, Any]], one: str) -> str:
    columns = list(dict.fromkeys((row["given"], row["target"], row["metric"]) for row in rows if row["given"]))
    columns = sorted(columns, key=lambda column: (column[:2], METRICS.index(column[2])))
    titles = [f"{given} → {target}: {metric}" for given, target, metric in columns]
    lines = [f"| | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|"]
    for key in ("method", "difference"):
        for name in dict.fromkeys(row[key] for row in rows if key in row):
            mine = [row for row in rows if row.get(key) == name]
            cells = [next((cell(row) for row in mine if fits(row, column)), "-") for column in columns]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def fits(row: dict[str, Any], column: tuple[str, str, str]) -> bool:
    return (row["target"], row["metric"]) == column[1:] and row["given"] in ("", column[0])


def cell(row: dict[str, Any]) -> str:
    scale, digits, sign = (100, 1, "") if row["metric"] == "cell type" else (1, 3, "")
    sign = "+" if "difference" in row else ""
    value, low, high = (f"{scale * row[name]:{sign}.{digits}f}" for name in ("value", "low", "high"))
    spread = row.get("seeds", [])
    seeds = f"; seeds {scale * min(spread):.{digits}f} to {scale * max(spread):.{digits}f}" if len(spread) > 1 else ""
    return f"{value} [{low}, {high}]{seeds}"


if __name__ == "__main__":
    main()
