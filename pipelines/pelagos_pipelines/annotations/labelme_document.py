"""Parses a file of LabelMe: one image, its shapes, and flags of the whole image.

Called in a child of the sandbox, by reading.drawings. Coordinates are pixels of the upright image.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

import orjson

from pelagos_pipelines.annotations import drawings, masks, shapes
from pelagos_pipelines.annotations.drawings import Drawings, OtherKindError
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.untrusted_input import invalid


def _read(found: Drawings, file: BinaryIO) -> None:
    """Read one file. Raises OtherKindError for a file of another kind."""
    content = drawings.json_of(found, file)
    if not _is_labelme(content):
        raise OtherKindError
    size = (content.get("imageWidth"), content.get("imageHeight"))
    image = found.image([content.get("imagePath"), _beside(found.where, content)], "imagePath", size)
    flags = content.get("flags") or {}
    if not isinstance(flags, dict):
        raise invalid(f"{found.where}: flags is not a list of names with true or false: correct it")
    for name, is_set in flags.items():
        if is_set is True:
            found.shape(image, f"flags.{len(image.shapes)}", name, lambda label: Shape(label, Kind.TAG))
    for number, entry in enumerate(content["shapes"]):
        place = f"shapes[{number}]"
        if not isinstance(entry, dict):
            raise invalid(f"{found.where}: {place} is not a shape: export it again")
        found.shape(image, place, entry.get("label"), functools.partial(_shape, entry))


def _is_labelme(content: object) -> bool:
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and "imagePath" in content


def _is_one(file: BinaryIO) -> bool:
    return _is_labelme(orjson.loads(file.read()))


def _beside(where: str, content: Mapping[str, Any]) -> str:
    """The image with the annotation file's own name, for paths of another machine."""
    named = content.get("imagePath")
    kind = named.rpartition(".")[2] if isinstance(named, str) and "." in named else "jpg"
    return f"{where.rpartition('/')[2].removesuffix('.json')}.{kind}"


def _shape(entry: Mapping[str, Any], label: str) -> Shape:
    kind, points = entry.get("shape_type") or "polygon", entry["points"]
    flat = [one for x, y in points for one in (x, y)]
    if kind not in _KINDS:
        raise ValueError("a shape has a type that LabelMe does not define")
    rest: dict[str, Any] = {"attributes": _attributes(entry)}
    return _KINDS[kind](label, flat, entry, rest)


def _attributes(entry: Mapping[str, Any]) -> dict[str, str]:
    """The set flags, the group and the description."""
    flags = entry.get("flags") or {}
    found = {str(name): "true" for name, is_set in flags.items() if is_set is True}
    if entry.get("group_id") is not None:
        found["group_id"] = str(entry["group_id"])
    if isinstance(entry.get("description"), str) and entry["description"]:
        found["description"] = entry["description"]
    return found


def _rectangle(label: str, flat: Sequence[float], _: object, rest: Mapping[str, Any]) -> Shape:
    (ax, ay, bx, by) = flat
    return shapes.rectangle(label, min(ax, bx), min(ay, by), abs(bx - ax), abs(by - ay), **rest)


def _turned(label: str, flat: Sequence[float], _: object, rest: Mapping[str, Any]) -> Shape:
    found = shapes.turned(flat, label, **rest) if len(flat) == 8 else None
    if found is None:
        raise ValueError("a turned rectangle does not have the four corners of a rectangle")
    return found


def _polygon(label: str, flat: Sequence[float], _: object, rest: Mapping[str, Any]) -> Shape:
    return shapes.polygon(label, flat, **rest)


def _circle(label: str, flat: Sequence[float], _: object, rest: Mapping[str, Any]) -> Shape:
    (x, y, edge_x, edge_y) = flat
    return Shape(label, Kind.CIRCLE, (x, y, ((edge_x - x) ** 2 + (edge_y - y) ** 2) ** 0.5), **rest)


def _line(label: str, flat: Sequence[float], _: object, rest: Mapping[str, Any]) -> Shape:
    return Shape(label, Kind.LINE, tuple(flat), **rest)


def _point(label: str, flat: Sequence[float], _: object, rest: Mapping[str, Any]) -> Shape:
    return Shape(label, Kind.POINT, tuple(flat), **rest)


def _points(label: str, flat: Sequence[float], entry: Mapping[str, Any], rest: Mapping[str, Any]) -> Shape:
    """Several points; those with point_labels 0 are outside of the object, as hints for segmentation tools."""
    if len(flat) == 2:
        return _point(label, flat, entry, rest)
    seen = [value for x, y in zip(flat[::2], flat[1::2], strict=True) for value in (x, y, 2.0)]
    return Shape(label, Kind.KEY_POINTS, tuple(seen), **rest)


def _mask(label: str, flat: Sequence[float], entry: Mapping[str, Any], rest: Mapping[str, Any]) -> Shape:
    """The mask from a picture of the box whose first corner is the first point."""
    left, top, *_ = flat
    return masks.of_picture(label, masks.from_base64(entry.get("mask")), (int(left), int(top)), **rest)


_KINDS: Mapping[str, Callable[[str, Sequence[float], Mapping[str, Any], Mapping[str, Any]], Shape]] = {
    "rectangle": _rectangle,
    "oriented_rectangle": _turned,
    "polygon": _polygon,
    "circle": _circle,
    "line": _line,
    "linestrip": _line,
    "point": _point,
    "points": _points,
    "mask": _mask,
}
parse = drawings.task(_read)
is_one = drawings.question(_is_one)
