"""The training loop for families that provide a network and its loss: epochs, checkpoints, learning rate, best epoch.

A family passes itself to `train`; its own part is a `Learner`. The loop knows nothing of tasks: a batch is whatever the learner
builds from some training images. An epoch depends only on the seed, its number and the state before it, so a training that was
interrupted and continued ends with the same weights as one that was not.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pelagos_contract.training import Hyperparameters
from pelagos_pipelines.evaluation.samples import GroundTruth
from pelagos_pipelines.training import checkpoints, determinism, distributed, divergence, memory, processes, schedules
from pelagos_pipelines.training.distributed import World
from pelagos_pipelines.training.families import Job
from pelagos_pipelines.training.progress import LOSS, Progress
from pelagos_pipelines.training.training_history import TrainingHistory

LAST = "last.pt"
"""The checkpoint to continue from: everything that an epoch depends on, except its number and the seed."""
STATISTICS_IMAGES = 512


class Learner(ABC):
    """A family's part of one training: created for a job, and used by one `Training`.

    ``heads``: parts of the names of tensors whose shape depends on the classes; weights to start from may differ there.
    ``settles``: whether batch normalisation statistics are measured after each epoch, see `Training._settle_statistics`, with
    batches of at least ``settled_at_once`` images. ``autocast``: whether the loss may be computed in bfloat16 on an accelerator.
    ``most_gradient``: the norm to which the gradients of a step are clipped; None for no clipping.
    ``skips_weights``: whether some batches give no gradient to some of the weights.
    ``of_objects``: prefixes of the names of layers that receive no input from a batch without objects.
    ``shares_losses``: whether each of several processes returns its contribution to the loss of the whole batch, see
    `distributed.shares`, instead of a mean over its own images.
    """

    heads: tuple[str, ...]
    settles: bool = False
    settled_at_once: int = 32
    autocast: bool = True
    most_gradient: float | None = None
    skips_weights: bool = False
    of_objects: tuple[str, ...] = ()
    shares_losses: bool = False

    @abstractmethod
    def build(self) -> nn.Module:
        """The network with random weights, on the CPU. The caller has seeded torch."""

    @abstractmethod
    def prepare(self, device: torch.device) -> None:
        """Load the data that batches are built from. Called once after `build`, and only if an epoch is left to train."""

    @abstractmethod
    def batch(self, chosen: Sequence[int], generator: np.random.Generator | None) -> Any:
        """The input of `loss` for some images, on the device passed to `prepare`, in any structure the family chooses.

        ``chosen`` are positions in ``job.truth.trained_on()``. Augmentation draws from ``generator`` and from torch's global
        generator, whose states follow from seed and epoch. ``generator`` is None when images must not be augmented.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Any) -> Tensor | Mapping[str, Tensor]:
        """The mean loss of a batch, or its parts by name, which add up to it. ``model`` is that of `build`, in training mode.

        Call ``model`` itself, not its parts: it may be wrapped for several processes.
        """

    def weight(self, chosen: Sequence[int]) -> float:
        """The number of things over which these images' loss is a mean: by default images. Used if processes share batches."""
        return float(len(chosen))

    @abstractmethod
    def metrics(self, model: nn.Module) -> dict[str, float]:
        """Metrics of the validation split as ``validation/NAME``: the loss, and the one by which the task chooses the best epoch.

        ``model`` is in evaluation mode, and gradients are off. Of several processes, only the leading one calls this.
        """

    @abstractmethod
    def content(self, model: nn.Module) -> dict[str, Any]:
        """The content of ``best.pt``: weights, and what is needed to use them. Only tensors, text and numbers."""


class Learning(Protocol):
    """A family that trains in this loop."""

    def learner(self, job: Job) -> Learner:
        """The family's part of the training that ``job`` describes."""
        ...


def train(family: Learning, job: Job, history: TrainingHistory) -> int:
    """Implements `families.Family.train` for families that use this loop."""
    count = processes.wanted(job.request)
    if count > 1:
        return processes.train(functools.partial(share, family), job, history, count)
    return share(family, job, history, distributed.ALONE)


def share(family: Learning, job: Job, history: TrainingHistory, world: World) -> int:
    """Like `train`, as one of the processes that share a training; only the leading one writes to ``history``."""
    with memory.refusing(job.request.hyperparameters), determinism.required():
        return Training(job, history, family.learner(job), world).run()


def class_weights(truth: GroundTruth, device: torch.device) -> Tensor | None:
    """The weight of each class in the loss by the version's plan, shape ``[classes]``; None when all weigh the same."""
    return None if truth.weights is None else torch.tensor(truth.weights, device=device)


@dataclass
class _State:
    """The content of a checkpoint. An epoch's learning rate, order and random numbers follow from its number and the seed."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    progress: Progress = field(default_factory=Progress)

    def restore(self, path: Path, device: torch.device) -> None:
        """Load a checkpoint that `save` wrote, onto the device."""
        content = torch.load(path, map_location=device, weights_only=True)
        self.model.load_state_dict(content["model"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.progress = Progress.of(content)

    def save(self, path: Path) -> None:
        """Write the checkpoint to continue from."""
        content = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            **self.progress.content(),
        }
        checkpoints.save_atomically(content, path)


class Training:
    """One training: the loop over epochs and its state."""

    def __init__(self, job: Job, history: TrainingHistory, learner: Learner, world: World = distributed.ALONE) -> None:
        """Begin a new training, or continue from the last checkpoint in the job's folder."""
        self._job, self._journal, self._learner, self._world = job, history, learner, world
        self._parameters = job.request.hyperparameters
        self._seed = job.request.seed % 2**31
        torch.set_num_threads(job.request.resources.cpu)
        self._device = world.device
        torch.manual_seed(self._seed)
        model = world.joined(learner.build(), of_objects=learner.of_objects)
        self._last = job.folder / LAST
        # The user's weights are read only for the first epoch: a continued training has them in its own checkpoint. Only the
        # leading process reads them: `World.wrapped` copies its weights to the others.
        if job.start and world.leads and not self._last.exists():
            found, wanted = checkpoints.weights_of(job.start), model.state_dict()
            fitting = checkpoints.matching(found, wanted, learner.heads, job.request.model.architecture)
            model.load_state_dict(fitting, strict=False)
        model.to(self._device)
        self._state = _State(model, _optimizer(model, self._parameters))
        if self._last.exists():
            self._state.restore(self._last, self._device)
        self._called = world.wrapped(model, skips_weights=learner.skips_weights)
        if world.leads:
            # The process may have ended between writing the two checkpoints. Then last.pt has the best epoch, best.pt an older.
            if self._state.progress.is_best:
                self._save_best()
            # The history is written before the checkpoint, so it may have a row for an epoch that is now trained again.
            history.continue_after(self._state.progress.epoch)
        if not self._finished():
            learner.prepare(self._device)
            # The images that an epoch shows, by the version's plan: usually each once.
            times = [sample.repeats for sample in job.truth.trained_on()]
            self._shown: Any = np.repeat(np.arange(len(times)), times)

    def run(self) -> int:
        """Train the epochs that are left. Returns the number of the best epoch."""
        while not self._finished():
            epoch = self._state.progress.epoch + 1
            losses = self._train_epoch(epoch)
            if self._learner.settles:
                self._settle_statistics()
            if self._world.leads:
                self._conclude(epoch, losses)
            # The others wait here while the leading process validates and saves.
            self._state.progress = self._world.agreed(self._state.progress)
        return self._state.progress.best_epoch

    def _conclude(self, epoch: int, losses: Mapping[str, float]) -> None:
        """Validate the epoch and write it to disk.

        The order is history, ``last.pt``, ``best.pt``. Whenever the process ends, the next one sees from ``last.pt`` which of the
        others is behind or ahead, and repairs it in `__init__`.
        """
        rate = self._state.optimizer.param_groups[0]["lr"]
        row = {**losses, "train/learning-rate": rate, **self._validate()}
        # The last step may have made the weights NaN, with no further batch to show it. Such weights never become a model.
        if not math.isfinite(loss := row.get(LOSS, 0.0)):
            raise divergence.of_validation(loss, epoch, self._state.progress.best_epoch, self._parameters)
        metrics = self._journal.record(epoch, row)
        # Updated before saving, so that the checkpoint itself says whether its epoch is the best.
        self._state.progress = self._state.progress.after(metrics, self._job.request.task)
        self._state.save(self._last)
        if self._state.progress.is_best:
            self._save_best()
        self._journal.keep()

    def _finished(self) -> bool:
        return self._state.progress.is_over(self._job.request)

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """Train one epoch. Returns the mean loss over the images it shows, and its parts."""
        # Seeded from the seed and the epoch number alone, so that checkpoints need not hold any generator's state.
        generator = np.random.default_rng([self._seed, epoch])
        torch.manual_seed(int(generator.integers(2**31)))
        order = self._shown[generator.permutation(len(self._shown))]
        batches = _batches(order, self._parameters.batch_size, self._world.count)
        # The order above is the same in all processes. From here on each augments its own images, with other random numbers.
        if self._world.count > 1:
            generator = np.random.default_rng([self._seed, epoch, self._world.rank])
            torch.manual_seed(int(generator.integers(2**31)))
        self._state.model.train()
        every, totals = self._parameters.gradient_accumulation or 1, dict[str, float]()
        for first in range(0, len(batches), every):
            self._set_rate(((epoch - 1) * len(batches) + first) / (self._parameters.epochs * len(batches)))
            for name, loss in self._step(batches[first : first + every], generator, epoch).items():
                totals[name] = totals.get(name, 0.0) + loss
        return {name: total / sum(map(len, batches)) for name, total in self._world.summed(totals).items()}

    def _step(self, batches: Sequence[Any], generator: np.random.Generator, epoch: int) -> dict[str, float]:
        """One optimizer step by the gradients of some batches. Returns the loss and its parts, summed over their images.

        Raises:
            RefusedError: TRAINING_DIVERGED when the loss is not finite.
        """
        summed: dict[str, float] = {}
        self._state.optimizer.zero_grad(set_to_none=True)
        for chosen in batches:
            own = self._world.part(chosen)
            shares = self._learner.shares_losses
            fraction = 1.0 if shares else self._learner.weight(own) / self._learner.weight(chosen)
            # Processes exchange gradients once per step, at its last batch.
            with nullcontext() if chosen is batches[-1] else self._world.apart(self._called):
                loss, parts = self._loss(self._learner.batch(own, generator))
                # DistributedDataParallel averages gradients over processes; the factor ``count`` turns that mean into a sum.
                (loss * (self._world.count * fraction * len(chosen) / sum(map(len, batches)))).backward()
            for name, part in {"train/loss": loss, **parts}.items():
                summed[name] = summed.get(name, 0.0) + float(part.detach()) * fraction * len(chosen)
        if self._learner.most_gradient is not None:
            nn.utils.clip_grad_norm_(self._state.model.parameters(), self._learner.most_gradient)
        self._state.optimizer.step()
        if not math.isfinite(mean := summed["train/loss"]):
            known = self._job.truth.trained_on()
            images = [known[place].name for chosen in batches for place in chosen]
            raise divergence.of_batch(mean, epoch, self._state.progress.best_epoch, images, self._parameters)
        return summed

    def _loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and its parts if the learner returns any."""
        on_accelerator = self._device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16, enabled=on_accelerator and self._learner.autocast):
            found = self._learner.loss(self._called, batch)
        if isinstance(found, Tensor):
            return found, {}
        whole = torch.stack([part.float() for part in found.values()]).sum()
        return whole, {f"train/{name}": part for name, part in found.items()}

    def _set_rate(self, progress: float) -> None:
        for group in self._state.optimizer.param_groups:
            group["lr"] = schedules.rate(self._parameters, progress)

    def _settle_statistics(self) -> None:
        """Set the statistics of batch normalisation to their mean over training images under the present weights.

        The usual running averages need hundreds of steps to settle. Small collections have fewer, and would be validated with a
        network that works only in training mode (precise batch normalisation: Wu and Johnson 2021, arXiv:2105.07576).
        """
        norms = [module for module in self._state.model.modules() if isinstance(module, _BatchNorm)]
        usual = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over the batches below
        chosen = self._shown[np.random.default_rng(self._seed).permutation(len(self._shown))[:STATISTICS_IMAGES]]
        self._state.model.train()
        with torch.no_grad():
            at_once = max(self._parameters.batch_size, self._learner.settled_at_once)
            for batch in _batches(chosen, at_once, self._world.count):
                # The plain network is called, not the wrapped one, because there are no gradients to exchange.
                self._learner.loss(self._state.model, self._learner.batch(self._world.part(batch), None))
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum

    def _validate(self) -> dict[str, float]:
        self._state.model.eval()
        with torch.inference_mode():
            return self._learner.metrics(self._state.model)

    def _save_best(self) -> None:
        checkpoints.save_atomically(self._learner.content(self._state.model), self._job.best)


def _optimizer(model: nn.Module, parameters: Hyperparameters) -> torch.optim.Optimizer:
    """Weight decay applies to matrices and filters, not to biases and normalisation layers. Frozen weights are left out."""
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in trained if weight.ndim > 1], "weight_decay": float(parameters.weight_decay)},
        {"params": [weight for weight in trained if weight.ndim <= 1], "weight_decay": 0.0},
    ]
    rate = float(parameters.learning_rate)
    if parameters.optimizer == "SGD":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=rate)


def _batches(order: Any, size: int, processes: int = 1) -> list[Any]:
    """Batches of about ``size`` images, each with one for every process, and at least two: batch normalisation needs two.

    If there are fewer images than that, they are repeated.
    """
    least = max(processes, 2)
    if len(order) < least:
        order = np.resize(order, least)
    count = max(min(math.ceil(len(order) / size), len(order) // least), 1)
    return list(np.array_split(order, count))
