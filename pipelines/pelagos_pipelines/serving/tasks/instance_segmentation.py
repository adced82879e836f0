"""Instance segmentation in serving: objects with a class, a score, a box and a mask in pixels of the original image.

Networks for this task have different kinds of outputs. Each kind, a head, is a module of `instance_heads` with a subclass of
`InstanceHead`, and packages name their head. The code here is common to all.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pelagos_contract import run_lengths
from pelagos_contract.run_lengths import Part
from pelagos_pipelines.serving import calibration
from pelagos_pipelines.serving.geometry import Fitted, Pixels
from pelagos_pipelines.serving.predictions import Floats, Integers, Prediction, Raw, Scaling, Settings, Thresholds
from pelagos_pipelines.serving.tasks import detection
from pelagos_pipelines.serving.tasks.strategy import Strategy

MASK_PIXELS = 2**28
"""The most pixels of boxes per image in which masks are computed: a few seconds of work."""
MASK_CHARACTERS = 2**23
"""The most characters of an image's masks in COCO's compressed RLE. An outline of 1,000 pixels takes about 1,000."""


@dataclass(frozen=True)
class Instances(Prediction):
    """Objects of one image: ``boxes`` [n, 4] x1, y1, x2, y2 in pixels of the original; ``scores`` [n] descend; ``class_ids`` [n].

    ``masks`` [n] are texts of runs over the whole image (see run_lengths); none is empty. ``cut``: there were more objects, and
    only the best are kept (`Thresholds.max_detections`, MASK_PIXELS, MASK_CHARACTERS).
    """

    task = "InstanceSegmentation"
    boxes: Floats
    scores: Floats
    class_ids: Integers
    masks: tuple[str, ...]
    cut: bool = False

    @property
    def is_cut(self) -> bool:
        """Whether there were more objects than are kept."""
        return self.cut

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image, in the order of masks."""
        return self.height, self.width

    def chosen(self, which: Any, *, cut: bool | None = None) -> Self:
        """The objects that an index array or a mask selects."""
        places = np.arange(len(self.scores))[which]
        return replace(
            self,
            boxes=self.boxes[places],
            scores=self.scores[places],
            class_ids=self.class_ids[places],
            masks=tuple(self.masks[place] for place in places.tolist()),
            cut=self.cut if cut is None else cut,
        )

    def calibrated(self, scaling: Scaling) -> Self:
        """The prediction with calibrated scores, in the same order."""
        return replace(self, scores=calibration.scaled(self.scores, scaling))

    def told(self, thresholds: Thresholds, scaling: Scaling | None) -> Self:
        """The calibrated objects that exceed their class's threshold."""
        found = self if scaling is None else self.calibrated(scaling)
        return found.chosen(found.scores > thresholds.least(found.class_ids))

    def render(self, labels: Sequence[str]) -> dict[str, Any]:
        """All objects with boxes, masks and areas, best first."""
        found = [
            {
                "label": labels[class_id],
                "classId": int(class_id),
                "score": round(float(score), 6),
                "box": [round(float(value), 2) for value in box],
                "mask": {"size": list(self.size), "counts": mask},
                "area": run_lengths.area(mask, self.size),
            }
            for box, score, class_id, mask in zip(self.boxes, self.scores, self.class_ids, self.masks, strict=True)
        ]
        return {
            "task": self.task,
            "width": self.width,
            "height": self.height,
            "cut": self.cut,
            InstanceHead.results: found,
        }


@dataclass(frozen=True)
class Candidates:
    """Objects, best first, before their masks are computed; fields as of `Instances`.

    ``boxes`` is None for networks that predict none: an object's box is then the smallest around its mask. ``cut``: there were
    more.
    """

    scores: Floats
    class_ids: Integers
    boxes: Floats | None = None
    cut: bool = False


def instances(image: Fitted, found: Candidates, part: Callable[[int], Part]) -> Instances:
    """The best objects with their masks, as many as the limits per image allow.

    ``part`` computes the mask of the candidate with an index: the pixels in its box, or in a smaller part of the image. Objects
    whose mask has no pixel are left out.
    """
    size, masks, boxes, kept = (image.height, image.width), list[str](), list[Any](), list[int]()
    pixels, characters, cut = 0, 0, found.cut
    for place in range(len(found.scores)):
        box = None if found.boxes is None else found.boxes[place]
        pixels += size[0] * size[1] if box is None else _pixels(box)
        # The best object is always reported: the size of the image bounds its mask. Empty masks count, because they take time,
        # too.
        if place and pixels > MASK_PIXELS:
            cut = True
            break
        made = part(place)
        if not made.inside.any():
            continue
        text = run_lengths.encoded(made, size)
        characters += len(text)
        if kept and characters > MASK_CHARACTERS:
            cut = True
            break
        masks.append(text)
        kept.append(place)
        boxes.append(around(text, size) if box is None else box)
    return Instances(
        image.width,
        image.height,
        np.array(boxes, np.float32).reshape(-1, 4),
        found.scores[kept].astype(np.float32),
        found.class_ids[kept].astype(np.int32),
        tuple(masks),
        cut,
    )


def columns_and_rows(box: Floats, size: tuple[int, int]) -> tuple[slice, slice]:
    """The columns and rows of an image of ``size`` (height, width) whose left and top edges lie in a box x1, y1, x2, y2."""
    first, last = np.ceil(box[:2]).astype(int), np.ceil(box[2:]).astype(int)
    (left, top), (right, bottom) = (np.clip(ends, 0, (size[1], size[0])).tolist() for ends in (first, last))
    return slice(left, max(right, left)), slice(top, max(bottom, top))


def around(mask: str, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """The smallest box x1, y1, x2, y2 around the pixels of a mask."""
    part = run_lengths.part_of(mask, size)
    rows, columns = part.inside.shape
    return float(part.left), float(part.top), float(part.left + columns), float(part.top + rows)


class InstanceHead(Strategy):
    """The base class of heads; see `Strategy` for the contract of its methods, and below for the additional ones.

    Unless a head says otherwise, images are on the smallest letterbox, with values in [0, 1], as for detectors.
    """

    task, results = Instances.task, "instances"

    @abstractmethod
    def places_and_scores(self, raw: Raw) -> tuple[Floats, Floats]:
        """The output for one image, divided into values in pixels of the canvas, and values in [0, 1]; for the export."""

    @abstractmethod
    def row(self, kind: str, index: int, labels: Sequence[str]) -> str:
        """The name of a row of `rows`, for messages."""

    def shape(self, width: int, height: int, size: int, stride: int) -> tuple[int, int]:
        """The sides of the smallest letterbox."""
        return detection.STRATEGY.shape(width, height, size, stride)

    def fitted(self, image: Pixels, size: int, stride: int) -> Fitted:
        """The image in the smallest letterbox."""
        return detection.STRATEGY.fitted(image, size, stride)

    def values(self, canvases: npt.NDArray[Any]) -> Floats:
        """Values in [0, 1]."""
        return detection.STRATEGY.values(canvases)

    @abstractmethod
    def decode(self, raw: Raw, image: Fitted, settings: Settings, thresholds: Thresholds) -> Instances:
        """The objects with their masks, by `instances`."""

    def tensors(self, predictions: Sequence[Any], labels: Sequence[str]) -> dict[str, Any]:
        """The tensors of detection, with the masks of rows, "" for rows without an object, and the size of their image."""
        found = detection.STRATEGY.tensors(predictions, labels)
        masks: Any = np.full(found["scores"].shape, b"", np.object_)
        for index, prediction in enumerate(predictions):
            if prediction is not None and prediction.masks:
                masks[index, : len(prediction.masks)] = [mask.encode() for mask in prediction.masks]
        sizes = [(0, 0) if prediction is None else prediction.size for prediction in predictions]
        return {**found, "masks": masks, "mask_size": np.array(sizes, np.int32)}


def _pixels(box: Floats) -> int:
    width, height = (float(side) for side in box[2:] - box[:2])
    return int(max(width, 0) * max(height, 0))
