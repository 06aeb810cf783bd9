"""Proteins from RNA by totalVI (scvi-tools; Gayoso et al. 2021, doi 10.1038/s41592-020-01050-x), which needs RNA of every cell.

    PYTHON examples/pbmc_mosaic/totalvi.py CELLS.h5mu OUT [--seed N] [--epochs N]

PYTHON: of an environment with scvi-tools. Trained on the training cells that have RNA. Those of p1 have no proteins, which totalVI knows
how to take: held-out cells are shown as such cells, after training, and their proteins decoded as those of the batch that has both. The
number of latent dimensions is the one with the highest mean correlation on validation cells.
"""

import anndata
import mudata
import numpy as np
import scvi
from imputed import PAIRED, TEST, TRAIN, VALIDATION, cells_of, centred_logs, mean_correlation, paired, save, trained_by_epochs

DIMENSIONS = (10, 20, 30)
WITHOUT = "p1_0"  # batch of RNA alone
SAMPLES = 25  # of the latent variables, for the mean


def main() -> None:
    given = trained_by_epochs(__doc__, epochs=400)
    cells = mudata.read_h5mu(given.cells)
    train = counts_of(cells)
    rna, adt = paired(cells, "rna", "adt", splits=(VALIDATION, TEST))
    asked = anndata.AnnData(rna.layers["counts"], obs=rna.obs[[]].assign(batch=WITHOUT), obsm={"adt": np.zeros(adt.shape, np.float32)})
    validates = (rna.obs["split"] == VALIDATION).to_numpy()
    scvi.model.TOTALVI.setup_anndata(train, protein_expression_obsm_key="adt", batch_key="batch")
    tried = []
    for dimensions in DIMENSIONS:
        scvi.settings.seed = given.seed
        model = scvi.model.TOTALVI(train, n_latent=dimensions)
        model.train(max_epochs=given.epochs, accelerator="cpu", enable_progress_bar=False)
        decoding = {"transform_batch": PAIRED, "n_samples": SAMPLES, "include_protein_background": True, "return_numpy": True}
        values = centred_logs(model.get_normalized_expression(asked, **decoding)[1])
        tried.append((mean_correlation(adt.X[validates], values[validates]), values))
        print(f"{dimensions} latent dimensions: validation {tried[-1][0]:.3f}", flush=True)
    save(given.out / "totalVI" / str(given.seed), "rna", "adt", max(tried, key=lambda trial: trial[0])[1], adt)


def counts_of(cells: mudata.MuData) -> anndata.AnnData:
    """Training cells that have RNA; proteins are 0 in a batch that has none."""
    rna, adt = (cells_of(cells[name], TRAIN) for name in ("rna", "adt"))
    proteins = np.zeros((len(rna), adt.n_vars), np.float32)
    held = rna.obs_names.isin(adt.obs_names)
    proteins[held] = adt[rna.obs_names[held]].layers["counts"]
    return anndata.AnnData(rna.layers["counts"], obs=rna.obs[["batch"]].astype(str), var=rna.var, obsm={"adt": proteins})


if __name__ == "__main__":
    main()
