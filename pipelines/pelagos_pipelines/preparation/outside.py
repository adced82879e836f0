"""Handles annotations that do not lie on their image by ``cleaning.outside``: refuses them, cuts them at the edge, or drops them.

Called by cleaning, which knows the images' real sizes. Annotations that exceed an edge by rounding are cut in any case.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pelagos_contract.dataset import Change, Outside
from pelagos_contract.exclusions import ExclusionReason
from pelagos_contract.failures import Reason, RefusedError
from pelagos_pipelines.annotations import masks, placing, shapes
from pelagos_pipelines.annotations.altered import Altered
from pelagos_pipelines.annotations.faults import Faults
from pelagos_pipelines.annotations.model import Box, Boxes, Exclusion, ImageRecord
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.untrusted_input import format_names
from pelagos_pipelines.preparation.integrity import Inspection

_Mark = TypeVar("_Mark", Box, Shape)
_BOX = str(Kind.RECTANGLE)


@dataclass
class Placing:
    """Fits annotations to their images, one image after the other, and records the changes. ``classes`` numbers the classes."""

    rule: Outside
    classes: Sequence[str]
    rounded: int = 0
    """The number of annotations that exceeded their image by rounding."""
    cut: list[str] = field(default_factory=list)
    """Descriptions of annotations that were cut; ``dropped`` has those of annotations that were dropped."""
    dropped: list[str] = field(default_factory=list)
    emptied: list[str] = field(default_factory=list)
    """Images that lost all their annotations."""
    altered: Altered = field(default_factory=Altered)
    _wrong: list[str] = field(default_factory=list)

    def all(
        self, images: Sequence[ImageRecord], seen: Mapping[str, Inspection], faults: Faults
    ) -> tuple[ImageRecord, ...]:
        """The remaining images in their real sizes, with all annotations inside. Refusals are added to ``faults``."""
        numbers = {name: number for number, name in enumerate(self.classes)}
        left = []
        for described in images:
            width, height = seen[described.path].width, seen[described.path].height
            if misfit := placing.of_another_size(described, width, height):
                faults.add(misfit)
            image = replace(described, width=width, height=height)
            boxes = self._placed(image, image.boxes, placing.clip, _cut_box, lambda _: _BOX)
            if boxes is not None:
                image = replace(image, boxes=Boxes.of(boxes, numbers, self.classes))
            for name in ("shapes", "crowds"):
                marks: Sequence[Shape] = getattr(image, name)
                drawn = self._placed(image, marks, placing.clip_shape, cut_shape, lambda shape: str(shape.kind))
                if drawn is not None:
                    image = replace(image, **{name: tuple(drawn)})  # type: ignore[arg-type]
            if (described.boxes or described.shapes) and not (image.boxes or image.shapes):
                self.emptied.append(image.path)
            else:
                left.append(image)
        if self._wrong:
            faults.add(placing.refusal(self._wrong))
        elif self.emptied and not left:
            faults.add(_nothing_left(self.dropped))
        return tuple(left)

    @property
    def excluded(self) -> Iterator[Exclusion]:
        """The images that lost all annotations. They cannot count as background, because nobody said that they show nothing."""
        return Exclusion.of(self.emptied, ExclusionReason.OUTSIDE_IMAGE)

    @property
    def warnings(self) -> Iterator[str]:
        """Warnings about all changes."""
        if self.rounded:
            yield (
                f"{self.rounded} boxes exceeded their image by up to {placing.OVERHANG:g} pixel and were cut at its edge"
            )
        if self.cut:
            yield f"{len(self.cut)} annotations exceeded their image and were cut at its edge: {format_names(self.cut)}"
        if self.dropped:
            yield f"{len(self.dropped)} annotations do not lie on their image and were dropped: {format_names(self.dropped)}"
        if self.emptied:
            yield (
                f"{len(self.emptied)} images lost all their annotations so and are left out, as they are no backgrounds:"
                f" {format_names(self.emptied)}"
            )

    def _placed(
        self,
        image: ImageRecord,
        marks: Sequence[_Mark],
        rounding: Callable[[_Mark, int, int], _Mark | None],
        cutting: Callable[[_Mark, int, int], _Mark | None],
        kind: Callable[[_Mark], str],
    ) -> list[_Mark] | None:
        """The annotations within the image; None if none has changed."""
        assert image.width is not None
        assert image.height is not None
        found, changed = list[_Mark](), False
        for mark in marks:
            inside = rounding(mark, image.width, image.height)
            if inside is None and (self.rule == "Fail" or not _has_area(mark)):
                self._wrong.append(_told(image, mark))
                continue
            if inside is None:
                inside = cutting(mark, image.width, image.height) if self.rule == "Clip" else None
                (self.dropped if inside is None else self.cut).append(_told(image, mark))
                self.altered.counts[kind(mark), Change.OUTSIDE if inside is None else Change.CUT] += 1
            else:
                self.rounded += inside is not mark
            changed |= inside is not mark
            if inside is not None:
                found.append(inside)
        return found if changed else None


def _told(image: ImageRecord, mark: Box | Shape) -> str:
    return placing.told(image, mark) if isinstance(mark, Box) else placing.told_shape(image, mark)


def _has_area(mark: Box | Shape) -> bool:
    """Whether the annotation has a positive, finite size. One without is an error wherever it lies."""
    sides = (mark.x, mark.y, mark.width, mark.height) if isinstance(mark, Box) else mark.sides
    return sides is not None and all(map(math.isfinite, sides)) and sides[2] > 0 and sides[3] > 0


def _nothing_left(dropped: Sequence[str]) -> RefusedError:
    return RefusedError(
        Reason.ANNOTATION_OUTSIDE_IMAGE,
        f"all {len(dropped)} annotations lie outside of their image (x, y, width, height in pixels), as those do that were made"
        f" for other images or in another unit: {format_names(dropped)}; correct them",
        "cleaning.outside",
    )


# --- cutting


def _cut_box(box: Box, width: int, height: int) -> Box | None:
    """The part of a box on the image; None if that is narrower or lower than `placing.OVERHANG` pixels."""
    left, top = max(box.x, 0.0), max(box.y, 0.0)
    right, bottom = min(box.x + box.width, float(width)), min(box.y + box.height, float(height))
    if right - left < placing.OVERHANG or bottom - top < placing.OVERHANG:
        return None
    return Box(box.label, left, top, right - left, bottom - top)


def cut_shape(shape: Shape, width: int, height: int) -> Shape | None:
    """The part of a shape on an image; None if that is narrower or lower than `placing.OVERHANG` pixels.

    Also None for a turned rectangle, which would not be one after cutting.
    """
    sides = shape.sides
    inside = None if sides is None else _cut_box(Box(shape.label, *sides), width, height)
    if inside is None:
        return None
    if shape.kind is Kind.RECTANGLE:
        left = (inside.x, inside.y, inside.width, inside.height, 0.0)
        return None if shape.angle % 360 else replace(shape, coordinates=left, box=None)
    if shape.kind is Kind.MASK:
        pixels = masks.on_image(shape, width, height)
        rest = {name: getattr(shape, name) for name in ("attributes", "annotator", "confidence", "origin")}
        return masks.of_array(shape.label, pixels, **rest) if pixels.any() else None
    polygon = shapes.outlined(shape)
    return None if polygon is None else _cut_polygon(polygon, width, height)


def _cut_polygon(shape: Shape, width: int, height: int) -> Shape | None:
    """The part of a polygon that lies on the image, ring by ring; None if no part does.

    Source: Sutherland and Hodgman, Reentrant polygon clipping, CACM 17 (1974).
    """
    kept: list[tuple[list[tuple[float, float]], bool]] = []
    for flat, is_hole in shape.outlines:
        ring = [*zip(flat[::2], flat[1::2], strict=True)]
        for axis, edge, sign in ((0, 0.0, 1), (0, float(width), -1), (1, 0.0, 1), (1, float(height), -1)):
            ring = _cut_ring(ring, axis, edge, sign)
        if _area(ring):
            kept.append((ring, is_hole))
    if all(is_hole for _, is_hole in kept):
        return None
    coordinates = tuple(value for ring, _ in kept for point in ring for value in point)
    rings = tuple(-len(ring) if is_hole else len(ring) for ring, is_hole in kept)
    return replace(shape, coordinates=coordinates, rings=rings, box=None)


def _cut_ring(ring: list[tuple[float, float]], axis: int, edge: float, sign: int) -> list[tuple[float, float]]:
    """The part of a ring where the coordinate ``axis`` is at least ``edge``, or for ``sign`` -1 at most."""
    found: list[tuple[float, float]] = []
    for one, other in zip([*ring[-1:], *ring[:-1]], ring, strict=True):
        before, after = sign * (one[axis] - edge), sign * (other[axis] - edge)
        if (before < 0) != (after < 0):
            share = before / (before - after)
            point: Any = [one[place] + share * (other[place] - one[place]) for place in (0, 1)]
            point[axis] = edge
            found.append((point[0], point[1]))
        if after >= 0:
            found.append(other)
    return found


def _area(ring: Sequence[tuple[float, float]]) -> float:
    return abs(
        sum(one[0] * other[1] - other[0] * one[1] for one, other in zip(ring, [*ring[1:], *ring[:1]], strict=True))
    )
