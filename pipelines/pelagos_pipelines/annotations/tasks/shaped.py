"""Annotations for tasks with shapes: turned boxes, and outlines of objects, of classes, or of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import orjson
from typing_extensions import override

from pelagos_contract.dataset import Change
from pelagos_contract.tasks import Task
from pelagos_pipelines.annotations import shapes as drawing
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.model import ImageRecord
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.tasks.strategy import Strategy


class _Shaped(Strategy):
    """See `Strategy` for the contract of its methods."""

    needs_several_classes, joins = False, False

    def taken(self, shape: Shape, altered: Altered) -> Shape | None:
        """The shape in the form of the task; None when the task cannot use it."""
        raise NotImplementedError

    @override
    def marks(self, image: ImageRecord) -> Sequence[str]:
        """The class of each shape."""
        return [shape.label for shape in image.shapes]

    @override
    def drawn(self, image: ImageRecord, shapes: Sequence[Shape], altered: Altered) -> ImageRecord | None:
        """The image with the shapes that the task can use."""
        found: dict[bytes, Shape] = {}
        for shape in shapes:
            taken = self.taken(shape, altered)
            if taken is None:
                altered.add(shape, Change.LEFT_OUT)
                continue
            taken = replace(taken, annotator=None, origin=None, box=None)
            key = _key(taken)
            if key in found:
                altered.add(shape, Change.REPEATED)
            found[key] = taken
        if shapes and not found:
            return None
        return replace(image, shapes=tuple(found[key] for key in sorted(found)))

    @override
    def crowded(self, crowds: Iterable[Shape]) -> tuple[Shape, ...]:
        """The crowds in the form of `taken`."""
        if self.draws_crowds:
            return ()
        taken = (self.taken(crowd, Altered()) for crowd in crowds)
        return tuple(replace(one, annotator=None, origin=None, box=None) for one in taken if one is not None)

    @override
    def stored(self, image: ImageRecord) -> dict[str, Any]:
        """The shapes, sorted, since their order in a file has no meaning."""
        return {"shapes": [shape.document() for shape in sorted(image.shapes, key=_key)]}

    @override
    def restored(self, mark: Mapping[str, Any], numbers: Mapping[str, int], classes: Sequence[str]) -> ImageRecord:
        """The image with its shapes."""
        return ImageRecord(mark["path"], shapes=tuple(Shape.restored(each) for each in mark["shapes"]))

    @override
    def told(self, image: ImageRecord) -> str:
        """The number of shapes."""
        return f"{len(image.shapes)} shapes"


class OrientedDetection(_Shaped):
    """Rectangles, turned or not. Other outlines become the smallest rectangle around them."""

    task = Task.ORIENTED_DETECTION

    @override
    def taken(self, shape: Shape, altered: Altered) -> Shape | None:
        """The shape as a rectangle."""
        if shape.kind is Kind.RECTANGLE:
            return shape
        if shape.kind is Kind.POLYGON and shape.rings == (4,):
            # Four corners, as YOLO and others write turned boxes.
            extras = {"attributes": shape.attributes, "confidence": shape.confidence}
            if (rectangle := drawing.turned(shape.coordinates, shape.label, **extras)) is not None:
                return rectangle
        around = drawing.smallest_rectangle(shape)
        if around is not None:
            altered.add(shape, Change.BOX_AROUND)
        return around


class _Segmentation(_Shaped):
    """Polygons and masks; other shapes with an area become their outline."""

    @override
    def taken(self, shape: Shape, altered: Altered) -> Shape | None:
        """The shape as a polygon or mask."""
        if shape.kind in {Kind.POLYGON, Kind.MASK}:
            return shape
        outline = drawing.outlined(shape)
        if outline is not None:
            altered.add(shape, Change.OUTLINE)
        return outline


class InstanceSegmentation(_Segmentation):
    """The outline of every object."""

    task: ClassVar[Task] = Task.INSTANCE_SEGMENTATION


class SemanticSegmentation(_Segmentation):
    """The pixels of every class."""

    task: ClassVar[Task] = Task.SEMANTIC_SEGMENTATION
    draws_crowds = True


class PanopticSegmentation(_Segmentation):
    """The pixels of every object, and of every class without objects."""

    task: ClassVar[Task] = Task.PANOPTIC_SEGMENTATION


def _key(shape: Shape) -> bytes:
    found: bytes = orjson.dumps(shape.document(), option=orjson.OPT_SORT_KEYS)
    return found


STRATEGIES: tuple[Strategy, ...] = (
    OrientedDetection(),
    InstanceSegmentation(),
    SemanticSegmentation(),
    PanopticSegmentation(),
)
