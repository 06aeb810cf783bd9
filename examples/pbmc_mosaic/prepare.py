"""Two files of cells from the counts of a mosaic of blood cells, normalised, with the split of each cell.

    python examples/pbmc_mosaic/prepare.py COUNTS.h5mu OUT [--cells N]

OUT/cells.h5mu: tables rna and adt. Cells of the batches p1 (RNA alone) and p2 (proteins alone) and four fifths of p3 (both) are for
training, the rest of p3 for validation, p4 (both) is the test.
OUT/halves.h5mu: rna, and adt as two tables, adt_a and adt_b, which no training cell holds both of: one half of the cells that have proteins
keeps the first 112, the other the rest. Held-out cells keep all.

X is normalised, the layer counts is not. RNA: counts over the cell's sum, times the median sum of training cells, log(1 + x). Proteins:
log(1 + counts) minus its mean over the cell's proteins (of the table). obs: split, celltype, batch.
"""

import argparse
from pathlib import Path

import anndata
import mudata
import numpy as np
from imputed import HELD_OUT, PAIRED, TEST, TRAIN, centred_logs, normalised_rna

from mmtool.preprocessing.splits import split_of

HALF = 112  # proteins


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cells", type=int, help="of each batch, the first so many (all)")
    given = parser.parse_args()
    mudata.set_options(pull_on_update=False)
    counts = mudata.read_h5mu(given.counts)
    tables = {name: first_cells(dense(counts[name]), given.cells) for name in ("rna", "adt")}
    for table in tables.values():
        table.obs["split"] = [split(key, batch) for key, batch in table.obs["batch"].items()]
    given.out.mkdir(parents=True, exist_ok=True)
    adt = tables["adt"]
    write(given.out / "cells.h5mu", {"rna": with_normalised_rna(tables["rna"]), "adt": with_normalised_adt(adt)})
    first, second = keeps_first_half(adt), keeps_second_half(adt)
    halves = {"adt_a": with_normalised_adt(adt[first, :HALF]), "adt_b": with_normalised_adt(adt[second, HALF:])}
    write(given.out / "halves.h5mu", {"rna": with_normalised_rna(tables["rna"]), **halves})


def dense(table: anndata.AnnData) -> anndata.AnnData:
    return anndata.AnnData(table.X.toarray(), table.obs[["batch", "celltype"]].astype(str), table.var)


def first_cells(table: anndata.AnnData, num_cells: int | None) -> anndata.AnnData:
    return table[table.obs.groupby("batch").cumcount() < (num_cells or len(table))].copy()


def split(key: str, batch: str) -> str:
    """A function of the key alone, within the batch of complete cells."""
    if batch == HELD_OUT:
        return TEST
    return split_of(key, (0.8, 0.2, 0.0), seed=0) if batch == PAIRED else TRAIN


def keeps_first_half(adt: anndata.AnnData) -> np.ndarray:
    """(N,) bool: held-out cells, and half of the training cells by key."""
    return np.array([split != TRAIN or in_first_half(key) for key, split in adt.obs["split"].items()])


def keeps_second_half(adt: anndata.AnnData) -> np.ndarray:
    return np.array([split != TRAIN or not in_first_half(key) for key, split in adt.obs["split"].items()])


def in_first_half(key: str) -> bool:
    return split_of(key, (0.5, 0.5, 0.0), seed=1) == TRAIN


def with_normalised_rna(table: anndata.AnnData) -> anndata.AnnData:
    """Sums of single cells differ by how deep they were sequenced; all get the median sum of training cells."""
    return with_values(table, normalised_rna(table.X, measured=table.X[table.obs["split"] == TRAIN]))


def with_normalised_adt(table: anndata.AnnData) -> anndata.AnnData:
    return with_values(table, centred_logs(table.X))


def with_values(table: anndata.AnnData, values: np.ndarray) -> anndata.AnnData:
    return anndata.AnnData(values.astype(np.float32), table.obs, table.var, layers={"counts": table.X})


def write(path: Path, tables: dict[str, anndata.AnnData]) -> None:
    """Whole or not at all."""
    part = path.with_name(f"part-{path.name}")
    mudata.MuData(tables).write(part)
    part.replace(path)


if __name__ == "__main__":
    main()
