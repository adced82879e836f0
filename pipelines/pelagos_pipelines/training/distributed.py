"""Lets several processes share a training: which images each of them has, and values on which all agree.

Each process has a copy of the network and a part of every batch. Gradients are averaged by torch's DistributedDataParallel, and
batch normalisation uses the images of the whole batch, so that a training means the same however many processes share it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

Value = TypeVar("Value")
_PATIENCE = timedelta(days=1)
"""Long, because the others wait while the first process validates and saves. processes.py notices a process that has died."""


@dataclass(frozen=True)
class World:
    """The processes that share a training, and which one this is.

    ``group`` is their gloo group, for objects and figures on the CPU, which NCCL cannot exchange.
    """

    rank: int = 0
    count: int = 1
    group: Any = None

    @property
    def leads(self) -> bool:
        """Whether this process validates, and writes history and checkpoints."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """The device on which this process computes."""
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", self.rank) if self.count > 1 else torch.device("cuda")

    def part(self, batch: Any) -> Any:
        """This process's part of a batch: at least one image if the batch has one for each process."""
        return np.array_split(batch, self.count)[self.rank] if self.count > 1 else batch

    def agreed(self, value: Value) -> Value:
        """The leading process's value, in all processes."""
        if self.count == 1:
            return value
        carried = [value]
        dist.broadcast_object_list(carried, 0, group=self.group)
        return carried[0]

    def gathered(self, value: Value) -> list[Value]:
        """The values of all processes, in order of rank."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value, group=self.group)
        return found

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Let the leading process finish the block before the others enter it."""
        # The broadcast serves as a barrier: the others wait in it until the leading process sends its value.
        if not self.leads:
            self.agreed(None)
        yield
        if self.leads:
            self.agreed(None)

    def summed(self, totals: Mapping[str, float]) -> dict[str, float]:
        """The sums of the figures over all processes. All must pass the same names in the same order."""
        if self.count == 1:
            return dict(totals)
        values = torch.tensor(list(totals.values()), dtype=torch.float64)
        dist.all_reduce(values, group=self.group)
        return dict(zip(totals, values.tolist(), strict=True))

    def joined(self, model: nn.Module, *, of_objects: Sequence[str] = ()) -> nn.Module:
        """The network with batch normalisation over the whole batch. Its tensors keep their values and names.

        ``of_objects`` are prefixes of the names of layers that receive no input from a batch without objects.
        """
        if self.count == 1:
            return model
        on_accelerator = self.device.type == "cuda"
        found = nn.SyncBatchNorm.convert_sync_batchnorm(model) if on_accelerator else model
        for name, module in found.named_modules():
            # torch's SyncBatchNorm works only on accelerators, and only if at least one process has some input.
            if isinstance(module, _BatchNorm) and (not on_accelerator or name.startswith(tuple(of_objects))):
                module.__class__ = _WholeBatchNorm
        return found

    def wrapped(self, model: nn.Module, *, skips_weights: bool) -> nn.Module:
        """The module to compute losses with. It copies the first process's weights to all, and averages gradients."""
        if self.count == 1:
            return model
        # Buffers need no exchange: batch normalisation computes them from the whole batch, so they are equal in all processes.
        return DistributedDataParallel(model, forward_sync_buffers=False, find_unused_parameters=skips_weights)

    def apart(self, model: nn.Module) -> AbstractContextManager[None]:
        """A block in which gradients accumulate in this process without being exchanged. ``model`` is from `wrapped`."""
        return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


ALONE = World()


@contextmanager
def member(rank: int, count: int, store: Path) -> Iterator[World]:
    """The world of this process as one of ``count``, which find each other by the file ``store``."""
    on_accelerator = torch.cuda.is_available()
    if on_accelerator:
        torch.cuda.set_device(rank)
    dist.init_process_group(
        "nccl" if on_accelerator else "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=count,
        timeout=_PATIENCE,
    )
    try:
        yield World(rank, count, dist.new_group(backend="gloo", timeout=_PATIENCE))
    finally:
        dist.destroy_process_group()


def members() -> int:
    """How many processes share this training and the machine's memory; 1 outside of a group."""
    return int(dist.get_world_size()) if dist.is_initialized() else 1


def total(counts: Tensor) -> Tensor:
    """The sum of ``counts`` over all processes, in double precision. All of them must call it."""
    found = counts.detach().to(torch.float64, copy=True)
    if members() > 1:
        dist.all_reduce(found)
    return found


def shares(counts: Tensor) -> Tensor:
    """This process's fraction of the total ``counts``; 0 if the total is 0. All processes must call it.

    A loss that is a mean over this process's count of things, times this fraction, is its contribution to the mean over all.
    """
    return (counts.double() / total(counts).clamp(min=torch.finfo(torch.float64).tiny)).float()


class _Sum(torch.autograd.Function):
    """Sums a tensor over all processes.

    The losses of all processes depend on the sum, so its gradient is summed over all processes, too.
    """

    @staticmethod
    @override
    def forward(_: Any, values: Tensor) -> Tensor:
        """The sum. ``values`` must have the same shape in all processes."""
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @override
    def backward(_: Any, gradient: Tensor) -> Tensor:
        """The sum of the gradients."""
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class _WholeBatchNorm(_BatchNorm):
    """Batch normalisation over the whole batch that all processes share (Ioffe and Szegedy 2015)."""

    @override
    def _check_input_dim(self, input: Tensor) -> None:
        """Accept the dimensions of every class that this one replaces."""

    @override
    def forward(self, values: Tensor) -> Tensor:
        if not self.training:
            found: Tensor = super().forward(values)
            return found
        axes, shape = [0, *range(2, values.ndim)], [1, -1, *(1 for _ in range(2, values.ndim))]
        count = values.new_tensor(values.numel() // values.shape[1])
        dist.all_reduce(count)
        if count == 0:  # No process has any input: like torch's own, leave the statistics as they are.
            nothing: Tensor = super().forward(values)
            return nothing
        mean = _Sum.apply(values.sum(axes)) / count
        centred = values - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(axes)) / count
        # As in torch, running statistics have the unbiased variance, and the batch itself is normalised with the biased one.
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scaled = centred * (variance + self.eps).rsqrt().view(shape)
        whole: Tensor = scaled * self.weight.view(shape) + self.bias.view(shape) if self.affine else scaled
        return whole

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats:
            return
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)
