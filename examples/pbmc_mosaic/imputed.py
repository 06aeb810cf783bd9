"""What the methods share, also those in environments of their own, which have no mmtool: splits, scales and where imputations lie, in
OUT/imputed/METHOD/SEED/GIVEN/TARGET.h5ad, as `mmtool impute --format h5ad` writes them."""

import argparse
from pathlib import Path

import anndata
import mudata
import numpy as np

TRAIN, VALIDATION, TEST = "train", "validation", "test"
PAIRED, HELD_OUT = "p3_0", "p4_0"  # batches whose cells hold both


def trained_by_epochs(description: str | None, epochs: int) -> argparse.Namespace:
    """The arguments of a method that is trained for some epochs, so many by default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=epochs)
    return parser.parse_args()


def cells_of(table: anndata.AnnData, *splits: str) -> anndata.AnnData:
    return table[table.obs["split"].isin(splits)].copy()


def paired(cells: mudata.MuData, *names: str, splits: tuple[str, ...] = (TRAIN,)) -> list[anndata.AnnData]:
    """The tables of these names, of the cells of these splits which are in all of them, in the same order."""
    tables = [cells_of(cells[name], *splits) for name in names]
    keys = [key for key in tables[0].obs_names if all(key in table.obs_names for table in tables[1:])]
    return [table[keys].copy() for table in tables]


def save(folder: Path, given: str, target: str, values: np.ndarray, like: anndata.AnnData) -> None:
    """Imputed values (N, F) of the cells and features of `like`; a file is whole or not there."""
    folder = folder / given
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{target}.part"
    anndata.AnnData(np.asarray(values, np.float32), like.obs[[]], like.var[[]]).write_h5ad(part)
    part.replace(folder / f"{target}.h5ad")


def centred_logs(counts: np.ndarray) -> np.ndarray:
    """Counts of proteins (N, F) as centred log ratios within each cell (CLR), the scale on which all is judged."""
    logs = np.log1p(counts)
    return logs - logs.mean(1, keepdims=True)


def normalised_rna(counts: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Counts of genes (N, F), measured or expected, on the scale on which all is judged. measured: those of training cells."""
    return np.log1p(counts / np.maximum(counts.sum(1, keepdims=True), 1) * np.median(measured.sum(1)))


def mean_correlation(truth: np.ndarray, values: np.ndarray) -> float:
    """Pearson's correlation over cells, mean over features that vary; 0 where the imputed ones do not."""
    truth, values = truth - truth.mean(0), values - values.mean(0)
    varies = truth.std(0) > 1e-6
    lengths = np.sqrt((truth**2).sum(0) * (values**2).sum(0))
    products = (truth * values).sum(0)
    return float(np.where(lengths > 1e-6, products / np.maximum(lengths, 1e-6), 0)[varies].mean())
