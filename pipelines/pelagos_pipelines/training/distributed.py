"""What a training that several processes share needs beside the loop: who has which images, and one answer for all.

Each process has a copy of the network and a part of every batch. Gradients are averaged by torch's DistributedDataParallel, and
batch normalisation compares the images of the whole batch, so that a training means the same however many processes share it.
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

Value = TypeVar("Value")
_PATIENCE = timedelta(days=1)
"""The others wait while the first process validates and saves. One that has died is noticed by processes.py, and not by this."""


@dataclass(frozen=True)
class World:
    """The processes of a training, and which one this is. ``group`` are all of them, for what is no gradient."""

    rank: int = 0
    count: int = 1
    group: Any = None

    @property
    def leads(self) -> bool:
        """Whether this process validates, and writes history and checkpoints."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        if not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda", self.rank) if self.count > 1 else torch.device("cuda")

    def part(self, batch: Any) -> Any:
        """The images of a batch that are this process's, at least one."""
        return np.array_split(batch, self.count)[self.rank] if self.count > 1 else batch

    def agreed(self, value: Value) -> Value:
        """That of the process that leads."""
        if self.count == 1:
            return value
        carried = [value]
        dist.broadcast_object_list(carried, 0, group=self.group)
        return carried[0]

    def gathered(self, value: Value) -> list[Value]:
        """Those of all processes, in their order."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value, group=self.group)
        return found

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """What the process that leads does in it is done before the others do it."""
        if not self.leads:
            self.agreed(None)
        yield
        if self.leads:
            self.agreed(None)

    def summed(self, totals: Mapping[str, float]) -> dict[str, float]:
        """Figures of the same names of all processes, added up."""
        if self.count == 1:
            return dict(totals)
        values = torch.tensor(list(totals.values()), dtype=torch.float64)
        dist.all_reduce(values, group=self.group)
        return dict(zip(totals, values.tolist(), strict=True))

    def joined(self, model: nn.Module, *, of_objects: Sequence[str] = ()) -> nn.Module:
        """The network with batch normalisation over the whole batch; its tensors are the same, by the same names.

        ``of_objects`` are beginnings of the names of layers that see nothing of a batch without objects.
        """
        if self.count == 1:
            return model
        on_accelerator = self.device.type == "cuda"
        found = nn.SyncBatchNorm.convert_sync_batchnorm(model) if on_accelerator else model
        for name, module in found.named_modules():
            # torch's own is for accelerators alone, and for batches of which one process at least has something.
            if isinstance(module, _BatchNorm) and (not on_accelerator or name.startswith(tuple(of_objects))):
                module.__class__ = _WholeBatchNorm
        return found

    def wrapped(self, model: nn.Module, *, skips_weights: bool) -> nn.Module:
        """What losses are computed by: it gives all processes the weights of the first, and averages gradients."""
        if self.count == 1:
            return model
        return DistributedDataParallel(model, forward_sync_buffers=False, find_unused_parameters=skips_weights)

    def apart(self, model: nn.Module) -> AbstractContextManager[None]:
        """While it is open, gradients are summed up in this process alone. ``model`` is what `wrapped` made."""
        return model.no_sync() if self.count > 1 else nullcontext()


ALONE = World()


@contextmanager
def member(rank: int, count: int, store: Path) -> Iterator[World]:
    """The world of this process while it is one of ``count`` that meet by the file ``store``."""
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
    """How many processes share the training that this one is a part of: they share its memory, too."""
    return int(dist.get_world_size()) if dist.is_initialized() else 1


def total(counts: Tensor) -> Tensor:
    """What all processes have together, in double precision. All of them must ask."""
    found = counts.detach().to(torch.float64, copy=True)
    if members() > 1:
        dist.all_reduce(found)
    return found


def shares(counts: Tensor) -> Tensor:
    """Which part of that this process has; of nothing, none.

    A loss that is a mean over so many things, times its share, is what this process adds to the mean over all of them.
    """
    return (counts.double() / total(counts).clamp(min=torch.finfo(torch.float64).tiny)).float()


class _Sum(torch.autograd.Function):  # type: ignore[misc]  # torch is not typed here
    """The sum of a tensor that each process has; its gradient is that of all that was made of it anywhere."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        """Of values of one shape."""
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        """The other way."""
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class _WholeBatchNorm(_BatchNorm):  # type: ignore[misc]  # torch is not typed here
    """Batch normalisation over the parts of a batch that all processes have, on processors (Ioffe and Szegedy 2015)."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Those of all that this takes the place of."""

    def forward(self, values: Tensor) -> Tensor:
        if not self.training:
            found: Tensor = super().forward(values)
            return found
        axes, shape = [0, *range(2, values.ndim)], [1, -1, *(1 for _ in range(2, values.ndim))]
        count = values.new_tensor(values.numel() // values.shape[1])
        dist.all_reduce(count)
        if count == 0:  # Nobody has anything: as torch does it then, no statistics change.
            nothing: Tensor = super().forward(values)
            return nothing
        mean = _Sum.apply(values.sum(axes)) / count
        centred = values - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scaled = centred * (variance + self.eps).rsqrt().view(shape)
        return scaled * self.weight.view(shape) + self.bias.view(shape) if self.affine else scaled

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if not self.track_running_stats:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)
