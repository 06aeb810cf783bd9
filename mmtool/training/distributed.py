"""Data-parallel training: the processes that `torchrun` starts share the parts of every step and sum their gradients.

The step is one compiled graph, whose gradients appear together at its end: there is no backward pass left in which torch's
DistributedDataParallel could hide the exchange, and it would split the graph. So gradients are summed here, behind the last part of a step.
What processes exchange besides (counts of targets, requests to stop) goes through the CPU, so that no GPU is waited for.
"""

import contextlib
import datetime
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmtool.common.errors import DataError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

TIMEOUT = datetime.timedelta(hours=12)  # others wait while the first validates
BUCKET = 1 << 24  # numbers summed at once
T = TypeVar("T")


@dataclass
class Processes:
    """This process among those that train together. rank: its number, from 0 on; size: how many there are; sharded: whether each keeps its
    part of the model only (see sharding.py)."""

    rank: int = 0
    size: int = 1
    sharded: bool = False
    _summed: list[nn.Parameter] | None = field(default=None, repr=False)

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def sum(self, numbers: np.ndarray) -> np.ndarray:
        """Sums over all processes, in fp64."""
        if self.size == 1:
            return numbers
        total = torch.from_numpy(np.asarray(numbers, np.float64).copy())
        _exchanged(lambda: dist.all_reduce(total))
        return total.numpy()

    def add(self, tensor: Tensor) -> Tensor:
        """Sums over all processes, in place."""
        _exchanged(lambda: dist.all_reduce(tensor))
        return tensor

    def sum_gradients(self, model: nn.Module, sums: Tensor) -> Tensor:
        """Sum the gradients of all processes, in place; gives the sums of `sums`, too.

        A parameter that the samples of one process do not use has a gradient of 0 there; one that no process uses has none.
        """
        if self.size == 1:
            return sums
        if self._summed is None:
            parameters = list(model.parameters())
            used = self.sum(np.array([parameter.grad is not None for parameter in parameters]))
            self._summed = [parameter for parameter, count in zip(parameters, used, strict=True) if count]
        gradients = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in self._summed]
        sums = sums.clone()
        for bucket in _buckets([sums, *gradients]):
            flat = self.add(torch.cat([tensor.reshape(-1) for tensor in bucket]))
            for tensor, total in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
                tensor.copy_(total.view_as(tensor))
        for parameter, gradient in zip(self._summed, gradients, strict=True):
            parameter.grad = gradient
        return sums

    @contextlib.contextmanager
    def first_ahead(self) -> Iterator[None]:
        """The first process runs the block, then all others do."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()

    def wait(self) -> None:
        """Until all processes are here."""
        self.sum(np.zeros(1))


@contextlib.contextmanager
def processes(shard_model: bool = False) -> Iterator[Processes]:
    """Those that `torchrun` started, connected while the block runs; one alone where it did not. Only the first speaks."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Processes()
        return
    joining = not dist.is_initialized()
    if joining:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        _exchanged(lambda: dist.init_process_group(backend, timeout=TIMEOUT))
    try:
        here = Processes(dist.get_rank(), dist.get_world_size(), shard_model)
        with contextlib.nullcontext() if here.first else contextlib.redirect_stderr(io.StringIO()):
            yield here
            here.wait()
    finally:
        if joining:
            dist.destroy_process_group()


def whole(tensor: Tensor) -> Tensor:
    """All of a sharded tensor, for which every process has to ask at once; any other one as it is."""
    return _exchanged(tensor.full_tensor) if _is_sharded(tensor) else tensor


def part_like(tensor: Tensor, like: Tensor) -> Tensor:
    """The part of a whole tensor that this process keeps where `like` is sharded, on its device; else the tensor as it is."""
    if not _is_sharded(like):
        return tensor
    from torch.distributed.tensor import DTensor

    mesh = like.device_mesh
    parts = tensor.chunk(mesh.size())
    part = parts[mesh.get_local_rank()] if mesh.get_local_rank() < len(parts) else tensor[:0]
    local = part.to(like.device, copy=True)
    return DTensor.from_local(local, mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride())


def _is_sharded(tensor: Tensor) -> TypeGuard["DTensor"]:
    """Known by an attribute, since the import of DTensor takes two seconds."""
    return hasattr(tensor, "device_mesh")


def speaks() -> bool:
    """Whether this is the process that writes and speaks: the first of those that `torchrun` started."""
    return int(os.environ.get("RANK", "0")) == 0


def local_processes() -> int:
    """How many `torchrun` started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in groups of about `BUCKET` numbers."""
    bucket, size = list[Tensor](), 0
    for tensor in tensors:
        bucket.append(tensor)
        size += tensor.numel()
        if size >= BUCKET:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


@contextlib.contextmanager
def of_lost_processes() -> Iterator[None]:
    """Raises DataError where what the block computes ends because another process has ended."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise _lost(error) from error
        raise


def _exchanged(exchange: Callable[[], T]) -> T:
    try:
        return exchange()
    except RuntimeError as error:
        raise _lost(error) from error


def _lost(error: RuntimeError) -> DataError:
    what = f"the processes of this training lost each other ({str(error).splitlines()[0]})."
    fix = "See what the first of them said that ended; the same command continues from the last checkpoint."
    return DataError(what, where="torchrun", fix=fix)
