"""Parses the shapes of a COCO file: polygons, both run-length encodings of masks, key points, and turned boxes.

Called in a child of the sandbox, by reading.drawings, for the tasks that need more than boxes; coco_document.py reads the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, BinaryIO

from typing_extensions import override

from pelagos_pipelines.annotations import coco_document, drawings, masks, outlines, shapes
from pelagos_pipelines.annotations.coco_document import Coco, Document
from pelagos_pipelines.annotations.drawings import Drawings, Drawn
from pelagos_pipelines.annotations.many_shapes import Shapes
from pelagos_pipelines.annotations.model import split_of
from pelagos_pipelines.annotations.shapes import Kind, Shape, Sides
from pelagos_pipelines.annotations.untrusted_input import invalid, unknown_categories


@dataclass
class _Shapes(Coco):
    """Reads shapes where ``Coco`` reads boxes."""

    drawn: dict[int, Shapes] = field(default_factory=dict)
    crowds_drawn: dict[int, Shapes] = field(default_factory=dict)
    points: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """Names of key points, by category."""

    @override
    def category(self, number: int, entry: dict[str, Any]) -> None:
        super().category(number, entry)
        named = entry.get("keypoints")
        if isinstance(named, list) and all(isinstance(name, str) for name in named):
            self.points[next(reversed(self.names))] = tuple(name[: drawings.MAX_TEXT] for name in named)

    @override
    def _place(self, entry: dict[str, Any], place: str, image: int, column: int) -> None:
        key = self._keys[column]
        shape = self._shape(entry, place, image, self.names[key], key)
        if shape is None:
            self.boxless += 1
            self.passed.append(image)
            return
        self.drawn.setdefault(image, Shapes()).append(shape)

    @override
    def _surround(self, entry: dict[str, Any], place: str, image: int, column: int) -> None:
        key = self._keys[column]
        shape = self._shape(entry, place, image, self.names[key], key)
        if shape is None:
            self.boxless += 1
            return
        self.crowds_drawn.setdefault(image, Shapes()).append(shape)

    @cached_property
    def _keys(self) -> list[int]:
        """The ids of categories by their column."""
        return list(self.columns)

    def _shape(self, entry: dict[str, Any], place: str, image: int, label: str, category: int) -> Shape | None:
        outline, points, attributes = entry.get("segmentation"), entry.get("keypoints"), entry.get("attributes")
        rest: dict[str, Any] = {"attributes": _texts(attributes)}
        if outlines.is_finite(entry.get("score")) and 0 <= entry["score"] <= 1:
            rest["confidence"] = float(entry["score"])
        box = self._box(entry.get("bbox"), f"{place}.bbox")
        try:
            if outline:
                return self._outlined(outline, place, image, label, rest | {"box": box})
            if points:
                numbers = _finite(points, f"{place}.keypoints")
                return Shape(label, Kind.KEY_POINTS, numbers, box=box, points=self.points.get(category, ()), **rest)
            if box is None:
                return None
            turned = attributes.get("rotation") if isinstance(attributes, dict) else None
            angle = float(turned) if outlines.is_finite(turned) else 0.0  # type: ignore[arg-type]
            return shapes.rectangle(label, *box, angle % 360, **rest)
        except ValueError as error:
            raise invalid(f"{place}: {error}; correct it, or remove it") from error

    def _box(self, box: object, place: str) -> Sides | None:
        if box is None or box == [] or box == [0, 0, 0, 0]:
            return None
        left, top, width, height = _finite(box, place, 4)
        if width <= 0 or height <= 0:
            raise invalid(f"{place} is a box without area: correct or remove it")
        return left, top, width, height

    def _outlined(self, outline: object, place: str, image: int, label: str, rest: dict[str, Any]) -> Shape:
        _, width, height, _, _ = self.images[image]
        size = (width, height) if isinstance(width, int) and isinstance(height, int) else None
        where = f"{place}.segmentation"
        if isinstance(outline, dict):
            runs, (wide, high) = outlines.runs_of(outline, where, size)
            return masks.of_columns(label, runs, (wide, high), **rest)
        if not isinstance(outline, list):
            raise invalid(f"{where} is neither a list of polygons nor a mask: export it again")
        parts = outline if all(isinstance(part, list) for part in outline) else [outline]
        return shapes.polygon(label, *(_finite(part, where) for part in parts), **rest)


def _finite(value: object, place: str, count: int | None = None) -> tuple[float, ...]:
    if not isinstance(value, list) or not all(map(outlines.is_finite, value)) or count not in {None, len(value)}:
        raise invalid(
            f"{place} must be a list of {'' if count is None else f'{count} '}finite numbers: export it again"
        )
    return tuple(map(float, value))


def _texts(attributes: object) -> dict[str, str]:
    """CVAT's attributes, without the angle, which is part of the shape."""
    if not isinstance(attributes, dict):
        return {}
    return {
        str(name): str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in attributes.items()
        if name != "rotation" and isinstance(value, str | int | float)
    }


def _read(found: Drawings, file: BinaryIO, *, above: bool) -> None:
    """Read one file. ``above``: classes are the supercategories."""

    def once(document: Document) -> _Shapes:
        reading = _Shapes(found.where, above)
        coco_document.fill(reading, document, found.limit, found.limit)
        return reading

    reading = coco_document.patiently(found.where, file, once)
    left = set(reading.passed)
    for index, image in images(found, reading):
        image.left = int(index in left)
        image.shapes, image.crowds = (made.get(index, Shapes()) for made in (reading.drawn, reading.crowds_drawn))
    found.entries += sum(len(image.shapes) + len(image.crowds) for image in found.images)
    found.counted.update({"crowds": reading.crowds, "boxless": reading.boxless, "respelt": reading.respelt})


def images(found: Drawings, reading: Coco) -> Iterator[tuple[int, Drawn]]:
    """Note the faults and the classes of a file, and yield each image with its number."""
    reading.judge()
    if many := reading.many["unknown"]:
        reading.faults.add(unknown_categories(found.where, many, reading.unknown, len(reading.names)))
    found.faults.include(reading.faults.document())
    found.classes += reading.ordered
    for index, (name, width, height, group, split) in enumerate(reading.images):
        with found.faults.noting():
            given = split_of(split) if isinstance(split, str) else None
            if split is not None and given is None:
                raise invalid(f"{found.where}: images[{index}].split is not a word for a split: correct it")
            yield index, found.image([name], f"images[{index}]", (width, height), split=given, group=group)  # type: ignore[arg-type]


parse = drawings.task(functools.partial(_read, above=False))
parse_above = drawings.task(functools.partial(_read, above=True))
