"""Either table from the other by MIDAS (scmidas; He et al. 2024, doi 10.1038/s41587-023-02040-y).

    PYTHON examples/pbmc_mosaic/midas.py CELLS.h5mu OUT [--seed N] [--epochs N]

PYTHON: of an environment with scmidas. Trained on the counts of all training cells, at the learning rate and batch size that MIDAS has for
this data set. Held-out cells are encoded after training, from one table and without a batch (as it is in a tenth of the training steps).
Looked at every 25 epochs; those with the highest mean correlation on validation cells count.
"""

import lightning
import mudata
import numpy as np
import scmidas
import torch
from imputed import TEST, TRAIN, VALIDATION, cells_of, centred_logs, mean_correlation, normalised_rna, paired, save, trained_by_epochs

NAMES = ("rna", "adt")
LOOK_EVERY = 25  # epochs


def main() -> None:
    given = trained_by_epochs(__doc__, epochs=500)
    cells = mudata.read_h5mu(given.cells)
    tables = {name: cells_of(cells[name], TRAIN) for name in NAMES}
    for table in tables.values():
        table.X = table.layers["counts"]
    settings = {**scmidas.load_config(), "lr_net": 3e-4, "lr_dsc": 3e-4, "num_workers": 0, "persistent_workers": False, "pin_memory": False}
    lightning.seed_everything(given.seed, verbose=False)
    train = mudata.MuData(tables)
    scmidas.MIDAS.setup_mudata(train, batch_key="batch")
    model = scmidas.MIDAS(train, configs=settings, batch_size=128, save_model_path=str(given.out.parent / "midas"))
    look = Look(cells)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    model.train(max_epochs=given.epochs, accelerator="cpu", callbacks=[look], **quiet)
    for (start, target), (score, epoch, values) in look.best.items():
        print(f"{start} -> {target}: epoch {epoch}, validation {score:.3f}", flush=True)
        save(given.out / "MIDAS" / str(given.seed), start, target, values, look.held_out[target])


class Look(lightning.Callback):
    """best: direction -> validation score, epoch and imputed values of held-out cells."""

    def __init__(self, cells: mudata.MuData) -> None:
        self.held_out = dict(zip(NAMES, paired(cells, *NAMES, splits=(VALIDATION, TEST)), strict=True))
        self.validates = (self.held_out["rna"].obs["split"] == VALIDATION).to_numpy()
        self.measured = cells_of(cells["rna"], TRAIN).layers["counts"]
        self.best: dict[tuple[str, str], tuple[float, int, np.ndarray]] = {}

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: scmidas.MIDAS) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % LOOK_EVERY and epoch != trainer.max_epochs:
            return
        for start, target in (NAMES, NAMES[::-1]):
            counts = impute(pl_module.net, start, target, self.held_out[start].layers["counts"])
            values = centred_logs(counts) if target == "adt" else normalised_rna(counts, self.measured)
            score = mean_correlation(self.held_out[target].X[self.validates], values[self.validates])
            if score > self.best.get((start, target), (-1.0,))[0]:
                self.best[start, target] = score, epoch, values


@torch.no_grad()
def impute(net: torch.nn.Module, start: str, target: str, counts: np.ndarray) -> np.ndarray:
    """Expected counts."""
    training = net.training
    net.eval()
    expected = net.gen_real_data(net({"x": {start: torch.from_numpy(counts)}, "e": {}})[0], sampling=False)[target]
    net.train(training)
    return expected.numpy()


if __name__ == "__main__":
    main()
