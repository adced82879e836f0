"""Mask R-CNN (He et al. 2017, arXiv:1703.06870), built by torchvision, trained from scratch: objects, each with its mask.

Steps use `FAMILY` through families.Family. Images come on the canvas of the server, so that a model is served what it was trained
on; torchvision's own resizing has no part in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.ops import batched_nms

from pelagos_contract import disk
from pelagos_contract.augmentation import Augmentation
from pelagos_contract.families import MASK_RCNN
from pelagos_contract.run_lengths import Part
from pelagos_contract.training import Hyperparameters
from pelagos_pipelines.evaluation import detection
from pelagos_pipelines.evaluation.instances import places_of
from pelagos_pipelines.evaluation.shares import mean, of_epoch
from pelagos_pipelines.serving import geometry
from pelagos_pipelines.serving.geometry import Fitted, Pixels
from pelagos_pipelines.serving.predictions import Prediction, Raw, Settings, Thresholds
from pelagos_pipelines.serving.tasks.instance_heads import maskrcnn as head
from pelagos_pipelines.serving.tasks.instance_segmentation import Candidates, Instances, instances
from pelagos_pipelines.training import altering, distributed, graphs, loop, maskrcnn_networks, scenes
from pelagos_pipelines.training.altering import Altered, Examples
from pelagos_pipelines.training.families import Job
from pelagos_pipelines.training.normalization import Scale
from pelagos_pipelines.training.scenes import Scene, Scenes
from pelagos_pipelines.training.training_history import TrainingHistory

HEAD = "maskrcnn"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, in [0, 1], red first: the scale of the values that torchvision's weights are for, and ours by default."""
_PARTS = {
    "loss_classifier": "classes",
    "loss_box_reg": "boxes",
    "loss_mask": "masks",
    "loss_objectness": "proposals",
    "loss_rpn_box_reg": "proposal-boxes",
}
"""Our names of the parts of the loss, by torchvision's."""


class MaskRcnn:
    """The family; see `families.Family` for the contract of its methods."""

    DESCRIPTION = MASK_RCNN

    def train(self, job: Job, history: TrainingHistory) -> int:
        """Train with torchvision's losses; the metric that chooses the best epoch is that of the masks on validation."""
        return loop.train(self, job, history)

    def learner(self, job: Job) -> loop.Learner:
        """See `loop.Learning`."""
        return _Learner(job)

    def applied(self, declared: Augmentation | None, parameters: Hyperparameters) -> dict[str, str]:
        """See `altering.Augmenting`."""
        amounts = scenes.amounts(declared, parameters)
        words = {name: altering.worded(name, value) for name, value in amounts.items()}
        if parameters.mosaic:
            words["mosaic"] += ", by hyperparameters.mosaic"
        return words

    def altered(self, declared: Augmentation, examples: Examples) -> Iterator[list[Altered]]:
        """See `altering.Augmenting`."""
        generator, amounts = np.random.default_rng(examples.seed), scenes.amounts(declared, Hyperparameters())
        known = Scenes(examples.samples, examples.image_size, threads=1)
        for index in range(examples.shown):
            found = known.altered([index] * examples.rounds, amounts, generator)
            yield [Altered(one.canvas, one.boxes, one.class_ids, list(map(_around, one.masks))) for one in found]

    def predict(self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds) -> Iterator[Prediction]:
        """What the network finds, with masks as the server makes them."""
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = _Restored(checkpoint, device)
        for image in images:
            fitted = model.fitted(image)
            with torch.inference_mode(), _plain_operators(device):
                raw = _found(model.network([model.values(fitted)])[0])
            yield head.STRATEGY.decode(raw, fitted, model.settings, thresholds)

    def prove(
        self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds
    ) -> Iterator[tuple[Raw, Prediction]]:
        """What torchvision makes of it, boxes and masks, and what the server is given instead."""
        model = _Restored(checkpoint, torch.device("cpu"))
        served = maskrcnn_networks.Served(model.network, model.settings.image_size)
        for image in images:
            fitted = model.fitted(image)
            values = model.values(fitted)
            with torch.inference_mode():
                raw = tuple(output[0].numpy() for output in served(values[None]))
                (found,) = model.network([values])
            yield raw, _pasted(found, fitted, model.settings, thresholds)

    def export(self, checkpoint: Path, onnx: Path) -> Settings:
        """Export for one image at once: torchvision's code goes through images one by one."""
        model = _Restored(checkpoint, torch.device("cpu"))
        size = model.settings.image_size
        written = onnx.with_name("exported.onnx")
        with graphs.tracing(), disk.written(written):
            torch.onnx.export(
                maskrcnn_networks.Served(model.network, size),
                (torch.zeros(1, 3, size, size),),
                str(written),
                input_names=["image"],
                output_names=list(head.OUTPUTS),
                opset_version=graphs.OPSET,
                dynamo=False,
            )
        model.scale.put_before(written)
        graphs.finalize_onnx(written, onnx)
        return model.settings


class _Learner(loop.Learner):
    """What it brings to a training."""

    heads, settles, autocast = maskrcnn_networks.HEADS, True, False
    settled_at_once, most_gradient = 1, 10.0
    of_objects, shares_losses = ("roi_heads.mask_head.",), True

    def __init__(self, job: Job) -> None:
        self._job = job
        self._scale = _scale(job)
        self._amounts = scenes.amounts(job.truth.augmentation, job.request.hyperparameters)

    def build(self) -> nn.Module:
        """See `loop.Learner`."""
        architecture, classes = self._job.request.model.architecture, len(self._job.truth.labels)
        self._network = maskrcnn_networks.build(architecture, classes)
        return self._network

    def prepare(self, device: torch.device) -> None:
        """Decode the images."""
        truth, request = self._job.truth, self._job.request
        self._device, weights = device, loop.class_weights(truth, device)
        if weights is not None:
            # Not by way of the network that losses are computed by, which may be wrapped.
            self._network.roi_heads.class_weights = torch.cat((weights.new_ones(1), weights))
        self._train, self._validation = (
            Scenes(samples, request.hyperparameters.image_size, request.resources.cpu)
            for samples in (truth.trained_on(), truth.samples("validation"))
        )

    def batch(self, chosen: Sequence[int], generator: np.random.Generator | None) -> tuple[list[Tensor], Any]:
        """Images and targets, see `maskrcnn_networks.build`."""
        if generator is None:
            return self._given(self._train.plain(chosen))
        return self._given(self._train.altered(chosen, self._amounts, generator))

    def loss(self, model: nn.Module, batch: tuple[list[Tensor], Any]) -> Mapping[str, Tensor]:
        """torchvision's, with the weights of classes that the version plans; the background weighs 1."""
        with _plain_operators(self._device):
            found = model(*batch)
        # Images differ in how many objects they have, and in how many anchors and regions are chosen of them.
        counts = maskrcnn_networks.counted(self._network)
        shares = distributed.shares(torch.stack([counts[name].float() for name in found]))
        return {_PARTS[name]: loss * share for (name, loss), share in zip(found.items(), shares, strict=True)}

    def metrics(self, model: nn.Module) -> dict[str, float]:
        """Of what the network finds, as the evaluation measures it, and its loss without weights."""
        size, step = self._job.request.hyperparameters.image_size, self._job.request.hyperparameters.batch_size
        samples = self._job.truth.samples("validation")
        settings = _settings(self._job.truth.labels, size)
        thresholds = Thresholds(head.LEAST, head.IOU, self._job.request.evaluation.max_detections)
        total = 0.0
        predictions: list[Any] = []
        for start in range(0, len(samples), step):
            chosen = range(start, min(start + step, len(samples)))
            images, targets = self._given(self._validation.plain(chosen))
            with _plain_operators(self._device):
                results = model(images)
                with _measuring(model):
                    losses = model(images, targets)
            total += float(sum(losses.values())) * len(chosen)
            for index, found in zip(chosen, results, strict=True):
                fitted = head.STRATEGY.fitted(samples[index].pixels(), size, size)
                predictions.append(head.STRATEGY.decode(_found(found), fitted, settings, thresholds))
        places = places_of(samples, predictions)
        scores = detection.score(samples, predictions, len(settings.labels), places)
        measured = {"mAP50": mean(scores.map50), "mAP50-95": mean(scores.map50_95)}
        measured |= of_epoch(scores.shares, ("precision", "recall"))
        # A validation split without objects has none of them.
        known = {f"validation/{name}": value for name, value in measured.items() if math.isfinite(value)}
        return {"validation/loss": total / len(samples), **known}

    def content(self, model: nn.Module) -> dict[str, Any]:
        """Weights, and what images are to look like."""
        return {
            "architecture": self._job.request.model.architecture,
            "labels": list(self._job.truth.labels),
            "imageSize": self._job.request.hyperparameters.image_size,
            "scale": self._scale.content,
            "model": model.state_dict(),
        }

    def _given(self, shown: Sequence[Scene]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        values = torch.from_numpy(head.STRATEGY.values(np.stack([scene.canvas for scene in shown])))
        images = self._scale.apply(values.to(self._device))
        targets = [
            {
                "boxes": torch.from_numpy(scene.boxes).to(self._device),
                "labels": torch.from_numpy(scene.class_ids + 1).to(self._device),
                "masks": torch.from_numpy(scene.masks).to(self._device),
            }
            for scene in shown
        ]
        return list(images), targets


class _Restored:
    """The network of a checkpoint, in evaluation, and what it is given."""

    def __init__(self, checkpoint: Path, device: torch.device) -> None:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        self.network: MaskRCNN = maskrcnn_networks.build(content["architecture"], len(content["labels"]))
        self.network.load_state_dict(content["model"])
        self.network.to(device).eval()
        scale = Scale.kept(content["scale"])
        assert scale is not None
        self.scale, self.settings = scale, _settings(content["labels"], content["imageSize"])
        self._device = device

    def fitted(self, image: Pixels) -> Fitted:
        """The image on its canvas."""
        return head.STRATEGY.fitted(image, self.settings.image_size, self.settings.stride)

    def values(self, fitted: Fitted) -> Tensor:
        """[3, size, size]."""
        values = torch.from_numpy(head.STRATEGY.values(fitted.canvas[None]))
        given: Tensor = self.scale.apply(values)[0].to(self._device)
        return given


def _settings(labels: Sequence[str], size: int) -> Settings:
    """On square canvases, as the stride says."""
    return Settings(MASK_RCNN.task.value, tuple(labels), size, stride=size, head=HEAD)


def _scale(job: Job) -> Scale:
    whole = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    usual = Scale(
        tuple(1 / one for one in DEVIATION), tuple(-mean / one for mean, one in zip(MEAN, DEVIATION, strict=True))
    )
    return Scale.to(job.truth.statistics, whole) or usual


def _found(result: Mapping[str, Tensor]) -> Raw:
    """What a network finds in an image as the head of the server expects it."""
    scores, labels = result["scores"][:, None], result["labels"][:, None] - 1
    objects = torch.cat((result["boxes"], scores, labels.float()), dim=1)
    return objects.float().cpu().numpy(), result["masks"][:, 0].float().cpu().numpy()


def _pasted(found: Mapping[str, Tensor], fitted: Fitted, settings: Settings, thresholds: Thresholds) -> Instances:
    """By torchvision alone: boxes and masks in pixels of the original."""
    at = geometry.fit(*fitted.shown, settings.image_size, settings.stride)
    kept = torch.where(found["scores"] > thresholds.confidence)[0]
    boxes, scores, labels = (found[name][kept] for name in ("boxes", "scores", "labels"))
    survivors = batched_nms(boxes, scores, labels, thresholds.iou)
    limit = min(thresholds.max_detections, head.MOST)
    chosen = survivors[:limit]
    scale = torch.tensor([at.width / fitted.width, at.height / fitted.height] * 2)
    placed = (boxes[chosen] - torch.tensor([at.left, at.top] * 2)) / scale
    placed = placed.clamp(min=0).minimum(torch.tensor([fitted.width, fitted.height] * 2))
    masks = found["masks"][kept][chosen]

    def part(place: int) -> Part:
        one = slice(place, place + 1)
        whole = paste_masks_in_image(masks[one], placed[one], (fitted.height, fitted.width))
        return Part(0, 0, whole[0, 0].numpy() > head.INSIDE)

    candidates = Candidates(
        scores[chosen].numpy(), (labels[chosen] - 1).numpy(), placed.numpy(), cut=len(survivors) > limit
    )
    return instances(fitted, candidates, part)


def _around(mask: Any) -> Any:
    """Points [k, 2] of the largest outline of a mask."""
    rings = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    return max(rings, key=cv2.contourArea).reshape(-1, 2) + 0.5


@contextmanager
def _measuring(model: nn.Module) -> Iterator[None]:
    """Have a network in evaluation give its losses: it chooses candidates as in training, and normalises as in evaluation."""
    parts = (model, model.rpn, model.roi_heads)
    weights, model.roi_heads.class_weights = model.roi_heads.class_weights, None
    for part in parts:
        part.training = True  # theirs alone, not that of the layers in them
    try:
        yield
    finally:
        model.roi_heads.class_weights = weights
        for part in parts:
            part.training = False


@contextmanager
def _plain_operators(device: torch.device) -> Iterator[None]:
    """Have torchvision use its own operators on an accelerator.

    Where deterministic algorithms are asked for, it would compile one of them there, which needs a compiler and much memory; what
    an accelerator computes is not the same to the last bit anyway.
    """
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if device.type != "cpu":
        torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warns)


FAMILY = MaskRcnn()
