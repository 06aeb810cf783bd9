"""Training of a model that is sharded over the processes (FSDP2, `torch.distributed.fsdp.fully_shard`).

Each process keeps its part of every parameter, gradient and moment. The parameters of a block are whole only while it is computed, those
outside of the blocks (embeddings, the head) from the beginning of a forward pass to the end of its backward pass; gradients are summed as
soon as the backward pass is through a block. What comes out is what the same parts of a step give without sharding.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from mmtool.common.log import log
from mmtool.data.masking import AnyBatch
from mmtool.data.prefetch import Prefetch
from mmtool.methods.base import Method
from mmtool.model.transformer import Block, Transformer
from mmtool.training.checkpoint import MODEL, assist_saving
from mmtool.training.config import PretrainConfig
from mmtool.training.distributed import Processes, of_lost_processes, whole
from mmtool.training.optimizer import make_optimizer
from mmtool.training.trainer import Parts, Trainer


class ShardedTrainer(Trainer):
    """The same, of a model that is sharded over the processes.

    A forward pass needs all of them: each takes as many batches in a step as the one with the most parts. What a method draws, and what is
    measured at a checkpoint, takes one process more passes than another: that is done with a copy of the model, which has its weights only
    as long as it is needed.
    """

    def __init__(
        self,
        model: Transformer,
        method: Method,
        loader: Parts,
        config: PretrainConfig,
        device: torch.device,
        *,
        prefetch: Prefetch,
        processes: Processes,
    ) -> None:
        """model: whole, on the CPU; from now on it is sharded."""
        self._copy = _Copy(model, device)
        objective = _sharded(model, method.forward, init_device_mesh(device.type, (processes.size,)))
        super().__init__(model, make_optimizer(model, config), method, loader, config, prefetch=prefetch, processes=processes)
        self.forward_loss, self.drawn_with = objective, self._copy.model
        log(f"weights, gradients and moments are sharded over {processes.size} processes")

    def _compile(self) -> None:
        """Each block is a graph of its own: between them parameters are gathered and freed."""
        for block in _blocks(self.model):
            block.forward = torch.compile(block.forward, dynamic=False)  # type: ignore[method-assign]

    def _next_batches(self) -> list[tuple[AnyBatch, list[str]]]:
        if not self.method.makes_own_documents(self._context("step")):
            return super()._next_batches()
        weights = ((name, whole(parameter.detach())) for name, parameter in self.model.named_parameters())
        with self._copy.holding(weights):
            return super()._next_batches()

    def _summed_gradients(self, batches: Sequence[AnyBatch], counts: np.ndarray) -> Tensor:
        """The backward pass averages gradients over the processes, so that each loss counts as often as there are processes."""
        sums = torch.stack([self.backward(batch, counts, self.processes.size) for batch in batches]).sum(0)
        for _ in range(len(batches), self.loader.most(self.processes.size)):
            self.backward(batches[-1], counts, 0.0)  # for the processes that have one part more
        return self.processes.add(sums)

    def backward(self, batch: AnyBatch, counts: np.ndarray, weight: float = 1.0) -> Tensor:
        with of_lost_processes():
            return super().backward(batch, counts, weight)

    def _save(self, folder: Path) -> None:
        super()._save(folder)
        if not self.processes.first:
            assist_saving(self.model, self.optimizer)

    @contextmanager
    def measured_model(self) -> Iterator[Transformer]:
        """With the weights that were saved: others need not give theirs."""
        with self._copy.holding(load_file(self._folder / f"{self.step:08d}" / MODEL).items()):
            yield self._copy.model


class _Objective(nn.Module):
    """The losses of a method as one module: what is called inside of it finds whole parameters."""

    def __init__(self, model: Transformer, losses: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model, self._losses = model, losses

    def forward(self, *inputs: Any) -> Tensor:
        return self._losses(self.model, *inputs)


def _sharded(model: Transformer, losses: Callable[..., Tensor], mesh: DeviceMesh) -> _Objective:
    """Shard a model on the CPU, block by block, so that no device holds all of it; gives its losses."""
    for block in _blocks(model):
        fully_shard(block, mesh=mesh)
    objective = _Objective(model, losses)
    fully_shard(objective, mesh=mesh, reshard_after_forward=False)
    return objective


def _blocks(model: Transformer) -> list[Block]:
    return [module for module in model.modules() if isinstance(module, Block)]


class _Copy:
    """A copy of a model on a device, without the memory for its weights: these it is lent. It shares the buffers of the model."""

    def __init__(self, model: Transformer, device: torch.device) -> None:
        parameters = {id(parameter): _without_memory(parameter, device) for parameter in model.parameters()}
        self.model: Transformer = copy.deepcopy(model, {**parameters, **{id(buffer): buffer for buffer in model.buffers()}})

    @contextmanager
    def holding(self, weights: Iterable[tuple[str, Tensor]]) -> Iterator[None]:
        """The copy has these weights inside of the block."""
        parameters = dict(self.model.named_parameters())
        try:
            for name, weight in weights:
                if name in parameters:  # else a buffer
                    parameters[name].untyped_storage().resize_(parameters[name].nbytes)
                    parameters[name].copy_(weight)
            yield
        finally:
            for parameter in parameters.values():
                parameter.untyped_storage().resize_(0)


def _without_memory(parameter: nn.Parameter, device: torch.device) -> nn.Parameter:
    alike = nn.Parameter(torch.empty_like(parameter, device=device), requires_grad=False)
    alike.untyped_storage().resize_(0)
    return alike
