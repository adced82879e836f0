"""Mask2Former, for semantic, instance and panoptic segmentation: trained from scratch or from weights, in the loop of loop.py.

One network serves all tasks: it has queries, each with a class and a mask. The tasks differ in the target of a query and in the
outputs of the graph. In semantic segmentation a target is all pixels of a class, in instance segmentation one object, and in
panoptic segmentation one object of a thing class or all pixels of a stuff class. Images and masks are on square canvases, as in
the server. Pixels that no mask covers are trained to belong to no class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import override

from pelagos_contract import disk
from pelagos_contract.augmentation import Augmentation
from pelagos_contract.families import (
    MASK2FORMER_INSTANCE,
    MASK2FORMER_PANOPTIC,
    MASK2FORMER_SEMANTIC,
    FamilyDescription,
)
from pelagos_contract.tasks import Task
from pelagos_contract.training import Hyperparameters
from pelagos_pipelines.evaluation import detection, drawn_truth, instances, panoptic, pixels
from pelagos_pipelines.evaluation.samples import GroundTruth, Sample
from pelagos_pipelines.evaluation.shares import mean, of_epoch
from pelagos_pipelines.serving import geometry, maps, tasks
from pelagos_pipelines.serving.geometry import Fitted, Pixels
from pelagos_pipelines.serving.predictions import Prediction, Raw, Settings, Thresholds
from pelagos_pipelines.serving.tasks.classification import DEVIATION, MEAN
from pelagos_pipelines.serving.tasks.semantic_segmentation import values
from pelagos_pipelines.training import (
    altering,
    classifier_augmentation,
    distributed,
    graphs,
    loop,
    mask2former_networks,
)
from pelagos_pipelines.training.altering import Altered, Examples
from pelagos_pipelines.training.families import Job
from pelagos_pipelines.training.normalization import Scale
from pelagos_pipelines.training.training_history import TrainingHistory

CACHE_BYTES = 2 * 1024**3
LEAST = 0.001
"""The lowest score of an object in the metrics: average precision is over all scores."""
MOST_TAUGHT = 256
"""The most segments per image in a batch, the largest ones: each needs a mask of the canvas's size in single precision."""
VALIDATED = 8
"""Images of the validation split per forward pass."""
HEADS = {Task.INSTANCE_SEGMENTATION: "mask2former"}
"""The head in packages, for tasks whose packages name one."""
_IMAGENET = Scale(tuple((1 / DEVIATION).tolist()), tuple((-MEAN / DEVIATION).tolist()))
"""The scale of published checkpoints, for datasets that declare no statistics."""


@dataclass(frozen=True)
class _Example:
    """An image of original ``size`` (width, height) on its canvas, with a map of segment numbers, uint16 [side, side].

    Number 0 stands for no segment; number n has the class ``class_ids[n - 1]``.
    """

    canvas: Pixels
    numbers: Any
    class_ids: Any
    size: tuple[int, int]


class Mask2Former:
    """The family of Mask2Former for one task; `families.Family` documents its methods."""

    def __init__(self, description: FamilyDescription) -> None:
        """The family for the description's task and architectures."""
        self.DESCRIPTION = description
        self._task = tasks.named(description.task.value, HEADS.get(description.task))

    def train(self, job: Job, history: TrainingHistory) -> int:
        """Train with the losses of Mask2Former. The best epoch is chosen on the validation split."""
        return loop.train(self, job, history)

    def learner(self, job: Job) -> loop.Learner:
        """The part of Mask2Former in a training, see `loop.Learning`."""
        return _Learner(job)

    def applied(self, declared: Augmentation | None, parameters: Hyperparameters) -> dict[str, str]:
        """The augmentation in words, see `altering.Augmenting`. No hyperparameter affects it."""
        amounts = classifier_augmentation.amounts(declared)
        return {name: altering.worded(name, value) for name, value in amounts.items()}

    def altered(self, declared: Augmentation, examples: Examples) -> Iterator[list[Altered]]:
        """Altered examples, see `altering.Augmenting`."""
        generator = np.random.default_rng(examples.seed)
        shown = examples.samples[: examples.shown]
        for sample in shown:
            one = _example(sample, examples.image_size, _joined(self.DESCRIPTION.task, len(examples.labels), (), ()))
            canvases, numbers = classifier_augmentation.altered_with_maps(
                [one.canvas] * examples.rounds, [one.numbers] * examples.rounds, declared, generator
            )
            yield [_outlined(*both, one.class_ids) for both in zip(canvases, numbers, strict=True)]

    def predict(self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds) -> Iterator[Prediction]:
        """The network's outputs, decoded by the code of the task."""
        for _, prediction in self.prove(checkpoint, images, thresholds):
            yield prediction

    def prove(
        self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds
    ) -> Iterator[tuple[Raw, Prediction]]:
        """Like `predict`, each with the network's raw outputs."""
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model, scale, settings = self._graph(content), Scale.kept(content["scale"]), self._settings(content)
        assert scale is not None
        for image in images:
            fitted = self._task.fitted(image, settings.image_size, settings.stride)
            with torch.inference_mode():
                found = model(scale.apply(torch.from_numpy(self._task.values(fitted.canvas[None]))))
            raw = found[0].numpy() if isinstance(found, Tensor) else tuple(one[0].numpy() for one in found)
            yield raw, self._task.decode(raw, fitted, settings, thresholds)

    def export(self, checkpoint: Path, onnx: Path) -> Settings:
        """Export the outputs that the task decodes. The batch dimension is dynamic."""
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        settings, written = self._settings(content), onnx.with_name("exported.onnx")
        outputs = ["scores"] if self.DESCRIPTION.task is Task.SEMANTIC_SEGMENTATION else ["classes", "masks"]
        with graphs.tracing(), disk.written(written):
            torch.onnx.export(
                self._graph(content),
                (torch.zeros(2, 3, settings.image_size, settings.image_size),),
                str(written),
                input_names=["image"],
                output_names=outputs,
                dynamic_axes={name: {0: "batch"} for name in ("image", *outputs)},
                opset_version=graphs.OPSET,
                dynamo=False,
            )
        scale = Scale.kept(content["scale"])
        assert scale is not None
        scale.put_before(written)
        graphs.finalize_onnx(written, onnx)
        return settings

    def _graph(self, content: dict[str, Any]) -> nn.Module:
        network = _built(content["architecture"], len(content["labels"]))
        network.load_state_dict(content["model"])
        of_pixels = self.DESCRIPTION.task is Task.SEMANTIC_SEGMENTATION
        found: nn.Module = mask2former_networks.OfPixels(network) if of_pixels else network
        return found.eval()

    def _settings(self, content: dict[str, Any]) -> Settings:
        return _settings(self.DESCRIPTION.task, content["labels"], content["imageSize"], content["stuff"])


class _Learner(loop.Learner):
    """Mask2Former's part of a training: its losses, and the task's metrics on the validation split."""

    heads = mask2former_networks.HEADS
    autocast = False  # queries are matched with masks by costs that half precision would round
    most_gradient = 0.01  # as in the paper, section 4.2
    shares_losses = True  # images have different numbers of segments
    skips_weights = True  # the output of the backbone's last normalisation is not used

    def __init__(self, job: Job) -> None:
        self._job, self._truth = job, job.truth
        self._task = job.request.task
        self._size = job.request.hyperparameters.image_size
        self._scale = Scale.to(job.truth.statistics) or _IMAGENET

    @override
    def build(self) -> nn.Module:
        return _built(self._job.request.model.architecture, len(self._truth.labels), self._truth.weights)

    @override
    def prepare(self, device: torch.device) -> None:
        """Decode the images and draw their masks."""
        self._device = device
        joined = _joined(self._task, len(self._truth.labels), self._truth.labels, self._truth.stuff)
        threads = self._job.request.resources.cpu
        self._train, self._validation = (
            _Examples(samples, self._size, joined, threads)
            for samples in (self._truth.trained_on(), self._truth.samples("validation"))
        )

    @override
    def batch(self, chosen: Sequence[int], generator: np.random.Generator | None) -> _Batch:
        """Images and masks, augmented as the dataset declares, else by the family's default."""
        found = self._train.some(chosen)
        if generator is None:
            return self._batch(found)
        canvases, numbers = classifier_augmentation.altered_with_maps(
            [one.canvas for one in found], [one.numbers for one in found], self._truth.augmentation, generator
        )
        return self._batch(
            [
                replace(one, canvas=canvas, numbers=moved)
                for canvas, moved, one in zip(canvases, numbers, found, strict=True)
            ]
        )

    @override
    def loss(self, model: nn.Module, batch: _Batch) -> dict[str, Tensor]:
        """The parts of Mask2Former's loss."""
        found: dict[str, Tensor] = model(batch.images, batch.masks, batch.classes)
        return found

    @override
    def metrics(self, model: nn.Module) -> dict[str, float]:
        """Loss and metrics on the validation split."""
        judge, samples = _Judge(self._task, self._truth, self._size), self._truth.samples("validation")
        total = 0.0
        # The loss samples random points. A fixed seed takes the same ones in every epoch, so that losses are comparable.
        with torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(0)
            for start in range(0, len(self._validation), VALIDATED):
                chosen = range(start, min(start + VALIDATED, len(self._validation)))
                found = self._validation.some(chosen)
                batch = self._batch(found)
                total += float(sum(self.loss(model, batch).values())) * len(found)
                classes, masks = model(batch.images)
                for place, one, *outputs in zip(chosen, found, classes, masks, strict=True):
                    judge.add(one, samples[place], *outputs)
        return {"validation/loss": total / len(self._validation), **judge.metrics()}

    @override
    def content(self, model: nn.Module) -> dict[str, Any]:
        """The content that `Mask2Former.prove` and `Mask2Former.export` read."""
        return {
            "architecture": self._job.request.model.architecture,
            "labels": list(self._truth.labels),
            "stuff": list(self._truth.stuff),
            "imageSize": self._size,
            "scale": self._scale.content,
            "model": model.state_dict(),
        }

    def _batch(self, found: Sequence[_Example]) -> _Batch:
        images = self._scale.apply(torch.from_numpy(values(np.stack([one.canvas for one in found]))))
        masks, classes = [], []
        for one in found:
            # Segments that were moved out of the image are left out. Of more than MOST_TAUGHT, the largest are kept.
            areas: Any = np.bincount(one.numbers.ravel(), minlength=len(one.class_ids) + 1)[1:]
            chosen = np.sort(np.argsort(-areas, kind="stable")[: min(MOST_TAUGHT, int((areas > 0).sum()))])
            numbers: Any = chosen.astype(np.uint16) + 1
            masks.append(torch.from_numpy((one.numbers[None] == numbers[:, None, None]).astype(np.float32)))
            classes.append(torch.from_numpy(one.class_ids[chosen]))
        return _Batch(*(self._placed(each) for each in (images, masks, classes)))

    def _placed(self, found: Any) -> Any:
        return [one.to(self._device) for one in found] if isinstance(found, list) else found.to(self._device)


@dataclass(frozen=True)
class _Batch:
    """Images [n, 3, size, size], and for each image masks [segments, size, size] and class ids [segments]."""

    images: Tensor
    masks: list[Tensor]
    classes: list[Tensor]


class _Examples:
    """The examples of a split, built once and kept if they fit in ``CACHE_BYTES``, shared by all processes."""

    def __init__(self, samples: Sequence[Sample], size: int, joined: frozenset[int], threads: int) -> None:
        self._samples, self._size, self._joined, self._threads = samples, size, joined, threads
        fits = len(samples) * size * size * 5 <= CACHE_BYTES // distributed.members()
        self._all = self._made(range(len(samples))) if fits else None

    def __len__(self) -> int:
        """The number of examples."""
        return len(self._samples)

    def some(self, chosen: Sequence[int]) -> list[_Example]:
        """The examples at the positions ``chosen``."""
        return self._made(chosen) if self._all is None else [self._all[place] for place in chosen]

    def _made(self, chosen: Sequence[int]) -> list[_Example]:
        with ThreadPoolExecutor(self._threads) as pool:  # OpenCV releases the interpreter lock
            return list(
                pool.map(lambda place: _example(self._samples[place], self._size, self._joined), map(int, chosen))
            )


class _Judge:
    """Measures the network's answers: on canvases for semantic and panoptic tasks, in the original images for objects."""

    def __init__(self, task: Task, truth: GroundTruth, size: int) -> None:
        self._classes = len(truth.labels)
        self._settings = _settings(task, truth.labels, size, truth.stuff)
        self._task, self._kind = tasks.named(task.value, HEADS.get(task)), task
        self._confusion: Any = np.zeros((self._classes + 1,) * 2, np.int64)
        self._counted = panoptic.Counted.none(self._classes)
        self._objects: list[tuple[Sample, Any]] = []

    def add(self, example: _Example, sample: Sample, classes: Tensor, masks: Tensor) -> None:
        """Add one image's answer: the class and mask probabilities of its queries."""
        side = self._settings.image_size
        image = Fitted(example.canvas, side, side)
        raw = (classes.float().cpu().numpy(), masks.float().cpu().numpy())
        if self._kind is Task.SEMANTIC_SEGMENTATION:
            scores = mask2former_networks.of_pixels(classes[None], masks[None])[0].float().cpu().numpy()
            found: Any = self._task.decode(scores, image, self._settings, Thresholds())
            true = np.concatenate(([maps.NONE], example.class_ids + 1))[example.numbers]
            self._confusion += pixels.confusion(true, found.classes.pixels, self._classes)
        elif self._kind is Task.PANOPTIC_SEGMENTATION:
            found = self._task.decode(raw, image, self._settings, Thresholds())
            self._counted.add((example.numbers, example.class_ids), (found.segments.pixels, found.class_ids))
        else:
            image = replace(image, width=example.size[0], height=example.size[1])
            self._objects.append((sample, self._task.decode(raw, image, self._settings, Thresholds(LEAST))))

    def metrics(self) -> dict[str, float]:
        """The task's metrics as ``validation/NAME``; those that are not finite are left out."""
        if self._kind is Task.SEMANTIC_SEGMENTATION:
            scores = pixels.score(self._confusion)
            named = {name: scores.shares[name].macro for name in ("IoU", "Dice")} | {"pixelAccuracy": scores.accuracy}
        elif self._kind is Task.PANOPTIC_SEGMENTATION:
            quality = self._counted.scores()
            named = {"PQ": quality.mean("pq"), "SQ": quality.mean("sq"), "RQ": quality.mean("rq")}
        else:
            samples, answers = [sample for sample, _ in self._objects], [answer for _, answer in self._objects]
            overlap = detection.score(samples, answers, self._classes, instances.places_of(samples, answers))
            named = {"mAP50": mean(overlap.map50), "mAP50-95": mean(overlap.map50_95)}
            named |= of_epoch(overlap.shares, ("precision", "recall"))
        return {f"validation/{name}": value for name, value in named.items() if np.isfinite(value)}


def _built(architecture: str, classes: int, weights: Sequence[float] | None = None) -> nn.Module:
    return mask2former_networks.build(architecture.partition("-")[0], classes, weights)


def _settings(task: Task, labels: Sequence[str], size: int, stuff: Sequence[str]) -> Settings:
    kept = tuple(stuff) if task is Task.PANOPTIC_SEGMENTATION else ()
    return Settings(task.value, tuple(labels), size, size, head=HEADS.get(task), stuff=kept)


def _joined(task: Task, classes: int, labels: Sequence[str], stuff: Sequence[str]) -> frozenset[int]:
    """The class ids of which an image has at most one segment."""
    if task is Task.SEMANTIC_SEGMENTATION:
        return frozenset(range(classes))
    if task is Task.INSTANCE_SEGMENTATION:
        return frozenset()
    return frozenset(index for index, label in enumerate(labels) if label in stuff)


def _example(sample: Sample, size: int, joined: frozenset[int]) -> _Example:
    image = sample.pixels()
    height, width = image.shape[:2]
    true = drawn_truth.segments(sample.shapes, sample.class_ids, (width, height), joined)
    at = geometry.fit(width, height, size, size)
    placed: Any = np.zeros((size, size), np.uint16)
    # uint16 can number 65,535 segments. If an image has more, the smallest are dropped.
    numbers = np.where(true.pixels < 2**16, true.pixels, maps.NONE).astype(np.uint16)
    inner = cv2.resize(numbers, (at.width, at.height), interpolation=cv2.INTER_NEAREST_EXACT)
    placed[at.top : at.top + at.height, at.left : at.left + at.width] = inner
    return _Example(geometry.square(image, size), placed, true.class_ids[: 2**16 - 1], (width, height))


def _outlined(canvas: Pixels, numbers: Any, class_ids: Any) -> Altered:
    """For the sheet of examples: the longest outline of each segment that is still on the canvas."""
    outlines, kept = [], []
    for place, class_id in enumerate(class_ids):
        rings, _ = cv2.findContours((numbers == place + 1).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        if rings:
            outlines.append(max(rings, key=len)[:, 0])
            kept.append(int(class_id))
    return Altered(canvas, np.zeros((0, 4)), np.array(kept, int), outlines)


SEMANTIC, PANOPTIC, INSTANCE = map(Mask2Former, (MASK2FORMER_SEMANTIC, MASK2FORMER_PANOPTIC, MASK2FORMER_INSTANCE))
