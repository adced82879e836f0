"""Annotations for detection: any number of boxes per image."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from typing_extensions import override

from pelagos_contract.dataset import Change
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.model import Box, Boxes, ImageRecord, boxes_of
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.tasks.strategy import Strategy


class Detection(Strategy):
    """See `Strategy` for the contract of its methods."""

    task, needs_several_classes, joins = Task.DETECTION, False, True

    @override
    def marks(self, image: ImageRecord) -> Sequence[str]:
        """The class of each box."""
        return [label for label, *_ in boxes_of(image)]

    @override
    def drawn(self, image: ImageRecord, shapes: Sequence[Shape], altered: Altered) -> ImageRecord | None:
        """The box around each shape with an area; a box that is stated beside an outline is used as it is."""
        boxes: dict[Box, None] = {}
        for shape in shapes:
            sides = shape.sides
            if sides is None:
                altered.add(shape, Change.LEFT_OUT)
                continue
            if shape.kind is not Kind.RECTANGLE or shape.angle % 360:
                altered.add(shape, Change.BOX_BESIDE if shape.box is not None else Change.BOX_AROUND)
            altered.add_extras(shape)
            box = Box(shape.label, *sides)
            if box in boxes:
                altered.add(shape, Change.REPEATED)
            boxes[box] = None
        if shapes and not boxes:
            return None
        names = sorted({box.label for box in boxes})
        packed = Boxes.of(boxes, {name: number for number, name in enumerate(names)}, names)
        return replace(image, boxes=packed)

    @override
    def stored(self, image: ImageRecord) -> dict[str, Any]:
        """The boxes, sorted, since their order in a file has no meaning."""
        boxes = [
            {"class": label, "x": float(x), "y": float(y), "width": float(width), "height": float(height)}
            for label, x, y, width, height in sorted(boxes_of(image))
        ]
        return {"boxes": boxes}

    @override
    def restored(self, mark: Mapping[str, Any], numbers: Mapping[str, int], classes: Sequence[str]) -> ImageRecord:
        """The image with its boxes in compact form."""
        marks = mark["boxes"]
        sides = array("d", [side for box in marks for side in (box["x"], box["y"], box["width"], box["height"])])
        return ImageRecord(
            mark["path"], boxes=Boxes(classes, array("i", [numbers[box["class"]] for box in marks]), sides)
        )

    @override
    def told(self, image: ImageRecord) -> str:
        """The number of boxes."""
        return f"{len(image.boxes)} boxes"


STRATEGY = Detection()
