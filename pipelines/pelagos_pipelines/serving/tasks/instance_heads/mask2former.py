"""The head of Mask2Former (Cheng et al. 2022, arXiv:2112.01527): queries, each with a class and a mask over the canvas.

Its outputs are those of panoptic segmentation: for each query the probabilities of all classes, followed by that of nothing,
``[queries, classes + 1]``, and the probabilities that cells of the canvas belong to it, ``[queries, height, width]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pelagos_contract.run_lengths import Part
from pelagos_pipelines.serving import maps
from pelagos_pipelines.serving.geometry import Fitted, Pixels
from pelagos_pipelines.serving.predictions import Floats, Raw, Settings, Thresholds
from pelagos_pipelines.serving.tasks import panoptic_segmentation as panoptic
from pelagos_pipelines.serving.tasks import semantic_segmentation as semantic
from pelagos_pipelines.serving.tasks.instance_segmentation import (
    Candidates,
    InstanceHead,
    Instances,
    around,
    instances,
)

MOST = 100
"""The most objects of an image, as in the paper; each is a pair of a query and a class."""


class Mask2FormerHead(InstanceHead):
    """Implements `InstanceHead`, which documents its methods. Masks may overlap, and `Thresholds.iou` does not apply."""

    def shape(self, width: int, height: int, size: int, stride: int) -> tuple[int, int]:
        """The sides of the smallest letterbox."""
        return semantic.letterbox(width, height, size, stride)

    def fitted(self, image: Pixels, size: int, stride: int) -> Fitted:
        """The image in the smallest letterbox, as for the other tasks of the network."""
        return semantic.fitted(image, size, stride)

    def decode(self, raw: Raw, image: Fitted, settings: Settings, thresholds: Thresholds) -> Instances:
        """Decode objects. A score is the probability of the class times the mean probability of the cells that are inside."""
        classes, masks = raw
        inside = masks >= panoptic.INSIDE
        sure = (masks * inside).sum(axis=(1, 2)) / np.maximum(inside.sum(axis=(1, 2)), 1)
        scores = classes[:, :-1] * sure[:, None]
        queries, labels = np.nonzero((scores > thresholds.least(np.arange(scores.shape[1]))) & np.isfinite(scores))
        order = np.argsort(-scores[queries, labels], kind="stable")
        chosen = order[: min(thresholds.max_detections, MOST)]
        queries, labels = queries[chosen], labels[chosen]
        canvas = maps.whole(image, settings, masks.shape[1:])
        reach = [_reach(inside[query], canvas) for query in queries]
        boxes: Any = np.array([(left, top, right, bottom) for left, top, right, bottom in reach], np.float32)
        found = Candidates(
            scores[queries, labels].astype(np.float32),
            labels.astype(np.int32),
            boxes.reshape(-1, 4),
            cut=len(order) > len(chosen),
        )
        made = instances(image, found, lambda place: _part(masks[queries[place]], reach[place], canvas))
        # Cells only bound where masks can be. The final boxes are computed around the finished masks.
        exact: Any = np.array([around(mask, made.size) for mask in made.masks], np.float32)
        return replace(made, boxes=exact.reshape(-1, 4))

    def places_and_scores(self, raw: Raw) -> tuple[Floats, Floats]:
        """Nothing in pixels; scores and masks are both in [0, 1]."""
        classes, masks = raw
        return classes[:0], np.concatenate((classes.ravel(), masks.ravel()))

    def row(self, kind: str, index: int, labels: Sequence[str]) -> str:
        """The mask of a query, or a class over all queries."""
        return f"the mask of query {index}" if kind == "masks" else f"class {labels[index]!r}"

    def rows(self, raw: Raw) -> dict[str, Any]:
        """The rows of panoptic segmentation."""
        return panoptic.STRATEGY.rows(raw)

    def sketch(self, raw: Raw) -> dict[str, Any]:
        """The sketch of panoptic segmentation."""
        return panoptic.STRATEGY.sketch(raw)

    def rounding(self, raw: Raw) -> dict[str, Any]:
        """The uncertainty of panoptic segmentation."""
        return panoptic.STRATEGY.rounding(raw)


def _reach(inside: npt.NDArray[np.bool_], canvas: maps.Band) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the part of the original in which a mask can be."""
    left, right = maps.reached(canvas.columns, inside.any(axis=0))
    top, bottom = maps.reached(canvas.rows, inside.any(axis=1))
    return left, top, right, bottom


def _part(mask: Floats, reach: tuple[int, int, int, int], canvas: maps.Band) -> Part:
    left, top, right, bottom = reach
    if left >= right or top >= bottom:
        return Part(0, 0, np.zeros((0, 0), bool))
    band = maps.Band(top, canvas.rows[top:bottom], canvas.columns)
    return Part(left, top, band.sampled(mask, left, right) >= panoptic.INSIDE)


STRATEGY = Mask2FormerHead()
