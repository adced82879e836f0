"""The networks of Mask2Former (Cheng et al. 2022, doi:10.1109/CVPR52688.2022.00135), built by transformers.

The configurations are ours. Weights are random, and nothing is downloaded. The outputs of exported graphs are computed here from
those of the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss
from typing_extensions import override

from pelagos_pipelines.training import distributed

HEADS = ("class_predictor.",)
"""Prefixes of the names of tensors whose shape depends on the classes."""
_STAGES = ["stage1", "stage2", "stage3", "stage4"]
_BACKBONES: Mapping[str, Mapping[str, Any]] = {
    "mask2former_tiny": {
        "embed_dim": 16,
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 2, 2, 4],
        "window_size": 4,
        "drop_path_rate": 0.0,
    },
    # Swin-T: Liu et al. 2021, doi:10.1109/ICCV48922.2021.00986, table 7; with the drop path of Mask2Former.
    "mask2former_swin_t": {
        "embed_dim": 96,
        "depths": [2, 2, 6, 2],
        "num_heads": [3, 6, 12, 24],
        "window_size": 7,
        "drop_path_rate": 0.3,
    },
}
_DECODERS: Mapping[str, Mapping[str, Any]] = {
    "mask2former_tiny": {
        "feature_size": 64,
        "mask_feature_size": 64,
        "hidden_dim": 64,
        "encoder_feedforward_dim": 128,
        "dim_feedforward": 128,
        "encoder_layers": 2,
        "decoder_layers": 4,
        "num_attention_heads": 4,
        "num_queries": 20,
        "train_num_points": 1024,
    },
    "mask2former_swin_t": {},
}
_PARTS = {"loss_cross_entropy": "class-loss", "loss_mask": "mask-loss", "loss_dice": "dice-loss"}


def build(name: str, classes: int, weights: Sequence[float] | None = None) -> Network:
    """A network with random weights, by its ``name`` in the tables above; ``weights`` are those of the classes in its loss."""
    config = Mask2FormerConfig(
        backbone_config=SwinConfig(**_BACKBONES[name], out_features=_STAGES),
        num_labels=classes,
        **_DECODERS[name],
    )
    return Network(config, weights)


class Network(Mask2FormerForUniversalSegmentation):  # type: ignore[misc] # transformers is not typed
    """Maps images [n, 3, size, size] to the class and mask probabilities of its queries, or to its losses."""

    def __init__(self, config: Mask2FormerConfig, weights: Sequence[float] | None) -> None:
        super().__init__(config)
        self.criterion = _Loss(config, self.weight_dict)
        # The class weights come from the dataset and are not learned, so they are not part of the state dict.
        found = self.criterion.empty_weight.clone()
        if weights is not None:
            found[:-1] = torch.tensor(weights)
        self.criterion.register_buffer("empty_weight", found, persistent=False)
        self.model.pixel_level_module.decoder.encoder.get_reference_points = _centres

    def losses(self, images: Tensor, masks: list[Tensor], classes: list[Tensor]) -> dict[str, Tensor]:
        """The parts of the loss, each summed over all decoder layers.

        For each image, ``masks`` has floats [segments, size, size], and ``classes`` the class ids [segments].
        """
        found = super().forward(images, output_auxiliary_logits=True)
        parts = self.get_loss_dict(
            found.masks_queries_logits, found.class_queries_logits, masks, classes, found.auxiliary_logits
        )
        return {
            name: torch.stack([value for key, value in parts.items() if key.startswith(prefix)]).sum()
            for prefix, name in _PARTS.items()
        }

    def forward(self, images: Tensor, masks: list[Tensor] | None = None, classes: list[Tensor] | None = None) -> Any:
        """The parts of the loss if masks and classes are given, else the class and mask probabilities of the queries."""
        if masks is not None and classes is not None:
            return self.losses(images, masks, classes)
        found = super().forward(images)
        return found.class_queries_logits.softmax(dim=-1), found.masks_queries_logits.sigmoid()


class _Loss(Mask2FormerLoss):  # type: ignore[misc] # transformers is not typed
    """transformers' loss; in training, if several processes share a batch, this process's contribution to the batch's loss.

    The divisors, which are the number of masks and the weights of the queries, are then totals over all images of the batch.
    """

    def get_num_masks(self, class_labels: list[Tensor], device: torch.device) -> Tensor:
        """The number of masks in all images, at least one."""
        count = torch.tensor(float(sum(map(len, class_labels))), device=device)
        return (distributed.total(count).float() if self.training else count).clamp(min=1)

    def loss_labels(self, class_queries_logits: Tensor, class_labels: list[Tensor], indices: Any) -> dict[str, Tensor]:
        """The mean over queries, each weighted by its target class."""
        losses: dict[str, Tensor] = super().loss_labels(class_queries_logits, class_labels, indices)
        if self.training:
            matched = torch.cat([classes[places] for classes, (_, places) in zip(class_labels, indices, strict=True)])
            queries = len(class_queries_logits) * class_queries_logits.shape[1]
            weight = self.empty_weight[matched].sum() + self.empty_weight[-1] * (queries - len(matched))
            losses["loss_cross_entropy"] = losses["loss_cross_entropy"] * distributed.shares(weight)
        return losses


def _centres(shapes: Sequence[tuple[int, int]], valid_ratios: Tensor, device: Any) -> Tensor:
    """Replaces transformers' function: the centres of all levels' cells, x and y in [0, 1], for maps without padding.

    The original divides by the number of cells less 1. In a graph, a level of a single cell, which an image of 32 pixels has,
    would then have no reference point.
    """
    points = []
    for height, width in shapes:
        rows, columns = (
            (torch.arange(side, dtype=valid_ratios.dtype, device=device) + 0.5) / side for side in (height, width)
        )
        down, across = torch.meshgrid(rows, columns, indexing="ij")
        points.append(torch.stack((across.reshape(-1), down.reshape(-1)), dim=-1))
    return torch.cat(points)[None, :, None] * valid_ratios[:, None]


class OfPixels(nn.Module):
    """Maps images to scores [n, classes + 1, height, width] of cells, the last one for no class: see serving's semantic task."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Sum the products of class and mask over queries. The score of no class is what the best class lacks of 1.

        Source: Cheng, Schwing and Kirillov, Per-pixel classification is not all you need, NeurIPS 2021, section 3.4, which has no
        pixels without a class.
        """
        return of_pixels(*self.network(images))


def of_pixels(classes: Tensor, masks: Tensor) -> Tensor:
    """The scores of `OfPixels` from probabilities: classes [n, queries, classes + 1] and masks [n, queries, height, width]."""
    sums = torch.einsum("nqc,nqhw->nchw", classes[..., :-1], masks)
    # In an untrained network many queries cover the same pixels, and their sum exceeds 1.
    scores = sums / sums.amax(dim=1, keepdim=True).clamp(min=1)
    return torch.cat((scores, 1 - scores.amax(dim=1, keepdim=True)), dim=1)
