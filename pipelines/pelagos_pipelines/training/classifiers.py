"""Image classifiers trained from scratch: the common code of families that differ only in their `Networks`.

Each family's module creates a `Classifiers`, which trains in the loop of loop.py. Preprocessing comes from serving.tasks, so that
the server sees what training saw.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from pelagos_contract import disk
from pelagos_contract.augmentation import Augmentation
from pelagos_contract.families import FamilyDescription
from pelagos_contract.training import Hyperparameters
from pelagos_pipelines.evaluation import classification
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.evaluation.shares import of_epoch
from pelagos_pipelines.serving import geometry
from pelagos_pipelines.serving.geometry import Pixels
from pelagos_pipelines.serving.predictions import Floats, Prediction, Settings, Thresholds
from pelagos_pipelines.serving.tasks.classification import DEVIATION, MEAN, Classification, normalise
from pelagos_pipelines.training import altering, classifier_augmentation, distributed, graphs, loop
from pelagos_pipelines.training.altering import Altered, Examples
from pelagos_pipelines.training.families import Job
from pelagos_pipelines.training.normalization import Scale
from pelagos_pipelines.training.training_history import TrainingHistory

CACHE_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Networks:
    """The networks of a family.

    ``build`` creates one with random weights, for an architecture and a number of classes. It maps images [n, 3, size, size] to
    logits [n, classes], in training and in evaluation mode. ``head`` is the prefix of the names of tensors whose shape depends on
    the number of classes. ``usual`` converts the server's values to the scale on which published weights of these networks were
    trained, for datasets that declare no statistics; None if it is the same.
    """

    build: Callable[[str, int], nn.Module]
    head: str
    usual: Scale | None = None


class DecodedImages:
    """The images of a split on square canvases, decoded once and kept if they fit in ``CACHE_BYTES``, shared by all processes."""

    def __init__(self, samples: Sequence[Sample], size: int, threads: int, scale: Scale | None = None) -> None:
        """Decode all images now if they fit, else each time they are needed."""
        self._scale = scale
        self._samples, self._size, self._threads = samples, size, threads
        self.labels = np.array([sample.class_ids[0] for sample in samples], np.int64)
        fits = len(samples) * size * size * 3 <= CACHE_BYTES // distributed.members()
        self._all = self._decode(range(len(samples))) if fits else None

    def __len__(self) -> int:
        """The number of images."""
        return len(self._samples)

    def batch(
        self, indices: Sequence[int], device: torch.device, alter: Callable[[Any], Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Normalised images ``[n, 3, size, size]`` and labels ``[n]``; ``alter`` changes the canvases before that."""
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


class Classifiers:
    """A family of classifiers; `families.Family` documents its methods."""

    def __init__(self, description: FamilyDescription, networks: Networks) -> None:
        """``networks`` must build every architecture that the description names."""
        self.DESCRIPTION, self.networks = description, networks

    def train(self, job: Job, history: TrainingHistory) -> int:
        """Train with cross entropy. The best epoch is chosen by macro F1 on the validation split."""
        return loop.train(self, job, history)

    def learner(self, job: Job) -> loop.Learner:
        """The part of these classifiers in a training, see `loop.Learning`."""
        return _Learner(job, self.networks)

    def applied(self, declared: Augmentation | None, parameters: Hyperparameters) -> dict[str, str]:
        """The augmentation in words, see `altering.Augmenting`. No hyperparameter affects it."""
        amounts = classifier_augmentation.amounts(declared)
        return {name: altering.worded(name, value) for name, value in amounts.items()}

    def altered(self, declared: Augmentation, examples: Examples) -> Iterator[list[Altered]]:
        """Altered examples, see `altering.Augmenting`."""
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
        """See `families.Family.prove`; the raw output is the probabilities themselves, as no threshold applies."""
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model, scale = self._restored(content), Scale.kept(content.get("scale"))
        for image in images:
            values = torch.from_numpy(normalise(geometry.square(image, content["imageSize"])[None]))
            with torch.inference_mode():
                probabilities = model(_scaled(values, scale)).softmax(dim=1)[0].numpy()
            yield probabilities, Classification(image.shape[1], image.shape[0], probabilities)

    def export(self, checkpoint: Path, onnx: Path) -> Settings:
        """Export with softmax. The batch dimension is dynamic."""
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


class _Learner(loop.Learner):
    """The classifiers' part of a training: cross entropy, and macro F1 on the validation split."""

    settles = True

    def __init__(self, job: Job, networks: Networks) -> None:
        self._job, self._networks = job, networks
        self._scale = _scale(job, networks)
        self.heads = (networks.head,)

    @override
    def build(self) -> nn.Module:
        return self._networks.build(self._job.request.model.architecture, len(self._job.truth.labels))

    @override
    def prepare(self, device: torch.device) -> None:
        """Decode the training images."""
        truth = self._job.truth
        self._device = device
        self._train = self._decoded(truth.trained_on())
        self._weights = loop.class_weights(truth, device)

    @functools.cached_property
    def _validation(self) -> DecodedImages:
        """Decoded at first use, because only one of several processes validates."""
        return self._decoded(self._job.truth.samples("validation"))

    def _decoded(self, samples: Sequence[Sample]) -> DecodedImages:
        request = self._job.request
        return DecodedImages(samples, request.hyperparameters.image_size, request.resources.cpu, self._scale)

    @override
    def batch(self, chosen: Sequence[int], generator: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """Images and labels, see `DecodedImages.batch`; augmented as the dataset declares, else by the family's default."""
        declared, alter = self._job.truth.augmentation, None
        if generator is not None and declared is not None:
            alter = functools.partial(classifier_augmentation.altered, declared=declared, generator=generator)
        images, labels = self._train.batch(chosen, self._device, alter)
        if generator is not None and declared is None:
            images = _augmented(images)
        return images, labels

    @override
    def loss(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean cross entropy, weighted by class if the version plans weights."""
        images, labels = batch
        return functional.cross_entropy(model(images), labels, self._weights)

    @override
    def weight(self, chosen: Sequence[int]) -> float:
        """The sum of the images' class weights; without weights, the number of images."""
        weights = self._job.truth.weights
        return float(len(chosen)) if weights is None else float(np.take(weights, self._train.labels[chosen]).sum())

    @override
    def metrics(self, model: nn.Module) -> dict[str, float]:
        """Loss, accuracy and class averages on the validation split."""
        outputs = []
        for start in range(0, len(self._validation), 64):
            images, _ = self._validation.batch(range(start, min(start + 64, len(self._validation))), self._device)
            outputs.append(model(images).float().cpu())
        logits = torch.cat(outputs)
        loss = float(functional.cross_entropy(logits, torch.from_numpy(self._validation.labels)))
        scores = classification.score(
            self._validation.labels, logits.argmax(dim=1).numpy(), len(self._job.truth.labels)
        )
        return {
            "validation/loss": loss,
            "validation/accuracy": scores.accuracy,
            **{f"validation/{name}": value for name, value in of_epoch(scores.shares, scores.shares).items()},
        }

    @override
    def content(self, model: nn.Module) -> dict[str, Any]:
        """The content that `Classifiers.prove` and `Classifiers.export` read."""
        content = {
            "architecture": self._job.request.model.architecture,
            "labels": list(self._job.truth.labels),
            "imageSize": self._job.request.hyperparameters.image_size,
            "model": model.state_dict(),
        }
        if self._scale is not None:
            content["scale"] = self._scale.content
        return content


def _scale(job: Job, networks: Networks) -> Scale | None:
    return Scale.to(job.truth.statistics, (MEAN.tolist(), DEVIATION.tolist())) or networks.usual


def _scaled(values: Tensor, scale: Scale | None) -> Tensor:
    return values if scale is None else scale.apply(values)


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
