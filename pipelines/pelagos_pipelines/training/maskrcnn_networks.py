"""Networks of Mask R-CNN (He et al. 2017, arXiv:1703.06870), built by torchvision with random weights; nothing is downloaded.

maskrcnn.py trains them and exports them as `Served`. Their tensors keep torchvision's names, so that its published weights fit.
torchvision counts classes from 1; 0 is the background.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection import MaskRCNN, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from typing_extensions import override

from pelagos_pipelines.serving.tasks.instance_heads import maskrcnn as head

HEADS = ("roi_heads.box_predictor.", "roi_heads.mask_predictor.mask_fcn_logits.")
"""Prefixes of the names of tensors whose shape depends on the number of classes."""
_MOST = head.MOST + 1
"""The most objects that a network returns per image: one more than are reported, to know whether there are more."""


def build(architecture: str, classes: int) -> MaskRCNN:
    """A network for ``classes`` classes and the background.

    In training mode it maps a list of images [3, size, size] and one of targets (``boxes`` [n, 4] x1, y1, x2, y2; ``labels`` [n];
    ``masks`` [n, size, size] of bytes) to losses by name. In evaluation mode it maps images to ``boxes``, ``labels``, ``scores``
    and ``masks`` [n, 1, 28, 28] relative to their boxes. Coordinates are in pixels of the canvas.
    """
    model: MaskRCNN = _ARCHITECTURES[architecture](classes + 1)
    model.transform = _AsItIs()
    model.roi_heads = _Heads(model.roi_heads)
    usual = model.rpn.fg_bg_sampler
    model.rpn.fg_bg_sampler = _Sampler(usual.batch_size_per_image, usual.positive_fraction)
    return model


class _AsItIs(nn.Module):
    """Replaces torchvision's resizing and normalisation: images are already on their canvas, and scaled."""

    @override
    def forward(self, images: Sequence[Tensor], targets: Any = None) -> tuple[ImageList, Any]:
        """Stack the images, which all have one size."""
        return ImageList(torch.stack(list(images)), [(image.shape[-2], image.shape[-1]) for image in images]), targets

    def postprocess(self, results: Any, *_: Any) -> Any:
        """Leave masks relative to their boxes."""
        return results


class _Sampler(BalancedPositiveNegativeSampler):  # type: ignore[misc]  # torchvision is not typed
    """torchvision's sampler, which keeps the ``count`` of anchors that it chose in the latest batch."""

    count = 0

    def __call__(self, matched_idxs: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Sample, and keep the count."""
        found: tuple[list[Tensor], list[Tensor]] = super().__call__(matched_idxs)
        self.count = sum(int(chosen.sum()) for part in found for chosen in part)
        return found


def counted(model: MaskRCNN) -> dict[str, Tensor]:
    """The number of things, or their total weight, that each loss of the latest batch is a mean over."""
    sampled, weights = model.roi_heads.sampled, model.roi_heads.class_weights
    anchors, regions = sampled.new_tensor(model.rpn.fg_bg_sampler.count), sampled.new_tensor(len(sampled))
    return {
        "loss_classifier": regions if weights is None else weights[sampled].sum(),
        "loss_box_reg": regions,
        "loss_mask": (sampled > 0).sum(),
        "loss_objectness": anchors,
        "loss_rpn_box_reg": anchors,
    }


class _Heads(RoIHeads):  # type: ignore[misc]  # torchvision is not typed
    """torchvision's heads, of the same modules, with optional class weights in the classification loss."""

    def __init__(self, usual: RoIHeads) -> None:
        matcher, sampler = usual.proposal_matcher, usual.fg_bg_sampler
        super().__init__(
            usual.box_roi_pool,
            usual.box_head,
            usual.box_predictor,
            matcher.high_threshold,
            matcher.low_threshold,
            sampler.batch_size_per_image,
            sampler.positive_fraction,
            usual.box_coder.weights,
            usual.score_thresh,
            usual.nms_thresh,
            usual.detections_per_img,
            usual.mask_roi_pool,
            usual.mask_head,
            usual.mask_predictor,
        )
        self.class_weights: Tensor | None = None
        """Weights of all classes, the background first; None if all weigh the same."""
        self.sampled: Tensor | None = None
        """The classes of the regions that were sampled for the losses of the latest batch."""

    def select_training_samples(self, proposals: Any, targets: Any) -> Any:
        """Sample as torchvision does, and keep the classes."""
        found = super().select_training_samples(proposals, targets)
        self.sampled = torch.cat(found[2])
        return found

    def forward(self, features: Any, proposals: Any, image_shapes: Any, targets: Any = None) -> Any:
        """Compute as torchvision does, then replace the classification loss by a weighted cross entropy if there are weights."""
        if not self.training or self.class_weights is None:
            return super().forward(features, proposals, image_shapes, targets)
        given: list[Tensor] = []
        watching = self.box_predictor.register_forward_hook(lambda *call: given.append(call[2][0]))
        try:
            found, losses = super().forward(features, proposals, image_shapes, targets)
        finally:
            watching.remove()
        assert self.sampled is not None
        losses["loss_classifier"] = functional.cross_entropy(given[0], self.sampled, self.class_weights)
        return found, losses


def _resnet50(classes: int) -> MaskRCNN:
    """All layers are trained: torchvision freezes the first ones only in networks with pretrained weights."""
    return maskrcnn_resnet50_fpn_v2(
        weights=None, weights_backbone=None, num_classes=classes, box_detections_per_img=_MOST
    )


def _mobilenet_v3_small(classes: int) -> MaskRCNN:
    """For CPUs and experiments: MobileNetV3-small (doi:10.1109/ICCV.2019.00140) with levels of strides 4 to 64 pixels.

    Levels have 96 channels instead of 256, heads are half as deep, and anchors half as large, from 16 pixels.
    """
    channels, strides = 96, {"1": "0", "3": "1", "8": "2", "12": "3"}
    layers = torchvision.models.mobilenet_v3_small(weights=None).features
    inside = [layers[int(place)].out_channels for place in strides]
    sizes = tuple((side,) for side in (16, 32, 64, 128, 256))
    return MaskRCNN(
        BackboneWithFPN(layers, strides, inside, channels, norm_layer=nn.BatchNorm2d),
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        box_head=TwoMLPHead(channels * 7**2, 256),
        box_predictor=FastRCNNPredictor(256, classes),
        mask_head=MaskRCNNHeads(channels, (channels,) * 2, 1, norm_layer=nn.BatchNorm2d),
        mask_predictor=MaskRCNNPredictor(channels, channels, classes),
        box_detections_per_img=_MOST,
    )


_ARCHITECTURES: Mapping[str, Callable[[int], MaskRCNN]] = {
    "maskrcnn_mobilenet_v3_small_fpn": _mobilenet_v3_small,
    "maskrcnn_resnet50_fpn_v2": _resnet50,
}


class Served(nn.Module):
    """A network as exported: it maps one image ``[1, 3, size, size]`` to the outputs that the server decodes (`head.OUTPUTS`).

    In addition to the objects, it returns its outputs for a fixed set of boxes. Those do not depend on a choice among thousands
    of candidates, which a difference in the last digit can change.
    """

    def __init__(self, model: MaskRCNN, size: int) -> None:
        """Wrap a trained network, for canvases of ``size`` pixels."""
        super().__init__()
        self.model, self.size = model, size
        self.fixed: Tensor
        self.register_buffer("fixed", size * torch.tensor(head.FIXED))
        self.eval()

    @override
    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute as torchvision's heads do, with the fixed boxes added to the proposals."""
        model, shapes, fixed = self.model, [(self.size, self.size)], self.fixed
        features, heads = model.backbone(images), model.roi_heads
        objectness, moves = model.rpn.head(list(features.values()))
        (proposals,), _ = model.rpn(ImageList(images, shapes), features)
        regions = torch.cat((fixed, proposals))
        logits, deltas = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, [regions], shapes)))
        count = len(head.FIXED)
        (boxes,), (scores,), (labels,) = heads.postprocess_detections(
            logits[count:], deltas[count:], [proposals], shapes
        )
        pooled = heads.mask_roi_pool(features, [torch.cat((fixed, boxes))], shapes)
        drawn = heads.mask_predictor(heads.mask_head(pooled))
        masks = drawn[count:].sigmoid()[torch.arange(labels.shape[0]), labels]
        found = torch.cat((boxes, scores[:, None], (labels - 1)[:, None].to(boxes.dtype)), dim=1)
        # Only the last level's: the anchor head has the same weights for all levels.
        anchors = torch.cat((objectness[-1], moves[-1]), dim=1).flatten(2)
        outputs = (
            torch.cat((found, found.new_zeros(_MOST, 6)))[:_MOST],
            torch.cat((masks, masks.new_zeros(_MOST, *masks.shape[1:])))[:_MOST],
            logits[:count].T,
            heads.box_coder.decode(deltas[:count], [fixed]).flatten(1).T,
            functional.avg_pool2d(drawn[:count, 1:], 4).transpose(0, 1).flatten(1),
            anchors[0],
        )
        return tuple(output[None] for output in outputs)
