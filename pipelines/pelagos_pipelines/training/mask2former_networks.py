"""The networks of Mask2Former (Cheng et al. 2022, doi:10.1109/CVPR52688.2022.00135), built by transformers.

Configurations are ours, and nothing is fetched: weights are random. What a graph gives is made here, from what the network gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

from pelagos_pipelines.training import distributed

HEADS = ("class_predictor.",)
"""How the tensors are called, at their beginning, whose shape depends on the classes."""
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
    """A network with random weights, of ``name`` in the table above and for so many classes; ``weights`` of these in its loss."""
    config = Mask2FormerConfig(
        backbone_config=SwinConfig(**_BACKBONES[name], out_features=_STAGES),
        num_labels=classes,
        **_DECODERS[name],
    )
    return Network(config, weights)


class Network(Mask2FormerForUniversalSegmentation):  # type: ignore[misc] # transformers is not typed
    """Images [n, 3, size, size] to the logits of its queries, and the loss of them."""

    def __init__(self, config: Mask2FormerConfig, weights: Sequence[float] | None) -> None:
        super().__init__(config)
        self.criterion = _Loss(config, self.weight_dict)
        # Of the dataset, and no part of what is learned: weights to start from say nothing of it.
        found = self.criterion.empty_weight.clone()
        if weights is not None:
            found[:-1] = torch.tensor(weights)
        self.criterion.register_buffer("empty_weight", found, persistent=False)
        self.model.pixel_level_module.decoder.encoder.get_reference_points = _centres

    def losses(self, images: Tensor, masks: list[Tensor], classes: list[Tensor]) -> dict[str, Tensor]:
        """The parts of the loss, each over all decoder layers.

        ``masks`` are, of each image, floats [segments, size, size], and ``classes`` the class ids [segments].
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
        """The parts of the loss if there is a truth, else the probabilities of the classes and masks of the queries."""
        if masks is not None and classes is not None:
            return self.losses(images, masks, classes)
        found = super().forward(images)
        return found.class_queries_logits.softmax(dim=-1), found.masks_queries_logits.sigmoid()


class _Loss(Mask2FormerLoss):  # type: ignore[misc] # transformers is not typed
    """transformers' own. In training it is what this process adds to the loss of the batch, if several share it.

    What is divided by, the number of masks and the weights of the queries, is then that of all images of the batch.
    """

    def get_num_masks(self, class_labels: list[Tensor], device: torch.device) -> Tensor:
        """Of all images, at least one."""
        count = torch.tensor(float(sum(map(len, class_labels))), device=device)
        return (distributed.total(count).float() if self.training else count).clamp(min=1)

    def loss_labels(self, class_queries_logits: Tensor, class_labels: list[Tensor], indices: Any) -> dict[str, Tensor]:
        """A mean over queries, each with the weight of what it is taught to be."""
        losses: dict[str, Tensor] = super().loss_labels(class_queries_logits, class_labels, indices)
        if self.training:
            matched = torch.cat([classes[places] for classes, (_, places) in zip(class_labels, indices, strict=True)])
            queries = len(class_queries_logits) * class_queries_logits.shape[1]
            weight = self.empty_weight[matched].sum() + self.empty_weight[-1] * (queries - len(matched))
            losses["loss_cross_entropy"] = losses["loss_cross_entropy"] * distributed.shares(weight)
        return losses


def _centres(shapes: Sequence[tuple[int, int]], valid_ratios: Tensor, device: Any) -> Tensor:
    """In the place of transformers' function: the centres of the cells of all levels, x and y in [0, 1], of maps without padding.

    Theirs divides by the number of cells less 1, so that in a graph a level of a single cell, as an image of 32 pixels has one,
    is sampled nowhere.
    """
    points = []
    for height, width in shapes:
        rows, columns = (
            (torch.arange(side, dtype=valid_ratios.dtype, device=device) + 0.5) / side for side in (height, width)
        )
        down, across = torch.meshgrid(rows, columns, indexing="ij")
        points.append(torch.stack((across.reshape(-1), down.reshape(-1)), dim=-1))
    return torch.cat(points)[None, :, None] * valid_ratios[:, None]


class OfPixels(nn.Module):  # type: ignore[misc] # torch is not typed here
    """From images to scores [n, classes + 1, height, width] of cells, the last one that of none: see serving's semantic task."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """The sum over queries of the products of class and mask; what the best class lacks is of none.

        Source: Cheng, Schwing and Kirillov, Per-pixel classification is not all you need, NeurIPS 2021, section 3.4, which has no
        pixels of none.
        """
        return of_pixels(*self.network(images))


def of_pixels(classes: Tensor, masks: Tensor) -> Tensor:
    """Likewise, of the probabilities of queries: classes [n, queries, classes + 1] and masks [n, queries, height, width]."""
    sums = torch.einsum("nqc,nqhw->nchw", classes[..., :-1], masks)
    # Before it has learned, a network has many queries that see the same, which together say more than 1.
    scores = sums / sums.amax(dim=1, keepdim=True).clamp(min=1)
    return torch.cat((scores, 1 - scores.amax(dim=1, keepdim=True)), dim=1)
