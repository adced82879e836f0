"""Mask R-CNN (He et al. 2017, arXiv:1703.06870), built by torchvision, trained from scratch: objects, each with its mask.

Steps use `FAMILY` through families.Family. Images are on the server's canvas, so that training and serving see the same;
torchvision's own resizing is not used.
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
from typing_extensions import override

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
"""ImageNet's mean and deviation in [0, 1], red first: the scale of torchvision's weights, and our default."""
_PARTS = {
    "loss_classifier": "classes",
    "loss_box_reg": "boxes",
    "loss_mask": "masks",
    "loss_objectness": "proposals",
    "loss_rpn_box_reg": "proposal-boxes",
}
"""Our names for the parts of the loss, by torchvision's names."""


class MaskRcnn:
    """The family of Mask R-CNN; `families.Family` documents its methods."""

    DESCRIPTION = MASK_RCNN

    def train(self, job: Job, history: TrainingHistory) -> int:
        """Train with torchvision's losses. The best epoch is chosen by the masks' metric on the validation split."""
        return loop.train(self, job, history)

    def learner(self, job: Job) -> loop.Learner:
        """The part of Mask R-CNN in a training, see `loop.Learning`."""
        return _Learner(job)

    def applied(self, declared: Augmentation | None, parameters: Hyperparameters) -> dict[str, str]:
        """The augmentation in words, see `altering.Augmenting`."""
        amounts = scenes.amounts(declared, parameters)
        words = {name: altering.worded(name, value) for name, value in amounts.items()}
        if parameters.mosaic:
            words["mosaic"] += ", by hyperparameters.mosaic"
        return words

    def altered(self, declared: Augmentation, examples: Examples) -> Iterator[list[Altered]]:
        """Altered examples, see `altering.Augmenting`."""
        generator, amounts = np.random.default_rng(examples.seed), scenes.amounts(declared, Hyperparameters())
        known = Scenes(examples.samples, examples.image_size, threads=1)
        for index in range(examples.shown):
            found = known.altered([index] * examples.rounds, amounts, generator)
            yield [Altered(one.canvas, one.boxes, one.class_ids, list(map(_around, one.masks))) for one in found]

    def predict(self, checkpoint: Path, images: Iterable[Pixels], thresholds: Thresholds) -> Iterator[Prediction]:
        """The network's objects, with masks computed as in the server."""
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
        """The outputs that the server decodes, each with the boxes and masks that torchvision alone computes."""
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
        """Export for a batch of one: torchvision's code loops over images."""
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
    """Mask R-CNN's part of a training."""

    heads, settles, autocast = maskrcnn_networks.HEADS, True, False
    settled_at_once, most_gradient = 1, 10.0
    of_objects, shares_losses = ("roi_heads.mask_head.",), True

    def __init__(self, job: Job) -> None:
        self._job = job
        self._scale = _scale(job)
        self._amounts = scenes.amounts(job.truth.augmentation, job.request.hyperparameters)

    @override
    def build(self) -> nn.Module:
        architecture, classes = self._job.request.model.architecture, len(self._job.truth.labels)
        self._network = maskrcnn_networks.build(architecture, classes)
        network: nn.Module = self._network
        return network

    @override
    def prepare(self, device: torch.device) -> None:
        """Decode the images, and set the class weights."""
        truth, request = self._job.truth, self._job.request
        self._device, weights = device, loop.class_weights(truth, device)
        if weights is not None:
            # Set on the plain network: the one that computes losses may be wrapped.
            self._network.roi_heads.class_weights = torch.cat((weights.new_ones(1), weights))
        self._train, self._validation = (
            Scenes(samples, request.hyperparameters.image_size, request.resources.cpu)
            for samples in (truth.trained_on(), truth.samples("validation"))
        )

    @override
    def batch(self, chosen: Sequence[int], generator: np.random.Generator | None) -> tuple[list[Tensor], Any]:
        """Images and targets, see `maskrcnn_networks.build`."""
        if generator is None:
            return self._given(self._train.plain(chosen))
        return self._given(self._train.altered(chosen, self._amounts, generator))

    @override
    def loss(self, model: nn.Module, batch: tuple[list[Tensor], Any]) -> Mapping[str, Tensor]:
        """torchvision's losses, with the class weights of the version's plan; the background weighs 1."""
        with _plain_operators(self._device):
            found = model(*batch)
        # Images differ in their numbers of objects, and of sampled anchors and regions, which the losses are means over.
        counts = maskrcnn_networks.counted(self._network)
        shares = distributed.shares(torch.stack([counts[name].float() for name in found]))
        return {_PARTS[name]: loss * share for (name, loss), share in zip(found.items(), shares, strict=True)}

    @override
    def metrics(self, model: nn.Module) -> dict[str, float]:
        """Metrics as the evaluation measures them, and the loss without class weights."""
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
        # A validation split without objects has no finite metrics.
        known = {f"validation/{name}": value for name, value in measured.items() if math.isfinite(value)}
        return {"validation/loss": total / len(samples), **known}

    @override
    def content(self, model: nn.Module) -> dict[str, Any]:
        """The content that `_Restored` reads."""
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
    """The network of a checkpoint in evaluation mode, and the preprocessing of its input."""

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
        """The network's input for a canvas, [3, size, size]."""
        values = torch.from_numpy(head.STRATEGY.values(fitted.canvas[None]))
        given: Tensor = self.scale.apply(values)[0].to(self._device)
        return given


def _settings(labels: Sequence[str], size: int) -> Settings:
    """Serving settings; a stride as large as the canvas makes canvases square."""
    return Settings(MASK_RCNN.task.value, tuple(labels), size, stride=size, head=HEAD)


def _scale(job: Job) -> Scale:
    whole = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    usual = Scale(
        tuple(1 / one for one in DEVIATION), tuple(-mean / one for mean, one in zip(MEAN, DEVIATION, strict=True))
    )
    return Scale.to(job.truth.statistics, whole) or usual


def _found(result: Mapping[str, Tensor]) -> Raw:
    """torchvision's result for an image as objects [n, 6] and masks [n, 28, 28], the form that the server's head decodes."""
    scores, labels = result["scores"][:, None], result["labels"][:, None] - 1
    objects = torch.cat((result["boxes"], scores, labels.float()), dim=1)
    return objects.float().cpu().numpy(), result["masks"][:, 0].float().cpu().numpy()


def _pasted(found: Mapping[str, Tensor], fitted: Fitted, settings: Settings, thresholds: Thresholds) -> Instances:
    """Boxes and masks in pixels of the original image, computed by torchvision alone."""
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
    """The points [k, 2] of a mask's largest outline."""
    rings = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    return max(rings, key=cv2.contourArea).reshape(-1, 2) + 0.5


@contextmanager
def _measuring(model: Any) -> Iterator[None]:
    """Let a network in evaluation mode return losses: it samples candidates as in training, but normalises as in evaluation."""
    parts = (model, model.rpn, model.roi_heads)
    weights, model.roi_heads.class_weights = model.roi_heads.class_weights, None
    for part in parts:
        part.training = True  # set on these modules alone, not on the layers in them, as train() would
    try:
        yield
    finally:
        model.roi_heads.class_weights = weights
        for part in parts:
            part.training = False


@contextmanager
def _plain_operators(device: torch.device) -> Iterator[None]:
    """Let torchvision use its own operators on an accelerator.

    With deterministic algorithms it would compile one of them there, which needs a compiler and much memory. An accelerator's
    results are not the same to the last bit anyway.
    """
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if device.type != "cpu":
        torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warns)


FAMILY = MaskRcnn()
