"""The encoder of a run as an ONNX file: codes in, the representations of `features` out, in any runtime.

Inputs, of each modality NAME: `NAME` (B, L) int64 codes, padded with 0, of continuous modalities patches (B, L, W) uint8; and `NAME.count`
(B,) int64, how many codes a sample has, -1 where it lacks the modality. Output: `features` (B, D) float32. B may be anything, L of a
modality of varying length at most the longest of the training. The metadata field `mmtool` says what was exported, as JSON.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmtool import __version__
from mmtool.common.errors import DataError, UsageError
from mmtool.common.lock import one_writer
from mmtool.common.output import OutputPath
from mmtool.common.storage import canonical_json
from mmtool.data.sample import Modality, Sample
from mmtool.exports.directory import open_whole
from mmtool.exports.graph import ABSENT, Representation, codes_of
from mmtool.methods.base import Method
from mmtool.methods.protocols import representing
from mmtool.model.transformer import Transformer
from mmtool.training.run import Run

TOLERANCE = 1e-4  # between a feature as torch computes it and as onnxruntime does
FORMAT, FEATURES, COUNT = "mmtool-onnx/1", "features", ".count"
MOST_BYTES = 2**31  # of a file in the format of Protocol Buffers
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class OnnxSummary:
    """modalities: in the order in which they are read. width: of the features. difference: the greatest from torch."""

    output: str
    step: int
    modalities: list[str]
    width: int
    difference: float
    bytes: int

    @property
    def sentence(self) -> str:
        what = f"{self.width} features of {', '.join(self.modalities)}, step {self.step}, {self.bytes / 1e6:,.1f} MB"
        return f"{self.output}: {what}; up to {self.difference:.1g} from those of torch"


@one_writer
def export_onnx(path: Path, output: Path, have: Sequence[str] = (), *, force: bool = False) -> OnnxSummary:
    """Write what makes features of the modalities `have` (none named: all) in the run at `path`.

    Raises UsageError for a modality that the run does not know and where the extra is missing, DataError where the file would not give
    what torch gives.
    """
    place = OutputPath(output, force, [path])
    place.check_file()
    runtime = _runtime()
    run, weights, model = open_whole(path)
    names = [run.layout.modalities[run.layout.index(name)].name for name in have or run.layout.names]
    method = run.method()
    if 4 * model.num_parameters() > MOST_BYTES:
        what = f"its {model.num_parameters():,} parameters are more than an ONNX file holds."
        raise UsageError(what, where=path, fix="Export it as a directory.")
    program = _program(Representation(method, model, names).eval(), [run.layout.modalities[run.layout.index(name)] for name in names])
    data = _described(program, run, names, weights.state["step"]).SerializeToString(deterministic=True)
    difference = _difference(runtime.InferenceSession(data), method, model, names)
    if not difference <= TOLERANCE:
        what = f"features differ by up to {difference:.2g} from those of torch, which is more than {TOLERANCE:g}."
        raise DataError(what, where=path, fix="Update the packages onnx, onnxscript and onnxruntime, or export it as a directory.")
    with place.file() as file:
        file.write(data)
    return OnnxSummary(str(output), weights.state["step"], names, model.shape.width, difference, len(data))


def _runtime() -> Any:
    """The package onnxruntime. Raises UsageError where it, or what writes the format, is not installed."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        what = f"ONNX files take the packages onnx, onnxscript and onnxruntime ({error})."
        raise UsageError(what, where="--output", fix="Install them with `pip install 'mmtool[onnx]'`.") from error
    return onnxruntime


def _program(module: Representation, modalities: Sequence[Modality]) -> Any:
    """The graph of a module, as a message of the format."""
    example = [tensor for modality in modalities for tensor in _example(modality)]
    dynamic: list[dict[int, str]] = []
    for number, modality in enumerate(modalities):
        varies = not modality.fixed_length and modality.max_length > 1  # which torch takes for a constant
        dynamic += [{0: "batch", **({1: f"length_{number}"} if varies else {})}, {0: "batch"}]
    names = [name for modality in modalities for name in (modality.name, modality.name + COUNT)]
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            module,
            tuple(example),
            dynamo=True,
            dynamic_shapes={"inputs": tuple(dynamic)},
            input_names=names,
            output_names=[FEATURES],
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch and onnxscript tell their developers."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _example(modality: Modality) -> tuple[torch.Tensor, torch.Tensor]:
    """Two samples, from which the graph is traced."""
    length = modality.max_length
    codes = torch.from_numpy(codes_of(modality, length))
    return torch.stack((codes, codes)), torch.full((2,), length)


def _described(message: Any, run: Run, names: Sequence[str], step: int) -> Any:
    """The message with what it is, and without notes on how it was traced, which hold paths of this machine."""
    message.producer_name, message.producer_version, message.doc_string = "mmtool", __version__, ""
    for part in (message.graph, *message.graph.node, *message.graph.input, *message.graph.output, *message.graph.value_info):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for part in (*message.graph.initializer, *message.functions, *(node for function in message.functions for node in function.node)):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    del message.metadata_props[:]
    known = {modality.name: modality.to_json() for modality in run.layout.modalities}
    content = {
        "format": FORMAT,
        "method": run.config.method,
        "step": step,
        "data": run.record["data"],
        "modalities": [known[n] for n in names],
    }
    message.metadata_props.add(key="mmtool", value=canonical_json(content))
    return message


def _difference(session: Any, method: Method, model: Transformer, names: Sequence[str]) -> float:
    """The greatest between features of the file and of torch, of made-up samples of several lengths that hold all or some modalities."""
    greatest = 0.0
    for samples in _trials(model, names):
        features = session.run([FEATURES], feed(samples, model, names))[0]
        for row, sample in zip(features, samples, strict=True):
            have = [name for name in names if name in sample.tokens]
            expected = representing(method).features(model, [sample], have)[0]
            greatest = max(greatest, float(np.abs(row - expected).max()) if np.isfinite(row).all() else np.inf)
    return greatest


def _trials(model: Transformer, names: Sequence[str]) -> Iterator[list[Sample]]:
    """Batches of one to four samples; those of the last lack one modality each."""
    random = np.random.default_rng(0)
    for size, lacking in ((1, False), (2, False), (2 + min(2, len(names)), len(names) > 1)):
        yield [
            Sample(str(i), {name: _random(model, name, random) for n, name in enumerate(names) if not (lacking and n == i % len(names))})
            for i in range(size)
        ]


def _random(model: Transformer, name: str, random: np.random.Generator) -> np.ndarray:
    """Codes or patches of a modality, as many as it may have."""
    modality = model.layout.modalities[model.layout.index(name)]
    length = modality.max_length if modality.fixed_length else int(random.integers(1, modality.max_length + 1))
    like = codes_of(modality, length)
    return random.integers(256 if modality.continuous else modality.vocabulary_size, size=like.shape).astype(like.dtype)


def feed(samples: Sequence[Sample], model: Transformer, names: Sequence[str]) -> Arrays:
    """The inputs of a file for samples, as the module describes them."""
    arrays: Arrays = {}
    for name in names:
        modality = model.layout.modalities[model.layout.index(name)]
        rows: Mapping[int, np.ndarray] = {i: sample.tokens[name] for i, sample in enumerate(samples) if name in sample.tokens}
        counts = np.array([len(rows[i]) if i in rows else ABSENT for i in range(len(samples))])
        length = modality.max_length if modality.fixed_length else max(1, int(counts.max()))
        codes = np.stack([codes_of(modality, length)] * len(samples))
        for i, row in rows.items():
            codes[i, : len(row)] = row
        arrays |= {name: codes, name + COUNT: counts}
    return arrays
