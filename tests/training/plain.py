"""Families without randomness, for tests: several processes then compute the same from a batch as one does, up to rounding."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pelagos_contract.training import TrainingRequest
from pelagos_pipelines.training import loop
from pelagos_pipelines.training.distributed import World
from pelagos_pipelines.training.families import Job, family_of
from pelagos_pipelines.training.training_history import TrainingHistory


class Plain:
    """The family of a request, without augmentation. All candidates are learned from, and sampled points are always the same."""

    def __init__(self, request: TrainingRequest, dies_in_batch: int | None = None) -> None:
        self.request, self.dies_in_batch = request, dies_in_batch

    def learner(self, job: Job) -> loop.Learner:
        family: Any = family_of(self.request)
        learner: loop.Learner = family.learner(job)
        build, batch, asked = learner.build, learner.batch, 0

        def built() -> nn.Module:
            network = build()
            torch.rand = _points
            for name in ("rpn", "roi_heads"):
                if hasattr(network, name):
                    getattr(network, name).fg_bg_sampler.batch_size_per_image = 10**6
            return network

        def plain(chosen: Any, generator: np.random.Generator | None) -> Any:
            nonlocal asked
            asked += generator is not None
            if asked == self.dies_in_batch and torch.distributed.get_rank() == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return batch(chosen, None)

        learner.build, learner.batch = built, plain  # type: ignore[method-assign]
        return learner


_usual: Callable[..., Tensor] = torch.rand


def _points(*shape: int, **more: Any) -> Tensor:
    """The points that Mask2Former samples in each mask, [masks, points, 2]; the same for each mask."""
    if len(shape) != 3:
        return _usual(*shape, **more)
    drawn = _usual(shape[1:], generator=torch.Generator().manual_seed(shape[1]))
    return drawn.expand(shape).clone()


def share_without_cache(family: Any, dies_in_step: int | None, job: Job, history: TrainingHistory, world: World) -> int:
    """Train a process's share as ultralytics' families do, without caching images. The second process may die in a given step."""
    from ultralytics.data.base import BaseDataset

    BaseDataset.check_cache_ram = lambda *_: False
    step, steps = torch.optim.AdamW.step, 0

    def counted(self: torch.optim.AdamW, *args: Any, **kwargs: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == dies_in_step and world.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *args, **kwargs)

    torch.optim.AdamW.step = counted
    best: int = family.share(job, history, world)
    return best
