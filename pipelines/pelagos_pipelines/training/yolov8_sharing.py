"""Lets several processes share a training by ultralytics' trainer: parts of batches, and one loss for all of them.

Used by yolov8_trainer. ultralytics' own support for several GPUs is not used: it starts a script that it writes, needs GPUs,
divides each process's loss by the objects of its own images, and normalises over those alone. Here each process has ultralytics'
trainer for one device, and together they compute what one process would.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, Sampler
from typing_extensions import override

from pelagos_pipelines.training import distributed
from pelagos_pipelines.training.distributed import World

_OF_MASKS = {"seg_loss"}
"""Parts of losses that are means over anchors with an object. The others are sums over these, divided by the sum of scores."""


class WholeLoss:
    """ultralytics' loss as this process's contribution to the loss of the whole batch, times the number of processes.

    The factor is needed because gradients are averaged over processes. Sources: `v8DetectionLoss`, `v8SegmentationLoss` and
    `v8OBBLoss` of ultralytics, which multiply each part by the number of images, and divide it by the values counted here.
    """

    def __init__(self, usual: Any, world: World) -> None:
        """Wrap ``usual``, ultralytics' loss, and count its divisors by a hook on its assigner."""
        self._usual, self._world, self._counts = usual, world, torch.zeros(2)
        usual.assigner.register_forward_hook(self._count)

    def _count(self, _: Any, __: Any, found: Any) -> None:
        scores, with_object = found[2], found[3]
        self._counts = torch.stack((scores.sum().double(), with_object.sum().double()))

    def __call__(self, predictions: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """The parts of the loss, and their values for reports."""
        loss, told = self._usual(predictions, batch)
        images = len(batch["img"])
        own = torch.cat((self._counts, self._counts.new_tensor([images])))
        whole = distributed.total(own)
        by_scores, by_objects = own[:2].clamp(min=1) / whole[:2].clamp(min=1)
        shares = torch.stack([by_objects if name in _OF_MASKS else by_scores for name in told])
        scaled = loss * (shares * whole[2] / images * self._world.count).to(loss.dtype)
        return scaled, {name: value * share for (name, value), share in zip(told.items(), shares.float(), strict=True)}


class _Filled(Sampler[int]):
    """The order of another sampler, extended by its first images so that the last batch of ``size`` has at least ``least``."""

    def __init__(self, sampler: Any, size: int, least: int) -> None:
        # Of torch's samplers, not all have a length; those of ultralytics' loaders do.
        self._sampler, self._size, self._least = sampler, size, least

    def __len__(self) -> int:
        count = len(self._sampler)
        return count + max(self._least - (count % self._size or self._size), 0)

    @override
    def __iter__(self) -> Iterator[int]:
        yield from np.resize(list(self._sampler), len(self)).tolist()


class _Parts:
    """This process's images of each batch."""

    def __init__(self, batches: BatchSampler, world: World) -> None:
        self._batches, self._world = batches, world

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Sequence[int]]:
        for batch in self._batches:
            yield np.asarray(self._world.part(batch)).tolist()


def take_part(loader: Any, world: World, least: int) -> None:
    """Make a loader of ultralytics return this process's part of batches that have at least ``least`` images."""
    least = max(least, world.count)
    size = max(loader.batch_size, least)
    sampler = _Filled(loader.sampler, size, least)
    endless = type(loader.batch_sampler)(_Parts(BatchSampler(sampler, size, drop_last=False), world))
    for name, value in (("batch_size", size), ("sampler", sampler), ("batch_sampler", endless)):
        object.__setattr__(loader, name, value)  # torch's loader refuses plain assignment to these
    if world.count > 1:
        loader.worker_init_fn = _Seeding(world.rank)


class _Seeding:
    """Seeds a worker process of a loader by the rank. torch's own seeds are the same in all processes of the training."""

    def __init__(self, rank: int) -> None:
        self._rank = rank

    def __call__(self, _: int) -> None:
        seed = own_seed(torch.initial_seed(), self._rank)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)


def own_seed(seed: int, rank: int) -> int:
    """A seed for each rank, so that processes augment differently. Rank 0 has the seed of a training by one process."""
    return (seed + 15_485_863 * rank) % 2**32


def fits_for_all(usual: Any) -> Any:
    """Wraps ultralytics' check whether its images fit into memory, for as many copies as there are processes."""

    def fits(dataset: Any, safety_margin: float = 1.0) -> bool:
        # The first process loads its images before the others do, so the others find one copy's memory already taken.
        copies = distributed.members()
        copies -= copies > 1 and torch.distributed.get_rank() > 0
        found: bool = usual(dataset, copies * (1 + safety_margin) - 1)
        return found

    return fits
