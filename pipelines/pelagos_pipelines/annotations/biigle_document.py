"""Parses a CSV report of BIIGLE. Called in a child of the sandbox, by reading.drawings.

A row is a label of an annotation, so an annotation with two labels has two rows. Coordinates are pixels of the upright image.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

import orjson

from pelagos_pipelines.annotations import axes, drawings, tables
from pelagos_pipelines.annotations.drawings import Drawings, Drawn
from pelagos_pipelines.annotations.shapes import Kind, Shape
from pelagos_pipelines.annotations.untrusted_input import invalid

_ANNOTATIONS = frozenset({"filename", "label_name", "shape_name", "points", "annotation_id"})
_IMAGE_LABELS = frozenset({"image_label_id", "filename", "label_name"})


def _read(found: Drawings, file: BinaryIO) -> None:
    images: dict[str, Drawn] = {}
    labels: dict[str, str] = {}
    for line, row in tables.rows(found.where, file, _ANNOTATIONS, _IMAGE_LABELS):
        place = f"line {line}"
        with found.faults.noting():
            image = images.get(row["filename"])
            if image is None:
                image = images[row["filename"]] = found.image(_names(found.where, row), place, _size(found, row, place))
            if (annotation := row.get("annotation_id")) and labels.setdefault(annotation, row["label_name"]) != row[
                "label_name"
            ]:
                found.counted["labels"] += 1
            found.shape(image, place, row["label_name"], functools.partial(_shape, found, row))


def _is_one(file: BinaryIO) -> bool:
    return bool(tables.columns(file, _ANNOTATIONS, _IMAGE_LABELS))


def _names(where: str, row: Mapping[str, str]) -> Sequence[str]:
    """Possible names of an image. They include the volume's, from the report's file name, as volumes may share image names."""
    name = row["filename"]
    volume = where.rpartition("/")[2].removesuffix(".csv")
    return [name, f"{volume}/{name}", f"{volume.partition('-')[2]}/{name}"] if "-" in volume and name else [name]


def _size(found: Drawings, row: Mapping[str, str], place: str) -> tuple[object, object]:
    """Width and height, from the image's attributes where BIIGLE knows them."""
    if not row.get("attributes"):
        return None, None
    try:
        known = orjson.loads(row["attributes"])
    except ValueError as error:
        raise invalid(f"{found.where}: {place}: attributes is not JSON: export it again") from error
    return (known.get("width"), known.get("height")) if isinstance(known, dict) else (None, None)


@functools.lru_cache(maxsize=4096)
def _place_of(hierarchy: str) -> dict[str, str]:
    """The attributes, shared by all rows with the label to save memory: a report can have a million rows."""
    return {"label_hierarchy": hierarchy} if hierarchy else {}


def _shape(found: Drawings, row: Mapping[str, str], label: str) -> Shape:
    rest: dict[str, Any] = {
        "attributes": _place_of(row.get("label_hierarchy", "")),
        "annotator": sys.intern(
            f"{row.get('firstname', '')} {row.get('lastname', '')}".strip() or row.get("user_id", "")
        )
        or None,
        "origin": row.get("annotation_id") or row.get("image_label_id") or None,
    }
    if "shape_name" not in row:
        return Shape(label, Kind.TAG, **rest)
    kind, points = row["shape_name"], orjson.loads(row["points"] or "[]")
    if kind not in _KINDS:
        raise ValueError("an annotation has a shape that BIIGLE does not define")
    if not isinstance(points, list) or not all(type(one) in {int, float} for one in points):
        raise ValueError("an annotation has points that are not a list of numbers")
    shape = _KINDS[kind](label, points, rest)
    found.counted["uneven"] += kind == "Rectangle" and shape.kind is Kind.POLYGON
    return shape


def _plain(kind: Kind) -> Callable[[str, Sequence[float], Mapping[str, Any]], Shape]:
    return lambda label, points, rest: Shape(label, kind, tuple(map(float, points)), **rest)


_KINDS: Mapping[str, Callable[[str, Sequence[float], Mapping[str, Any]], Shape]] = {
    "Point": _plain(Kind.POINT),
    "LineString": _plain(Kind.LINE),
    "Circle": _plain(Kind.CIRCLE),
    "WholeFrame": _plain(Kind.TAG),
    "Polygon": lambda label, points, rest: axes.polygon(label, points, **rest),
    "Rectangle": lambda label, points, rest: axes.rectangle(label, points, **rest),
    "Ellipse": lambda label, points, rest: axes.ellipse(label, points, **rest),
}
parse = drawings.task(_read)
is_one = drawings.question(_is_one)
