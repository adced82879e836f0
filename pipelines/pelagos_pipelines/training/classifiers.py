"""Image classifiers, trained from scratch: what families have in common that differ in their `Networks` alone.

Their modules make a `Classifiers` each. Pixels come from serving.tasks, so that the server sees what training saw.
An epoch depends on the seed, its number and the state before it alone: a training that was interrupted and continued ends
with the same weights as one that was not.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pelagos_contract import disk
from pelagos_contract.augmentation import Augmentation
from pelagos_contract.failures import Reason, RefusedError
from pelagos_contract.families import FamilyDescription
from pelagos_contract.training import Hyperparameters
from pelagos_pipelines.evaluation import classification
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.serving import geometry
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.serving.predictions import Floats, Prediction, Settings, Thresholds
from pelagos_pipelines.serving.tasks.classification import DEVIATION, MEAN, Classification, normalise
from pelagos_pipelines.training import altering, checkpoints, classifier_augmentation, determinism, graphs, memory
from pelagos_pipelines.training.altering import Altered, Examples
from pelagos_pipelines.training.families import Job
from pelagos_pipelines.training.normalization import Scale
from pelagos_pipelines.training.progress import Progress
from pelagos_pipelines.training.training_history import TrainingHistory

CACHE_BYTES = 2 * 1024**3
WARM_UP = 0.1
"""Fraction of all steps over which the learning rate rises from zero; it falls along a cosine afterwards."""
STATISTICS_IMAGES = 512


@dataclass(frozen=True)
class Networks:
    """The networks of a family.

    ``build`` makes one, with random weights, of an architecture and for so many classes: from images [n, 3, size, size] to logits
    [n, classes], in training and after it. ``head``: how the tensors are called, at their beginning, whose shape depends on the
    number of classes. ``usual``: from the values that the server gives to the scale on which the field trains these networks,
    for datasets that declare none; None: it is the same.
    """

    build: Callable[[str, int], nn.Module]
    head: str
    usual: Scale | None = None


class DecodedImages:
    """The images of a split as square canvases, decoded once and kept while they fit in ``CACHE_BYTES``."""

    def __init__(self, samples: Sequence[Sample], size: int, threads: int, scale: Scale | None = None) -> None:
        """Decode all images now if they fit."""
        self._scale = scale
        self._samples, self._size, self._threads = samples, size, threads
        self.labels = np.array([sample.class_ids[0] for sample in samples], np.int64)
        fits = len(samples) * size * size * 3 <= CACHE_BYTES
        self._all = self._decode(range(len(samples))) if fits else None

    def __len__(self) -> int:
        """The number of images."""
        return len(self._samples)

    def batch(
        self, indices: Sequence[int], device: torch.device, alter: Callable[[Any], Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Normalised images ``[n, 3, size, size]`` and labels ``[n]``; ``alter`` is given the canvases before."""
        canvases = self._all[indices] if self._all is not None else self._decode(indices)
        if alter is not None:
            canvases = alter(canvases)
        images = _scaled(torch.from_numpy(normalise(canvases)), self._scale)
        return images.to(device), torch.from_numpy(self.labels[indices]).to(device)

    def _decode(self, indices: Sequence[int]) -> Any:
        with ThreadPoolExecutor(self._threads) as pool:  # OpenCV releases the interpreter lock
            return np.stack(list(pool.map(self._canvas, indices)))

    def _canvas(self, index: int) -> Pixels:
        return geometry.square(self._samples[index].pixels(), self._size)


@dataclass
class _State:
    """What a checkpoint holds. Learning rate, order and random numbers of an epoch follow from its number and the seed."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    progress: Progress = field(default_factory=Progress)

    def restore(self, path: Path, device: torch.device) -> None:
        """Continue from our own checkpoint."""
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


class Classifiers:
    """A family; see `families.Family` for the contract of its methods."""

    def __init__(self, description: FamilyDescription, networks: Networks) -> None:
        """With the networks of all architectures that the description names."""
        self.DESCRIPTION, self.networks = description, networks

    def train(self, job: Job, history: TrainingHistory) -> int:
        """Train with cross entropy; the metric that chooses the best epoch is the macro F1 on the validation split."""
        with memory.refusing(job.request.hyperparameters), determinism.required():
            return Training(job, history, self.networks).run()

    def applied(self, declared: Augmentation | None, parameters: Hyperparameters) -> dict[str, str]:
        """See `altering.Augmenting`; no hyperparameter has a say in it."""
        amounts = classifier_augmentation.amounts(declared)
        return {name: altering.worded(name, value) for name, value in amounts.items()}

    def altered(self, declared: Augmentation, examples: Examples) -> Iterator[list[Altered]]:
        """See `altering.Augmenting`."""
        generator = np.random.default_rng(examples.seed)
        for sample in examples.samples[: examples.shown]:
            canvas = geometry.square(sample.pixels(), examples.image_size)
            canvases = classifier_augmentation.altered(np.stack([canvas] * examples.rounds), declared, generator)
            yield [Altered(pixels, np.zeros((0, 4)), sample.class_ids) for pixels in canvases]

    def predict(self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds) -> Iterator[Prediction]:
        """Class probabilities; ``thresholds`` does not apply to classification."""
        for _, prediction in self.prove(checkpoint, images, thresholds):
            yield prediction

    def prove(
        self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds
    ) -> Iterator[tuple[Floats, Prediction]]:
        """Likewise, with the probabilities by themselves: there is nothing before them that is compared."""
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model, scale = self._restored(content), Scale.kept(content.get("scale"))
        for image in images:
            values = torch.from_numpy(normalise(geometry.square(image, content["imageSize"])[None]))
            with torch.inference_mode():
                probabilities = model(_scaled(values, scale)).softmax(dim=1)[0].numpy()
            yield probabilities, Classification(image.shape[1], image.shape[0], probabilities)

    def export(self, checkpoint: Path, onnx: Path) -> Settings:
        """Export with softmax; the batch dimension is dynamic."""
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        size = content["imageSize"]
        model = nn.Sequential(self._restored(content), nn.Softmax(dim=1)).eval()
        axes = {"image": {0: "batch"}, "probabilities": {0: "batch"}}
        written = onnx.with_name("exported.onnx")
        with graphs.tracing(), disk.written(written):
            torch.onnx.export(
                model,
                (torch.zeros(2, 3, size, size),),
                str(written),
                input_names=["image"],
                output_names=["probabilities"],
                dynamic_axes=axes,
                opset_version=graphs.OPSET,
                dynamo=False,
            )
        if scale := Scale.kept(content.get("scale")):
            scale.put_before(written)
        graphs.finalize_onnx(written, onnx)
        return Settings(self.DESCRIPTION.task.value, tuple(content["labels"]), size, size)

    def _restored(self, content: dict[str, Any]) -> nn.Module:
        model = self.networks.build(content["architecture"], len(content["labels"]))
        model.load_state_dict(content["model"])
        return model.eval()


class Training:
    """One training: the loop over epochs and what it needs."""

    def __init__(self, job: Job, history: TrainingHistory, networks: Networks) -> None:
        """Begin, or continue from the last checkpoint."""
        self._job, self._journal = job, history
        self._scale = _scale(job, networks)
        self._parameters = job.request.hyperparameters
        self._seed = job.request.seed % 2**31
        threads = job.request.resources.cpu
        torch.set_num_threads(threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(self._seed)
        model = networks.build(job.request.model.architecture, len(job.truth.labels))
        self._last = job.folder / "last.pt"
        # The weights of the start have served once there is a checkpoint of ours; a continued training never reads them again.
        if job.start and not self._last.exists():
            found, wanted = checkpoints.weights_of(job.start), model.state_dict()
            fitting = checkpoints.matching(found, wanted, networks.head, job.request.model.architecture)
            model.load_state_dict(fitting, strict=False)
        model.to(self._device)
        self._state = _State(model, _optimizer(model, self._parameters))
        if self._last.exists():
            self._state.restore(self._last, self._device)
        # The process may have ended between the two checkpoints: last.pt holds the best epoch then, and best.pt is an older one.
        if self._state.progress.is_best:
            self._save_best()
        # The history is written before the checkpoint, so it may have a row of an epoch that is trained again now.
        history.continue_after(self._state.progress.epoch)
        if not self._finished():
            size = self._parameters.image_size
            trained_on = job.truth.trained_on()
            self._train, self._validation = (
                DecodedImages(samples, size, threads, self._scale)
                for samples in (trained_on, job.truth.samples("validation"))
            )
            # What an epoch shows, by the plan of the version: usually each image once.
            self._shown: Any = np.repeat(np.arange(len(trained_on)), [sample.repeats for sample in trained_on])
            weights = job.truth.weights
            self._weights = None if weights is None else torch.tensor(weights, device=self._device)

    def run(self) -> int:
        """Train the epochs that are left; the number of the best one."""
        while not self._finished():
            epoch = self._state.progress.epoch + 1
            loss = self._train_epoch(epoch)
            self._settle_statistics()
            # History, then the checkpoint to continue from, then the best one: whenever the process ends, the next one tells from
            # last.pt what is missing, and makes it again.
            rate = self._state.optimizer.param_groups[0]["lr"]
            row = {"train/loss": loss, "train/learning-rate": rate, **self._validate()}
            metrics = self._journal.record(epoch, row)
            # Before it is saved, so that the checkpoint itself says whether its epoch is the best.
            self._state.progress = self._state.progress.after(metrics, self._job.request.task)
            self._state.save(self._last)
            if self._state.progress.is_best:
                self._save_best()
            self._journal.keep()
        return self._state.progress.best_epoch

    def _finished(self) -> bool:
        return self._state.progress.is_over(self._job.request)

    def _train_epoch(self, epoch: int) -> float:
        """The mean loss over the images that an epoch shows; with weights of classes, each batch is a weighted mean."""
        # From seed and number of the epoch alone: the state of no generator goes into checkpoints, and none is missed there.
        generator = np.random.default_rng([self._seed, epoch])
        torch.manual_seed(int(generator.integers(2**31)))
        order = self._shown[generator.permutation(len(self._shown))]
        batches = _batches(order, self._parameters.batch_size)
        declared, alter = self._job.truth.augmentation, None
        if declared is not None:
            alter = functools.partial(classifier_augmentation.altered, declared=declared, generator=generator)
        self._state.model.train()
        total = 0.0
        for index, batch in enumerate(batches):
            step = (epoch - 1) * len(batches) + index
            self._set_rate(step / (self._parameters.epochs * len(batches)))
            images, labels = self._train.batch(batch, self._device, alter)
            if alter is None:
                images = _augmented(images)
            with torch.autocast("cuda", torch.bfloat16, enabled=self._device.type == "cuda"):
                outcome = functional.cross_entropy(self._state.model(images), labels, self._weights)
            self._state.optimizer.zero_grad(set_to_none=True)
            outcome.backward()
            self._state.optimizer.step()
            loss = float(outcome.detach())
            if not math.isfinite(loss):
                raise RefusedError(
                    Reason.TRAINING_DIVERGED,
                    f"the loss became {loss} in epoch {epoch}; lower hyperparameters.learningRate,"
                    f" now {self._parameters.learning_rate}",
                    "hyperparameters.learningRate",
                )
            total += loss * len(batch)
        return total / sum(map(len, batches))

    def _set_rate(self, progress: float) -> None:
        """Learning rate at ``progress`` in [0, 1) of the training; a function of progress alone, so it needs no state."""
        rate = float(self._parameters.learning_rate)
        if progress < WARM_UP:
            rate *= (progress + 0.001) / WARM_UP
        else:
            rate *= 0.01 + 0.99 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2
        for group in self._state.optimizer.param_groups:
            group["lr"] = rate

    def _settle_statistics(self) -> None:
        """Give batch normalisation the mean statistics of training images under the present weights.

        The usual running averages need hundreds of steps to settle; small collections have fewer, and would be judged by a
        network that works in training only (precise batch normalisation: Wu and Johnson 2021, arXiv:2105.07576).
        """
        norms = [module for module in self._state.model.modules() if isinstance(module, nn.BatchNorm2d)]
        usual = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over the batches below
        chosen = self._shown[np.random.default_rng(self._seed).permutation(len(self._shown))[:STATISTICS_IMAGES]]
        self._state.model.train()
        with torch.no_grad():
            for batch in _batches(chosen, max(self._parameters.batch_size, 32)):
                self._state.model(self._train.batch(batch, self._device)[0])
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum

    def _validate(self) -> dict[str, float]:
        """Metrics of the validation split."""
        self._state.model.eval()
        outputs = []
        with torch.inference_mode():
            for start in range(0, len(self._validation), 64):
                images, _ = self._validation.batch(range(start, min(start + 64, len(self._validation))), self._device)
                outputs.append(self._state.model(images).float().cpu())
        logits = torch.cat(outputs)
        loss = float(functional.cross_entropy(logits, torch.from_numpy(self._validation.labels)))
        scores = classification.score(
            self._validation.labels, logits.argmax(dim=1).numpy(), len(self._job.truth.labels)
        )
        return {
            "validation/loss": loss,
            "validation/accuracy": scores.accuracy,
            "validation/precision": scores.macro("precision"),
            "validation/recall": scores.macro("recall"),
            "validation/F1": scores.macro("f1"),
        }

    def _save_best(self) -> None:
        content = {
            "architecture": self._job.request.model.architecture,
            "labels": list(self._job.truth.labels),
            "imageSize": self._parameters.image_size,
            "model": self._state.model.state_dict(),
        }
        if self._scale is not None:
            content["scale"] = self._scale.content
        checkpoints.save_atomically(content, self._job.best)


def _scale(job: Job, networks: Networks) -> Scale | None:
    return Scale.to(job.truth.statistics, (MEAN.tolist(), DEVIATION.tolist())) or networks.usual


def _scaled(values: Tensor, scale: Scale | None) -> Tensor:
    return values if scale is None else scale.apply(values)


def _optimizer(model: nn.Module, parameters: Hyperparameters) -> torch.optim.Optimizer:
    """Weight decay applies to matrices and filters; biases and normalisation layers go without."""
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    plain = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": float(parameters.weight_decay)},
        {"params": plain, "weight_decay": 0.0},
    ]
    rate = float(parameters.learning_rate)
    if parameters.optimizer == "SGD":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=rate)


def _batches(order: Any, size: int) -> list[Any]:
    """Batches of about ``size``, never of one image: batch normalisation needs two. An only one is shown twice."""
    if len(order) == 1:
        order = np.repeat(order, 2)
    count = max(min(math.ceil(len(order) / size), len(order) // 2), 1)
    return list(np.array_split(order, count))


def _augmented(images: Tensor) -> Tensor:
    """Flips, rotation up to 15 degrees, scale 0.85 to 1.15 and contrast 0.8 to 1.2, drawn for each image.

    Organisms under a microscope have no up or left, which makes flips safe.
    """
    count = len(images)
    angle = (torch.rand(count) * 2 - 1) * math.radians(15)
    scale = 0.85 + torch.rand(count) * 0.3
    flips = torch.randint(0, 2, (2, count)) * 2 - 1
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    rotation = torch.stack((cosine * flips[0], -sine * flips[0], sine * flips[1], cosine * flips[1]), dim=1)
    matrix = torch.cat((rotation.view(count, 2, 2), torch.zeros(count, 2, 1)), dim=2).to(images.device)
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    contrast = (0.8 + torch.rand(count, 1, 1, 1) * 0.4).to(images.device)
    return moved * contrast
