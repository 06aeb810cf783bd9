"""The export of a run: a directory that `mmtool.load` opens anywhere, without checkpoints to train on from and without paths."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmtool import __version__
from mmtool.common.errors import UsageError
from mmtool.common.lock import one_writer
from mmtool.common.log import log
from mmtool.common.output import OutputPath
from mmtool.common.seal import write_sealed
from mmtool.common.storage import sha256_file, write_bytes
from mmtool.model.transformer import Transformer
from mmtool.training.card import card_of
from mmtool.training.checkpoint import MODEL, Checkpoint
from mmtool.training.config import EXPORT_FORMAT
from mmtool.training.metrics import read_metrics
from mmtool.training.run import CONFIG, GALLERY, INIT_FROM, METRICS, TOKENIZERS, TRAINED_ON, VALUES, Run, open_run

CARD, PATH = "README.md", "path"
ADAPTER = "adapter.json"  # marks an adapter
FILES = (
    (MODEL, "the weights, by name"),
    (CONFIG, "sizes, modalities and settings"),
    (TOKENIZERS, "what turns raw files into tokens and back"),
    (VALUES, "networks that predict expected values of tables"),
    (GALLERY, "**training samples**, among which the method chooses its answers"),
    (TRAINED_ON, "hashes of what it was trained on, by which `mmtool evaluate` refuses it as test data"),
    (METRICS, "losses and measurements of the training"),
)


@dataclass(frozen=True)
class ExportSummary:
    """step: of the weights. complete: whether the run was trained to its end."""

    output: str
    step: int
    parameters: int
    complete: bool
    bytes: int

    @property
    def sentence(self) -> str:
        return f"{self.output}: step {self.step}, {self.parameters:,} parameters, {self.bytes / 1e6:,.1f} MB"


@one_writer
def export_directory(path: Path, output: Path, *, force: bool = False) -> ExportSummary:
    """Write the run at `path`, with the weights it is used with, as a directory that is complete in itself.

    Raises UsageError for an adapter, DataError where the run is not whole.
    """
    run, weights, model = open_whole(path)
    with OutputPath(output, force, [path]).directory() as folder:
        _copy(run, weights, folder)
        write_bytes(folder / CARD, _card(run, model, folder).encode())
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        write_sealed(folder / CONFIG, _record(run, model, weights, folder))
    if (run.path / GALLERY).is_dir():
        log(f"{output}: {GALLERY}/ holds training samples, among which {run.config.method} chooses its answers; they are passed on with it")
    return ExportSummary(str(output), weights.state["step"], model.num_parameters(), run.complete, size)


def open_whole(path: Path) -> tuple[Run, Checkpoint, Transformer]:
    """A run, with all its parts verified, the weights that it is used with and its model of them, on the CPU."""
    if (path / ADAPTER).is_file():
        fix = "Export the runs that are its encoders; pass the adapter on as it is, and name their places with --encoder."
        raise UsageError("an adapter stands on encoders that lie elsewhere, and is not exported.", where=path, fix=fix)
    run = open_run(path)
    for part in (run.tokenizers, run.training_items, run.values, run.method):
        part()
    weights, model = run.checkpoint(), run.model(torch.device("cpu"))
    model.load_state_dict(weights.model)
    if not run.complete:
        log(f"{path}: not trained to the end of its budget; the weights are those of step {weights.state['step']}")
    return run, weights, model.eval()


def _copy(run: Run, weights: Checkpoint, folder: Path) -> None:
    """What the run is used with; of its metrics the whole lines."""
    for name in (VALUES, TRAINED_ON):
        if (run.path / name).is_file():
            shutil.copyfile(run.path / name, folder / name)
    shutil.copyfile(weights.path / MODEL, folder / MODEL)
    for name in (TOKENIZERS, GALLERY):
        if (run.path / name).is_dir():
            shutil.copytree(run.path / name, folder / name, copy_function=shutil.copyfile)
    if (run.path / METRICS).is_file():
        lines = read_metrics((run.path / METRICS).read_bytes())
        (folder / METRICS).write_bytes(b"".join(line + b"\n" for line, record in lines if record is not None))


def _record(run: Run, model: Transformer, weights: Checkpoint, folder: Path) -> dict[str, Any]:
    """config.json."""
    shape = run.shape
    files = {file.name: sha256_file(file) for file in sorted(folder.iterdir()) if file.is_file() and file.name != CARD}
    return {
        "format": EXPORT_FORMAT,
        "version": __version__,
        "model_type": "mmtool",
        "architectures": [type(model).__name__],
        "dtype": "float32",
        "vocab_size": run.layout.size,
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "head_dim": shape.head_width,
        "run": _portable(run.record),
        "export": {"step": weights.state["step"], "complete": run.complete, "sha256": files, "card": sha256_file(folder / CARD)},
    }


def _portable(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run without its digest, and without the paths of the runs that it began with."""
    portable = {name: value for name, value in record.items() if name != "digest"}
    if INIT_FROM in portable:
        portable[INIT_FROM] = _portable({name: value for name, value in portable[INIT_FROM].items() if name != PATH})
    if "finetune" in portable:
        finetune = portable["finetune"]
        portable["finetune"] = {**finetune, "base": {name: value for name, value in finetune["base"].items() if name != PATH}}
    return portable


def _card(run: Run, model: Transformer, folder: Path) -> str:
    """The run's card, with how it is used and what the directory holds, under the fields that model hubs read."""
    method = run.config.method
    head = f"---\nlibrary_name: mmtool\ntags:\n- multimodal\n- imputation\n- {method}\n---\n\n"
    return head + card_of(run.path) + "\n" + "\n\n".join(_usage(run, model, folder)) + "\n"


def _usage(run: Run, model: Transformer, folder: Path) -> Iterator[str]:
    yield "## Use"
    yield f"```sh\nmmtool info {run.path.resolve().name}/\n```"
    code = ["import mmtool", "", f'run = mmtool.load("{run.path.resolve().name}/")', f"run.modalities  # {', '.join(run.layout.names)}"]
    yield "\n".join(["```python", *code, "```"])
    yield f"{model.num_parameters():,} parameters in fp32. Files:"
    yield "\n".join(f"- `{name}`: {meaning}" for name, meaning in FILES if name == CONFIG or (folder / name).exists())
