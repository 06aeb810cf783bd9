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
from mmtool.data.sample import Sample
from mmtool.methods import METHODS
from mmtool.methods.base import Method
from mmtool.methods.protocols import representing
from mmtool.model.attention import EXPLICIT_MAX_LENGTH
from mmtool.model.bridge import position_starts
from mmtool.model.losses import CHUNK_LOGITS, GPU_CHUNK_LOGITS
from mmtool.model.transformer import Block, Transformer, num_slots
from mmtool.training.config import FinetuneConfig
from mmtool.training.distributed import Processes, local_processes
from mmtool.training.hardware import pick_device, pick_precision
from mmtool.training.run import Run, make_method
from mmtool.training.target import head_outputs

TOLERANCE = 1.2  # by which what is needed may exceed what is available before a training is refused
PLENTY = 2.0  # of what is needed at the most: beyond, nothing is rehearsed
OVERHEAD = 1.25  # of a process over its tensors: gaps between them, and buffers of operations
MANY_COLUMNS = 256  # tokens of a table from which on a codec is worth a try
TYPICAL = 8  # samples that are rehearsed
GIB = 1 << 30
PARTS = ("visible", "whole")  # of a batch that is masked: what the encoder reads, and the decoder


def check_pretraining(run: Run, samples: Sequence[Sample], here: Processes) -> None:
    """Raise UsageError where the steps of a pretraining cannot fit into the memory that is available here, and warn where they might not.

    samples: some of the training. here: one of the processes that train.
    """
    config, batch = run.config, run.record["batch"]
    device = pick_device()
    longest = make_method(config, run.layout, run.graph).most(samples).tokens
    options = ["leave --row-length out, for rows that are as long as the data needs"] if config.row_length > longest else []
    options += ["give fewer --batch-tokens, or split them (--set accumulate=4)"] if _whole(batch)["rows"] > 1 else []
    options += ["pass --set recompute=true"] if not config.recompute else []
    options += ["take a smaller --preset or --set shape.width"]
    options += ["pass --shard-model"] if here.size > 1 and not here.sharded else []
    draws = METHODS[config.method].documents is not Method.documents
    if here.sharded and config.validation_samples and not draws:
        options.append("validate none, which takes the whole model (--set validation_samples=0)")
    accumulate = batch.get("parts", config.accumulate)

    def needs() -> int:
        rehearsal = rehearse_pretraining(run, samples[:TYPICAL], device)
        if not here.sharded:
            return rehearsal.training_bytes(accumulate)
        return rehearsal.sharded_bytes(here.size, whole=draws or config.validation_samples > 0, saved=device.type == "cpu")

    _check(run, batch, device, options, needs)


def check_finetuning(run: Run, config: FinetuneConfig, samples: Sequence[Sample]) -> None:
    """The same of a finetuning; samples: as many as a step has."""
    target, device = run.target, pick_device()
    assert target is not None
    length = max(sum(len(sample.tokens[name]) + 1 for name in target.have if name in sample.tokens) for sample in samples)
    batch = {"rows": len(samples), "length": length, "capacity": [0] * len(run.layout.modalities)}
    options = ["give fewer --batch-samples"] if len(samples) > 1 else []
    _check(run, batch, device, options, lambda: rehearse_finetuning(run, config, samples, device).training_bytes(1))


def _check(run: Run, batch: Mapping[str, Any], device: torch.device, options: Sequence[str], needs: Callable[[], int]) -> None:
    """Hold what tensors need, which is asked where it might matter, against what is available. options: what would take less memory."""
    available = available_bytes(device)
    if available is None or PLENTY * bound_bytes(run, batch, device) < available:
        return
    needed = OVERHEAD * needs()
    if needed <= available:
        return
    reads = f"a model of {run.model(torch.device('meta')).num_parameters():,} parameters, which reads "
    reads += f"{_whole(batch)['rows']} x {_whole(batch)['length']:,} tokens at once"
    what = f"a step needs about {needed / GIB:.3g} GiB of memory, of which {available / GIB:.3g} GiB are available ({reads})."
    longest = max(run.layout.modalities, key=lambda modality: modality.max_length)
    where = f"{longest.name}, up to {longest.max_length:,} tokens in a sample"
    wide = any(modality.kind == "table" and modality.max_length > MANY_COLUMNS for modality in run.layout.modalities)
    codec = ["tokenize wide tables with `mmtool tokenize table --scheme codec`"] if wide else []
    advice = ", or ".join([*codec, *options, "use another machine"])
    advice = f"{advice[0].upper()}{advice[1:]}."
    if needed > TOLERANCE * available:
        raise UsageError(what, where=where, fix=advice)
    log(f"warning: {where}: {what} {advice}")


def _whole(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """The rows of a batch that hold all tokens."""
    return batch.get(PARTS[1], batch)


@dataclass(frozen=True)
class Rehearsal:
    """Of one forward and backward pass. peak_bytes: the most that tensors held, weights and gradients included. weights_bytes: of all
    parameters; trained_bytes: of those with a gradient; gathered_bytes: of those that are whole at a time where the model is sharded, which
    are all outside of the blocks, and two blocks."""

    peak_bytes: int
    weights_bytes: int
    trained_bytes: int
    gathered_bytes: int

    def training_bytes(self, accumulate: int) -> int:
        """The most that a training holds with AdamW, in a step of so many batches or while it writes a checkpoint."""
        moments = 2 * self.trained_bytes
        step = self.peak_bytes + moments + (self.trained_bytes if accumulate > 1 else 0)
        return max(step, self.weights_bytes + moments + max(self.weights_bytes, moments))

    def sharded_bytes(self, processes: int, *, whole: bool, saved: bool) -> int:
        """The same of the first of several processes over which the model is sharded. whole: whether it needs all weights at times, to
        validate or to draw; saved: whether it collects a checkpoint in the same memory."""
        moments = 2 * self.trained_bytes
        kept = (self.weights_bytes + self.trained_bytes + moments) // processes
        step = max(0, self.peak_bytes - self.weights_bytes - self.trained_bytes) + 2 * self.gathered_bytes
        return kept + max(step, whole * self.weights_bytes, saved * max(self.weights_bytes, moments))


def rehearse(make_model: Callable[[], Transformer], loss: Callable[[Transformer], Tensor]) -> Rehearsal:
    """What a step of training would hold; nothing is allocated, and nothing computed."""
    with FakeTensorMode(allow_non_fake_inputs=True), _Peak() as held:
        model = make_model()
        loss(model).backward()
        sizes = [(parameter.nbytes, parameter.grad is not None) for parameter in model.parameters()]
        blocks = sorted(sum(part.nbytes for part in block.parameters()) for block in model.modules() if isinstance(block, Block))
    weights = sum(size for size, _ in sizes)
    gathered = weights - sum(blocks) + sum(blocks[-2:])
    return Rehearsal(held.peak_bytes, weights, sum(size for size, trained in sizes if trained), gathered)


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


def rehearse_pretraining(run: Run, samples: Sequence[Sample], device: torch.device) -> Rehearsal:
    """Of a run, on a batch of some training samples, whose shape is that of all batches."""
    method, config = make_method(run.config, run.layout, run.graph), run.config
    batch = method.packer(run.record["batch"])(method.typical_documents(samples)[0])

    def model() -> Transformer:
        model = run.model(device)
        model.compute_dtype, model.recompute = pick_precision(config.precision, device), config.recompute
        if model.ordinal is not None:
            model.ordinal.smoothing = config.smoothing
        return model

    def loss(model: Transformer) -> Tensor:
        return method.mean_loss(method.forward(model, *method.inputs(batch, device)), batch.num_targets)

    return rehearse(model, loss)


def rehearse_finetuning(run: Run, config: FinetuneConfig, samples: Sequence[Sample], device: torch.device) -> Rehearsal:
    """Of a finetuned run, on the samples of a step."""
    method, target = representing(make_method(run.config, run.layout, run.graph)), run.target
    assert target is not None

    def model() -> Transformer:
        model = run.model(device)
        model.compute_dtype = pick_precision(config.precision, device)
        if not config.layer_decay:
            model.requires_grad_(False)
            assert model.task_head is not None
            model.task_head.requires_grad_(True)
        return model

    return rehearse(model, lambda model: head_outputs(model, method, target, samples).square().mean())


def bound_bytes(run: Run, batch: Mapping[str, Any], device: torch.device) -> int:
    """Bytes that a step on batches of this shape does not exceed by any method: coarse, mostly two to three times what it takes."""
    shape, layout = run.shape, run.layout
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
