"""Whether the steps of a training fit into memory: asked before the first one, for a machine that runs out of it may kill any process.

A step is rehearsed on tensors that have sizes and no contents, as they would be allocated and freed without a compiler (which saves some):
whatever a method computes is counted. That takes seconds, and is left out where a coarse bound from above shows that there is plenty.
"""

import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmtool.common.cgroups import memory_left
from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.data.layout import VocabularyLayout
from mmtool.data.sample import Sample
from mmtool.model.attention import EXPLICIT_MAX_LENGTH
from mmtool.model.bridge import position_starts
from mmtool.model.losses import CHUNK_LOGITS, GPU_CHUNK_LOGITS
from mmtool.model.transformer import Transformer, num_slots
from mmtool.training.config import PretrainConfig
from mmtool.training.distributed import local_processes
from mmtool.training.hardware import pick_device, pick_precision
from mmtool.training.run import Run, make_method

TOLERANCE = 1.2  # by which what is needed may exceed what is available before a training is refused
PLENTY = 2.0  # of what is needed at the most: beyond, nothing is rehearsed
OVERHEAD = 1.25  # of a process over its tensors: gaps between them, and buffers of operations
MANY_COLUMNS = 256  # tokens of a table from which on a codec is worth a try
TYPICAL = 8  # samples that are rehearsed
GIB = 1 << 30
PARTS = ("visible", "whole")  # of a batch that is masked: what the encoder reads, and the decoder


def check_memory(run: Run, samples: Sequence[Sample]) -> None:
    """Raise UsageError where the steps of a pretraining cannot fit into the memory that is available here, and warn where they might not.

    samples: some of the training.
    """
    device = pick_device()
    available = available_bytes(device)
    if available is None or PLENTY * bound_bytes(run, device) < available:
        return
    rehearsal = rehearse_pretraining(run, samples[:TYPICAL], device, pick_precision(run.config.precision, device))
    needed = OVERHEAD * rehearsal.training_bytes(run.record["batch"].get("parts", run.config.accumulate))
    if needed <= available:
        return
    batch = run.record["batch"].get(PARTS[1], run.record["batch"])
    sizes = f"a model of {rehearsal.num_parameters:,} parameters, which reads {batch['rows']} x {batch['length']:,} tokens at once"
    what = f"a step needs about {needed / GIB:.3g} GiB of memory, of which {available / GIB:.3g} GiB are available ({sizes})."
    longest = max(run.layout.modalities, key=lambda modality: modality.max_length)
    where = f"{longest.name}, up to {longest.max_length:,} tokens in a sample"
    if needed <= TOLERANCE * available:
        log(f"warning: {where}: {what} {_advice(run.config, run.layout, batch['rows'])}")
        return
    raise UsageError(what, where=where, fix=_advice(run.config, run.layout, batch["rows"]))


def _advice(config: PretrainConfig, layout: VocabularyLayout, rows: int) -> str:
    """What takes less memory, the most first."""
    wide = any(modality.kind == "table" and modality.max_length > MANY_COLUMNS for modality in layout.modalities)
    options = ["tokenize wide tables with `mmtool tokenize table --scheme codec`"] if wide else []
    options += ["give fewer --batch-tokens, or split them (--set accumulate=4)"] if rows > 1 else []
    options += ["pass --set recompute=true"] if not config.recompute else []
    options += ["take a smaller --preset or --set shape.width", "train on another machine"]
    text = ", or ".join(options)
    return f"{text[0].upper()}{text[1:]}."


@dataclass(frozen=True)
class Rehearsal:
    """Of one forward and backward pass. peak_bytes: the most that tensors held, weights and gradients included. weights_bytes: of all
    parameters; trained_bytes: of those with a gradient."""

    peak_bytes: int
    weights_bytes: int
    trained_bytes: int

    @property
    def num_parameters(self) -> int:
        return self.weights_bytes // 4

    def training_bytes(self, accumulate: int) -> int:
        """The most that a training holds with AdamW, in a step of so many batches or while it writes a checkpoint."""
        moments = 2 * self.trained_bytes
        step = self.peak_bytes + moments + (self.trained_bytes if accumulate > 1 else 0)
        return max(step, self.weights_bytes + moments + max(self.weights_bytes, moments))


def rehearse(make_model: Callable[[], Transformer], loss: Callable[[Transformer], Tensor]) -> Rehearsal:
    """What a step of training would hold; nothing is allocated, and nothing computed."""
    with FakeTensorMode(allow_non_fake_inputs=True), _Peak() as held:
        model = make_model()
        loss(model).backward()
        sizes = [(parameter.nbytes, parameter.grad is not None) for parameter in model.parameters()]
    return Rehearsal(held.peak_bytes, sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained))


class _Peak(TorchDispatchMode):
    """The most bytes that tensors made in the block held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.peak_bytes, self._held_bytes, self._seen = 0, 0, set[int]()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        results = operation(*args, **(kwargs or {}))
        for result in tree_leaves(results):
            if isinstance(result, Tensor):
                self._hold(result.untyped_storage())
        return results

    def _hold(self, storage: torch.UntypedStorage) -> None:
        if id(storage) in self._seen:  # of a view, or of an operation in place
            return
        self._seen.add(id(storage))
        self._held_bytes += storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, self._held_bytes)
        weakref.finalize(storage, self._free, id(storage), storage.nbytes())

    def _free(self, identity: int, num_bytes: int) -> None:
        self._seen.discard(identity)
        self._held_bytes -= num_bytes


def rehearse_pretraining(run: Run, samples: Sequence[Sample], device: torch.device, dtype: torch.dtype) -> Rehearsal:
    """Of a run that is begun, on a batch of some training samples, whose shape is that of all batches."""
    method = make_method(run.config, run.layout, run.graph)
    batch = method.packer(run.record["batch"])(method.typical_documents(samples)[0])

    def model() -> Transformer:
        model = run.model(device)
        model.compute_dtype, model.recompute = dtype, run.config.recompute
        if model.ordinal is not None:
            model.ordinal.smoothing = run.config.smoothing
        return model

    def loss(model: Transformer) -> Tensor:
        return method.mean_loss(method.forward(model, *method.inputs(batch, device)), batch.num_targets)

    return rehearse(model, loss)


def bound_bytes(run: Run, device: torch.device) -> int:
    """Bytes that a step of a run does not exceed by any method: coarse, mostly two to three times what it takes."""
    shape, layout, batch = run.shape, run.layout, run.record["batch"]
    positions = 1 + max(position_starts(layout).values(), default=0) + max(modality.max_length for modality in layout.modalities)
    weights = 2 * shape.parameters + (2 * layout.size + 4 * num_slots(layout)) * shape.width
    weights += positions**2 if position_starts(layout) else 0
    numbers = 0
    for part in [batch[name] for name in PARTS if name in batch] or [batch]:
        length, tokens = part["length"], part["rows"] * part["length"]
        block = 20 * shape.width + 5 * shape.inner + 4 * shape.heads * min(length, EXPLICIT_MAX_LENGTH)
        numbers += tokens * (shape.depth * block + 8 * length + (8 * positions if position_starts(layout) else 0))
        ranges = (stop - start for start, stop in map(layout.target_range, range(len(layout.modalities))))
        most = GPU_CHUNK_LOGITS if device.type == "cuda" else CHUNK_LOGITS
        numbers += sum(4 * min(most + size, count * size) for count, size in zip(part["capacity"], ranges, strict=True))
    return 24 * weights + 4 * numbers


def available_bytes(device: torch.device) -> int | None:
    """Memory that this process can still take: of the GPU; else its share of the machine's (of so many as `torchrun` started), within its
    control groups and its address space. None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = [number for number in (_free(), memory_left()) if number is not None]
    mine = [min(free) // local_processes()] if free else []
    return min((number for number in (*mine, _address_space()) if number is not None), default=None)


def _free() -> int | None:
    """What the machine can give without swapping."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable:")))
    return None


def _address_space() -> int | None:
    """What `ulimit -v` leaves."""
    with suppress(ImportError, OSError, ValueError):
        import resource  # not on Windows

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            return max(0, limit - os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text().split()[0]))
    return None
