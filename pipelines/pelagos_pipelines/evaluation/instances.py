"""Ground truth of instance segmentation: the mask of every object, and overlaps of predicted masks with them.

Called by the task's strategy. annotations.masks rasterizes outlines for training and evaluation alike: a pixel belongs to an
outline if its centre is inside. Independent of training frameworks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pelagos_contract import run_lengths
from pelagos_contract.run_lengths import Part
from pelagos_pipelines.annotations import masks
from pelagos_pipelines.annotations.shapes import Shape
from pelagos_pipelines.evaluation.matching import Places
from pelagos_pipelines.evaluation.samples import Sample
from pelagos_pipelines.serving.tasks.instance_segmentation import Instances


def true_masks(sample: Sample, size: tuple[int, int]) -> list[str]:
    """The masks of a sample's shapes as compressed runs, on an image of ``size`` (height, width)."""
    return masks_of(sample.shapes, size)


def masks_of(shapes: Sequence[Shape], size: tuple[int, int]) -> list[str]:
    """The masks of shapes, as in ``true_masks``."""
    height, width = size
    return [run_lengths.encoded(masks.part_of(shape, width, height), size) for shape in shapes]


def places_of(samples: Sequence[Sample], found: Sequence[Instances]) -> Places:
    """The masks of samples and of their predictions, in the same order. The masks of a sample are computed once."""
    sizes = {sample.name: predicted.size for sample, predicted in zip(samples, found, strict=True)}
    known: dict[str, Any] = {}

    def true(sample: Sample) -> npt.NDArray[np.object_]:
        if sample.name not in known:
            size = sizes[sample.name]
            known[sample.name] = _entries(true_masks(sample, size), size)
        found: npt.NDArray[np.object_] = known[sample.name]
        return found

    def found_in(predicted: Any) -> npt.NDArray[np.object_]:
        texts: npt.NDArray[np.object_] = np.empty(len(predicted.masks), object)
        texts[:] = predicted.masks
        return texts

    def crowds(sample: Sample) -> npt.NDArray[np.object_]:
        size = sizes[sample.name]
        return _entries(masks_of(sample.crowds, size), size)

    return Places(true, found_in, mask_iou, outline, crowds, mask_shares)


def mask_iou(found: Sequence[Any], truth: Sequence[Any]) -> Iterator[Any]:
    """For each image, COCO's IoU ``[n, m]`` of n masks as compressed runs and m true ones in the form of pycocotools."""
    from pycocotools import mask

    for texts, entries in zip(found, truth, strict=True):
        if not len(texts) or not len(entries):
            yield np.zeros((len(texts), len(entries)))
        else:
            size = entries[0]["size"]
            yield mask.iou([{"size": size, "counts": text} for text in texts], entries.tolist(), [0] * len(entries))


def mask_shares(texts: Sequence[str], crowds: npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
    """COCO's overlap ``[n, m]`` of n masks as compressed runs with m crowds: the intersection divided by the mask's area."""
    from pycocotools import mask

    size = crowds[0]["size"]
    found: npt.NDArray[np.float64] = mask.iou(
        [{"size": size, "counts": text} for text in texts], crowds.tolist(), [1] * len(crowds)
    )
    return found


def outline(entry: Any) -> npt.NDArray[Any]:
    """The longest outline of a true mask, points ``[k, 2]`` in pixels."""
    height, width = entry["size"]
    rings = outlines(run_lengths.part_of(entry["counts"].decode(), (height, width)))
    return max(rings, key=len) if rings else np.zeros((1, 2))


def outlines(part: Part) -> list[Any]:
    """The outlines of pixels, outer ones and holes, ``[points, 2]`` each, through the outermost pixels."""
    padded = np.pad(part.inside, 1).astype(np.uint8)
    found, _ = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(part.left - 1, part.top - 1))
    return [np.concatenate((ring, ring[:1]))[:, 0] for ring in found]


def _entries(texts: Sequence[str], size: tuple[int, int]) -> npt.NDArray[np.object_]:
    entries: npt.NDArray[np.object_] = np.empty(len(texts), object)
    entries[:] = [{"size": list(size), "counts": text.encode()} for text in texts]
    return entries
