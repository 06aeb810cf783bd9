"""The weights of an export: a run to use and to pass on, without what only training needs (`mmtool.exports` writes it).

EXPORT/config.json          the run's own record, what the weights are, and sizes under the names that Hugging Face's tools know
EXPORT/model.safetensors    the weights, under plain names: those of the checkpoint, byte for byte
EXPORT/README.md            the run's card, to fill in
EXPORT/tokenizers/, metrics.jsonl, trained_on.safetensors, values.safetensors, gallery/    as of a run (see training/run.py)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from mmtool.common.errors import DataError, UsageError
from mmtool.common.seal import reading
from mmtool.common.storage import sha256_file
from mmtool.training.checkpoint import MODEL, Checkpoint

AGAIN = "Copy the export again, or write it anew with `mmtool export`."


@dataclass(frozen=True)
class Export:
    """What an export says of itself. step: of its weights. complete: whether the run was trained to its end. sha256: of its files, by
    name; card: of README.md as it was written, which may be edited."""

    step: int
    complete: bool
    sha256: Mapping[str, str]
    card: str

    def weights(self, folder: Path, checkpoint: str | None = None) -> Checkpoint:
        """The weights that lie in `folder`. Raises UsageError where another checkpoint is wanted, DataError where a file is missing or
        damaged."""
        if checkpoint is not None and checkpoint != f"{self.step:08d}":
            fix = "Leave the checkpoint out, or ask the run that was exported."
            raise UsageError(f"an export has one set of weights, those of step {self.step}.", where=folder, fix=fix)
        for name, digest in self.sha256.items():
            with reading(folder / name, AGAIN):
                intact = sha256_file(folder / name) == digest
            if not intact:
                raise DataError("the file's sha256 is not the one recorded.", where=folder / name, fix=AGAIN)
        with reading(folder / MODEL, AGAIN):
            return Checkpoint(folder, load_file(folder / MODEL), {"step": self.step, "sha256": {MODEL: self.sha256[MODEL]}})
